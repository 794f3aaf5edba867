//! How a backup keeps its files: as they are, or encrypted in the format age-encryption.org/v1.

use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use crate::oci::Digest;

/// What the names of encrypted files end with.
const SUFFIX: &str = ".age";

/// age encrypts so many bytes at a time, and makes this many more of them.
const CHUNK: u64 = 64 << 10;
const TAG: u64 = 16;
/// Before the chunks there are a nonce, and a head that has a line or two for each recipient and some bytes of random length.
const NONCE: u64 = 16;
const SHORTEST_HEAD: u64 = 150;
const LONGEST_HEAD: u64 = 64 << 10;

/// The bytes that are read at a time.
const BUFFER: usize = 1 << 20;

/// How files are kept.
#[derive(Debug, Clone)]
pub(super) enum Form {
    /// As they are.
    Plain,
    /// Encrypted.
    Sealed(Arc<Seal>),
}

/// Whom files are encrypted to, and what opens them. Either may be nobody.
pub(super) struct Seal {
    recipients: Vec<age::x25519::Recipient>,
    identities: Vec<Box<dyn age::Identity + Send + Sync>>,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal of {} recipients and {} identities", self.recipients.len(), self.identities.len())
    }
}

impl Seal {
    pub(super) fn new(recipients: &[String], identities: &[PathBuf]) -> Result<Seal, Error> {
        let recipient = |text: &String| {
            text.parse()
                .map_err(|reason: &str| Error::Recipient { text: text.clone(), reason: reason.to_owned() })
        };
        let recipients = recipients.iter().map(recipient).collect::<Result<_, _>>()?;
        let mut found = Vec::new();
        for path in identities {
            let unusable = |reason: String| Error::Identity { path: path.clone(), reason };
            let file = std::fs::File::open(path).map_err(|error| unusable(error.to_string()))?;
            // The text of this error may have the line.
            let parsed = age::IdentityFile::from_buffer(BufReader::new(file))
                .map_err(|_| unusable("it has lines that are no identities of age".to_owned()))?;
            let parsed = parsed.into_identities().map_err(|error| unusable(error.to_string()))?;
            if parsed.is_empty() {
                return Err(unusable("there is no identity in it".to_owned()));
            }
            found.extend(parsed);
        }
        Ok(Seal { recipients, identities: found })
    }

    /// Whether new files can be encrypted.
    pub(super) fn has_recipients(&self) -> bool {
        !self.recipients.is_empty()
    }

    fn open(&self, path: &Path, file: Box<dyn Read + Send>) -> Result<Box<dyn Read + Send>, Error> {
        if self.identities.is_empty() {
            return Err(Error::NoIdentity(path.to_owned()));
        }
        let damaged = |reason: String| Error::Damaged { path: path.to_owned(), reason };
        let opened = |error| match error {
            age::DecryptError::NoMatchingKeys => Error::WrongIdentity(path.to_owned()),
            age::DecryptError::Io(error) if !is_damage(&error) => {
                Error::File(crate::fsio::FileError::new("read", path, error))
            }
            error => damaged(error.to_string()),
        };
        let decryptor =
            age::Decryptor::new_buffered(BufReader::with_capacity(BUFFER, file)).map_err(opened)?;
        let identities = self.identities.iter().map(|identity| &**identity as &dyn age::Identity);
        Ok(Box::new(decryptor.decrypt(identities).map_err(opened)?))
    }
}

/// Whether a read failed for what the bytes are, and not for where they come from.
pub(super) fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

impl Form {
    pub(super) fn is_sealed(&self) -> bool {
        matches!(self, Form::Sealed(_))
    }

    /// What a file that is encrypted with the others is called.
    pub(super) fn name(&self, name: &str) -> String {
        let suffix = if self.is_sealed() { SUFFIX } else { "" };
        format!("{name}{suffix}")
    }

    /// What content is called within the backup.
    pub(super) fn content_name(&self, digest: &Digest) -> String {
        self.name(&format!("blobs/{}/{}", digest.algorithm(), digest.hex()))
    }

    /// The digest of content, by the names of its folder and its file.
    pub(super) fn digest(&self, algorithm: &str, name: &str) -> Option<Digest> {
        let hex = if self.is_sealed() { name.strip_suffix(SUFFIX)? } else { name };
        format!("{algorithm}:{hex}").parse().ok()
    }

    /// Whether a file can have `len` bytes when what it keeps has `of`. Encrypted ones have a head whose length isn't known.
    pub(super) fn is_length(&self, len: u64, of: u64) -> bool {
        match self {
            Form::Plain => len == of,
            Form::Sealed(_) => {
                let sealed = NONCE + of + TAG * of.div_ceil(CHUNK).max(1);
                (sealed + SHORTEST_HEAD..=sealed + LONGEST_HEAD).contains(&len)
            }
        }
    }

    /// What a file keeps, which messages call `path`.
    pub(super) fn open(
        &self,
        path: &Path,
        file: Box<dyn Read + Send>,
    ) -> Result<Box<dyn Read + Send>, Error> {
        match self {
            Form::Plain => Ok(file),
            Form::Sealed(seal) => seal.open(path, file),
        }
    }

    /// Begins to write what a file keeps.
    pub(super) fn writer<W: Write>(&self, out: W) -> io::Result<FormWriter<W>> {
        match self {
            Form::Plain => Ok(FormWriter::Plain(out)),
            Form::Sealed(seal) => {
                let recipients = seal.recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
                let encryptor = age::Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
                Ok(FormWriter::Sealed(Box::new(encryptor.wrap_output(out)?)))
            }
        }
    }
}

/// Writes what a file keeps.
pub(super) enum FormWriter<W: Write> {
    Plain(W),
    Sealed(Box<age::stream::StreamWriter<W>>),
}

impl<W: Write> FormWriter<W> {
    /// Writes the end, without which an encrypted file can't be read.
    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            FormWriter::Plain(out) => Ok(out),
            FormWriter::Sealed(writer) => writer.finish(),
        }
    }
}

impl<W: Write> Write for FormWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            FormWriter::Plain(out) => out.write(bytes),
            FormWriter::Sealed(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            FormWriter::Plain(out) => out.flush(),
            FormWriter::Sealed(writer) => writer.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(identity: Option<&age::x25519::Identity>, to: &[&age::x25519::Identity]) -> Form {
        let identities =
            identity.map(|identity| Box::new(identity.clone()) as Box<dyn age::Identity + Send + Sync>);
        let recipients = to.iter().map(|identity| identity.to_public()).collect();
        Form::Sealed(Arc::new(Seal { recipients, identities: identities.into_iter().collect() }))
    }

    fn written(form: &Form, bytes: &[u8]) -> Vec<u8> {
        let mut writer = form.writer(Vec::new()).unwrap();
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn what_is_encrypted_is_opened_by_each_recipient_and_nobody_else() {
        let [one, other, third] = std::array::from_fn(|_| age::x25519::Identity::generate());
        let file = written(&sealed(None, &[&one, &other]), b"text");
        let open = |form: Form, file: &[u8]| -> Result<Vec<u8>, Error> {
            let mut bytes = Vec::new();
            let path = Path::new("file");
            let mut reader = form.open(path, Box::new(io::Cursor::new(file.to_owned())))?;
            reader
                .read_to_end(&mut bytes)
                .map_err(|error| Error::Damaged { path: path.into(), reason: error.to_string() })?;
            Ok(bytes)
        };
        for identity in [&one, &other] {
            assert_eq!(open(sealed(Some(identity), &[]), &file).unwrap(), b"text");
        }
        assert!(matches!(open(sealed(Some(&third), &[]), &file), Err(Error::WrongIdentity(_))));
        assert!(matches!(open(sealed(None, &[&one]), &file), Err(Error::NoIdentity(_))));
        // Whatever is changed in it is found.
        for position in 0..file.len() {
            let mut changed = file.clone();
            changed[position] ^= 1;
            assert!(open(sealed(Some(&one), &[]), &changed).is_err(), "{position}");
        }
    }

    #[test]
    fn lengths_are_known_but_for_the_head() {
        let identity = age::x25519::Identity::generate();
        let form = sealed(None, &[&identity, &identity, &identity]);
        for len in [0, 1, 100, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let file = written(&form, &vec![7; usize::try_from(len).unwrap()]).len() as u64;
            assert!(form.is_length(file, len), "{len}");
            assert!(!form.is_length(file, len + LONGEST_HEAD) && !form.is_length(len, len), "{len}");
        }
        assert!(Form::Plain.is_length(7, 7) && !Form::Plain.is_length(8, 7));
    }

    #[test]
    fn recipients_and_identities_that_are_none_are_named() {
        let refused = Seal::new(&["age1nobody".to_owned()], &[]).unwrap_err();
        assert!(matches!(&refused, Error::Recipient { text, .. } if text == "age1nobody"), "{refused}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        for text in ["", "# nothing\n", "AGE-SECRET-KEY-1NOT\n"] {
            std::fs::write(&path, text).unwrap();
            let refused = Seal::new(&[], std::slice::from_ref(&path)).unwrap_err().to_string();
            assert!(refused.contains("identity") && !refused.contains("1NOT"), "{refused}");
        }
    }
}
