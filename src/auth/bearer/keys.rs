//! The keys that tokens are signed with.
//!
//! They lie in one small file of the data directory, the present one first. A key that was replaced is kept without its
//! private half for as long as a token that it has signed can last.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, EncodingKey};
use serde::{Deserialize, Serialize};

use super::{LEEWAY, MAX_LIFETIME};
use crate::clock::Timestamp;
use crate::fsio::{FileError, RealDisk, read_small, replace_small};

/// The file in the data directory.
pub const KEYS_FILE: &str = "token-keys.json";

/// The longest such file.
const MAX_FILE: usize = 64 << 10;

/// The most keys that are kept; whoever rotates more often ends older tokens.
const MAX_KEYS: usize = 16;

/// Why the keys can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file isn't what was written.
    #[error("{} is damaged. Remove it, and a fresh key is made; clients fetch new tokens by themselves", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The system has no random numbers.
    #[error("cannot make a key: the system gives no random numbers")]
    Random,
}

impl From<Unspecified> for KeysError {
    fn from(_: Unspecified) -> KeysError {
        KeysError::Random
    }
}

/// The keys. Clones are handles to the same ones.
#[derive(Clone)]
pub struct TokenKeys(Arc<Shared>);

struct Shared {
    path: PathBuf,
    keys: RwLock<Arc<Keys>>,
    /// Held while they are replaced.
    replacing: Mutex<()>,
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKeys({})", self.0.path.display())
    }
}

/// The present key, and those before it.
pub(super) struct Keys {
    present: SigningKey,
    former: Vec<FormerKey>,
}

/// The key that signs.
struct SigningKey {
    id: String,
    private: Vec<u8>,
    public: Vec<u8>,
    made: Timestamp,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

/// A key that has signed.
#[derive(Clone)]
struct FormerKey {
    id: String,
    public: Vec<u8>,
    made: Timestamp,
    until: Timestamp,
    decoding: DecodingKey,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Stored {
    keys: Vec<StoredKey>,
}

#[derive(Serialize, Deserialize)]
struct StoredKey {
    id: String,
    /// When it was made, in milliseconds since 1970.
    made: u64,
    /// Until when tokens that it has signed can last; none while it signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    /// The private key as PKCS #8 in base64url; none once it signs no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    private: Option<String>,
    /// The point on P-256, uncompressed, in base64url.
    public: String,
}

impl TokenKeys {
    /// Reads the keys of a data directory, which this process has locked; makes the first one where there is none. Where that
    /// can't be written it holds until this process ends. Blocks.
    pub fn open(data: &Path, now: Timestamp) -> Result<TokenKeys, KeysError> {
        let path = data.join(KEYS_FILE);
        let keys = if let Some(bytes) = read_small(&RealDisk, &path, MAX_FILE)? {
            Keys::parse(&bytes).ok_or_else(|| KeysError::Damaged { path: path.clone() })?
        } else {
            let keys = Keys { present: SigningKey::generate(now)?, former: Vec::new() };
            if let Err(error) = keys.write(&path) {
                tracing::warn!(%error, "the key that signs tokens can't be kept: clients need new tokens after a restart");
            }
            keys
        };
        Ok(TokenKeys(Arc::new(Shared {
            path,
            keys: RwLock::new(Arc::new(keys)),
            replacing: Mutex::default(),
        })))
    }

    /// Keys of this process alone, which no file has.
    #[cfg(test)]
    pub(super) fn in_memory(now: Timestamp) -> TokenKeys {
        let keys = Keys { present: SigningKey::generate(now).unwrap(), former: Vec::new() };
        let path = PathBuf::from("/nonexistent/keys");
        TokenKeys(Arc::new(Shared { path, keys: RwLock::new(Arc::new(keys)), replacing: Mutex::default() }))
    }

    /// Signs with a fresh key from now on, and returns its id. Tokens of the former ones hold until they expire; unless
    /// `forget` says that no token that was signed before is to be believed any more. Blocks.
    pub fn rotate(&self, now: Timestamp, forget: bool) -> Result<String, KeysError> {
        let _replacing = self.0.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = self.now();
        let until = now.saturating_add(MAX_LIFETIME).saturating_add(LEEWAY);
        let mut former = Vec::new();
        if !forget {
            former.push(keys.present.retired(until));
            former.extend(keys.former.iter().filter(|key| now < key.until).cloned());
            former.truncate(MAX_KEYS - 1);
        }
        let keys = Keys { present: SigningKey::generate(now)?, former };
        keys.write(&self.0.path)?;
        let id = keys.present.id.clone();
        *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(id)
    }

    /// The keys as they are.
    pub(super) fn now(&self) -> Arc<Keys> {
        self.0.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Keys {
    /// The id of the key that signs, and the key.
    pub(super) fn signing(&self) -> (&str, &EncodingKey) {
        (&self.present.id, &self.present.encoding)
    }

    /// The public half of the key of this id.
    pub(super) fn verifying(&self, id: &str, now: Timestamp) -> Option<&DecodingKey> {
        if id == self.present.id {
            return Some(&self.present.decoding);
        }
        self.former.iter().find(|key| key.id == id && now < key.until).map(|key| &key.decoding)
    }

    /// The public half of the key that signs.
    #[cfg(test)]
    pub(super) fn public_point(&self) -> &[u8] {
        &self.present.public
    }

    /// Whether there is a key of this id.
    #[cfg(test)]
    pub(super) fn has(&self, id: &str) -> bool {
        id == self.present.id || self.former.iter().any(|key| key.id == id)
    }

    fn write(&self, path: &Path) -> Result<(), FileError> {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let present = StoredKey {
            id: self.present.id.clone(),
            made: self.present.made.millis(),
            until: None,
            private: Some(encode(&self.present.private)),
            public: encode(&self.present.public),
        };
        let former = self.former.iter().map(|key| StoredKey {
            id: key.id.clone(),
            made: key.made.millis(),
            until: Some(key.until.millis()),
            private: None,
            public: encode(&key.public),
        });
        let stored = Stored { keys: std::iter::once(present).chain(former).collect() };
        let bytes = serde_json::to_vec(&stored).expect("texts and numbers can be written as JSON");
        replace_small(&RealDisk, path, &bytes)
    }

    fn parse(bytes: &[u8]) -> Option<Keys> {
        let Stored { keys } = serde_json::from_slice(bytes).ok()?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let mut keys = keys.into_iter();
        let first = keys.next()?;
        let present = SigningKey::of(decode(&first.private?)?, Timestamp::from_millis(first.made)).ok()?;
        if present.id != first.id || present.public != decode(&first.public)? {
            return None;
        }
        let former = keys.map(|key| {
            let public = decode(&key.public)?;
            Some(FormerKey {
                id: key.id,
                decoding: DecodingKey::from_ec_der(&public),
                public,
                made: Timestamp::from_millis(key.made),
                until: Timestamp::from_millis(key.until?),
            })
        });
        Some(Keys { present, former: former.collect::<Option<_>>()? })
    }
}

impl SigningKey {
    fn generate(now: Timestamp) -> Result<SigningKey, KeysError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        let private = pair.to_pkcs8v1()?;
        SigningKey::of(private.as_ref().to_vec(), now)
    }

    fn of(private: Vec<u8>, made: Timestamp) -> Result<SigningKey, KeysError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &private)
            .map_err(|_| KeysError::Random)?;
        let public = pair.public_key().as_ref().to_vec();
        Ok(SigningKey {
            id: id_of(&public),
            encoding: EncodingKey::from_ec_der(&private),
            decoding: DecodingKey::from_ec_der(&public),
            private,
            public,
            made,
        })
    }

    fn retired(&self, until: Timestamp) -> FormerKey {
        FormerKey {
            id: self.id.clone(),
            public: self.public.clone(),
            made: self.made,
            until,
            decoding: self.decoding.clone(),
        }
    }
}

/// The id of a key: the beginning of the hash of its public half.
fn id_of(public: &[u8]) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, public);
    URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;

    /// How long a key is kept that signs no more.
    const KEPT: Duration = Duration::from_secs(MAX_LIFETIME.as_secs() + LEEWAY.as_secs());

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    #[test]
    fn a_key_is_made_once_and_is_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let keys = TokenKeys::open(dir.path(), NOW).unwrap();
        let path = dir.path().join(KEYS_FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = TokenKeys::open(dir.path(), NOW).unwrap();
        assert_eq!(keys.now().signing().0, again.now().signing().0);
        let shown = format!("{keys:?}");
        assert_eq!(shown, format!("TokenKeys({})", path.display()));
        for damaged in ["", "{}", "{\"keys\":[]}", "{\"keys\":[{\"id\":\"a\",\"made\":1,\"public\":\"\"}]}"] {
            std::fs::write(&path, damaged).unwrap();
            let error = TokenKeys::open(dir.path(), NOW).unwrap_err().to_string();
            assert!(error.contains("Remove it"), "{error}");
        }
    }

    #[test]
    fn a_key_that_was_replaced_verifies_until_its_last_token_expires_and_signs_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let keys = TokenKeys::open(dir.path(), NOW).unwrap();
        let first = keys.now().signing().0.to_owned();
        let second = keys.rotate(NOW, false).unwrap();
        assert_ne!(first, second);
        let text = std::fs::read_to_string(dir.path().join(KEYS_FILE)).unwrap();
        assert_eq!(text.matches("private").count(), 1, "the former private key is gone");
        for keys in [keys.clone(), TokenKeys::open(dir.path(), NOW).unwrap()] {
            assert_eq!(keys.now().signing().0, second);
            assert!(keys.now().verifying(&first, NOW).is_some());
            assert!(keys.now().verifying(&first, NOW.saturating_add(KEPT)).is_none());
            assert!(keys.now().verifying(&second, NOW.saturating_add(KEPT)).is_some());
        }
        let third = keys.rotate(NOW.saturating_add(KEPT), false).unwrap();
        assert!(!keys.now().has(&first) && keys.now().has(&second));
        keys.rotate(NOW, true).unwrap();
        assert!(!keys.now().has(&third), "a key that leaked is forgotten at once");
    }
}
