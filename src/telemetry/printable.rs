//! What strangers send, as it may stand in a log line.

/// The longest piece that a log line repeats, in bytes.
const BYTES: usize = 512;

/// `bytes` as they may stand in a log line: printable ASCII, bounded, anything else escaped. Quotes are left to the
/// log's own format.
pub fn printable(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(BYTES)];
    let is_plain = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    if shown.iter().all(is_plain) {
        return String::from_utf8_lossy(shown).into_owned();
    }
    shown.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_send_cannot_forge_a_log_line() {
        assert_eq!(printable(b"docker/20.10 (linux)"), "docker/20.10 (linux)");
        assert_eq!(printable(b"a\nb\x1b[31m\xff"), r"a\nb\x1b[31m\xff");
        assert_eq!(printable(&[b'x'; 10_000]).len(), BYTES);
    }
}
