//! PAX records, the extended header of one entry.

use std::collections::BTreeMap;

use super::error::TarSumError;
use super::header::Header;

const XATTR: &[u8] = b"SCHILY.xattr.";

/// The records of one extended header: of a key that comes twice, the last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PaxRecords(BTreeMap<Vec<u8>, Vec<u8>>);

impl PaxRecords {
    /// Reads records of the form `<length> <key>=<value>\n`, where the length counts all of it.
    pub(super) fn read(mut bytes: &[u8]) -> Result<PaxRecords, TarSumError> {
        let malformed = TarSumError::NotTar("a PAX record is malformed");
        let mut records = BTreeMap::new();
        while !bytes.is_empty() {
            let space = bytes.iter().take(20).position(|byte| *byte == b' ').ok_or(malformed.clone())?;
            let len = decimal(&bytes[..space]).and_then(|len| usize::try_from(len).ok());
            let len = len.filter(|len| *len > space).ok_or(malformed.clone())?;
            let (record, rest) = bytes.split_at_checked(len).ok_or(malformed.clone())?;
            let record = record[space + 1..].strip_suffix(b"\n").ok_or(malformed.clone())?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(malformed.clone())?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            if key.starts_with(b"GNU.sparse.") {
                return Err(TarSumError::Unsupported("a sparse file"));
            }
            records.insert(key.to_vec(), value.to_vec());
            bytes = rest;
        }
        Ok(PaxRecords(records))
    }

    /// Sets the fields of a header that have a record; an empty one leaves the header's own.
    pub(super) fn apply(&self, header: &mut Header) -> Result<(), TarSumError> {
        let value = |key: &str| self.0.get(key.as_bytes()).filter(|value| !value.is_empty());
        let number = |key: &str, field: &mut i64| match value(key) {
            None => Ok(()),
            Some(value) => {
                *field =
                    decimal(value).ok_or(TarSumError::NotTar("a number in a PAX record is malformed"))?;
                Ok(())
            }
        };
        number("uid", &mut header.uid)?;
        number("gid", &mut header.gid)?;
        number("size", &mut header.size)?;
        if let Some(time) = value("mtime") {
            header.mtime =
                whole_seconds(time).ok_or(TarSumError::NotTar("a time in a PAX record is malformed"))?;
        }
        for (key, field) in [
            ("path", &mut header.name),
            ("linkpath", &mut header.link_name),
            ("uname", &mut header.user_name),
            ("gname", &mut header.group_name),
        ] {
            if let Some(value) = value(key) {
                field.clone_from(value);
            }
        }
        Ok(())
    }

    /// Returns the names and values of the extended attributes in the order of the names' bytes.
    pub(super) fn xattrs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().filter_map(|(key, value)| Some((key.strip_prefix(XATTR)?, &value[..])))
    }
}

fn decimal(text: &[u8]) -> Option<i64> {
    // Rust reads a leading plus sign, which no archiver writes.
    let text = str::from_utf8(text).ok().filter(|text| !text.starts_with('+'))?;
    text.parse().ok()
}

/// Reads seconds with a fraction, rounded down.
fn whole_seconds(text: &[u8]) -> Option<i64> {
    let text = str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let whole = decimal(seconds.as_bytes())?;
    let below = seconds.starts_with('-') && fraction.bytes().any(|byte| byte != b'0');
    whole.checked_sub(i64::from(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_carry_their_own_length() {
        let records = PaxRecords::read(b"11 path=a=\n24 SCHILY.xattr.user=\0\n\n6 a=b\n").unwrap();
        assert_eq!(records.xattrs().collect::<Vec<_>>(), [(&b"user"[..], &b"\0\n"[..])]);
    }

    #[test]
    fn malformed_records_are_refused() {
        for bytes in [
            &b"x"[..],
            b"6 a=b",
            b"0 a=b\n",
            b"1 a=b\n",
            b"-6 a=b\n",
            b"+6 a=b\n",
            b"99 a=b\n",
            b"6 abc\n",
            b"99999999999999999999999 a=b\n",
            b"26 GNU.sparse.realsize=512\n",
        ] {
            assert!(PaxRecords::read(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn times_are_rounded_down() {
        for (text, seconds) in [
            ("0", 0),
            ("1.9", 1),
            ("-1.5", -2),
            ("-1.0", -1),
            ("-0.5", -1),
            ("1.", 1),
            ("1234567890.123456789", 1_234_567_890),
        ] {
            assert_eq!(whole_seconds(text.as_bytes()), Some(seconds), "{text}");
        }
        for text in ["", ".5", "1.x", "1e3", "+1", "9223372036854775808"] {
            assert_eq!(whole_seconds(text.as_bytes()), None, "{text}");
        }
    }
}
