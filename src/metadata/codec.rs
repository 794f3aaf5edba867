//! The record codec: one byte for the record's version, then bincode.
//!
//! The only file that names bincode's functions. Integers are of variable length, so nothing here is ever used for a
//! key, whose order matters. A record of an unknown version is an error, never a guess, and so are left-over bytes.

use bincode::{Decode, Encode};

use super::{Error, Table};
use crate::oci::{Digest, MediaType, RepositoryName};

/// Records larger than this are refused before anything is allocated for them.
const LIMIT: usize = 64 << 20;

fn configuration() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<LIMIT>()
}

/// A value that lies in a table.
pub(super) trait Record: Encode + Decode<()> {
    /// The table, for error messages.
    const TABLE: Table;
    /// The version that is written, and the only one read; older ones are migrated at start.
    const VERSION: u8;
}

/// The bytes of a record, its version first.
pub(super) fn encode<R: Record>(record: &R) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    bytes.push(R::VERSION);
    bincode::encode_into_std_write(record, &mut bytes, configuration())
        .expect("writing to memory fails only above the limit, which no caller reaches");
    bytes
}

/// The record of `bytes`.
pub(super) fn decode<R: Record>(bytes: &[u8]) -> Result<R, Error> {
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

/// Declares that a type is stored as a string of bytes which its own parser reads back.
macro_rules! stored_as_bytes {
    ($type:ty, $write:expr, $read:expr, $name:literal) => {
        impl Encode for $type {
            fn encode<E: bincode::enc::Encoder>(
                &self,
                encoder: &mut E,
            ) -> Result<(), bincode::error::EncodeError> {
                let write: fn(&$type) -> Vec<u8> = $write;
                Encode::encode(&write(self), encoder)
            }
        }

        impl<C> Decode<C> for $type {
            fn decode<D: bincode::de::Decoder<Context = C>>(
                decoder: &mut D,
            ) -> Result<$type, bincode::error::DecodeError> {
                let read: fn(&[u8]) -> Option<$type> = $read;
                let bytes: Vec<u8> = Decode::decode(decoder)?;
                read(&bytes).ok_or(bincode::error::DecodeError::Other(concat!("no ", $name)))
            }
        }

        bincode::impl_borrow_decode!($type);
    };
}

stored_as_bytes!(Digest, Digest::to_key, Digest::from_key, "digest");
stored_as_bytes!(
    MediaType,
    |media_type| media_type.as_str().into(),
    |bytes| std::str::from_utf8(bytes).ok()?.parse().ok(),
    "media type"
);
stored_as_bytes!(
    RepositoryName,
    |name| name.as_str().into(),
    |bytes| std::str::from_utf8(bytes).ok()?.parse().ok(),
    "repository name"
);
