//! As much of DER as a public key needs.

/// The tag of an INTEGER.
pub(super) const INTEGER: u8 = 0x02;
/// The tag of a BIT STRING.
pub(super) const BIT_STRING: u8 = 0x03;
/// The tag of a SEQUENCE.
pub(super) const SEQUENCE: u8 = 0x30;

/// Returns an element with its tag and length.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut element = vec![tag];
    if let (true, Ok(len)) = (content.len() < 0x80, u8::try_from(content.len())) {
        element.push(len);
    } else {
        let len = content.len().to_be_bytes();
        let significant = &len[len.iter().take_while(|byte| **byte == 0).count()..];
        element.push(0x80 | u8::try_from(significant.len()).expect("a length has at most 8 bytes"));
        element.extend_from_slice(significant);
    }
    element.extend_from_slice(content);
    element
}

/// Returns the INTEGER of an unsigned big-endian number without leading zeros.
pub(super) fn unsigned(number: &[u8]) -> Vec<u8> {
    match number.first() {
        Some(first) if *first < 0x80 => element(INTEGER, number),
        _ => element(INTEGER, &[&[0], number].concat()),
    }
}

/// Takes the element with `tag` off the front of `input`, and returns its content and the rest.
pub(super) fn take(tag: u8, input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = input.split_first_chunk()?;
    if found != tag {
        return None;
    }
    let (len, rest) = match first {
        ..=0x7f => (usize::from(first), rest),
        // Lengths of one or two bytes: nothing that is read here comes near to 64 KiB.
        0x81 => {
            let (&[len], rest) = rest.split_first_chunk()?;
            (usize::from(len), rest)
        }
        0x82 => {
            let (len, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*len)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}

/// Takes an unsigned INTEGER off the front of `input`, and returns it without leading zeros, and the rest.
pub(super) fn take_unsigned(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (content, rest) = take(INTEGER, input)?;
    match content {
        [0, number @ ..] => Some((number, rest)),
        [first, ..] if *first < 0x80 => Some((content, rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_every_length_round_trip() {
        for len in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff] {
            let content = vec![0x5a; len];
            let mut bytes = element(SEQUENCE, &content);
            bytes.push(9);
            assert_eq!(take(SEQUENCE, &bytes), Some((&content[..], &[9][..])), "{len}");
            assert_eq!(take(INTEGER, &bytes), None);
        }
    }

    #[test]
    fn numbers_keep_their_sign_and_value() {
        for number in [&[1][..], &[0x7f, 0], &[0x80], &[0xff; 256]] {
            let bytes = unsigned(number);
            assert_eq!(take_unsigned(&bytes), Some((number, &[][..])));
        }
        assert_eq!(take_unsigned(&[INTEGER, 1, 0x80]), None, "a negative number");
        assert_eq!(take_unsigned(&[INTEGER, 0]), None);
    }

    #[test]
    fn what_is_cut_short_or_too_long_is_refused() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 1],
            &[0x30, 0x81],
            &[0x30, 0x82, 1],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(take(SEQUENCE, bytes), None);
        }
    }
}
