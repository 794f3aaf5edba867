//! Request ids.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

/// The longest id that is taken over from a client.
const MAX_LEN: usize = 64;

/// The name under which the log line and the answer of one request can be found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// A new id, unique in this process and with high probability among processes.
    pub fn generate() -> Self {
        static PROCESS: LazyLock<u32> = LazyLock::new(|| {
            let [a, b, c, d, ..] = RandomState::new().hash_one(std::process::id()).to_be_bytes();
            u32::from_be_bytes([a, b, c, d])
        });
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("{:08x}-{number:x}", *PROCESS).into())
    }

    /// The id that a client or a proxy sent in `X-Request-Id`, if it can stand in a log line and a header as it is:
    /// 1 to 64 letters, digits, `-`, `_`, `.`, `:`, `=` and `/`.
    pub fn accept(sent: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:=/".contains(&byte);
        ((1..=MAX_LEN).contains(&sent.len()) && sent.bytes().all(plain)).then(|| Self(sent.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
    fn an_id_that_could_forge_a_log_line_is_not_taken_over() {
        for sent in ["", "a\nb", "a b", "\u{1b}[31m", "\"", &"x".repeat(65)] {
            assert_eq!(RequestId::accept(sent), None, "{sent:?}");
        }
    }
}
