//! What proxies in front of the registry say of the clients that they speak for.
//!
//! Such a word is believed only of whom the operator trusts. Every proxy on the way adds to the end of the list, so it is read from
//! there: the client is the first that is no trusted proxy itself, and whatever it says before that is its own invention.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::header::{FORWARDED, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::peer::peer;

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How many proxies a request may have passed; what was said before is not looked at.
const MOST_HOPS: usize = 32;

/// The longest host with a port.
const HOST_BYTES: usize = 261;

/// A proxy, or a network of them, whose word is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustedProxy {
    /// All addresses of a network; a single address is one of them.
    Network(IpNet),
    /// Whoever connects to the Unix socket.
    UnixSocket,
}

/// It is neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write addresses (\"10.0.0.5\"), networks (\"10.0.0.0/8\"), or \"unix\" for the Unix socket")]
pub struct TrustedProxyError;

impl FromStr for TrustedProxy {
    type Err = TrustedProxyError;

    fn from_str(text: &str) -> Result<Self, TrustedProxyError> {
        if text == "unix" {
            return Ok(Self::UnixSocket);
        }
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(|network| Self::Network(network.trunc())).map_err(|_| TrustedProxyError)
    }
}

/// In which headers trusted proxies speak. Only one kind is believed, since a proxy that sets one lets the other pass as the client has
/// sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyHeaders {
    /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
    #[default]
    XForwarded,
    /// `Forwarded`, as RFC 7239 says.
    Forwarded,
}

impl fmt::Display for ProxyHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::XForwarded => "x-forwarded",
            Self::Forwarded => "forwarded",
        })
    }
}

/// The proxies in front of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proxies {
    /// Whose word is believed.
    pub trusted: Vec<TrustedProxy>,
    /// Where it stands.
    pub headers: ProxyHeaders,
}

impl Proxies {
    /// Whether the other end of a connection is one of them.
    pub fn trusts(&self, address: Option<IpAddr>) -> bool {
        let address = address.map(|address| address.to_canonical());
        self.trusted.iter().any(|trusted| match (trusted, &address) {
            (TrustedProxy::Network(network), Some(address)) => network.contains(address),
            (TrustedProxy::UnixSocket, None) => true,
            (TrustedProxy::Network(_), None) | (TrustedProxy::UnixSocket, Some(_)) => false,
        })
    }
}

/// What trusted proxies say of the client; it stands in a request's extensions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Forwarded {
    /// Its address, as far as anybody trusted knows.
    pub(super) address: Option<IpAddr>,
    /// Whether it came by TLS.
    pub(super) is_secure: Option<bool>,
    /// The host that it asked for.
    pub(super) host: Option<String>,
}

/// What one proxy says of whom it got the request from.
#[derive(Debug, Default, PartialEq, Eq)]
struct Hop<'a> {
    address: Option<IpAddr>,
    proto: Option<&'a str>,
    host: Option<&'a str>,
}

/// Notes what is believed of a request's way. Costs nothing where nobody is trusted.
pub(super) fn note_way(proxies: &Proxies, parts: &mut Parts) {
    if proxies.trusted.is_empty() {
        return;
    }
    let Some(peer) = peer(parts) else { return };
    let address = peer.address.map(|address| address.ip());
    if proxies.trusts(address) {
        let forwarded = match proxies.headers {
            ProxyHeaders::XForwarded => by_x_forwarded(proxies, &parts.headers, address),
            ProxyHeaders::Forwarded => by_forwarded(proxies, &parts.headers, address),
        };
        parts.extensions.insert(forwarded);
    }
}

fn by_x_forwarded(proxies: &Proxies, headers: &HeaderMap, peer: Option<IpAddr>) -> Forwarded {
    let hops = last_of(headers, &FORWARDED_FOR)
        .into_iter()
        .map(|text| Hop { address: text.as_deref().and_then(node), ..Hop::default() });
    let (address, way) = client(proxies, peer, hops.collect());
    // Some proxies add to these lists too. Others set them once, or leave them alone: then there are fewer entries than proxies, and
    // the first is the one that is about the client.
    let about_client = |name| {
        let entries = last_of(headers, name);
        let entry = entries.get(way.len().saturating_sub(1)).or(entries.last());
        entry.cloned().flatten()
    };
    Forwarded {
        address,
        is_secure: about_client(&FORWARDED_PROTO).as_deref().and_then(is_secure),
        host: about_client(&FORWARDED_HOST).filter(|host| is_host(host)),
    }
}

fn by_forwarded(proxies: &Proxies, headers: &HeaderMap, peer: Option<IpAddr>) -> Forwarded {
    let lines: Vec<&str> = texts(headers, &FORWARDED);
    let mut elements: Vec<Vec<(&str, String)>> = Vec::new();
    for line in lines {
        match elements_of(line) {
            Some(more) => elements.extend(more),
            // Nobody knows what a broken line says, nor what stands before it.
            None => elements.clear(),
        }
    }
    let find = |pairs: &'_ [(&str, String)], name: &str| {
        pairs.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
    };
    let said: Vec<[Option<String>; 3]> = elements
        .iter()
        .rev()
        .take(MOST_HOPS)
        .map(|pairs| [find(pairs, "for"), find(pairs, "proto"), find(pairs, "host")])
        .collect();
    let hops = said.iter().map(|[address, proto, host]| Hop {
        address: address.as_deref().and_then(node),
        proto: proto.as_deref(),
        host: host.as_deref(),
    });
    let (address, way) = client(proxies, peer, hops.collect());
    // The outermost proxy that says it knows best.
    let proto = way.iter().rev().find_map(|hop| hop.proto);
    let host = way.iter().rev().find_map(|hop| hop.host);
    Forwarded {
        address,
        is_secure: proto.and_then(is_secure),
        host: host.filter(|host| is_host(host)).map(ToOwned::to_owned),
    }
}

/// The client's address, and what was said by those who are trusted; `hops` begin with the last.
fn client<'a>(proxies: &Proxies, peer: Option<IpAddr>, hops: Vec<Hop<'a>>) -> (Option<IpAddr>, Vec<Hop<'a>>) {
    let (mut address, mut way) = (peer, Vec::new());
    for hop in hops {
        let next = hop.address;
        way.push(hop);
        // Who isn't named can't be trusted; the nearest that is known stands for them.
        let Some(next) = next else { break };
        address = Some(next);
        if !proxies.trusts(address) {
            break;
        }
    }
    (address, way)
}

/// The entries of a header's list, from all its lines, the last one first; `None` for what isn't text.
fn last_of(headers: &HeaderMap, name: &HeaderName) -> Vec<Option<String>> {
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    let entries = lines.into_iter().rev().flat_map(|line| match line.to_str() {
        Ok(line) => line.rsplit(',').map(|entry| Some(entry.trim().to_owned())).collect(),
        Err(_) => vec![None],
    });
    entries.take(MOST_HOPS).collect()
}

fn texts<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|line| line.to_str().unwrap_or("\"")).collect()
}

/// The elements of one line of `Forwarded`, each its pairs; `None` for a broken line.
fn elements_of(line: &str) -> Option<Vec<Vec<(&str, String)>>> {
    let mut elements = vec![Vec::new()];
    let mut rest = line.trim();
    while !rest.is_empty() {
        if let Some(next) = rest.strip_prefix(',') {
            elements.push(Vec::new());
            rest = next.trim_start();
            continue;
        }
        if let Some(next) = rest.strip_prefix(';') {
            rest = next.trim_start();
            continue;
        }
        let (name, after) = rest.split_once('=')?;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return None;
        }
        let (value, after) = if let Some(quoted) = after.strip_prefix('"') {
            unquoted(quoted)?
        } else {
            let end = after.find([',', ';']).unwrap_or(after.len());
            let (value, after) = after.split_at(end);
            (value.trim().to_owned(), after)
        };
        elements.last_mut()?.push((name, value));
        rest = after.trim_start();
        if !(rest.is_empty() || rest.starts_with([',', ';'])) {
            return None;
        }
    }
    Some(elements)
}

/// What a quoted string says, without its first quote, and what stands behind it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    loop {
        match characters.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(characters.next()?.1),
            (_, other) => value.push(other),
        }
    }
}

/// The address of a node, with or without a port.
fn node(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.split_once(']')?.0.parse::<IpAddr>().ok();
    let address = text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    address.or_else(with_port).or_else(bracketed).map(|address| address.to_canonical())
}

fn is_secure(proto: &str) -> Option<bool> {
    let is = |word: &str| proto.eq_ignore_ascii_case(word);
    if is("https") { Some(true) } else { is("http").then_some(false) }
}

/// Whether a text is a host, with or without a port, in characters that mean nothing elsewhere.
pub(super) fn is_host(text: &str) -> bool {
    let is_port = |port: &str| port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    let host = match text.rsplit_once(':') {
        Some((host, port)) if is_port(port) && (!host.contains(':') || host.ends_with(']')) => host,
        Some(_) | None => text,
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let is_address = |byte: u8| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.';
    let is_grammatical = match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']').is_some_and(|address| address.bytes().all(is_address)),
        None => host.bytes().all(is_name),
    };
    text.len() <= HOST_BYTES && !host.is_empty() && is_grammatical
}

/// The host that a request is for, as it is named in it; none where it isn't, or can't be one.
pub(super) fn requested_host(parts: &Parts) -> Option<&str> {
    let named = match parts.uri.authority() {
        Some(authority) => authority.as_str(),
        None => parts.headers.get(HOST)?.to_str().ok()?,
    };
    Some(named).filter(|host| is_host(host))
}

#[cfg(test)]
mod tests {
    use axum::extract::ConnectInfo;
    use http::Request;

    use super::*;
    use crate::http::Peer;

    fn proxies(trusted: &[&str], headers: ProxyHeaders) -> Proxies {
        let parse = |text: &&str| text.parse().expect("a proxy");
        Proxies { trusted: trusted.iter().map(parse).collect(), headers }
    }

    /// What is believed of a request that comes from `peer`, or by the Unix socket.
    fn believed(proxies: &Proxies, peer: &str, headers: &[(&'static str, &str)]) -> Option<Forwarded> {
        let mut request = Request::new(());
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().expect("a value"));
        }
        let address = (!peer.is_empty()).then(|| SocketAddr::new(peer.parse().expect("an address"), 9));
        request.extensions_mut().insert(ConnectInfo(Peer { address, ..Peer::default() }));
        let mut parts = request.into_parts().0;
        note_way(proxies, &mut parts);
        parts.extensions.remove()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn nobody_is_believed_who_is_not_trusted() {
        let said = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https")];
        assert_eq!(believed(&Proxies::default(), "10.0.0.1", &said), None);
        let trusting = proxies(&["10.0.0.1"], ProxyHeaders::XForwarded);
        assert_eq!(believed(&trusting, "10.0.0.2", &said), None);
        assert_eq!(believed(&trusting, "", &said), None, "the Unix socket is none of them");
        let believed = believed(&trusting, "::ffff:10.0.0.1", &said).expect("it is believed");
        assert_eq!(believed.address.expect("an address"), address("192.0.2.1"));
        assert_eq!(believed.is_secure, Some(true));
    }

    #[test]
    fn the_list_is_read_from_its_end_to_the_first_that_is_no_proxy() {
        let trusting = proxies(&["10.0.0.0/8", "2001:db8::/32", "unix"], ProxyHeaders::XForwarded);
        for (list, client) in [
            (&["192.0.2.1"][..], "192.0.2.1"),
            // The first one is what the client itself has said.
            (&["6.6.6.6, 192.0.2.1, 10.1.1.1"], "192.0.2.1"),
            (&["6.6.6.6", "192.0.2.1,10.1.1.1"], "192.0.2.1"),
            (&["10.9.9.9, 10.1.1.1"], "10.9.9.9"),
            (&["192.0.2.1:4711"], "192.0.2.1"),
            (&["[2001:db9::1]:4711, 2001:db8::7"], "2001:db9::1"),
            // Nobody says who came to 10.1.1.1.
            (&["192.0.2.1, unknown, 10.1.1.1"], "10.1.1.1"),
            (&["192.0.2.1, "], "10.0.0.1"),
            (&[], "10.0.0.1"),
        ] {
            let headers: Vec<_> = list.iter().map(|line| ("x-forwarded-for", *line)).collect();
            let believed = believed(&trusting, "10.0.0.1", &headers).expect("a proxy");
            assert_eq!(believed.address.expect("an address"), address(client), "{list:?}");
        }
        let by_socket = believed(&trusting, "", &[("x-forwarded-for", "192.0.2.1")]).expect("a proxy");
        assert_eq!(by_socket.address.expect("an address"), address("192.0.2.1"));
    }

    #[test]
    fn what_a_client_says_of_its_scheme_is_not_what_its_proxy_says() {
        let trusting = proxies(&["10.0.0.0/8"], ProxyHeaders::XForwarded);
        for (way, protos, is_secure) in [
            ("192.0.2.1", "http", false),
            ("192.0.2.1", "https, http", false),
            ("192.0.2.1, 10.1.1.1", "https, http", true),
            ("192.0.2.1, 10.1.1.1", "https", true),
            ("192.0.2.1, 10.1.1.1", "https, http, https", false),
        ] {
            let said = [("x-forwarded-for", way), ("x-forwarded-proto", protos)];
            let believed = believed(&trusting, "10.0.0.1", &said).expect("a proxy");
            assert_eq!(believed.is_secure, Some(is_secure), "{way}: {protos}");
        }
    }

    #[test]
    fn only_the_headers_that_the_proxies_set_are_believed() {
        let said = [
            ("forwarded", "for=6.6.6.6;proto=http;host=evil.example"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "registry.example"),
        ];
        let believed = |headers| {
            let believed = believed(&proxies(&["10.0.0.1"], headers), "10.0.0.1", &said);
            believed.expect("it is believed")
        };
        let by_x = believed(ProxyHeaders::XForwarded);
        assert_eq!(by_x.address.expect("an address"), address("192.0.2.1"));
        assert_eq!((by_x.is_secure, by_x.host.as_deref()), (Some(true), Some("registry.example")));
        let by_standard = believed(ProxyHeaders::Forwarded);
        assert_eq!(by_standard.address.expect("an address"), address("6.6.6.6"));
        assert_eq!((by_standard.is_secure, by_standard.host.as_deref()), (Some(false), Some("evil.example")));
    }

    #[test]
    fn forwarded_is_read_as_its_rfc_writes_it() {
        let trusting = proxies(&["10.0.0.0/8"], ProxyHeaders::Forwarded);
        let read = |lines: &[&str]| {
            let headers: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
            let Forwarded { address, is_secure, host } =
                believed(&trusting, "10.0.0.1", &headers).expect("a proxy");
            (address.expect("an address").to_string(), is_secure, host.unwrap_or_default())
        };
        let is = |address: &str, is_secure: Option<bool>, host: &str| {
            (address.to_owned(), is_secure, host.to_owned())
        };
        assert_eq!(
            read(&["For=\"[2001:db8:cafe::17]:4711\";Proto=https; host=\"a.example:8443\""]),
            is("2001:db8:cafe::17", Some(true), "a.example:8443")
        );
        assert_eq!(
            read(&[
                "for=6.6.6.6;proto=http, for=192.0.2.43;proto=https;by=10.1.1.1",
                "for=10.1.1.1;proto=http"
            ]),
            is("192.0.2.43", Some(true), "")
        );
        assert_eq!(read(&["for=192.0.2.60;host=\"a\\\"b\""]), is("192.0.2.60", None, ""));
        for hidden in ["for=unknown", "for=_gazonk", "for=\"_gazonk:80\"", "proto=https"] {
            assert_eq!(read(&[hidden]).0, "10.0.0.1", "{hidden}");
        }
        for broken in ["for=\"192.0.2.1", "for", "=x", "for=\"192.0.2.1\"x", "f or=192.0.2.1"] {
            assert_eq!(read(&["for=6.6.6.6", broken]).0, "10.0.0.1", "{broken}");
        }
    }

    #[test]
    fn a_host_is_nothing_but_a_host() {
        for host in ["a.example", "a.example:5000", "localhost", "127.0.0.1:80", "[::1]", "[::1]:5000", "a_b"]
        {
            assert!(is_host(host), "{host}");
        }
        for bad in
            ["", ":80", "a\"b", "a b", "a/b", "a@b", "a:b", "a,b", "::1", "[::1", "[a\"]", "a:123456", "é"]
        {
            assert!(!is_host(bad), "{bad}");
        }
        assert!(!is_host(&"a".repeat(300)));
    }
}
