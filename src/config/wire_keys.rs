//! The keys of the wire: the proxies in front of it, and its limits.

use super::Key;
use super::value::{
    at_least, at_most, choice, duration, number, positive_duration, size, small_size, trusted_proxies,
};

/// The keys of `proxy`.
pub(super) const PROXY: &[Key] = &[
    Key::words(
        "proxy.trusted",
        "",
        |config, value| trusted_proxies(value).map(|trusted| config.limits.proxies.trusted = trusted),
        "The proxies in front of the registry, as addresses and networks, for example [\"127.0.0.1\", \"10.0.0.0/8\"], and \
         \"unix\" for whoever connects by the Unix socket. What they say of their clients is believed: the address, the scheme and \
         the host. Nobody else is believed.",
    ),
    Key::text(
        "proxy.headers",
        "x-forwarded",
        |config, value| choice(value).map(|headers| config.limits.proxies.headers = headers),
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
    Key::bare(
        "limits.connections_per_address",
        "512",
        |config, value| number(value).map(|count| config.limits.connections_per_address = count),
        "The number of connections that one address may have open, a network of IPv6 (/64) counted as one; further ones are closed at \
         once. Trusted proxies may have any number. 0 sets no limit.",
    ),
    Key::bare(
        "limits.requests_per_address",
        "0",
        |config, value| number(value).map(|count| config.limits.requests.per_address = count),
        "The number of requests in a second that are answered to one address, a network of IPv6 (/64) counted as one. What isn't used \
         is saved up for ten seconds; more is answered with 429. A pull takes one request for each layer and two or three more. 0 \
         sets no limit. /livez, /readyz and /metrics have none.",
    ),
    Key::bare(
        "limits.requests_per_user",
        "0",
        |config, value| number(value).map(|count| config.limits.requests.per_user = count),
        "The same for one user, wherever they ask from.",
    ),
    Key::text(
        "limits.header_size",
        "128 KiB",
        |config, value| {
            small_size(value)
                .and_then(|n| at_least(n, 1024))
                .and_then(|n| at_most(n, 128 << 10))
                .map(|bytes| config.limits.header_size = bytes)
        },
        "The longest head of a request, all headers together; a longer one is answered with 431. 128 KiB at most.",
    ),
    Key::bare(
        "limits.header_count",
        "100",
        |config, value| {
            number(value)
                .and_then(|n| at_least(n, 10))
                .and_then(|n| at_most(n, 1000))
                .map(|count| config.limits.header_count = count)
        },
        "The most headers of a request; more are answered with 431. 1000 at most.",
    ),
    Key::text(
        "limits.url_length",
        "8 KiB",
        |config, value| small_size(value).map(|bytes| config.limits.requests.url_bytes = bytes),
        "The longest path with its query; a longer one is answered with 414. 0 sets no limit but that of the head.",
    ),
    Key::text(
        "limits.blob_size",
        "0",
        |config, value| size(value).map(|bytes| config.limits.requests.blob_bytes = bytes),
        "The largest blob that is taken; larger ones are answered with 413. 0 sets no limit.",
    ),
    Key::text(
        "limits.body_size",
        "1 MiB",
        |config, value| small_size(value).map(|bytes| config.limits.requests.body_bytes = bytes),
        "The largest body of a request that pushes nothing, such as one to the admin API; larger ones are answered with 413.",
    ),
    Key::bare(
        "limits.name_length",
        "255",
        |config, value| number(value).map(|count| config.limits.requests.name_bytes = count),
        "The longest name of a repository; 255 at most. 0 sets no limit but that.",
    ),
    Key::bare(
        "limits.name_depth",
        "0",
        |config, value| number(value).map(|count| config.limits.requests.name_components = count),
        "The most components of a repository's name. 0 sets no limit.",
    ),
    Key::text(
        "limits.header_timeout",
        "2m",
        |config, value| positive_duration(value).map(|time| config.limits.header_timeout = time),
        "The time for a request's head to arrive, counted from the connect or the last answer. A connection that is kept \
         open without being used is closed after it, so it should be longer than clients and proxies keep theirs.",
    ),
    Key::text(
        "limits.first_byte_timeout",
        "60s",
        |config, value| positive_duration(value).map(|time| config.limits.first_byte_timeout = time),
        "The time for the first byte of a request's body, counted from its head.",
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
