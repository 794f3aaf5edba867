//! GET and HEAD of manifests, over ten thousand repositories, beside bare axum handlers that answer the same bytes and headers.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use orlop::oci::{Digest, DigestAlgorithm, Reference, RepositoryName, Tag};
use orlop::registry::{Actor, Error, ManifestPut, Repository};
use rustix::fs::sync;

use crate::bare::{self, Answer, Answers};
use crate::blob::path_of;
use crate::comparison::{Amount, Comparison, Contender};
use crate::load::exchange::{BYTES, request, send};
use crate::load::{Request, Until, closed};
use crate::measured::Measured;
use crate::processors::Processors;
use crate::program::Program;
use crate::reach::Wanted;
use crate::report::Report;
use crate::setting::Setting;
use crate::store::Store;

/// How many repositories there are, each with an image of its own.
const REPOSITORIES: u64 = 10_000;

/// How many of them a peer gets, since it gets them by HTTP.
const AT_A_PEER: u64 = 500;

/// How many layers an image has; all have the same ones.
const LAYERS: u64 = 8;

/// How many pushes are under way at once while the store is made.
const AT_ONCE: u64 = 256;

/// How long a round is.
const ROUND: Duration = Duration::from_secs(1);

/// At how many connections the ratio is what was to be reached.
const REACHED_AT: u64 = 64;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const TAG: &str = "1.2.3";

/// What clients say that they take.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// The headers of an answer that a bare handler gives too.
const HEADERS: [&str; 6] = [
    "content-type",
    "content-length",
    "docker-content-digest",
    "etag",
    "docker-distribution-api-version",
    "x-request-id",
];

/// What is asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    title: &'static str,
    method: &'static str,
    is_by_tag: bool,
    has_it: bool,
}

impl Asked {
    const fn new(title: &'static str, method: &'static str, is_by_tag: bool, has_it: bool) -> Asked {
        Asked { title, method, is_by_tag, has_it }
    }
}

const GET_BY_TAG: Asked = Asked::new("GET by tag", "GET", true, false);
const HEAD_BY_TAG: Asked = Asked::new("HEAD by tag", "HEAD", true, false);
const OTHERS: [Asked; 3] = [
    Asked::new("GET by digest", "GET", false, false),
    Asked::new("HEAD by digest", "HEAD", false, false),
    Asked::new("GET by tag of what the client has (304)", "GET", true, true),
];

/// A server, and how many of the repositories it has.
struct Server<'a> {
    program: &'a Program,
    repositories: u64,
}

/// Measures.
pub(crate) fn report(setting: &Setting, report: &mut Report) {
    let (server, load) = Processors::apart();
    let repositories = setting.or_quick(REPOSITORIES, 200);
    let data = setting.stores().join(format!("manifests-{repositories}"));
    made(&data, repositories);
    let orlop = Program::orlop_at(&data, &[], &server);
    let docker = Program::docker_registry(setting, &server);
    fill_docker(&docker.folder().expect("it was started here").join("store"), repositories);
    // All manifests are of the same length but for the digits of their numbers.
    let bare =
        bare::start(setting, "bare axum", &Answers::One(answer_of(&orlop, &tagged(100), 100)), &server);
    let finding = bare::start(setting, "bare axum, finding", &answers_of(&orlop, repositories), &server);
    let peers: Vec<_> = setting.peers.iter().map(Program::peer).collect();
    let at_a_peer = AT_A_PEER.min(repositories);
    for peer in &peers {
        (0..at_a_peer).for_each(|number| push(peer, number));
    }
    let mut servers: Vec<_> =
        [&bare, &finding, &orlop, &docker].map(|program| Server { program, repositories }).into();
    servers.extend(peers.iter().map(|program| Server { program, repositories: at_a_peer }));

    let measure = |comparison: &mut Comparison, asked: Asked, connections: u64, x: f64, label: String| {
        let requests = requests(repositories, asked);
        let contenders = servers.iter().map(|server| {
            let requests = &requests[..usize::try_from(server.repositories).expect("it fits")];
            let load = &load;
            Contender::new(server.program.name(), move |_| {
                ask(server.program, requests, asked, connections, load)
            })
        });
        comparison.alternate(setting.rounds, x, label, contenders.collect());
    };
    for asked in [GET_BY_TAG, HEAD_BY_TAG] {
        let title = format!("Manifests, {}, over {repositories} repositories", asked.title);
        let mut comparison = Comparison::new(title, "connections", Amount::Operations);
        for connections in setting.or_quick(vec![1_u32, 16, 64, 500], vec![1, 64]) {
            let label = connections.to_string();
            measure(&mut comparison, asked, connections.into(), connections.into(), label);
        }
        let summary = report.add(&comparison);
        let figures = summary.of(&REACHED_AT.to_string(), "orlop");
        let work = format!("manifests, {}, per second ({REACHED_AT} connections)", asked.title);
        report.reach(&work, "a bare axum handler", Wanted::AtLeast(0.8), figures.ratio, "×");
    }
    let title = format!("Manifests, other requests, {REACHED_AT} connections");
    let mut comparison = Comparison::new(title, "request", Amount::Operations);
    for (x, asked) in (0_u32..).zip(OTHERS) {
        measure(&mut comparison, asked, REACHED_AT, x.into(), asked.title.to_owned());
    }
    report.add(&comparison);
    report.note(
        "Each request is for another one of the repositories, in no order. The servers have half of the processors and the \
         generator the other half. The bare handlers answer the same bytes with the same headers: one of them always the same ones, and \
         the other those that it finds by the path in a hash map, where they lie ready made.",
    );
    drop(orlop);
}

/// Lets clients ask for one repository's manifest after the other's, in no order.
fn ask(program: &Program, requests: &[Request], asked: Asked, connections: u64, on: &Processors) -> Measured {
    let expected = if asked.has_it { 304 } else { 200 };
    program.forget_peak();
    let before = program.cpu();
    let measured =
        closed(program.address(), connections, Until::Elapsed(ROUND), on, async |connection, turn| {
            let place = scattered(turn.client << 40 | turn.number) % requests.len() as u64;
            let request = &requests[usize::try_from(place).expect("it is one of them")];
            let (status, _) = connection.exchange(request).await;
            assert_eq!(status, expected, "{}: {asked:?}", program.name());
        });
    Measured {
        server_cpu: program.cpu().zip(before).map(|(after, before)| after.saturating_sub(before)),
        peak_memory: program.peak_memory(),
        ..measured
    }
}

/// Another number for each number, in no order (`splitmix64`).
fn scattered(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn requests(repositories: u64, asked: Asked) -> Vec<Request> {
    let request = |number| {
        let entity_tag = format!("\"{}\"", digest(manifest(number).as_bytes()));
        let mut headers = vec![("User-Agent", "containerd/2.0.0"), ("Accept", ACCEPT)];
        if asked.has_it {
            headers.push(("If-None-Match", &entity_tag));
        }
        let target = if asked.is_by_tag { tagged(number) } else { digested(number) };
        Request::new(asked.method, &target, &headers, b"")
    };
    (0..repositories).map(request).collect()
}

/// What Orlop answers for a manifest under this path.
fn answer_of(orlop: &Program, path: &str, number: u64) -> Answer {
    let answer = request(orlop.address(), "GET", path);
    assert_eq!(answer.status(), 200, "the store has it");
    let header = |name: &str| Some((name.to_owned(), answer.header(name)?.to_owned()));
    Answer { headers: HEADERS.iter().filter_map(|name| header(name)).collect(), body: manifest(number) }
}

/// What it answers for each of them, by tag and by digest.
fn answers_of(orlop: &Program, repositories: u64) -> Answers {
    let paths = (0..repositories).flat_map(|number| [(number, tagged(number)), (number, digested(number))]);
    let answers = paths.map(|(number, path)| {
        let answer = answer_of(orlop, &path, number);
        (path, answer)
    });
    Answers::ByPath(answers.collect())
}

fn tagged(number: u64) -> String {
    format!("/v2/{}/manifests/{TAG}", name(number))
}

fn digested(number: u64) -> String {
    format!("/v2/{}/manifests/{}", name(number), digest(manifest(number).as_bytes()))
}

fn name(number: u64) -> String {
    format!("team-{}/service-{number}", number % 97)
}

fn layer(layer: u64) -> String {
    format!("layer {layer} of everybody")
}

fn config(number: u64) -> String {
    format!("{{\"architecture\":\"amd64\",\"service\":{number}}}")
}

fn manifest(number: u64) -> String {
    let descriptor = |media_type: &str, content: &str| {
        let digest = digest(content.as_bytes());
        format!("{{\"mediaType\":\"{media_type}\",\"digest\":\"{digest}\",\"size\":{}}}", content.len())
    };
    let layers: Vec<_> = (0..LAYERS).map(|number| descriptor(LAYER, &layer(number))).collect();
    format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{MANIFEST}\",\"config\":{},\"layers\":[{}]}}",
        descriptor(CONFIG, &config(number)),
        layers.join(",")
    )
}

fn digest(content: &[u8]) -> Digest {
    Digest::of(DigestAlgorithm::CANONICAL, content)
}

/// Makes Orlop's store through the library, where it isn't there.
fn made(data: &Path, repositories: u64) {
    if data.exists() {
        return;
    }
    // At another name, so that one half made is never taken for a whole one.
    let making = data.with_extension("making");
    let _ = fs::remove_dir_all(&making);
    fs::create_dir_all(&making).expect("a folder can be made");
    tokio::runtime::Runtime::new().expect("it starts").block_on(async {
        let store = Store::unsynced(&making);
        let repository = |number| store.registry.namespace().repository(&parsed(number));
        let mut first = 0;
        while first < repositories {
            let some = first..repositories.min(first + AT_ONCE);
            first = some.end;
            let pushes = some.map(|number| push_to(repository(number), number));
            try_join_all(pushes).await.expect("images are pushed");
        }
        store.registry.close().await;
    });
    sync();
    fs::rename(&making, data).expect("it can be renamed");
}

fn parsed(number: u64) -> RepositoryName {
    name(number).parse().expect("it is a name")
}

async fn push_to(repository: Repository, number: u64) -> Result<(), Error> {
    let (blobs, actor) = (repository.blobs(), Actor::anonymous());
    let put = async |content: String| blobs.put(Bytes::from(content), None, &actor).await.map(drop);
    for layer in (0..LAYERS).map(layer) {
        // From whichever repository has it.
        if number == 0 || blobs.mount(digest(layer.as_bytes()), None, &actor).await?.is_none() {
            put(layer).await?;
        }
    }
    put(config(number)).await?;
    let manifest = ManifestPut {
        payload: manifest(number).into(),
        media_type: MANIFEST.parse().expect("it is a media type"),
        reference: Reference::Tag(TAG.parse::<Tag>().expect("it is a tag")),
        tags: Vec::new(),
        actor: actor.clone(),
    };
    repository.manifests().put(manifest).await.map(drop)
}

/// Writes what docker-registry writes for the manifests, in the store at `store`, without its syncs.
fn fill_docker(store: &Path, repositories: u64) {
    let root = store.join("docker/registry/v2");
    let write = |path: String, content: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("a folder can be made");
        fs::write(path, content).expect("a file can be written");
    };
    for number in 0..repositories {
        let (manifest, name) = (manifest(number), name(number));
        let digest = digest(manifest.as_bytes());
        let hex = digest.hex();
        write(format!("blobs/sha256/{}/{hex}/data", &hex[..2]), &manifest);
        write(format!("repositories/{name}/_manifests/revisions/sha256/{hex}/link"), &digest.to_string());
        write(format!("repositories/{name}/_manifests/tags/{TAG}/current/link"), &digest.to_string());
    }
    sync();
}

/// Pushes an image to a registry by HTTP.
fn push(registry: &Program, number: u64) {
    let repository = name(number);
    for content in (0..LAYERS).map(layer).chain([config(number)]) {
        let session = request(registry.address(), "POST", &format!("/v2/{repository}/blobs/uploads/"));
        assert_eq!(session.status(), 202, "{}: a session", registry.name());
        let location = path_of(session.header("location").expect("a session has a location"));
        let separator = if location.contains('?') { '&' } else { '?' };
        let target = format!("{location}{separator}digest={}", digest(content.as_bytes()));
        let pushed = send(registry.address(), "PUT", &target, BYTES, content.as_bytes(), b"", 0);
        assert_eq!(pushed.status(), 201, "{}: a blob", registry.name());
    }
    let (target, manifest) = (format!("/v2/{repository}/manifests/{TAG}"), manifest(number));
    let pushed = send(registry.address(), "PUT", &target, MANIFEST, manifest.as_bytes(), b"", 0);
    assert_eq!(pushed.status(), 201, "{}: a manifest", registry.name());
}
