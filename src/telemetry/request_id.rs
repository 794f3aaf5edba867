//! Request ids.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The longest id that is taken over from a client.
const MAX_LEN: usize = 64;

/// The name under which the log line and the answer of one request can be found. It lies where it is kept, since each request has one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId {
    /// Zeros behind its end.
    text: [u8; MAX_LEN],
    len: usize,
}

impl RequestId {
    /// A new id, unique in this process and with high probability among processes.
    pub fn generate() -> Self {
        static PROCESS: LazyLock<u32> = LazyLock::new(|| {
            let [a, b, c, d, ..] = RandomState::new().hash_one(std::process::id()).to_be_bytes();
            u32::from_be_bytes([a, b, c, d])
        });
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let digits = (number.ilog2() / 4 + 1) as usize;
        let mut text = [0; MAX_LEN];
        write_hex(&mut text[..8], u64::from(*PROCESS));
        text[8] = b'-';
        write_hex(&mut text[9..9 + digits], number);
        Self { text, len: 9 + digits }
    }

    /// The id that a client or a proxy sent in `X-Request-Id`, if it can stand in a log line and a header as it is:
    /// 1 to 64 letters, digits, `-`, `_`, `.`, `:`, `=` and `/`.
    pub fn accept(sent: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:=/".contains(&byte);
        ((1..=MAX_LEN).contains(&sent.len()) && sent.bytes().all(plain)).then(|| {
            let mut text = [0; MAX_LEN];
            text[..sent.len()].copy_from_slice(sent.as_bytes());
            Self { text, len: sent.len() }
        })
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..self.len]).expect("letters, digits and signs are ASCII")
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestId").field(&self.as_str()).finish()
    }
}

/// Writes the last digits of a number, as many as there is room for. Formatting costs as much as all else that is said of a request.
fn write_hex(room: &mut [u8], mut number: u64) {
    for digit in room.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number % 16) as usize];
        number /= 16;
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_differ_and_can_be_accepted() {
        let (one, two) = (RequestId::generate(), RequestId::generate());
        assert_ne!(one, two);
        assert_eq!(RequestId::accept(one.as_str()), Some(one));
    }

    #[test]
    fn ids_are_numbers_in_hexadecimal_digits() {
        let text = |number| {
            let mut room = [b'-'; 4];
            write_hex(&mut room, number);
            String::from_utf8(room.to_vec()).unwrap()
        };
        assert_eq!([text(0), text(0xabc), text(0x1_2345)], ["0000", "0abc", "2345"]);
        let id = RequestId::generate();
        let (process, number) = id.as_str().split_once('-').unwrap();
        assert_eq!(process.len(), 8);
        assert!(u32::from_str_radix(process, 16).is_ok());
        assert!(u64::from_str_radix(number, 16).is_ok_and(|number| number > 0), "{id}");
        assert!(!number.starts_with('0'), "{id}");
    }

    #[test]
    fn an_id_that_could_forge_a_log_line_is_not_taken_over() {
        for sent in ["", "a\nb", "a b", "\u{1b}[31m", "\"", &"x".repeat(65)] {
            assert_eq!(RequestId::accept(sent), None, "{sent:?}");
        }
    }
}
