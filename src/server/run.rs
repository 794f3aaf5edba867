//! One server, from start to end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::auth::{Access, IssuerOptions, KeySource, KeysError, TokenKeys, Tokens, UsersError};
use crate::client::{self, Client};
use crate::clock::{Clock, SystemClock, monotonic};
use crate::config::{self, Config, DescriptorCache, Input, Limits, Loaded, RetentionSettings, Upstream};
use crate::fsio::RealDisk;
use crate::http::admin::{Admin, Certificate, Running};
use crate::http::{self, Wire};
use crate::maintenance::run_on_schedule;
use crate::metadata::{self, CacheOptions};
use crate::notifications::{self, Notifications, Source};
use crate::oci::schema1::TrustRoots;
use crate::proxy::{Cache, sync_on_schedule};
use crate::registry::{
    self, Collected, Collection, DeletePolicy, EventOptions, OpenError, Policy, Quotas, Registry,
};
use crate::snapshots::BackupSchedule;
use crate::telemetry::{Metrics, StorageMetrics};

use super::cache::warnings;
use super::reload::Reload;
use super::sockets::{ListenError, Place, Sockets};
use super::tls::{Hsts, Redirect, Tls, TlsError};
use super::{AdminSocket, Drained, Hangups, PasswordError, cache_settings, serve};

/// The number of commands that are served at once. They have connections of their own, so that a registry that is busy
/// can still be administrated.
const ADMIN_CONNECTIONS: usize = 16;

/// How long whoever administrates may send or take nothing: an archive comes and goes by pipes, at the other end of which a
/// program may think for long before it begins.
const ADMIN_IDLE: Duration = Duration::from_secs(60 * 60);

/// The longest time for a request's head where all that it gets is another address.
const REDIRECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The time between two looks for abandoned uploads.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// How often pulls are written down; a crash loses those since.
const PULLS_INTERVAL: Duration = Duration::from_secs(5);
/// How many times as long as it took to write them nothing is written, where that is longer.
const PULLS_REST: u32 = 50;

/// Why a server can't start; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Connections can't be accepted.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// TLS can't be spoken.
    #[error("{0}. Correct the file, or the configuration")]
    Tls(#[from] TlsError),
    /// Everybody would be let in from elsewhere.
    #[error(
        "whoever reaches {address} could push and delete, since there are no users and no rules. Let in your own users only, or \
         everybody:\n  \
         orlop user add NAME --htpasswd users && orlop serve --listen {address} --set access.htpasswd=users\n  \
         orlop serve --listen {address} --insecure-open"
    )]
    Strangers {
        /// Where it would have listened.
        address: Place,
    },
    /// Nobody can be called.
    #[error("{source}. Endpoints of notifications can't be called without it: mend it, or remove them")]
    Client {
        /// Why.
        #[from]
        source: client::Error,
    },
    /// The authority of certificates can't be called.
    #[error("{source}. No certificate can be had by ACME without it: mend tls.acme_root")]
    Acme {
        /// Why.
        source: client::Error,
    },
    /// An upstream's password can't be used.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// No upstream can be asked.
    #[error("{source}. Upstreams of the cache can't be asked without it: mend it, or remove them")]
    Cache {
        /// Why.
        source: client::Error,
    },
    /// The users can't be read.
    #[error("{source}. Correct access.htpasswd, or the file")]
    Users {
        /// Why.
        #[from]
        source: UsersError,
    },
    /// The keys of no external issuer can be fetched.
    #[error("{source}. The keys of issuers can't be fetched without it: mend it, or name files")]
    Issuers {
        /// Why.
        source: client::Error,
    },
    /// The keys that sign tokens can't be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The users and access tokens of the database can't be read.
    #[error("cannot read the users and access tokens: {source}")]
    Accounts {
        /// Why.
        source: registry::Error,
    },
    /// A file of certificate authorities can't be used.
    #[error(
        "signatures.trust_roots: cannot use {}: {reason}. Name PEM files with the certificates of authorities, or none",
        path.display()
    )]
    TrustRoots {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The data directory can't be used.
    #[error("{source}{}", advice_about_directory(source))]
    Open {
        /// Why.
        #[from]
        source: OpenError,
    },
}

fn advice_about_directory(error: &OpenError) -> &'static str {
    let source = match error {
        OpenError::File(error) | OpenError::Metadata(metadata::OpenError::File(error)) => &error.source,
        OpenError::Locked(_)
        | OpenError::MetadataMissing(_)
        | OpenError::Unfinished(_)
        | OpenError::Metadata(_) => return "",
    };
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            ". Give the user who runs orlop the right to write there, or choose another directory with --data"
        }
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            ". That is not a directory; choose another with --data"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            ". The file system can't be written to; choose a directory on another with --data"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ". Make room on that file system, or choose a directory on another with --data"
        }
        _ => ". If that is not the place for the data, choose another directory with --data",
    }
}

/// What `config` means for the registry, but for what stands in other files.
pub fn registry_options(config: &Config) -> registry::Options {
    let mut options = registry::Options::new(&config.data);
    options.database.cache_bytes = config.database.cache;
    options.database.quick_repair = config.database.quick_repair;
    options.database.cache = match config.storage.cache.blobdescriptor {
        DescriptorCache::InMemory => {
            let storage = &config.storage.cache;
            CacheOptions { descriptors: storage.descriptors, manifest_bytes: storage.manifests }
        }
        DescriptorCache::None => CacheOptions { descriptors: 0, manifest_bytes: 0 },
    };
    options.policy = Policy {
        upstreams: config.upstreams.iter().map(|upstream| (upstream.folder(), upstream.access())).collect(),
        scope: config.scope.clone().with_folders(config.upstreams.iter().map(Upstream::folder)),
        allow_sparse_indexes: config.manifests.sparse_indexes,
        max_manifest_bytes: config.manifests.max_size,
        delete: DeletePolicy {
            tags: config.delete.tags,
            manifests: config.delete.manifests,
            blobs: config.delete.blobs,
            repositories: config.delete.repositories,
        },
        collection: Collection {
            lease: config.collection.lease,
            undo: config.delete.undo,
            untagged_grace: config.collection.untagged_grace,
            keep_history: config.collection.keep_history,
            policies_remove_untagged: config.retention.policies.deletes_untagged(),
        },
        upload_expiry: config.uploads.expire_after,
        max_uploads: config.uploads.max_open,
        max_uploads_of_one: config.uploads.max_open_per_user,
        free_floor_bytes: config.storage.free_floor,
        immutable: config.immutable.clone(),
        quotas: Quotas { store_bytes: config.storage.max_size, repositories: config.quotas.clone() },
    };
    options.events = EventOptions {
        listeners: config.notifications.endpoints.iter().map(|endpoint| endpoint.listener.clone()).collect(),
        max_events: config.notifications.max_events,
        max_age: config.notifications.max_age,
        references: config.notifications.references,
    };
    options
}

/// The certificate authorities of all files. Blocks.
fn read_trust_roots(files: &[PathBuf]) -> Result<TrustRoots, StartError> {
    let mut roots = TrustRoots::default();
    for path in files {
        let failed = |reason: String| StartError::TrustRoots { path: path.clone(), reason };
        let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        roots.extend(TrustRoots::from_pem(&pem).map_err(|error| failed(error.to_string()))?);
    }
    Ok(roots)
}

/// How this process is called in events: by its host and port, and by an id of its own.
fn source(places: &[Place]) -> Source {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let address = places.iter().find_map(Place::address);
    let addr = address.map_or_else(|| host.clone(), |address| format!("{host}:{}", address.port()));
    Source { addr, instance_id: uuid::Uuid::now_v7().to_string() }
}

/// What the certificate is had by, where it is had by ACME. Blocks.
fn acme(config: &Config, tls: &Tls) -> Result<Option<(Tls, Client, PathBuf)>, StartError> {
    if !config.tls.acme {
        return Ok(None);
    }
    let root_certificates = config.tls.acme_root.clone().or(config.client.root_certificates.clone());
    let options = client::Options { root_certificates, ..config.client.clone() };
    let client = Client::new(&options).map_err(|source| StartError::Acme { source })?;
    Ok(Some((tls.clone(), client, config.data.clone())))
}

/// Listens where plain HTTP leads to TLS.
async fn redirect(
    config: &Config,
    tls: &Tls,
    places: &[Place],
) -> Result<Option<(Sockets, Redirect)>, StartError> {
    let (Some(from), Some(to)) = (config.tls.redirect_from, places.iter().find_map(Place::address)) else {
        return Ok(None);
    };
    let from = Sockets::bind(&[config::Listen::Address(from)], 0, None).await?;
    let external_url = config.external_url.clone();
    Ok(Some((from, Redirect { tls: tls.clone(), port: to.port(), external_url })))
}

/// What commands are told of the server that answers them.
fn running(places: &[Place], tls: Option<&Tls>) -> Running {
    let addresses: Vec<String> = places.iter().map(Place::to_string).collect();
    let certificate = tls.cloned().map(|tls| Arc::new(tls) as Arc<dyn Certificate>);
    Running { address: addresses.join(", "), since: SystemClock.now(), certificate }
}

/// A registry with bound sockets.
#[derive(Debug)]
pub struct Server {
    /// None where the file system has no sockets; the server serves all the same. Dropped before the registry, and with
    /// it the directory's lock.
    admin_socket: Option<AdminSocket>,
    sockets: Sockets,
    /// Where plain HTTP comes by, and where it is sent to.
    redirect: Option<(Sockets, Redirect)>,
    /// What the certificate is had by.
    acme: Option<(Tls, Client, PathBuf)>,
    places: Vec<Place>,
    tls: Option<Tls>,
    registry: Registry,
    access: Access,
    reload: Reload,
    backups: BackupSchedule,
    cache: Option<Cache>,
    wire: Hsts<Wire>,
    metrics: Metrics,
    limits: Limits,
    notifications: notifications::Settings,
    collect_every: Duration,
    admin: Admin,
    retention: RetentionSettings,
}

impl Server {
    /// Binds the sockets and opens the data directory; clients that connect from now on are answered once
    /// [`run`](Self::run) is called.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let tls = Tls::open(&config.tls, &config.data)?;
        let sockets = Sockets::bind(&config.listen, config.listen_mode, tls.clone()).await?;
        let places = sockets.places();
        let acme = tls.as_ref().map(|tls| acme(config, tls)).transpose()?.flatten();
        let redirect = match &tls {
            Some(tls) => redirect(config, tls, &places).await?,
            None => None,
        };
        let endpoints = config.notifications.endpoints.clone();
        // Reads the system's certificates, which is not for nothing.
        let client = if endpoints.is_empty() { None } else { Some(Client::new(&config.client)?) };
        let access = Access::open(config.access.clone())?;
        let mut cache = cache_settings(config)?;
        let mut options = registry_options(config);
        options.trust_roots = read_trust_roots(&config.signatures.trust_roots)?;
        let metrics = Metrics::new(&options.metrics);
        if let Some(cache) = &mut cache {
            cache.metrics = metrics.cache().clone();
        }
        let registry = Registry::open(options)?;
        let keys = TokenKeys::open(&config.data, SystemClock.now())?;
        let by_url = |issuer: &IssuerOptions| matches!(issuer.keys, KeySource::Url(_));
        let is_called = config.tokens.issuers.iter().any(by_url);
        let issuers = is_called.then(|| Client::new(&config.client)).transpose();
        let issuers = issuers.map_err(|source| StartError::Issuers { source })?;
        let tokens =
            Tokens::new(access.clone(), keys, &config.tokens, issuers.as_ref(), Arc::new(SystemClock));
        access.attach(registry.accounts()).map_err(|source| StartError::Accounts { source })?;
        let elsewhere = places.iter().find(|place| access.is_open() && !place.is_this_machine());
        for warning in cache.iter().flat_map(|cache| warnings(cache, elsewhere)) {
            tracing::warn!("{warning}");
        }
        let cache = cache.map(|settings| Cache::open(settings, registry.clone())).transpose();
        let cache = cache.map_err(|source| StartError::Cache { source })?;
        if let Some(address) = elsewhere.cloned()
            && !config.insecure_open
        {
            return Err(StartError::Strangers { address });
        }
        let retention = config.retention.clone();
        let backups = BackupSchedule::new(registry.clone(), Arc::new(RealDisk), metrics.backups().clone());
        backups.set_targets(&config.backups);
        let admin = Admin::new(
            registry.clone(),
            access.clone(),
            cache.clone(),
            retention.policies.clone(),
            Some(running(&places, tls.as_ref())),
        )
        .with_token_keys(tokens.keys().clone())
        .with_backups(backups.clone());
        let wire = Wire::new(http::Service {
            registry: registry.clone(),
            access: access.clone(),
            admin: Some(admin.clone()),
            tokens: Some(tokens),
            cache: cache.clone(),
            settings: http::Settings {
                external_url: config.external_url.clone(),
                chunk_min_length: config.uploads.chunk_min_length,
                buffer_bytes: config.limits.buffers,
                proxies: config.limits.proxies.clone(),
                limits: config.limits.requests.clone(),
            },
            metrics: metrics.clone(),
        });
        let wire = Hsts::new(wire, config.tls.hsts);
        let notifications = notifications::Settings {
            endpoints,
            source: source(&places),
            client,
            metrics: metrics.notifications().clone(),
        };
        let limits = config.limits.clone();
        let collect_every = config.collection.every;
        let reload = Reload::new(config.clone(), access.clone(), cache.clone(), tls.clone(), backups.clone());
        let admin_socket = AdminSocket::bind(&config.data)
            .map_err(|error| tracing::error!(%error, "commands can't be used beside this server"))
            .ok();
        Ok(Self {
            admin_socket,
            sockets,
            redirect,
            acme,
            places,
            tls,
            registry,
            access,
            reload,
            backups,
            cache,
            wire,
            metrics,
            limits,
            notifications,
            collect_every,
            admin,
            retention,
        })
    }

    /// Where it listens, in the order of the configuration.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// TLS, where it is spoken.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Whether everybody who reaches the server may do everything.
    pub fn is_open(&self) -> bool {
        self.access.is_open()
    }

    /// The registry that is served.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Goes by changes of the configuration too, which `input` has loaded, where that is possible without a restart; beside those
    /// of the files that it names.
    pub fn follow(&mut self, input: Input, loaded: Loaded, hangups: Hangups) {
        self.reload.follow(input, loaded, hangups);
    }

    /// Serves until `stop` is ready; then drains, and closes the registry.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Drained {
        let sweep = tokio::spawn(sweep(self.registry.clone()));
        let pulls = tokio::spawn(flush_pulls(self.registry.clone()));
        let collection = tokio::spawn(collect(self.registry.clone(), self.collect_every));
        let eviction = tokio::spawn(keep_cache(self.cache.clone()));
        let RetentionSettings { every, policies } = self.retention;
        let retention = tokio::spawn(run_on_schedule(self.registry.clone(), policies.into(), every));
        let reload = tokio::spawn(self.reload.run());
        let acme = tokio::spawn(async {
            if let Some((tls, client, data)) = self.acme {
                tls.keep_certificate(client, data).await;
            }
        });
        let sync = tokio::spawn(sync(self.cache.clone()));
        let backups = tokio::spawn(self.backups.clone().run());
        let notifications = Notifications::start(self.registry.events(), self.notifications);
        if let Err(error) = &notifications {
            tracing::error!(%error, "events are not delivered until the next start: the log can't be read");
        }
        let (tell_others, others_told) = watch::channel(());
        let told = || {
            let mut told = others_told.clone();
            async move {
                // An error means that the server has ended already.
                let _ = told.changed().await;
            }
        };
        let stop = async {
            stop.await;
            self.admin.stop();
            // They may be closed already.
            let _ = tell_others.send(());
        };
        let admin_limits = Limits {
            connections: ADMIN_CONNECTIONS,
            idle_timeout: ADMIN_IDLE,
            first_byte_timeout: ADMIN_IDLE,
            ..self.limits.clone()
        };
        let admin_metrics = Metrics::new(&StorageMetrics::default());
        let admin = async {
            if let Some(socket) = self.admin_socket {
                let router = self.admin.router(self.metrics.clone());
                serve(socket, router, &admin_limits, &admin_metrics, told()).await;
            }
        };
        let header_timeout = self.limits.header_timeout.min(REDIRECT_TIMEOUT);
        let redirect_limits = Limits { header_timeout, ..self.limits.clone() };
        let redirect = async {
            if let Some((sockets, redirect)) = self.redirect {
                for place in sockets.places() {
                    tracing::info!(address = %place, "redirecting to https");
                }
                serve(sockets, redirect.router(), &redirect_limits, &admin_metrics, told()).await;
            }
        };
        let served = serve(self.sockets, self.wire, &self.limits, &self.metrics, stop);
        let (drained, (), ()) = tokio::join!(served, admin, redirect);
        self.backups.stop();
        // A snapshot that is being taken reads the registry to its end.
        let _ = backups.await;
        for task in [sweep, pulls, collection, eviction, retention, sync, reload, acme] {
            task.abort();
            // It ends by the abort, and what it had begun is completed by the close.
            let _ = task.await;
        }
        if let Ok(notifications) = notifications {
            notifications.stop(self.limits.drain_timeout).await;
        }
        if let Some(cache) = self.cache {
            cache.close().await;
        }
        self.registry.close().await;
        drained
    }
}

/// Keeps what is cached within its limits.
async fn keep_cache(cache: Option<Cache>) {
    if let Some(cache) = cache {
        cache.keep_within_limits().await;
    }
}

/// Removes what a crash has left behind, and collects what is due from time to time.
async fn collect(registry: Registry, every: Duration) {
    match registry.sweep_orphans().await {
        Ok((0, _)) => {}
        Ok((files, bytes)) => tracing::info!(files, bytes, "removed files that a crash had left behind"),
        Err(error) => {
            tracing::warn!(%error, "files that a crash may have left behind stay until the next start");
        }
    }
    let mut interval = tokio::time::interval(every);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        match registry.collect(|_| {}).await {
            Ok(gone) if gone == Collected::default() => {}
            Ok(gone) => tracing::info!(
                blobs = gone.blobs,
                bytes = gone.bytes,
                manifests = gone.manifests,
                deletions = gone.deletions,
                "collected"
            ),
            Err(error) => tracing::warn!(%error, "the collection was interrupted; it goes on by itself"),
        }
    }
}

/// Fetches what is to be here before anybody asks for it.
async fn sync(cache: Option<Cache>) {
    if let Some(cache) = cache {
        sync_on_schedule(cache).await;
    }
}

/// Writes down who pulled what, and which access tokens were used, from time to time.
async fn flush_pulls(registry: Registry) {
    loop {
        let began = monotonic();
        let flushed = registry.flush_pulls().await;
        if let Err(error) = &flushed {
            tracing::warn!(%error, "cannot count pulls; trying again in a moment");
        }
        if let Err(error) = registry.accounts().flush_uses().await {
            tracing::warn!(%error, "cannot write when access tokens were used; trying again in a moment");
        }
        let soon = tokio::time::sleep(pulls_pause(began.elapsed()));
        tokio::select! {
            () = soon => {}
            // Where they can't be written, there are more of them with each pull.
            () = registry.many_pulls(), if flushed.is_ok() => {}
        }
    }
}

/// How long no pulls are written when it has taken so long to write them.
fn pulls_pause(took: Duration) -> Duration {
    PULLS_INTERVAL.max(took * PULLS_REST)
}

/// Removes abandoned uploads, now and from time to time.
async fn sweep(registry: Registry) {
    let mut interval = tokio::time::interval(SWEEP_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        match registry.sweep_uploads().await {
            Ok(0) => {}
            Ok(uploads) => tracing::info!(uploads, "removed abandoned uploads"),
            Err(error) => tracing::warn!(%error, "cannot remove abandoned uploads; trying again in a minute"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::fsio::FileError;

    #[test]
    fn pulls_are_written_every_five_seconds_or_a_fiftieth_of_the_time() {
        let pause = |millis| pulls_pause(Duration::from_millis(millis)).as_millis();
        assert_eq!([pause(0), pause(100), pause(101), pause(1_200)], [5_000, 5_000, 5_050, 60_000]);
    }

    #[test]
    fn an_empty_configuration_means_the_registrys_own_defaults() {
        let options = registry_options(&Config::default());
        assert_eq!(options.policy, Policy::default());
        assert_eq!(options.database, metadata::Options::default());
    }

    #[test]
    fn a_directory_that_may_not_be_written_comes_with_what_to_do() {
        let refused =
            FileError::new("create directory", "/srv/x".as_ref(), io::ErrorKind::PermissionDenied.into());
        let message = StartError::from(OpenError::File(refused)).to_string();
        assert!(message.contains("/srv/x") && message.contains("the right to write there"), "{message}");
        assert!(message.contains("--data"), "{message}");
    }
}
