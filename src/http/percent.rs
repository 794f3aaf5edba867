//! Percent-encoding of paths and query values (RFC 3986, section 2.1).

use std::borrow::Cow;

/// The bytes that `text` stands for, decoded exactly once; `None` for a broken escape or for bytes that aren't UTF-8.
///
/// A `+` stays a `+`: no value of this API contains a space, and media types with a `+` in them are often sent raw.
pub(super) fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let (high, low) = (hex_value(rest.next()?)?, hex_value(rest.next()?)?);
            bytes.push(high << 4 | low);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// Appends `value` to `out` so that it can stand as a value in a query.
pub(super) fn encode_into(out: &mut String, value: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_without_escapes_is_borrowed() {
        assert!(matches!(decode("library/busybox+1"), Some(Cow::Borrowed("library/busybox+1"))));
    }

    #[test]
    fn escapes_are_decoded_once() {
        assert_eq!(decode("sha256%3Aab%2fcd").as_deref(), Some("sha256:ab/cd"));
        assert_eq!(decode("%252e").as_deref(), Some("%2e"));
    }

    #[test]
    fn broken_escapes_and_bytes_that_are_no_text_are_refused() {
        for broken in ["%", "%4", "%zz", "a%+1", "%ff", "%c3%28"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes_to_itself(value in any::<String>()) {
            let mut encoded = String::new();
            encode_into(&mut encoded, &value);
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic() && !b"&=#<>\"".contains(&byte)));
            let decoded = decode(&encoded);
            prop_assert_eq!(decoded.as_deref(), Some(value.as_str()));
        }
    }
}
