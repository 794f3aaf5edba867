//! The name of an upload session.

use crate::clock::Timestamp;
use std::fmt;
use std::str::FromStr;
use uuid::{NoContext, Uuid};

/// The identity of an upload: a version 7 UUID, which sorts by the time it was made and can't be guessed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(Uuid);

/// The text isn't an upload id as this registry writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an upload id")]
pub struct UploadIdError;

impl UploadId {
    /// A new id that begins with the time `now`.
    pub fn generate(now: Timestamp) -> UploadId {
        let millis = now.millis();
        let nanos = u32::try_from(millis % 1000).expect("less than a thousand") * 1_000_000;
        UploadId(Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, millis / 1000, nanos)))
    }

    /// The sixteen bytes, whose order is the order of ids.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id with these sixteen bytes, as a stored key has them.
    pub fn from_bytes(bytes: [u8; 16]) -> UploadId {
        UploadId(Uuid::from_bytes(bytes))
    }
}

impl FromStr for UploadId {
    type Err = UploadIdError;

    /// Accepts the lower-case hyphenated form only, so that an id has one spelling and one file.
    fn from_str(text: &str) -> Result<UploadId, UploadIdError> {
        let uuid = Uuid::try_parse(text).map_err(|_| UploadIdError)?;
        let mut canonical = Uuid::encode_buffer();
        if uuid.hyphenated().encode_lower(&mut canonical) == text {
            Ok(UploadId(uuid))
        } else {
            Err(UploadIdError)
        }
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text_and_its_bytes_and_sorts_by_time() {
        let early = UploadId::generate(Timestamp::from_millis(1_700_000_000_000));
        let late = UploadId::generate(Timestamp::from_millis(1_700_000_000_001));
        assert!(early < late);
        assert_eq!(early.to_string().parse(), Ok(early));
        assert_eq!(UploadId::from_bytes(*late.as_bytes()), late);
    }

    #[test]
    fn other_spellings_of_an_id_are_refused() {
        let id = "0190a6b0-7c3e-7d2f-8a4b-0123456789ab";
        assert!(id.parse::<UploadId>().is_ok());
        for other in [
            &id.to_uppercase(),
            &id.replace('-', ""),
            &format!("{{{id}}}"),
            &format!("urn:uuid:{id}"),
            "",
            "../../etc/passwd",
            &format!("{id} "),
        ] {
            assert_eq!(other.parse::<UploadId>(), Err(UploadIdError), "{other}");
        }
    }
}
