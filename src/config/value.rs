//! The values of configuration keys, read from text.
//!
//! Every function's error says what to write instead.

use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use super::settings::DescriptorCache;
use crate::auth::{self, Action, Actions, ActionsError, Who, WhoError};
use crate::http::{ProxyHeaders, TrustedProxy, TrustedProxyError};
use crate::proxy::{self, ImagePattern, ImageSelection, ImageSelectionError, Platforms};
use crate::registry::{NamePattern, TagPattern};
use crate::telemetry::{AuditLevel, LogFormat, LogLevel};

/// A value out of a closed set of words.
pub(super) trait Choice: Copy + Display + 'static {
    const ALL: &'static [Self];
}

impl Choice for LogLevel {
    const ALL: &'static [Self] = &Self::ALL;
}

impl Choice for LogFormat {
    const ALL: &'static [Self] = &Self::ALL;
}

impl Choice for AuditLevel {
    const ALL: &'static [Self] = &Self::ALL;
}

impl Choice for DescriptorCache {
    const ALL: &'static [Self] = &[Self::InMemory, Self::None];
}

impl Choice for ProxyHeaders {
    const ALL: &'static [Self] = &[Self::XForwarded, Self::Forwarded];
}

pub(super) fn choice<T: Choice>(text: &str) -> Result<T, String> {
    let words: Vec<String> = T::ALL.iter().map(ToString::to_string).collect();
    let found = words.iter().position(|word| word == text);
    found.map(|at| T::ALL[at]).ok_or_else(|| format!("write one of {}", words.join(", ")))
}

/// The words of a list that is written with commas.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "write true or false".to_owned())
}

pub(super) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "write a whole number".to_owned())
}

pub(super) fn at_least<T: Copy + PartialOrd + Display>(value: T, least: T) -> Result<T, String> {
    if value < least { Err(format!("that is too small: write {least} or more")) } else { Ok(value) }
}

pub(super) fn at_most<T: Copy + PartialOrd + Display>(value: T, most: T) -> Result<T, String> {
    if value > most { Err(format!("that is too large: write {most} or less")) } else { Ok(value) }
}

/// How long a token lasts.
pub(super) fn token_lifetime(text: &str) -> Result<Duration, String> {
    let time = positive_duration(text)?;
    let is_fit = (auth::MIN_LIFETIME..=auth::MAX_LIFETIME).contains(&time);
    if is_fit { Ok(time) } else { Err("write a time from 1m to 1h".to_owned()) }
}

/// The longest name of a table of a list.
const MAX_LABEL: usize = 64;

/// A name that tables of a list tell each other apart by.
pub(super) fn label(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=MAX_LABEL).contains(&text.len()) && text.bytes().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err("write 1 to 64 letters, digits, dots, dashes and underscores".to_owned())
}

pub(super) fn name_patterns(text: &str) -> Result<Vec<NamePattern>, String> {
    words(text).map(str::parse).collect::<Result<_, _>>().map_err(|_| {
        "write patterns of repository names, for example [\"team/**\", \"library/*\"]".to_owned()
    })
}

pub(super) fn trusted_proxies(text: &str) -> Result<Vec<TrustedProxy>, String> {
    words(text)
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(|error: TrustedProxyError| error.to_string())
}

/// A registry's host, as images call it.
pub(super) fn host(text: &str) -> Result<String, String> {
    proxy::parse_host(text).map_err(|error| error.to_string())
}

/// Several of them, each once.
pub(super) fn hosts(text: &str) -> Result<Vec<String>, String> {
    let mut hosts = Vec::new();
    for word in words(text) {
        let host = host(word)?;
        if hosts.contains(&host) {
            return Err(format!("write {host} once; it stands there twice"));
        }
        hosts.push(host);
    }
    Ok(hosts)
}

pub(super) fn who(text: &str) -> Result<Vec<Who>, String> {
    let one = |word: &str| word.parse().map_err(|error: WhoError| format!("{word}: {error}"));
    words(text).map(one).collect()
}

pub(super) fn actions(text: &str) -> Result<Actions, String> {
    let one = |word: &str| word.parse().map_err(|error: ActionsError| format!("{word}: {error}"));
    words(text).map(one).collect::<Result<Vec<Action>, _>>().map(|actions| Actions::of(&actions))
}

pub(super) fn image_selections(text: &str) -> Result<Vec<ImageSelection>, String> {
    let selection =
        |word: &str| word.parse().map_err(|error: ImageSelectionError| format!("{word}: {error}"));
    words(text).map(selection).collect()
}

pub(super) fn platforms(text: &str) -> Result<Platforms, String> {
    text.parse().map_err(|error: proxy::PlatformError| error.to_string())
}

pub(super) fn image_patterns(text: &str) -> Result<Vec<ImagePattern>, String> {
    words(text).map(str::parse).collect::<Result<_, _>>().map_err(|_| {
        "write patterns of images with their hosts, for example [\"docker.io/library/*\", \"ghcr.io/team/app:1.*\"]".to_owned()
    })
}

pub(super) fn tag_patterns(text: &str) -> Result<Vec<TagPattern>, String> {
    words(text)
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(|_| "write patterns of tags, for example [\"latest\", \"v1.*\"]".to_owned())
}

/// `127.0.0.1:5000`, `[::1]:5000`, or `localhost:5000` for the first.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => &format!("127.0.0.1:{port}"),
        None => text,
    };
    numeric.parse().map_err(|_| {
        "write an IP address and a port, for example \"127.0.0.1:5000\", \"0.0.0.0:5000\" or \"[::]:5000\"".to_owned()
    })
}

/// The URL under which the registry is reached, or nothing. Its path is made of plain components, and isn't one of the registry's own.
pub(super) fn external_url(text: &str) -> Result<Option<String>, String> {
    let url = url(text)?;
    let path = url.as_deref().and_then(|url| url.split_once("://")?.1.split_once('/')).map(|(_, path)| path);
    let is_plain = |part: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        !part.is_empty() && part != "." && part != ".." && part.bytes().all(is_plain)
    };
    match path {
        Some(path) if !path.split('/').all(is_plain) || path.split('/').next() == Some("v2") => Err(
            "write a path of letters, digits, dashes, dots and underscores that doesn't begin with /v2, or none"
                .to_owned(),
        ),
        Some(_) | None => Ok(url),
    }
}

/// An `http` or `https` URL without user, query and fragment, or nothing; a slash at its end is taken off.
pub(super) fn url(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = |rest: &str| {
        rest.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '[')
            && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#@\"<>\\".contains(&byte))
    };
    match rest {
        Some(rest) if plain(rest) => Ok(Some(text.trim_end_matches('/').to_owned())),
        _ => Err(
            "write a URL that starts with http:// or https://, for example \"https://registry.example.org\""
                .to_owned(),
        ),
    }
}

const SIZE_UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("b", 1),
    ("kb", 1000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

/// A number of bytes, with or without a unit.
pub fn size(text: &str) -> Result<u64, String> {
    let (digits, unit) = split_number(text);
    let unit = unit.trim().to_ascii_lowercase();
    let factor = SIZE_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    factor.zip(digits.parse::<u64>().ok()).and_then(|(factor, count)| count.checked_mul(factor)).ok_or_else(
        || {
            "write a whole number and a unit (B, KiB, MiB, GiB, TiB; kB, MB, GB, TB), for example \"64 MiB\""
                .to_owned()
        },
    )
}

/// A size that memory can hold.
pub(super) fn small_size(text: &str) -> Result<usize, String> {
    usize::try_from(size(text)?).map_err(|_| "that is too large: write a size below 4 GiB".to_owned())
}

const DURATION_UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// One or several numbers with units: `30s`, `1h30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parse = || {
        let mut rest = text.trim();
        let mut total = 0_u64;
        while !rest.is_empty() {
            let (digits, tail) = split_number(rest);
            let tail = tail.trim_start();
            let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(end);
            let (_, factor) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
            total = total.checked_add(digits.parse::<u64>().ok()?.checked_mul(*factor)?)?;
            rest = tail.trim_start();
        }
        (!text.trim().is_empty()).then(|| Duration::from_millis(total))
    };
    parse().ok_or_else(|| {
        "write numbers with units (ms, s, m, h, d), for example \"30s\", \"1h30m\" or \"7d\"".to_owned()
    })
}

/// A duration other than zero.
pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("that is too short: write at least \"1ms\"".to_owned()),
        time => Ok(time),
    }
}

fn split_number(text: &str) -> (&str, &str) {
    let text = text.trim();
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_binary_and_decimal_units() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("1 B", 1),
            ("64 MiB", 64 << 20),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            ("1 GB", 1_000_000_000),
            ("2 TiB", 2 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "64 M", "-1", "1.5 MiB", "1 MiB 2", "99999999999 TiB", "64 megabytes"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_with_units_only() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("30s", 30_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "30", "h", "1 hour", "-1s", "1.5h", "99999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_need_a_port() {
        assert_eq!(address("localhost:80"), Ok(SocketAddr::from(([127, 0, 0, 1], 80))));
        assert!(address("[::]:0").is_ok());
        for text in ["", "5000", ":5000", "127.0.0.1", "registry.example.org:5000", "127.0.0.1:99999"] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_external_urls_path_is_a_plain_one() {
        for good in ["", "https://a.example", "https://a.example/", "https://a.example/registry/sub-1.x_y"] {
            assert!(external_url(good).is_ok(), "{good}");
        }
        for bad in ["/v2", "/v2/x", "/a//b", "/../b", "/a/./b", "/{x}", "/*x", "/:x", "/%41"] {
            let message = external_url(&format!("https://a.example{bad}")).expect_err(bad);
            assert!(message.contains("write a path"), "{bad}: {message}");
        }
        assert!(external_url("https://a.example/a@b").is_err());
    }

    #[test]
    fn an_external_url_keeps_its_path_and_loses_its_last_slash() {
        assert_eq!(url(""), Ok(None));
        assert_eq!(url("https://r.example.org/"), Ok(Some("https://r.example.org".to_owned())));
        assert_eq!(url("http://[::1]:5000/registry"), Ok(Some("http://[::1]:5000/registry".to_owned())));
        for text in [
            "r.example.org",
            "https://",
            "ftp://x",
            "https://x/?q",
            "https://a b",
            "https://x\n",
            "https://a:b@x",
        ] {
            assert!(url(text).is_err(), "{text:?}");
        }
    }
}
