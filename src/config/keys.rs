//! The table of configuration keys.

use std::path::PathBuf;

use super::Key;
use super::listen::{listen, mode};
use super::tls;
use super::value::{
    at_least, choice, duration, external_url, host, hosts, image_patterns, image_selections, name_patterns,
    number, platforms, positive_duration, size, small_size, switch, token_lifetime, words,
};
use super::wire_keys::{LIMITS, PROXY};
use crate::proxy::{Platform, Platforms};
use crate::registry::NameScope;

/// Every key there is, in the order of the example: first those of no table, then table by table.
pub const KEYS: &[Key] =
    &joined::<{ FIRST.len() + tls::KEYS.len() + PROXY.len() + LIMITS.len() + REST.len() }>(&[
        FIRST,
        tls::KEYS,
        PROXY,
        LIMITS,
        REST,
    ]);

/// Parts of the table as one.
const fn joined<const LEN: usize>(parts: &[&[Key]]) -> [Key; LEN] {
    let mut all = [parts[0][0]; LEN];
    let (mut part, mut at, mut to) = (0, 0, 0);
    while part < parts.len() {
        if at == parts[part].len() {
            (part, at) = (part + 1, 0);
            continue;
        }
        all[to] = parts[part][at];
        (at, to) = (at + 1, to + 1);
    }
    assert!(to == LEN, "the length is that of all parts");
    all
}

/// The keys before those of the wire.
const FIRST: &[Key] = &[
    Key::word_or_words(
        "listen",
        "127.0.0.1:5000",
        |config, value| listen(value).map(|listen| config.listen = listen),
        "The address and port to listen on. 127.0.0.1 is reachable from this machine only; 0.0.0.0 (or [::]) from \
         everywhere, for which there have to be users or rules, or `access.insecure_open`. Port 0 takes any free port. \
         \"unix:/run/orlop/orlop.sock\" is a Unix socket, \"systemd\" all sockets that systemd passes on, and a list is all of its places.",
    ),
    Key::text(
        "listen_mode",
        "0660",
        |config, value| mode(value).map(|mode| config.listen_mode = mode),
        "Who may connect to the Unix sockets in `listen`, as the mode of a file.",
    ),
    Key::text(
        "data",
        "./data",
        |config, value| {
            if value.is_empty() {
                return Err("write the path of a directory, for example \"/var/lib/orlop\"".to_owned());
            }
            config.data = PathBuf::from(value);
            Ok(())
        },
        "The directory that holds everything: blobs, uploads and the database. It is created when missing. A relative \
         path starts at the directory in which orlop was started.",
    ),
    Key::text(
        "external_url",
        "",
        |config, value| external_url(value).map(|url| config.external_url = url),
        "The URL under which clients reach the registry, for example \"https://registry.example.org\". It then stands in \
         Location and Link headers. Empty: these are relative, which is right for most proxies. With a path, \
         \"https://example.org/registry\", requests are answered below it, and without it too: a proxy may take it off or not.",
    ),
    Key::words(
        "scope",
        "**",
        |config, value| {
            let patterns = name_patterns(value)?;
            config.scope = NameScope::new(patterns);
            Ok(())
        },
        "The repositories that are served, as patterns: * stands for any part of one component of a name, ** for one or more \
         components. Pushes to others are answered with 403, and pulls with 404, also where they have content.",
    ),
    Key::reloaded_text(
        "access.htpasswd",
        "",
        |config, value| {
            config.access.htpasswd = (!value.is_empty()).then(|| PathBuf::from(value));
            Ok(())
        },
        "A file of users with the bcrypt hashes of their passwords, as `htpasswd -B` writes it. It is read again when it changes. \
         Without [[rule]]s these users pull and push, and nobody else does anything. Empty: there are no users.",
    ),
    Key::bare(
        "access.insecure_open",
        "false",
        |config, value| switch(value).map(|on| config.insecure_open = on),
        "Whether the server may listen beyond this machine without users and rules, so that whoever reaches the port can push \
         and delete. The flag --insecure-open is the same as true.",
    ),
    Key::text(
        "access.token_lifetime",
        "5m",
        |config, value| token_lifetime(value).map(|time| config.tokens.lifetime = time),
        "How long a token lasts that clients get for a password, from 1m to 1h. They fetch another one by themselves.",
    ),
    Key::reloaded_text(
        "log.level",
        "info",
        |config, value| choice(value).map(|level| config.log.level = level),
        "How much is logged: off, error, warn, info (one line per request), debug or trace.",
    ),
    Key::text(
        "log.format",
        "text",
        |config, value| choice(value).map(|format| config.log.format = format),
        "How log lines are written: text, or json (one object per line).",
    ),
    Key::reloaded_text(
        "log.audit",
        "changes",
        |config, value| choice(value).map(|audit| config.log.audit = audit),
        "What is told of who did what, whatever the level: off, changes (each change, by commands too, each token that is issued and \
         each refusal) or pulls (also each pull of a manifest).",
    ),
    Key::text(
        "log.audit_file",
        "",
        |config, value| {
            config.log.audit_file = (!value.is_empty()).then(|| PathBuf::from(value));
            Ok(())
        },
        "A file that these lines are added to, as JSON, in place of the log; SIGHUP opens it anew. Empty: they stand in the log.",
    ),
    Key::text(
        "uploads.expire_after",
        "24h",
        |config, value| positive_duration(value).map(|time| config.uploads.expire_after = time),
        "An upload that has received nothing for this long is removed.",
    ),
    Key::bare(
        "uploads.max_open",
        "10000",
        |config, value| {
            number(value).and_then(|n| at_least(n, 1)).map(|count| config.uploads.max_open = count)
        },
        "The number of uploads that may be open at once; more are answered with 429.",
    ),
    Key::bare(
        "uploads.max_open_per_user",
        "1000",
        |config, value| number(value).map(|count| config.uploads.max_open_per_user = count),
        "The number of them that one user may have open, all who haven't logged in counted as one; more are answered with 429. 0 \
         sets no limit.",
    ),
    Key::text(
        "uploads.chunk_min_length",
        "0",
        |config, value| size(value).map(|bytes| config.uploads.chunk_min_length = bytes),
        "The chunk size that clients of chunked uploads are asked to use at least (OCI-Chunk-Min-Length). 0 asks for \
         nothing. Smaller chunks are accepted all the same; each costs a sync of the disk.",
    ),
    Key::text(
        "manifests.max_size",
        "8 MiB",
        |config, value| {
            small_size(value).and_then(|n| at_least(n, 1024)).map(|bytes| config.manifests.max_size = bytes)
        },
        "The largest manifest that is accepted; larger ones are answered with 413. containerd reads at most 4 MiB.",
    ),
    Key::bare(
        "manifests.sparse_indexes",
        "false",
        |config, value| switch(value).map(|on| config.manifests.sparse_indexes = on),
        "Whether an index (a multi-platform image) may name manifests that have not been pushed.",
    ),
    Key::words(
        "signatures.trust_roots",
        "",
        |config, value| {
            config.signatures.trust_roots = words(value).map(PathBuf::from).collect();
            Ok(())
        },
        "PEM files with the certificates of authorities. A signature of a schema 1 manifest whose certificates (x5c) lead to \
         one of them is listed as verified by chain, and any other by key; neither is refused.",
    ),
    Key::bare(
        "delete.tags",
        "true",
        |config, value| switch(value).map(|on| config.delete.tags = on),
        "Whether clients may delete tags; when false the answer is 405.",
    ),
    Key::bare(
        "delete.manifests",
        "true",
        |config, value| switch(value).map(|on| config.delete.manifests = on),
        "Whether clients may delete manifests, and with them their tags; when false the answer is 405.",
    ),
    Key::bare(
        "delete.blobs",
        "true",
        |config, value| switch(value).map(|on| config.delete.blobs = on),
        "Whether clients may delete blobs; when false the answer is 405.",
    ),
    Key::bare(
        "delete.repositories",
        "true",
        |config, value| switch(value).map(|on| config.delete.repositories = on),
        "Whether clients may delete whole repositories; when false the answer is 405.",
    ),
    Key::text(
        "delete.undo",
        "24h",
        |config, value| duration(value).map(|time| config.delete.undo = time),
        "The time in which what was deleted can come back by orlop undelete, and keeps its space. 0 ends it at once.",
    ),
    Key::text(
        "collection.lease",
        "1h",
        |config, value| positive_duration(value).map(|time| config.collection.lease = time),
        "The time that a blob which no manifest names stays at least, counted from when a client was told that it is there. \
         It has to be longer than the slowest push takes from its first blob to its manifest.",
    ),
    Key::text(
        "collection.untagged_grace",
        "never",
        |config, value| {
            let grace = if value == "never" { None } else { Some(positive_duration(value)?) };
            config.collection.untagged_grace = grace;
            Ok(())
        },
        "The time after which a manifest is removed that no tag and no index names, counted from when it lost the last of \
         them or was pulled by its digest. never keeps them, for those who deploy by digest.",
    ),
    Key::text(
        "collection.every",
        "30s",
        |config, value| positive_duration(value).map(|time| config.collection.every = time),
        "The time between two looks for what can be collected. A look that finds nothing reads a row or two.",
    ),
    Key::bare(
        "history.keep",
        "0",
        |config, value| {
            let keep =
                number(value).and_then(|n| if n > 99 { Err("write 99 at most".to_owned()) } else { Ok(n) });
            keep.map(|count| config.collection.keep_history = count)
        },
        "How many of the manifests that a tag has pointed to before are kept from collection.untagged_grace, at most 99.",
    ),
];

/// The keys from those on.
const REST: &[Key] = &[
    Key::text(
        "storage.free_floor",
        "64 MiB",
        |config, value| size(value).map(|bytes| config.storage.free_floor = bytes),
        "Pushes are answered with 507 while the file system has less than this free. Pulls and deletes go on.",
    ),
    Key::text(
        "storage.max_size",
        "0",
        |config, value| size(value).map(|bytes| config.storage.max_size = (bytes != 0).then_some(bytes)),
        "What all repositories together may hold, each blob counted once, and what is deleted and can still be restored \
         counted too; pushes of more are refused, unless cached images can make room. 0 sets no limit.",
    ),
    Key::text(
        "storage.cache.blobdescriptor",
        "inmemory",
        |config, value| choice(value).map(|kind| config.storage.cache.blobdescriptor = kind),
        "Where descriptors of blobs and manifests, and what tags point to, are cached: inmemory, or none. The cache never \
         differs from the database.",
    ),
    Key::bare(
        "storage.cache.descriptors",
        "10000",
        |config, value| {
            number(value).and_then(|n| at_least(n, 1)).map(|count| config.storage.cache.descriptors = count)
        },
        "The number of descriptors of each kind that are cached, of some 200 bytes each.",
    ),
    Key::text(
        "storage.cache.manifests",
        "32 MiB",
        |config, value| small_size(value).map(|bytes| config.storage.cache.manifests = bytes),
        "The memory for manifests that are pulled often, of some 2 KiB each. 0 caches none, and so does storage.cache.blobdescriptor = \"none\".",
    ),
    Key::words(
        "cache.upstreams",
        "",
        |config, value| hosts(value).map(|hosts| config.cache.hosts = hosts),
        "The registries whose images are cached, by host, for example [\"docker.io\", \"ghcr.io\"]: each is asked for what \
         isn't here under <host>/…. `cache = [\"docker.io\"]` at the top of the file is short for it. A table [[upstream]] \
         says more of one of them, and is enough by itself.",
    ),
    Key::text(
        "cache.default",
        "docker.io",
        |config, value| {
            config.cache.default = if value.is_empty() { None } else { Some(host(value)?) };
            Ok(())
        },
        "The upstream that is asked for names that are nobody's: that begin with no upstream's host and are not local. Docker's \
         registry-mirrors ask so. Empty: none; and none where docker.io stands here and isn't cached.",
    ),
    Key::words(
        "cache.local",
        "",
        |config, value| name_patterns(value).map(|patterns| config.cache.local = NameScope::new(patterns)),
        "Patterns of names, like those of `scope`, that are local whether or not there is anything under them: the default \
         upstream is never asked for them. Names with content of one's own are local anyway.",
    ),
    Key::text(
        "cache.max_size",
        "0",
        |config, value| size(value).map(|bytes| config.cache.max_size = (bytes != 0).then_some(bytes)),
        "What all cached content together may take. Images that nobody has pulled for longest go first. 0 sets no limit.",
    ),
    Key::words(
        "cache.pinned",
        "",
        |config, value| image_patterns(value).map(|patterns| config.cache.pinned = patterns),
        "Patterns of images that are never evicted, for example [\"docker.io/library/*\", \"ghcr.io/team/app:1.*\"].",
    ),
    Key::text(
        "cache.keep_superseded",
        "1d",
        |config, value| duration(value).map(|time| config.cache.keep_superseded = time),
        "The time after its last pull for which a cached manifest stays that no tag names any more.",
    ),
    Key::words(
        "cache.sync",
        "",
        |config, value| image_selections(value).map(|images| config.cache.sync.images = images),
        "Images that are fetched before anybody asks for them, by tag, by a pattern of tags or by a range of versions, for \
         example [\"docker.io/library/busybox:1.36\", \"ghcr.io/team/app:v2.*\", \"quay.io/team/tool:^1.4\"].",
    ),
    Key::words(
        "cache.sync_platforms",
        "",
        |config, value| {
            let own = Platforms::These(vec![Platform::own()]);
            config.cache.sync.platforms = if value.is_empty() { own } else { platforms(value)? };
            Ok(())
        },
        "The platforms of them that are fetched, for example [\"linux/amd64\", \"linux/arm64\"], or [\"all\"]. Without one it is \
         the platform that orlop runs on.",
    ),
    Key::text(
        "cache.sync_every",
        "6h",
        |config, value| duration(value).map(|time| config.cache.sync.every = time),
        "The time between two runs of that. 0 fetches nothing.",
    ),
    Key::text(
        "retention.every",
        "24h",
        |config, value| duration(value).map(|time| config.retention.every = time),
        "The time from one run of all retention policies to the next; the first begins an hour after the start, or after \
         this time where it is shorter. 0s: they run only when `orlop policy run` asks for it.",
    ),
    Key::bare(
        "notifications.max_events",
        "100000",
        |config, value| {
            number(value).and_then(|n| at_least(n, 1)).map(|count| config.notifications.max_events = count)
        },
        "The number of events that are kept for endpoints which don't accept them at the moment; the oldest are dropped.",
    ),
    Key::text(
        "notifications.max_age",
        "7d",
        |config, value| positive_duration(value).map(|time| config.notifications.max_age = time),
        "The time that events are kept for endpoints which don't accept them.",
    ),
    Key::bare(
        "notifications.references",
        "false",
        |config, value| switch(value).map(|on| config.notifications.references = on),
        "Whether the events of manifests list what these name.",
    ),
    Key::text(
        "client.root_certificates",
        "",
        |config, value| {
            config.client.root_certificates = (!value.is_empty()).then(|| PathBuf::from(value));
            Ok(())
        },
        "A PEM file of root certificates that are trusted beside the system's when the registry itself calls others.",
    ),
    Key::text(
        "database.cache",
        "16 MiB",
        |config, value| {
            small_size(value)
                .and_then(|n| at_least(n, 1024 * 1024))
                .map(|bytes| config.database.cache = bytes)
        },
        "The memory for the database's pages. The operating system caches the file beside it.",
    ),
    Key::bare(
        "database.quick_repair",
        "true",
        |config, value| switch(value).map(|on| config.database.quick_repair = on),
        "Whether the database can be opened at once after a crash. When false, a commit costs one sync less, and a start \
         after a crash reads the whole database.",
    ),
];

/// Keys that had another name once: the old name, still understood with a warning, and the present one.
pub const RENAMED: &[(&str, &str)] = &[
    ("cache.layerinfo", "storage.cache.blobdescriptor"),
    ("cache.blobdescriptor", "storage.cache.blobdescriptor"),
    ("cache.descriptors", "storage.cache.descriptors"),
    ("cache.manifests", "storage.cache.manifests"),
];

/// Keys that have a short name too, and that one.
pub const SHORT: &[(&str, &str)] = &[("cache", "cache.upstreams")];

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn every_default_is_a_valid_value() {
        let mut config = Config::default();
        for key in KEYS {
            assert_eq!(key.apply(&mut config, key.default), Ok(()), "{}", key.name);
        }
        assert_eq!(config, Config::default());
    }

    #[test]
    fn names_and_variables_are_unique() {
        for (at, key) in KEYS.iter().enumerate() {
            for other in &KEYS[at + 1..] {
                assert_ne!(key.name, other.name);
                assert_ne!(key.variable(), other.variable());
            }
        }
    }

    #[test]
    fn every_key_refuses_nonsense_and_says_what_to_write() {
        for key in KEYS {
            let nonsense = match key.name {
                "data" => "",
                // Any text is a path.
                "access.htpasswd"
                | "client.root_certificates"
                | "log.audit_file"
                | "signatures.trust_roots"
                | "tls.certificate"
                | "tls.key"
                | "tls.client_ca"
                | "tls.acme_root" => continue,
                _ => "non sense",
            };
            let message = key.apply(&mut Config::default(), nonsense).expect_err(key.name);
            assert!(message.contains("write"), "{}: {message}", key.name);
        }
    }

    #[test]
    fn the_nearest_key_is_the_one_that_was_meant() {
        for (given, meant) in [
            ("log.levle", "log.level"),
            ("level", "log.level"),
            ("loglevel", "log.level"),
            ("Listen", "listen"),
            ("server.listen", "listen"),
            ("upload.expire_after", "uploads.expire_after"),
            ("manifests.max-size", "manifests.max_size"),
            ("connections", "limits.connections"),
            ("external-url", "external_url"),
        ] {
            assert_eq!(Key::nearest(given).name, meant, "{given}");
        }
        assert_eq!(Key::nearest_variable("ORLOP_LOGLEVEL").name, "log.level");
    }
}
