//! Where the server listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::value::{address, words};

/// What the path of a Unix socket is written after.
const UNIX: &str = "unix:";

/// The word for the sockets that systemd passes on.
const SYSTEMD: &str = "systemd";

/// One place to accept connections at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// An address and a port; port 0 means any free one.
    Address(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
    /// All sockets that systemd passes on.
    Systemd,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
            Self::Systemd => f.write_str(SYSTEMD),
        }
    }
}

/// At least one place, each once.
pub(super) fn listen(text: &str) -> Result<Vec<Listen>, String> {
    let mut found = Vec::new();
    for word in words(text) {
        let place = match word.strip_prefix(UNIX) {
            Some("") => {
                return Err("write a path after unix:, for example \"unix:/run/orlop/orlop.sock\"".to_owned());
            }
            Some(path) => Listen::Unix(PathBuf::from(path)),
            None if word == SYSTEMD => Listen::Systemd,
            None => Listen::Address(address(word)?),
        };
        if found.contains(&place) {
            return Err(format!("write {place} once; it stands there twice"));
        }
        found.push(place);
    }
    if found.is_empty() {
        return Err("write an address and a port, for example \"127.0.0.1:5000\"".to_owned());
    }
    Ok(found)
}

/// The mode of a Unix socket, in octal digits.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("write a mode in octal digits, for example \"0660\"".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_addresses_sockets_and_what_systemd_passes_on() {
        let five = Listen::Address(SocketAddr::from(([127, 0, 0, 1], 5)));
        assert_eq!(listen("localhost:5"), Ok(vec![five.clone()]));
        let unix = Listen::Unix(PathBuf::from("/run/o.sock"));
        assert_eq!(listen("127.0.0.1:5, unix:/run/o.sock,systemd"), Ok(vec![five, unix, Listen::Systemd]));
        for text in ["", ",", "unix:", "5000", "systemd,systemd", "127.0.0.1:5,nonsense"] {
            assert!(listen(text).is_err_and(|advice| advice.contains("write")), "{text}");
        }
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!((mode("0660"), mode("600")), (Ok(0o660), Ok(0o600)));
        for text in ["", "0o660", "888", "1777", "rw"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }
}
