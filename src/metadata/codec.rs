//! The record codec: one byte for the record's version, then bincode.
//!
//! The only file that names bincode's functions. Integers are of variable length, so nothing here is ever used for a
//! key, whose order matters. A record of an unknown version is an error, never a guess, and so are left-over bytes.

use bincode::de::read::Reader;
use bincode::enc::Encoder;
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use bincode::{Decode, Encode};

use super::{Error, Table};
use crate::oci::{Digest, MediaType, RepositoryName, Tag};

/// Records larger than this are refused before anything is allocated for them.
const LIMIT: usize = 64 << 20;

fn configuration() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<LIMIT>()
}

/// A value that lies in a table.
pub trait Record: Encode + Decode<()> {
    /// The table, for error messages.
    const TABLE: Table;
    /// The version that is written, and the only one read; older ones are migrated at start.
    const VERSION: u8;
}

/// The bytes of a record, its version first.
pub fn encode<R: Record>(record: &R) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    bytes.push(R::VERSION);
    bincode::encode_into_std_write(record, &mut bytes, configuration())
        .expect("writing to memory fails only above the limit, which no caller reaches");
    bytes
}

/// The record of `bytes`.
pub fn decode<R: Record>(bytes: &[u8]) -> Result<R, Error> {
    let damaged = |reason: String| Error::Damaged { table: R::TABLE.name(), reason };
    let (&version, body) = bytes.split_first().ok_or_else(|| damaged("it is empty".into()))?;
    if version != R::VERSION {
        return Err(damaged(format!("its version is {version}, and {} is expected", R::VERSION)));
    }
    let (record, used) =
        bincode::decode_from_slice(body, configuration()).map_err(|error| damaged(error.to_string()))?;
    if used != body.len() {
        return Err(damaged(format!("{} bytes are left over", body.len() - used)));
    }
    Ok(record)
}

/// The longest of the types that are stored as short strings of bytes.
const LONGEST: usize = 256;

/// Reads a string of bytes into a buffer on the stack, since hot reads decode several of them; `None` for a longer one, or
/// where there is too little.
fn read_short<'b, D: bincode::de::Decoder>(
    decoder: &mut D,
    buffer: &'b mut [u8; LONGEST],
) -> Option<&'b [u8]> {
    let len = usize::try_from(<u64 as Decode<D::Context>>::decode(decoder).ok()?).ok()?;
    decoder.claim_bytes_read(len).ok()?;
    let bytes = buffer.get_mut(..len)?;
    decoder.reader().read(bytes).ok()?;
    Some(bytes)
}

/// Writes a text as a string of bytes.
fn write_text<E: Encoder>(text: &impl AsRef<str>, encoder: &mut E) -> Result<(), EncodeError> {
    text.as_ref().as_bytes().encode(encoder)
}

/// Writes the bytes of [`Digest::to_key`], without making them first.
fn write_digest<E: Encoder>(digest: &Digest, encoder: &mut E) -> Result<(), EncodeError> {
    let bytes = digest.as_bytes();
    (1 + bytes.len() as u64).encode(encoder)?;
    encoder.writer().write(&[digest.algorithm().tag()])?;
    encoder.writer().write(bytes)
}

/// Declares that a type is stored as a string of bytes which its own parser reads back.
macro_rules! stored_as_bytes {
    ($type:ty, $write:expr, $read:expr, $name:literal) => {
        impl Encode for $type {
            fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                $write(self, encoder)
            }
        }

        impl<C> Decode<C> for $type {
            fn decode<D: bincode::de::Decoder<Context = C>>(
                decoder: &mut D,
            ) -> Result<$type, bincode::error::DecodeError> {
                let read: fn(&[u8]) -> Option<$type> = $read;
                let mut buffer = [0; LONGEST];
                read_short(decoder, &mut buffer)
                    .and_then(read)
                    .ok_or(bincode::error::DecodeError::Other(concat!("no ", $name)))
            }
        }

        bincode::impl_borrow_decode!($type);
    };
}

stored_as_bytes!(Digest, write_digest, Digest::from_key, "digest");
stored_as_bytes!(MediaType, write_text, |bytes| std::str::from_utf8(bytes).ok()?.parse().ok(), "media type");
stored_as_bytes!(
    RepositoryName,
    write_text,
    |bytes| std::str::from_utf8(bytes).ok()?.parse().ok(),
    "repository name"
);
stored_as_bytes!(Tag, write_text, |bytes| std::str::from_utf8(bytes).ok()?.parse().ok(), "tag");

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::metadata::access_tokens::AccessTokenRecord;
    use crate::metadata::blobs::{BlobRecord, DamagedRecord, LinkRecord};
    use crate::metadata::deletions::{DeletedKind, DeletionRecord};
    use crate::metadata::events::{
        Action, CursorRecord, EventRecord, EventReference, EventRequest, EventTarget, TargetKind,
    };
    use crate::metadata::manifests::{ManifestRecord, ReferrerRecord};
    use crate::metadata::repositories::{FormerName, RepositoryId, RepositoryRecord};
    use crate::metadata::signatures::SignatureRecord;
    use crate::metadata::sizes::SizeRecord;
    use crate::metadata::tags::TagRecord;
    use crate::metadata::uploads::UploadRecord;
    use crate::metadata::users::UserRecord;
    use crate::oci::{DigestAlgorithm, Hasher};

    fn digest() -> Digest {
        Digest::of(DigestAlgorithm::Sha256, b"")
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        })
    }

    /// Encodes, compares with what released binaries wrote, and decodes again.
    #[track_caller]
    fn pin<R: Record + PartialEq + std::fmt::Debug>(record: &R, golden: &str) {
        let bytes = encode(record);
        assert_eq!(hex(&bytes), golden.replace(['\n', ' '], ""));
        assert_eq!(decode::<R>(&bytes).unwrap(), *record);
    }

    #[test]
    fn records_have_the_bytes_of_their_schema() {
        let empty = "2101e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        pin(&BlobRecord { size: 300, created_at: 1_700_000_000_000 }, "01 fb2c01 fd0068e5cf8b010000");
        pin(
            &LinkRecord {
                media_type: MediaType::OCTET_STREAM,
                created_at: 7,
                actor: "anonymous".into(),
                due_at: Some(300),
            },
            "02 18 6170706c69636174696f6e2f6f637465742d73747265616d 07 09 616e6f6e796d6f7573 01 fb2c01",
        );
        pin(&digest(), &format!("01 {empty}"));
        pin(
            &RepositoryRecord {
                name: "a/b".parse().unwrap(),
                created_at: 7,
                actor: "x".into(),
                upstream: None,
            },
            "02 03 612f62 07 01 78 00",
        );
        pin(
            &ManifestRecord {
                media_type: "a/b".parse().unwrap(),
                size: 2,
                pushed_at: 7,
                actor: "x".into(),
                pushed_as: digest(),
                subject: Some(digest()),
                due_at: None,
            },
            &format!("02 03 612f62 02 07 01 78 {empty} 01 {empty} 00"),
        );
        pin(
            &ReferrerRecord { artifact_type: Some("t".into()), descriptor: b"{}".to_vec() },
            "01 01 01 74 02 7b7d",
        );
        pin(
            &TagRecord { digest: digest(), named: digest(), updated_at: 7, actor: "x".into() },
            &format!("01 {empty} {empty} 07 01 78"),
        );
        let state = Hasher::new(DigestAlgorithm::Sha256).save();
        let mut golden = format!("02 01 61 07 08 01 78 09 01 01 {:02x}", state.format.len());
        golden.push_str(&hex(state.format.as_bytes()));
        write!(golden, "{:02x}{} 01 79", state.bytes.len(), hex(&state.bytes)).unwrap();
        pin(
            &UploadRecord {
                repository: "a".parse().unwrap(),
                started_at: 7,
                active_at: 8,
                actor: "x".into(),
                durable_len: 9,
                states: vec![state.into()],
                owner: "y".into(),
            },
            &golden,
        );
    }

    #[test]
    fn events_have_the_bytes_of_schema_2() {
        let empty = "2101e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let mount = EventRecord {
            at: 7,
            id: [9; 16],
            action: Action::Mount,
            target: EventTarget {
                kind: TargetKind::Blob,
                repository: "a/b".parse().unwrap(),
                digest: Some(digest()),
                media_type: Some("a/b".parse().unwrap()),
                size: Some(300),
                tag: None,
                from: Some("c".parse().unwrap()),
                references: Vec::new(),
            },
            actor: "x".into(),
            request: Some(std::sync::Arc::new(EventRequest {
                id: "i".into(),
                addr: "d".into(),
                host: "h".into(),
                method: "M".into(),
                user_agent: "u".into(),
                base_url: "b".into(),
            })),
        };
        let ids = "09".repeat(16);
        pin(
            &mount,
            &format!(
                "01 07 {ids} 02 00 03612f62 01{empty} 0103612f62 01fb2c01 00 010163 00 0178 01 0169 0164 0168 014d 0175 0162"
            ),
        );
        let push = EventRecord {
            action: Action::Push,
            target: EventTarget {
                kind: TargetKind::Manifest,
                tag: Some("t".parse().unwrap()),
                from: None,
                references: vec![EventReference {
                    media_type: "a/b".parse().unwrap(),
                    digest: digest(),
                    size: 2,
                }],
                ..mount.target.clone()
            },
            request: None,
            ..mount
        };
        pin(
            &push,
            &format!(
                "01 07 {ids} 00 01 03612f62 01{empty} 0103612f62 01fb2c01 010174 00 01 03612f62{empty}02 0178 00"
            ),
        );
        pin(&CursorRecord(300), "01 fb2c01");
        for (kind, byte) in [(TargetKind::Tag, 2), (TargetKind::Repository, 3)] {
            let target = EventTarget { kind, ..push.target.clone() };
            assert_eq!(encode(&EventRecord { target, ..push.clone() })[19], byte);
        }
        for (action, byte) in [(Action::Pull, 1), (Action::Delete, 3)] {
            assert_eq!(encode(&EventRecord { action, ..push.clone() })[18], byte);
        }
    }

    #[test]
    fn signatures_have_the_bytes_of_schema_2() {
        let record = SignatureRecord { signature: b"{}".to_vec(), created_at: 300, actor: "x".into() };
        pin(&record, "01 02 7b7d fb2c01 01 78");
    }

    #[test]
    fn deletions_and_sizes_have_the_bytes_of_schema_3() {
        let empty = "2101e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let deletion = DeletionRecord {
            kind: DeletedKind::Tag,
            repository: RepositoryId::from(3),
            name: "a/b".parse().unwrap(),
            tag: Some("t".parse().unwrap()),
            digest: Some(digest()),
            deleted_at: 7,
            expires_at: 8,
            actor: "x".into(),
            reason: None,
        };
        pin(&deletion, &format!("01 00 03 03612f62 010174 01{empty} 07 08 0178 00"));
        for (kind, byte) in [(DeletedKind::Manifest, 1), (DeletedKind::Blob, 2), (DeletedKind::Repository, 3)]
        {
            assert_eq!(encode(&DeletionRecord { kind, ..deletion.clone() })[1], byte);
        }
        let sizes = SizeRecord {
            blobs: 1,
            blob_bytes: 300,
            manifests: 2,
            manifest_bytes: 3,
            tags: 4,
            unique_bytes: 5,
        };
        pin(&sizes, "01 01 fb2c01 02 03 04 05");
        pin(&DamagedRecord { size: 1, found_at: 2, reason: "x".into() }, "01 01 02 0178");
        pin(&FormerName { repository: RepositoryId::from(3), renamed_at: 4 }, "01 03 04");
    }

    #[test]
    fn accounts_have_the_bytes_of_schema_4_and_print_no_hash() {
        let user = UserRecord {
            hash: "$2b$".into(),
            groups: vec!["ops".into(), "x".into()],
            created_at: 1,
            changed_at: 300,
        };
        pin(&user, "01 0424326224 02 036f7073 0178 01 fb2c01");
        let token = AccessTokenRecord {
            name: "ci".into(),
            hash: [7; 32],
            owner: None,
            scope: Some(vec!["a:pull".into()]),
            created_at: 1,
            expires_at: Some(2),
            used_at: 0,
        };
        let hash = "07".repeat(32);
        pin(&token, &format!("01 026369 {hash} 00 01 01 06613a70756c6c 01 01 02 00"));
        let of_anna =
            AccessTokenRecord { owner: Some("anna".into()), scope: None, expires_at: None, ..token };
        pin(&of_anna, &format!("01 026369 {hash} 01 04616e6e61 00 01 00 00"));
        assert!(!format!("{user:?}").contains("$2b$"));
        assert!(!format!("{of_anna:?}").contains("7, 7"));
    }

    #[test]
    fn an_unknown_version_left_over_bytes_and_missing_ones_are_errors() {
        let bytes = encode(&BlobRecord { size: 300, created_at: 5 });
        for (name, damaged) in [
            ("empty", Vec::new()),
            ("version", [&[2], &bytes[1..]].concat()),
            ("left over", [&bytes[..], &[0]].concat()),
            ("short", bytes[..bytes.len() - 1].to_vec()),
        ] {
            let result = decode::<BlobRecord>(&damaged);
            assert!(matches!(result, Err(Error::Damaged { table: "blobs", .. })), "{name}: {result:?}");
        }
    }
}
