//! What a registry does: repositories, blobs, uploads, manifests, tags, referrers.
//!
//! [`Registry::open`] opens a data directory. [`Registry::namespace`] hands out repositories by validated name, and a
//! [`Repository`] its services. Handles are cheap to clone. Reads take microseconds and run on the calling thread; writes
//! return when what they did is durable.
//!
//! The order of a push, which everything rests on: bytes are hashed, synced, renamed to their final path and the directory
//! synced before one transaction names them. A crash leaves a file that nothing names at worst.

mod account_name;
mod accounts;
mod actor;
mod adoption;
mod blob_descriptor;
mod blob_reader;
mod blob_service;
mod blob_writer;
mod cached;
mod collection;
mod collection_plan;
mod deletion;
mod described;
mod error;
mod events;
mod evictable;
mod eviction;
mod expiry;
mod fetch;
mod followers;
mod immutable;
mod manifest_descriptor;
mod manifest_service;
mod name_scope;
mod origin;
mod orphans;
mod publishing;
mod pulls;
mod pushes;
mod quarantine;
mod quota;
mod readers;
mod referrer_service;
mod repair;
mod repository;
mod revision;
mod scroll;
mod scrub;
mod sessions;
mod signature_service;
mod signatures;
mod sizes;
mod status;
mod step_memory;
mod stream;
mod tag_import;
mod tag_pattern;
mod tag_service;
mod unlinked;
mod verify;
mod version_range;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;

pub use account_name::{AccountName, AccountNameError};
pub use accounts::{AccessToken, Accounts, NewAccessToken, PasswordHash, TokenHash, User};
pub use actor::Actor;
pub use blob_descriptor::{BlobDescriptor, ProvisionalDescriptor};
pub use blob_reader::BlobReader;
pub use blob_service::BlobService;
pub use blob_writer::BlobWriter;
pub use cached::{CachedService, UpstreamAccess};
pub use collection::{Collected, CollectionHold, CollectionPlan, Root};
pub use deletion::{DeletedKind, DeletedName, Deletion, DeletionService, Force};
pub use error::{Error, OpenError};
pub use events::{EventLog, EventOptions, EventPage, Listener};
pub use eviction::{Evicted, EvictionGuard, EvictionService};
pub use expiry::{ExpiryService, TagState, UntaggedState};
pub use fetch::{BlobFetch, GrowingBlob, GrowingReader};
pub use immutable::{ImmutableRule, ImmutableTags};
pub use manifest_descriptor::{ManifestDescriptor, ServedManifest};
pub use manifest_service::{ManifestPushed, ManifestPut, ManifestService};
pub use name_scope::{NamePattern, NamePatternError, NameScope};
pub use origin::Origin;
pub use pulls::Usage;
pub use quarantine::{AffectedImage, DamagedBlob};
pub use quota::{Quota, Quotas};
pub use referrer_service::{ReferrerPage, ReferrerService};
pub use repository::{Namespace, Page, Repository};
pub use scroll::Scroll;
pub use scrub::{Treatment, VerifyOptions, VerifyProgress};
pub use signature_service::{ManifestSignature, SignatureService, Verified};
pub use sizes::Sizes;
pub use status::StoreStatus;
pub use tag_import::{TagImported, TagPast};
pub use tag_pattern::{TagPattern, TagPatternError, TagSelection};
pub use tag_service::{TagRevision, TagService};
pub use verify::{Depth, VerifyReport};
pub use version_range::{VersionRange, VersionRangeError};

pub use crate::metadata::access_tokens::AccessTokenId;
pub use crate::metadata::events::{
    Action, EventRecord as Event, EventReference, EventRequest, EventTarget, TargetKind,
};
pub use crate::metadata::{CompactError, CompactProgress, CompactReport};

use crate::blobs::BlobStore;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::fsio::{DirectoryLock, Disk, RealDisk};
use crate::metadata::repositories::RepositoryId;
use crate::metadata::{self, Export, Metadata};
use crate::oci::schema1::TrustRoots;
use crate::oci::{Digest, RepositoryName};
use crate::telemetry::StorageMetrics;
use accounts::TokenUses;
use events::Events;
use eviction::Eviction;
use pulls::Pulls;
use readers::Readers;
use sessions::Sessions;

/// The file of a data directory that is being restored, which goes when all of it is there.
pub const RESTORING: &str = "restoring";

/// Where a registry lies and how it is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The disk; a simulated one in tests of durability.
    pub disk: Arc<dyn Disk>,
    /// The data directory, created where it is missing.
    pub data: PathBuf,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// How the database is run.
    pub database: metadata::Options,
    /// What is allowed.
    pub policy: Policy,
    /// Who hears of what happens.
    pub events: EventOptions,
    /// The certificate authorities that signers of manifests may have their certificates from; none are needed.
    pub trust_roots: TrustRoots,
    /// Where commits and syncs are counted.
    pub metrics: StorageMetrics,
}

impl Options {
    /// The defaults for a registry in the directory `data`.
    pub fn new(data: impl Into<PathBuf>) -> Options {
        Options {
            disk: Arc::new(RealDisk),
            data: data.into(),
            clock: Arc::new(SystemClock),
            database: metadata::Options::default(),
            policy: Policy::default(),
            events: EventOptions::default(),
            trust_roots: TrustRoots::default(),
            metrics: StorageMetrics::default(),
        }
    }
}

/// What a registry allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The names of the repositories that are served.
    pub scope: NameScope,
    /// Whether an index may name manifests that the repository doesn't have.
    pub allow_sparse_indexes: bool,
    /// The largest manifest, in bytes.
    pub max_manifest_bytes: usize,
    /// What may be deleted.
    pub delete: DeletePolicy,
    /// The folders of upstreams, and who may read what comes from there: a repository whose name begins with one of them
    /// caches that upstream's, unless it was local before.
    pub upstreams: BTreeMap<String, UpstreamAccess>,
    /// How long what was deleted, or is not named, stays.
    pub collection: Collection,
    /// An upload without any activity for so long is removed.
    pub upload_expiry: Duration,
    /// The most uploads that may be open at once.
    pub max_uploads: usize,
    /// How many of them one user may have open at once, all who are nobody in particular counted as one; zero for as many as all.
    pub max_uploads_of_one: usize,
    /// Pushes are refused while less than so many bytes are free on the disk.
    pub free_floor_bytes: u64,
    /// Tags that stay what they are.
    pub immutable: ImmutableTags,
    /// How much there may be.
    pub quotas: Quotas,
}

/// Which deletions are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a switch for each kind")]
pub struct DeletePolicy {
    /// Of tags.
    pub tags: bool,
    /// Of manifests.
    pub manifests: bool,
    /// Of blobs.
    pub blobs: bool,
    /// Of whole repositories.
    pub repositories: bool,
}

/// How long what was deleted, or what nothing names, stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collection {
    /// How long a blob that no manifest names stays after a push or a look has told a client that it is there. Longer than
    /// the slowest push takes from its first blob to its manifest.
    pub lease: Duration,
    /// How long what was deleted can come back.
    pub undo: Duration,
    /// How long a manifest stays that no tag and no manifest names, counted from when it lost its last name or was pulled by
    /// its digest, whichever came later; `None` for ever.
    pub untagged_grace: Option<Duration>,
    /// How many revisions that a tag pointed to before are kept from the collection of untagged manifests.
    pub keep_history: usize,
    /// Whether retention policies remove untagged manifests, beside the grace.
    pub policies_remove_untagged: bool,
}

impl Collection {
    /// Whether an untagged manifest ever goes by itself.
    pub fn removes_untagged(&self) -> bool {
        self.untagged_grace.is_some() || self.policies_remove_untagged
    }
}

impl Default for Collection {
    fn default() -> Collection {
        Collection {
            lease: Duration::from_secs(60 * 60),
            undo: Duration::from_secs(24 * 60 * 60),
            untagged_grace: None,
            keep_history: 0,
            policies_remove_untagged: false,
        }
    }
}

impl Policy {
    /// The folder of the upstream that a new repository of this name caches; `None` for one's own.
    pub fn upstream_of<'n>(&self, name: &'n RepositoryName) -> Option<&'n str> {
        let (folder, _) = name.as_str().split_once('/')?;
        self.upstreams.contains_key(folder).then_some(folder)
    }
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            scope: NameScope::everything(),
            allow_sparse_indexes: false,
            max_manifest_bytes: 8 << 20,
            delete: DeletePolicy { tags: true, manifests: true, blobs: true, repositories: true },
            collection: Collection::default(),
            upstreams: BTreeMap::new(),
            upload_expiry: Duration::from_secs(24 * 60 * 60),
            max_uploads: 10_000,
            max_uploads_of_one: 1_000,
            free_floor_bytes: 64 << 20,
            immutable: ImmutableTags::default(),
            quotas: Quotas::default(),
        }
    }
}

/// An open registry. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Inner>);

/// What all handles share.
#[derive(Debug)]
struct Inner {
    metadata: Metadata,
    blobs: BlobStore,
    sessions: Sessions,
    events: Events,
    pulls: Pulls,
    token_uses: TokenUses,
    clock: Arc<dyn Clock>,
    policy: Policy,
    may_have_cached: bool,
    trust_roots: TrustRoots,
    /// Held by those whose signed manifests are being verified.
    signed: Arc<Semaphore>,
    disk: Arc<dyn Disk>,
    data: PathBuf,
    /// Held by the one check that may be under way.
    verifying: Mutex<()>,
    /// Held by the one step of a collection that may be under way.
    collecting: tokio::sync::Mutex<()>,
    /// When something was last collected, and what.
    last_collected: Mutex<Option<(Timestamp, Collected)>>,
    /// Who reads what is cached, and what is evicted of that.
    readers: Readers,
    eviction: Eviction,
    /// How many hold the files of collected blobs back.
    holds: AtomicUsize,
    /// How many changes the services have begun.
    changes: AtomicU64,
    /// The directory belongs to this process until the last handle is gone. Dropped last.
    _lock: DirectoryLock,
}

impl Registry {
    /// Opens the data directory, creating or migrating it where needed, and locks it for this process. Blocks; takes no
    /// longer for a large store than for a small one, also after a crash.
    pub fn open(options: Options) -> Result<Registry, OpenError> {
        Registry::open_in_state(options, false)
    }

    /// Opens a data directory that is being restored, for whoever restores it: for everybody else it isn't whole yet.
    pub fn open_unfinished(options: Options) -> Result<Registry, OpenError> {
        Registry::open_in_state(options, true)
    }

    fn open_in_state(options: Options, is_unfinished: bool) -> Result<Registry, OpenError> {
        let Options { disk, data, clock, database, policy, events, trust_roots, metrics } = options;
        disk.create_dir(&data)?;
        let lock = disk.lock(&data)?.ok_or_else(|| OpenError::Locked(data.clone()))?;
        if !is_unfinished && disk.len(&data.join(RESTORING))?.is_some() {
            return Err(OpenError::Unfinished(data));
        }
        let blobs = BlobStore::open(disk.clone(), data.clone(), metrics.clone())?;
        if !Metadata::is_there(disk.as_ref(), &data)? && blobs.has_blobs()? {
            return Err(OpenError::MetadataMissing(data));
        }
        let metadata = Metadata::open(&disk, data.clone(), database, metrics.clone())?;
        let events = Events::new(events, metrics.clone());
        events.register(&metadata).map_err(metadata::OpenError::from)?;
        let pulls = Pulls::new(&metadata, clock.now()).map_err(metadata::OpenError::from)?;
        let sessions = Sessions::new(metrics.clone(), policy.collection.lease);
        Ok(Registry(Arc::new(Inner {
            may_have_cached: cached::may_be(&metadata, &policy).map_err(metadata::OpenError::from)?,
            metadata,
            blobs,
            sessions,
            events,
            pulls,
            token_uses: TokenUses::default(),
            clock,
            policy,
            trust_roots,
            disk,
            data,
            signed: Arc::new(Semaphore::new(signatures::VERIFIED_AT_ONCE)),
            verifying: Mutex::new(()),
            collecting: tokio::sync::Mutex::new(()),
            last_collected: Mutex::new(None),
            readers: Readers::default(),
            eviction: Eviction::new(metrics),
            holds: AtomicUsize::new(0),
            changes: AtomicU64::new(0),
            _lock: lock,
        })))
    }

    /// The repositories.
    pub fn namespace(&self) -> Namespace {
        Namespace::new(self.0.clone())
    }

    /// The users and the access tokens.
    pub fn accounts(&self) -> Accounts {
        Accounts::new(self.0.clone())
    }

    /// What this registry allows.
    pub fn policy(&self) -> &Policy {
        &self.0.policy
    }

    /// The log of events, for whoever delivers them.
    pub fn events(&self) -> EventLog {
        EventLog::new(self.0.clone())
    }

    /// Whether anybody listens to events, so that their [`Origin`] is worth the telling.
    pub fn has_listeners(&self) -> bool {
        !self.0.events.options.listeners.is_empty()
    }

    /// Evicts what is cached.
    pub fn eviction(&self) -> EvictionService {
        EvictionService::new(self.0.clone())
    }

    /// Sees to it that `bytes` more leave the disk the policy's floor, by eviction of what is cached where need be, so that a
    /// push of known length need not be read to be refused: with [`Error::DiskFull`].
    pub async fn make_space(&self, bytes: u64) -> Result<(), Error> {
        eviction::make_space(&self.0, bytes).await
    }

    /// Whether reads are answered.
    pub fn is_ready(&self) -> bool {
        self.0.metadata.read(|_| Ok(())).is_ok()
    }

    /// Removes uploads without activity for longer than the policy says, and upload files that a crash left behind;
    /// returns how many went.
    pub async fn sweep_uploads(&self) -> Result<usize, Error> {
        sessions::sweep(&self.0).await
    }

    /// Removes what is due, until nothing is; `progress` hears after each step how much has gone. Pushes and pulls go on,
    /// and wait no longer than for any other write.
    pub async fn collect(&self, progress: impl FnMut(&Collected)) -> Result<Collected, Error> {
        collection::collect(&self.0, progress).await
    }

    /// What a collection would remove now, and what keeps the rest of what nothing live names. Reads all of that.
    pub fn collection_plan(&self) -> Result<CollectionPlan, Error> {
        collection_plan::plan(&self.0)
    }

    /// Removes a little of what is due: a few transactions that a push can wait for. Says whether there may be more.
    pub async fn collect_step(&self) -> Result<(Collected, bool), Error> {
        collection::step(&self.0).await
    }

    /// Keeps the files of blobs from collection from when this returns until what is returned is dropped.
    pub async fn hold_collection(&self) -> CollectionHold {
        collection::hold(&self.0).await
    }

    /// Up to `limit` things that were deleted and can come back, behind the one with the number `after`.
    pub fn deletions(&self, after: Option<u64>, limit: usize) -> Result<Page<Deletion>, Error> {
        deletion::list_all(&self.0, after, limit)
    }

    /// Ends the time in which anything that was deleted could come back; returns how many things that were.
    pub async fn purge_deletions(&self) -> Result<u64, Error> {
        deletion::purge_all(&self.0).await
    }

    /// How much the repositories of an upstream hold that is cached here, or those of all upstreams where none is named: each
    /// blob and manifest once.
    pub fn cached_sizes(&self, upstream: Option<&str>) -> Result<Sizes, Error> {
        sizes::of_cached(&self.0, upstream)
    }

    /// The folders of all upstreams of which something was ever cached, with how much each holds.
    pub fn cached_upstreams(&self) -> Result<Vec<(String, Sizes)>, Error> {
        sizes::of_upstreams(&self.0)
    }

    /// How much the store holds: each blob and manifest once, what can be undeleted included.
    pub fn sizes(&self) -> Result<Sizes, Error> {
        sizes::of_store(&self.0)
    }

    /// Removes the files of blobs that no row names and no upload can take back: what crashes have left behind. Reads every
    /// directory of blobs, with pauses; meant to run once beside everything else. Returns how many files went, and their
    /// bytes.
    pub async fn sweep_orphans(&self) -> Result<(u64, u64), Error> {
        orphans::sweep(&self.0).await
    }

    /// Writes down which manifests and tags were pulled, and how often, if any were. A crash loses what wasn't written.
    pub async fn flush_pulls(&self) -> Result<(), Error> {
        pulls::begin(&self.0).await?;
        pulls::flush(&self.0).await
    }

    /// Waits until so many pulls are noted that [`flush_pulls`](Registry::flush_pulls) should not wait for its time.
    pub async fn many_pulls(&self) {
        self.0.pulls.many().await;
    }

    /// Records where the open uploads stand, which pulls were noted and which access tokens were used, commits what waits and
    /// closes the database. Later calls on any handle fail with [`Error::Unavailable`].
    pub async fn close(&self) {
        sessions::checkpoint_all(&self.0).await;
        if let Err(error) = events::write_pulls(&self.0).await {
            tracing::warn!(%error, "the last events of pulls could not be written");
        }
        if let Err(error) = pulls::flush(&self.0).await {
            tracing::warn!(%error, "the last pulls could not be counted");
        }
        if let Err(error) = self.accounts().flush_uses().await {
            tracing::warn!(%error, "the last uses of access tokens could not be written");
        }
        // The step of a collection that is under way has rows removed and their files not yet.
        let _alone = self.0.collecting.lock().await;
        let inner = self.0.clone();
        // The task can't panic beyond what `close` does, and a closed database is all that is wanted.
        let _ = tokio::task::spawn_blocking(move || inner.metadata.close()).await;
    }

    /// What the registry holds. Blocks.
    pub fn status(&self) -> Result<StoreStatus, Error> {
        status::status(&self.0)
    }

    /// Copies the metadata into a fresh file without free space in it, and goes on with that one; pushes and pulls go on
    /// meanwhile. Nothing is lost and nothing changes where it fails. `progress` hears of each step and may stop. Blocks.
    pub fn compact(
        &self,
        mut progress: impl FnMut(CompactProgress) -> ControlFlow<()>,
    ) -> Result<CompactReport, CompactError> {
        let report = self.0.metadata.compact(self.0.policy.free_floor_bytes, &mut progress)?;
        let CompactReport { rows, before_bytes, after_bytes, took, held, .. } = report;
        tracing::info!(rows, before_bytes, after_bytes, ?took, ?held, "compacted the metadata");
        Ok(report)
    }

    /// Hands all of the metadata to `export`, as of one instant; see [`metadata::Metadata::export`]. Blocks.
    pub fn export<E: Export>(&self, with_cached: bool, export: &mut E) -> Result<(), E::Error> {
        self.0.metadata.export(with_cached, export)
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.0.data
    }

    /// The disk that the data directory is on.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.0.disk
    }

    /// The time as the registry sees it.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Where the file of a blob is, if there is one. Whoever reads it holds the collection.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.0.blobs.blob_path(digest)
    }

    /// Checks that rows, references and files agree. Blocks, and reads everything: with [`Depth::Full`] every byte. Nobody
    /// else may be at work on the store; see [`verify_with`](Registry::verify_with).
    pub fn verify(&self, depth: Depth) -> Result<VerifyReport, Error> {
        let options = VerifyOptions { is_alone: true, ..VerifyOptions::new(depth) };
        self.verify_with(&options, |_| ControlFlow::Continue(()))
    }

    /// The same beside pushes, pulls and deletions, unless `options` say that there are none. Tells `progress` from time
    /// to time how far it has come, which may stop it. Blocks.
    pub fn verify_with(
        &self,
        options: &VerifyOptions,
        mut progress: impl FnMut(VerifyProgress) -> ControlFlow<()>,
    ) -> Result<VerifyReport, Error> {
        verify::verify(&self.0, options, &mut progress)
    }
}

impl Inner {
    /// How long what is deleted from a repository can come back.
    fn undo_of(&self, repository: RepositoryId) -> Duration {
        if repository.is_cached() { Duration::ZERO } else { self.policy.collection.undo }
    }

    /// How long what nothing names stays in a repository.
    fn lease_of(&self, repository: RepositoryId) -> Duration {
        if repository.is_cached() { cached::LEASE } else { self.policy.collection.lease }
    }

    /// Until when what a repository has and is promised at `now` stays: a little longer than the lease, so that many looks
    /// write once.
    fn lease_end(&self, repository: RepositoryId, now: Timestamp) -> u64 {
        let lease = self.lease_of(repository);
        now.saturating_add(lease).saturating_add(lease / 4).millis()
    }

    /// Until when a manifest that nothing names stays whose digest somebody was told of at `now`: for the grace of untagged
    /// ones, and for the lease at least.
    fn untagged_end(&self, repository: RepositoryId, now: Timestamp) -> u64 {
        if repository.is_cached() {
            return self.lease_end(repository, now);
        }
        let stay = self.untagged_stay();
        now.saturating_add(stay).saturating_add(stay / 8).millis().max(self.lease_end(repository, now))
    }

    fn untagged_stay(&self) -> Duration {
        let collection = &self.policy.collection;
        collection.untagged_grace.unwrap_or_default().max(collection.lease)
    }

    /// Refuses where `bytes` more would leave less free than the floor.
    fn require_space(&self, bytes: u64) -> Result<(), Error> {
        let free = self.blobs.free_bytes()?;
        if free < self.policy.free_floor_bytes.saturating_add(bytes) {
            return Err(Error::DiskFull);
        }
        Ok(())
    }
}
