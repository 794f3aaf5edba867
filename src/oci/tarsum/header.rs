//! The headers of a tar archive, as far as they are summed.

use super::error::TarSumError;

/// The size of a block, and of a header.
pub(super) const BLOCK: usize = 512;

/// What a header is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file of any type.
    Entry,
    /// The PAX records of the next entry (`x`).
    Pax,
    /// GNU's name of the next entry (`L`).
    LongName,
    /// GNU's link target of the next entry (`K`).
    LongLink,
}

/// The fields of a header, of which texts are bytes of no known encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: Vec<u8>,
    pub(super) mode: i64,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) size: i64,
    pub(super) mtime: i64,
    pub(super) type_flag: u8,
    pub(super) link_name: Vec<u8>,
    pub(super) user_name: Vec<u8>,
    pub(super) group_name: Vec<u8>,
    pub(super) dev_major: i64,
    pub(super) dev_minor: i64,
}

impl Header {
    /// Reads a header and verifies its checksum.
    pub(super) fn read(block: &[u8; BLOCK]) -> Result<Header, TarSumError> {
        check_sum(block)?;
        let magic = &block[257..265];
        let is_extended = magic == b"ustar\x0000" || magic == b"ustar  \x00";
        let extended = |range: std::ops::Range<usize>| if is_extended { &block[range] } else { &[][..] };
        let mut name = text(&block[..100]);
        // The archiver "star" keeps times where the end of the prefix would be.
        let is_star = magic == b"ustar\x0000" && &block[508..] == b"tar\x00";
        let prefix = text(extended(if is_star { 345..476 } else { 345..500 }));
        if !prefix.is_empty() {
            name = [&prefix, &b"/"[..], &name].concat();
        }
        Ok(Header {
            name,
            mode: number(&block[100..108])?,
            uid: number(&block[108..116])?,
            gid: number(&block[116..124])?,
            size: number(&block[124..136])?,
            mtime: number(&block[136..148])?,
            type_flag: block[156],
            link_name: text(&block[157..257]),
            user_name: text(extended(265..297)),
            group_name: text(extended(297..329)),
            dev_major: number(extended(329..337))?,
            dev_minor: number(extended(337..345))?,
        })
    }

    /// Returns what the header is for.
    pub(super) fn kind(&self) -> Result<Kind, TarSumError> {
        match self.type_flag {
            b'x' => Ok(Kind::Pax),
            b'L' => Ok(Kind::LongName),
            b'K' => Ok(Kind::LongLink),
            b'g' => Err(TarSumError::Unsupported("a global PAX header")),
            b'S' => Err(TarSumError::Unsupported("a sparse file")),
            _ => Ok(Kind::Entry),
        }
    }

    /// Returns how many bytes of content follow; links, devices, folders and pipes have none, whatever their size says.
    pub(super) fn content_len(&self) -> Result<u64, TarSumError> {
        match self.type_flag {
            b'1'..=b'6' => Ok(0),
            _ => u64::try_from(self.size).map_err(|_| TarSumError::NotTar("a size is negative")),
        }
    }
}

/// Returns a text up to its first NUL.
pub(super) fn text(field: &[u8]) -> Vec<u8> {
    field.iter().copied().take_while(|byte| *byte != 0).collect()
}

/// Verifies the sum of all bytes of a header, the sum itself counted as spaces; old archivers summed signed bytes.
fn check_sum(block: &[u8; BLOCK]) -> Result<(), TarSumError> {
    let stated = number(&block[148..156])?;
    let summed =
        || block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
    let unsigned: i64 = summed().map(i64::from).sum();
    let signed: i64 = summed().map(|byte| i64::from(byte.cast_signed())).sum();
    if stated == unsigned || stated == signed {
        Ok(())
    } else {
        Err(TarSumError::NotTar("the checksum of a header is wrong"))
    }
}

/// Reads a number: octal digits with spaces and NULs around, or with the first bit set, big-endian binary.
fn number(field: &[u8]) -> Result<i64, TarSumError> {
    let malformed = TarSumError::NotTar("a number in a header is malformed");
    if let Some((first @ 0x80.., rest)) = field.split_first() {
        // The second bit is the sign; what lies above 64 bits has to repeat it.
        let sign: i64 = if first & 0x40 == 0 { 0 } else { -1 };
        let mut value = i128::from(sign) << 6 | i128::from(first & 0x3f);
        for byte in rest {
            value = value << 8 | i128::from(*byte);
        }
        return i64::try_from(value).map_err(|_| malformed);
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_blank(byte)).unwrap_or(field.len());
    let digits: Vec<u8> = field[start..].iter().copied().take_while(|byte| !is_blank(byte)).collect();
    let mut value = 0;
    for digit in &digits {
        if !(b'0'..=b'7').contains(digit) {
            return Err(malformed);
        }
        value = value << 3 | i64::from(digit - b'0');
    }
    if field[start + digits.len()..].iter().all(is_blank) { Ok(value) } else { Err(malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        for (field, value) in [
            (&b""[..], 0),
            (b"\0\0\0", 0),
            (b"   ", 0),
            (b"0000644\0", 0o644),
            (b"  644 \0 ", 0o644),
            (b"77777777777\0", 0o77_777_777_777),
            (b"777777777777", 0o777_777_777_777),
            (b"\x80\0\0\0\0\0\x01\0", 256),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", -1),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
        ] {
            assert_eq!(number(field), Ok(value), "{field:?}");
        }
        for field in [&b"8"[..], b"-1", b"6 4", b"x", b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
            assert!(number(field).is_err(), "{field:?}");
        }
    }
}
