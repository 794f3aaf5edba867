//! The configuration as the program uses it.

use std::path::PathBuf;
use std::time::Duration;

use crate::auth;
use crate::client;
use crate::http::{Proxies, RequestLimits};
use crate::maintenance::retention::Retention;
use crate::notifications::Endpoint;
use crate::proxy::{ImagePattern, SyncSettings};
use crate::registry::{ImmutableTags, NameScope, Quota};
use crate::snapshots::BackupTarget;
use crate::telemetry::{AuditLevel, LogFormat, LogLevel};

use super::{KEYS, Listen, Tls, Upstream};

/// Every setting, checked; [`Default`] is what an empty configuration means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `listen`: where the server accepts connections.
    pub listen: Vec<Listen>,
    /// `listen_mode`: who may connect to the Unix sockets among them.
    pub listen_mode: u32,
    /// `data`: the data directory.
    pub data: PathBuf,
    /// `external_url`: what stands before the path in `Location` and `Link`, without a slash at its end.
    pub external_url: Option<String>,
    /// `access.*` and `[[rule]]`.
    pub access: auth::Options,
    /// `access.insecure_open`: whether everybody may be let in from everywhere.
    pub insecure_open: bool,
    /// `access.token_lifetime` and `[[issuer]]`.
    pub tokens: auth::TokenOptions,
    /// `tls.*`.
    pub tls: Tls,
    /// `scope`: the repositories that are served.
    pub scope: NameScope,
    /// `log.*`.
    pub log: Log,
    /// `uploads.*`.
    pub uploads: Uploads,
    /// `manifests.*`.
    pub manifests: Manifests,
    /// `signatures.*`.
    pub signatures: Signatures,
    /// `delete.*`.
    pub delete: Delete,
    /// `collection.*` and `history.*`.
    pub collection: Collection,
    /// `limits.*` and `proxy.*`.
    pub limits: Limits,
    /// `storage.*`.
    pub storage: Storage,
    /// `retention.*`.
    pub retention: RetentionSettings,
    /// `[[immutable]]`.
    pub immutable: ImmutableTags,
    /// `[[quota]]`.
    pub quotas: Vec<Quota>,
    /// `notifications.*`.
    pub notifications: Notifications,
    /// `client.*`.
    pub client: client::Options,
    /// `database.*`.
    pub database: Database,
    /// `cache.*`.
    pub cache: Cache,
    /// `[[upstream]]`, and an upstream like any other for each host that only `cache.upstreams` names.
    pub upstreams: Vec<Upstream>,
    /// `[[backup]]`.
    pub backups: Vec<BackupTarget>,
}

/// The log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `log.level`.
    pub level: LogLevel,
    /// `log.format`.
    pub format: LogFormat,
    /// `log.audit`: what is told of who did what.
    pub audit: AuditLevel,
    /// `log.audit_file`: where to, if not to the log.
    pub audit_file: Option<PathBuf>,
}

/// Uploads of blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploads {
    /// `uploads.expire_after`: how long an upload lives after its last byte.
    pub expire_after: Duration,
    /// `uploads.max_open`: how many uploads may be open at once.
    pub max_open: usize,
    /// `uploads.max_open_per_user`: how many of them one user may have open; 0 for as many as all.
    pub max_open_per_user: usize,
    /// `uploads.chunk_min_length`: what `OCI-Chunk-Min-Length` asks of clients; 0 sends no such header.
    pub chunk_min_length: u64,
}

/// Manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifests {
    /// `manifests.max_size`: the largest manifest that is accepted, in bytes.
    pub max_size: usize,
    /// `manifests.sparse_indexes`: whether an index may name manifests that are not there.
    pub sparse_indexes: bool,
}

/// Signatures of manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signatures {
    /// `signatures.trust_roots`: PEM files of the certificate authorities that are believed.
    pub trust_roots: Vec<PathBuf>,
}

/// What clients may delete.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a switch for each kind")]
pub struct Delete {
    /// `delete.tags`.
    pub tags: bool,
    /// `delete.manifests`.
    pub manifests: bool,
    /// `delete.blobs`.
    pub blobs: bool,
    /// `delete.repositories`.
    pub repositories: bool,
    /// `delete.undo`: for how long it can come back.
    pub undo: Duration,
}

/// What becomes of content that nothing names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// `collection.lease`: how long a blob waits for the manifest that names it.
    pub lease: Duration,
    /// `collection.untagged_grace`: how long a manifest stays that nothing names; `None` for ever.
    pub untagged_grace: Option<Duration>,
    /// `history.keep`: how many former revisions of a tag are kept from that.
    pub keep_history: usize,
    /// `collection.every`: the time between two looks for what is due.
    pub every: Duration,
}

/// Limits on what a stranger can use up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// `limits.connections`: open connections at once.
    pub connections: usize,
    /// `limits.header_timeout`: from the connect, or the last answer, to the end of the next request's head.
    pub header_timeout: Duration,
    /// `limits.idle_timeout`: without a byte moving, while a body is on its way.
    pub idle_timeout: Duration,
    /// `limits.drain_timeout`: for the running requests, when the server stops.
    pub drain_timeout: Duration,
    /// `limits.buffers`: memory for bodies on their way, in bytes.
    pub buffers: usize,
    /// `limits.connections_per_address`: open connections of one address; 0 for as many as all.
    pub connections_per_address: usize,
    /// `limits.header_size`: the head of a request, in bytes.
    pub header_size: usize,
    /// `limits.header_count`: its headers.
    pub header_count: usize,
    /// `limits.first_byte_timeout`: from a request's head to the first byte of its body.
    pub first_byte_timeout: Duration,
    /// What is asked of the registry itself, by `limits.*`.
    pub requests: RequestLimits,
    /// `proxy.*`: who speaks for others, and may have any number of connections therefore.
    pub proxies: Proxies,
}

/// The disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// `storage.free_floor`: pushes are refused while less is free, in bytes.
    pub free_floor: u64,
    /// `storage.max_size`: what all repositories together may hold, in bytes.
    pub max_size: Option<u64>,
    /// `storage.cache.*`.
    pub cache: RowCache,
}

/// What stays and what goes, and when that is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionSettings {
    /// `retention.every`: the time between two runs; zero for none by themselves.
    pub every: Duration,
    /// `[[retention.policy]]`.
    pub policies: Retention,
}

/// Who is told of events, and how long these are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notifications {
    /// `notifications.max_events`: how many are kept.
    pub max_events: u64,
    /// `notifications.max_age`: for how long.
    pub max_age: Duration,
    /// `notifications.references`: whether manifests come with what they name.
    pub references: bool,
    /// `[[notifications.endpoint]]`.
    pub endpoints: Vec<Endpoint>,
}

/// The metadata database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// `database.cache`: its page cache, in bytes.
    pub cache: usize,
    /// `database.quick_repair`: whether commits keep what a start after a crash needs to be immediate.
    pub quick_repair: bool,
}

/// What pulls are answered from without the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowCache {
    /// `storage.cache.blobdescriptor`: where descriptors are cached.
    pub blobdescriptor: DescriptorCache,
    /// `storage.cache.descriptors`: how many of each kind.
    pub descriptors: usize,
    /// `storage.cache.manifests`: the memory for manifests, in bytes.
    pub manifests: usize,
}

/// The content of other registries that is kept here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// `cache.upstreams`: the hosts of registries of which nothing else may be said.
    pub(super) hosts: Vec<String>,
    /// `cache.default`: the host that is asked for names that are nobody's, where it is among the upstreams.
    pub default: Option<String>,
    /// `cache.local`: names that the default upstream is never asked for.
    pub local: NameScope,
    /// `cache.max_size`: what all of it may take, in bytes.
    pub max_size: Option<u64>,
    /// `cache.pinned`: what is never evicted.
    pub pinned: Vec<ImagePattern>,
    /// `cache.keep_superseded`: how long a manifest stays that no tag names any more.
    pub keep_superseded: Duration,
    /// `cache.sync`, `cache.sync_platforms` and `cache.sync_every`: what is fetched by the clock.
    pub sync: SyncSettings,
}

/// Where descriptors are cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DescriptorCache {
    /// In the process's memory.
    InMemory,
    /// Nowhere.
    None,
}

impl std::fmt::Display for DescriptorCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::InMemory => "inmemory",
            Self::None => "none",
        })
    }
}

impl Default for Config {
    fn default() -> Self {
        let mut config = Self::blank();
        for key in KEYS {
            key.apply(&mut config, key.default).expect("a default is a valid value, as a test claims");
        }
        config
    }
}

impl Config {
    /// A value whose every field waits to be set from the table.
    fn blank() -> Self {
        Self {
            listen: Vec::new(),
            listen_mode: 0,
            data: PathBuf::new(),
            external_url: None,
            access: auth::Options::default(),
            insecure_open: false,
            tokens: auth::TokenOptions::default(),
            tls: Tls::default(),
            scope: NameScope::new(Vec::new()),
            log: Log {
                level: LogLevel::Off,
                format: LogFormat::Text,
                audit: AuditLevel::Off,
                audit_file: None,
            },
            uploads: Uploads {
                expire_after: Duration::ZERO,
                max_open: 0,
                max_open_per_user: 0,
                chunk_min_length: 0,
            },
            manifests: Manifests { max_size: 0, sparse_indexes: false },
            signatures: Signatures { trust_roots: Vec::new() },
            delete: Delete {
                tags: false,
                manifests: false,
                blobs: false,
                repositories: false,
                undo: Duration::ZERO,
            },
            collection: Collection {
                lease: Duration::ZERO,
                untagged_grace: None,
                keep_history: 0,
                every: Duration::ZERO,
            },
            limits: Limits {
                connections: 0,
                header_timeout: Duration::ZERO,
                idle_timeout: Duration::ZERO,
                drain_timeout: Duration::ZERO,
                buffers: 0,
                connections_per_address: 0,
                header_size: 0,
                header_count: 0,
                first_byte_timeout: Duration::ZERO,
                requests: RequestLimits::default(),
                proxies: Proxies::default(),
            },
            storage: Storage {
                free_floor: 0,
                max_size: None,
                cache: RowCache { blobdescriptor: DescriptorCache::None, descriptors: 0, manifests: 0 },
            },
            retention: RetentionSettings { every: Duration::ZERO, policies: Retention::default() },
            immutable: ImmutableTags::default(),
            quotas: Vec::new(),
            notifications: Notifications {
                max_events: 0,
                max_age: Duration::ZERO,
                references: false,
                endpoints: Vec::new(),
            },
            client: client::Options::default(),
            database: Database { cache: 0, quick_repair: false },
            cache: Cache {
                hosts: Vec::new(),
                default: None,
                local: NameScope::new(Vec::new()),
                max_size: None,
                pinned: Vec::new(),
                keep_superseded: Duration::ZERO,
                sync: SyncSettings::default(),
            },
            upstreams: Vec::new(),
            backups: Vec::new(),
        }
    }
}
