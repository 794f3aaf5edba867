//! A registry in this process that caches an upstream, with limits that the configuration doesn't have.

use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use orlop::client::registry as upstream;
use orlop::config::{Config, Limits};
use orlop::fsio::{Disk, RealDisk};
use orlop::http::{Service, Wire};
use orlop::oci::Digest;
use orlop::proxy::{Cache, Settings, UpstreamSettings};
use orlop::registry::{Action, Depth, EventOptions, Listener, Options, Policy, Registry, UpstreamAccess};
use orlop::server::serve;
use orlop::telemetry::{Metrics, StorageMetrics};
use reqwest::blocking::{Client, Response};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::FaultyUpstream;

/// What images call the upstream.
pub(crate) const HOST: &str = "hub.example";

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the upstream is asked, quickly again after a failure.
pub(crate) fn settings(of: &FaultyUpstream) -> UpstreamSettings {
    let mut client = upstream::Options::new(of.url().parse().unwrap());
    client.retries.first_pause = Duration::from_millis(1);
    let mut settings = UpstreamSettings::new(HOST, client);
    settings.fetching.first_pause = Duration::from_millis(10);
    settings
}

/// The running registry.
pub(crate) struct Caching {
    directory: TempDir,
    settings: UpstreamSettings,
    policy: Policy,
    disk: Arc<dyn Disk>,
    events: EventOptions,
    running: Option<Running>,
    client: Client,
}

struct Running {
    address: SocketAddr,
    registry: Registry,
    cache: Cache,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
    runtime: Runtime,
}

impl Caching {
    pub(crate) fn of(upstream: &FaultyUpstream) -> Caching {
        Caching::with(settings(upstream))
    }

    pub(crate) fn with(settings: UpstreamSettings) -> Caching {
        Caching::with_policy(settings, Policy::default())
    }

    pub(crate) fn with_policy(settings: UpstreamSettings, policy: Policy) -> Caching {
        Caching::on(Arc::new(RealDisk), settings, policy)
    }

    pub(crate) fn on(disk: Arc<dyn Disk>, settings: UpstreamSettings, policy: Policy) -> Caching {
        let client =
            Client::builder().no_proxy().timeout(PATIENCE).pool_max_idle_per_host(0).build().unwrap();
        let access = if settings.is_public { UpstreamAccess::Public } else { UpstreamAccess::Anonymous };
        let policy = Policy { upstreams: [(HOST.to_owned(), access)].into(), ..policy };
        let listener = Listener {
            name: "test".to_owned(),
            ignored_actions: Vec::new(),
            ignored_media_types: Vec::new(),
        };
        let events = EventOptions { listeners: vec![listener], ..EventOptions::default() };
        let directory = TempDir::new().unwrap();
        let mut caching = Caching { directory, settings, policy, disk, events, running: None, client };
        caching.start();
        caching
    }

    fn options(&self) -> Options {
        Options {
            disk: self.disk.clone(),
            policy: self.policy.clone(),
            events: self.events.clone(),
            ..Options::new(self.directory.path().join("data"))
        }
    }

    /// Starts it again on the same data.
    pub(crate) fn start(&mut self) {
        let options = self.options();
        let registry = Registry::open(options).unwrap();
        let settings = Settings { upstreams: vec![self.settings.clone()], ..Settings::default() };
        let cache = Cache::open(settings, registry.clone()).unwrap();
        let runtime = Runtime::new().unwrap();
        let metrics = Metrics::new(&StorageMetrics::default());
        let service =
            Service { cache: Some(cache.clone()), ..Service::new(registry.clone(), metrics.clone()) };
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let limits = Limits { drain_timeout: Duration::from_millis(100), ..Config::default().limits };
        let ended = runtime.spawn(async move {
            let stopped = async { drop(stopped.await) };
            serve(listener, Wire::new(service), &limits, &metrics, stopped).await;
        });
        self.running = Some(Running { address, registry, cache, stop, ended, runtime });
    }

    /// Stops it as a server is stopped.
    pub(crate) fn stop(&mut self) {
        let Some(Running { registry, cache, stop, ended, runtime, .. }) = self.running.take() else { return };
        runtime.block_on(async {
            stop.send(()).unwrap();
            ended.await.unwrap();
            cache.close().await;
            registry.close().await;
        });
    }

    pub(crate) fn url(&self, name: &str, digest: &str) -> String {
        let address = self.running.as_ref().expect("it runs").address;
        format!("http://{address}/v2/{HOST}/{name}/blobs/{digest}")
    }

    pub(crate) fn get(&self, name: &str, digest: &str) -> Response {
        self.client.get(self.url(name, digest)).send().unwrap()
    }

    pub(crate) fn range(&self, name: &str, digest: &str, range: &str) -> Response {
        self.client.get(self.url(name, digest)).header("range", range).send().unwrap()
    }

    /// Asks for a blob of which no client may get the end: what comes before the connection breaks.
    #[track_caller]
    pub(crate) fn broken(&self, name: &str, digest: &str) -> Vec<u8> {
        match self.client.get(self.url(name, digest)).send() {
            Ok(response) => {
                assert_eq!(response.status(), 200);
                broken(response)
            }
            // It may break before the head has left.
            Err(error) => {
                assert!(error.is_request(), "{error}");
                Vec::new()
            }
        }
    }

    /// Asks for a blob and leaves before there is an answer.
    pub(crate) fn leave(&self, name: &str, digest: &str, after: Duration) {
        let left = self.client.get(self.url(name, digest)).timeout(after).send();
        assert!(left.is_err_and(|error| error.is_timeout()));
    }

    /// Asks for a manifest, so that the registry knows what it names.
    pub(crate) fn manifest(&self, name: &str, reference: &str) -> Response {
        let url = self.url(name, reference).replace("/blobs/", "/manifests/");
        self.client.get(url).send().unwrap()
    }

    pub(crate) fn head(&self, name: &str, digest: &str) -> Response {
        self.client.head(self.url(name, digest)).send().unwrap()
    }

    /// Whether the registry has the blob in this repository.
    pub(crate) fn has(&self, name: &str, digest: &str) -> bool {
        let registry = &self.running.as_ref().expect("it runs").registry;
        let repository = registry.namespace().repository(&format!("{HOST}/{name}").parse().unwrap());
        repository.blobs().stat(digest.parse::<Digest>().unwrap()).unwrap().is_some()
    }

    /// The repositories that blobs were pulled from, as events tell.
    pub(crate) fn pulls(&mut self) -> Vec<String> {
        self.stop();
        self.start();
        let page = self.running.as_ref().expect("it runs").registry.events().read(0, usize::MAX).unwrap();
        let pulls = page.events.into_iter().filter(|(_, event)| event.action == Action::Pull);
        pulls.map(|(_, event)| event.target.repository.to_string()).collect()
    }

    /// Takes the blob's file away, as a disk may that loses things.
    pub(crate) fn lose(&self, digest: &str) {
        std::fs::remove_file(self.file_of(digest).expect("it has a file")).unwrap();
    }

    /// The blob's file, if it is there.
    pub(crate) fn file_of(&self, digest: &str) -> Option<PathBuf> {
        let name = digest.strip_prefix("sha256:").unwrap();
        let mut folders = vec![self.directory.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else if entry.path().to_string_lossy().contains(name) {
                    return Some(entry.path());
                }
            }
        }
        None
    }

    pub(crate) fn wait_for(&self, name: &str, digest: &str) {
        wait_until("the blob is stored", || self.has(name, digest));
    }
}

impl Drop for Caching {
    /// Stops it and looks at every row and byte.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.stop();
        let report = Registry::open(self.options()).unwrap().verify(Depth::Full).unwrap();
        assert_eq!(report.problems, Vec::<String>::new());
    }
}

/// Looks again and again.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Reads so many bytes of an answer.
pub(crate) fn read(response: &mut Response, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    response.read_exact(&mut bytes).unwrap();
    bytes
}

/// Reads an answer from where it stands to its end.
pub(crate) fn rest(mut response: Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    response.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Reads an answer to its end, which has to be missing: what came before it.
#[track_caller]
pub(crate) fn broken(mut response: Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = response.read_to_end(&mut bytes);
    assert!(read.is_err(), "the answer ended as if it were complete, after {} bytes", bytes.len());
    bytes
}
