//! The keys of the wire: the proxies in front of it, and its limits.

use super::Key;
use super::value::{at_least, choice, duration, number, positive_duration, small_size, trusted_proxies};

/// The keys of `proxy`.
pub(super) const PROXY: &[Key] = &[
    Key::words(
        "proxy.trusted",
        "",
        |config, value| trusted_proxies(value).map(|trusted| config.proxies.trusted = trusted),
        "The proxies in front of the registry, as addresses and networks, for example [\"127.0.0.1\", \"10.0.0.0/8\"], and \
         \"unix\" for whoever connects by the Unix socket. What they say of their clients is believed: the address, the scheme and \
         the host. Nobody else is believed.",
    ),
    Key::text(
        "proxy.headers",
        "x-forwarded",
        |config, value| choice(value).map(|headers| config.proxies.headers = headers),
        "Where trusted proxies say it: x-forwarded (X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host, as nearly all do), or \
         forwarded (RFC 7239). The other kind is ignored, since a proxy passes it on as its client has sent it.",
    ),
];

/// The keys of `limits`.
pub(super) const LIMITS: &[Key] = &[
    Key::bare(
        "limits.connections",
        "1024",
        |config, value| {
            number(value).and_then(|n| at_least(n, 1)).map(|count| config.limits.connections = count)
        },
        "The number of connections that are served at once; further ones wait.",
    ),
    Key::text(
        "limits.header_timeout",
        "2m",
        |config, value| positive_duration(value).map(|time| config.limits.header_timeout = time),
        "The time for a request's head to arrive, counted from the connect or the last answer. A connection that is kept \
         open without being used is closed after it, so it should be longer than clients and proxies keep theirs.",
    ),
    Key::text(
        "limits.idle_timeout",
        "60s",
        |config, value| positive_duration(value).map(|time| config.limits.idle_timeout = time),
        "The time that a request's body, or an answer, may stand still before the connection is closed. An upload that was \
         cut off like that can be resumed.",
    ),
    Key::text(
        "limits.drain_timeout",
        "30s",
        |config, value| duration(value).map(|time| config.limits.drain_timeout = time),
        "The time that running requests get to finish when the server is told to stop.",
    ),
    Key::text(
        "limits.buffers",
        "32 MiB",
        |config, value| {
            small_size(value)
                .and_then(|n| at_least(n, 1024 * 1024))
                .map(|bytes| config.limits.buffers = bytes)
        },
        "The memory that the bodies of all requests and answers together may take while they are on their way.",
    ),
];
