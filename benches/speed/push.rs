//! Pushes of blobs, answered when they are durable, beside a server that hashes the same stream and keeps nothing, and beside
//! other registries.

use crate::blob::{Blob, MIB, REPOSITORY, path_of};
use crate::comparison::{Amount, Comparison, Contender};
use crate::load::exchange::{Answer, Body, request, send_body};
use crate::load::streams;
use crate::processors::Processors;
use crate::program::Program;
use crate::pull::name;
use crate::reach::Wanted;
use crate::report::Report;
use crate::setting::Setting;
use crate::sink;

/// How many bytes move in a round at least, so that small blobs are pushed often.
const ROUND: u64 = 128 * MIB;

/// From so many bytes in a round on, two rounds are enough.
const HEAVY: u64 = 4 << 30;

/// Into how many requests a push in chunks is divided.
const CHUNKS: u64 = 8;

/// How a client sends a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// All of it with its end, in one request.
    Monolithic,
    /// In one request of unknown length, then its end.
    Streamed,
    /// In several requests that say which part they are, then its end.
    Chunked,
}

/// Who takes pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Sink,
    Orlop,
    DockerRegistry,
    Peer(usize),
}

/// Measures.
pub(crate) fn report(setting: &Setting, report: &mut Report) {
    let sizes = setting.or_quick(vec![MIB, 100 * MIB, 1 << 30], vec![MIB, 4 * MIB]);
    let largest = *sizes.last().expect("there are sizes");
    for way in [Way::Monolithic, Way::Streamed, Way::Chunked] {
        for clients in [1, 8, 64] {
            let sizes: Vec<u64> = match (clients, way) {
                (64, _) => vec![MIB],
                (8, Way::Streamed | Way::Chunked) => sizes[..sizes.len() - 1].to_vec(),
                (_, _) => sizes.clone(),
            };
            let title = format!("Pushes, {}, {clients} at once", way.text());
            let mut comparison = Comparison::new(title, "blob", Amount::Bytes);
            for bytes in sizes {
                pushes(&mut comparison, setting, way, bytes, clients);
            }
            let summary = report.add(&comparison);
            if (way, clients) == (Way::Monolithic, 1) {
                let orlop = summary.of(&name(largest), "orlop");
                let against = "sha256 alone on the same stream";
                let work = format!("push of {}, durable: throughput", name(largest));
                report.reach(&work, against, Wanted::AtLeast(0.9), orlop.ratio, "×");
                let cpu = orlop.cpu_ratio.unwrap_or(f64::NAN);
                report.reach("the same: CPU per GiB", against, Wanted::AtMost(1.25), cpu, "×");
            }
        }
    }
}

/// Lets all take the same blobs from so many clients; each round finds new processes on empty folders.
fn pushes(comparison: &mut Comparison, setting: &Setting, way: Way, bytes: u64, clients: u64) {
    let times = (ROUND / bytes / clients).max(1);
    let blobs: Vec<Vec<Blob>> =
        (0..clients).map(|_| (0..times).map(|_| Blob::new(bytes)).collect()).collect();
    let peers = (0..setting.peers.len()).map(Target::Peer);
    let targets = [Target::Sink, Target::Orlop, Target::DockerRegistry].into_iter().chain(peers);
    let contenders = targets.map(|target| {
        // What a peer has been pushed already it would not store again.
        let mut own: Option<Vec<Vec<Blob>>> = matches!(target, Target::Peer(_))
            .then(|| (0..clients).map(|_| (0..times).map(|_| Blob::new(bytes)).collect()).collect());
        let blobs = &blobs;
        Contender::new(target.name(setting), move |_| {
            if let Some(own) = &mut own {
                own.iter_mut().flatten().for_each(Blob::renew);
            }
            let blobs = own.as_ref().unwrap_or(blobs);
            let program = target.start(setting);
            streams(&program, clients, true, |client| {
                let blobs = &blobs[usize::try_from(client).expect("there are few")];
                blobs.iter().map(|blob| way.push(blob, &program)).sum()
            })
        })
    });
    let heavy = clients * times * bytes >= HEAVY;
    let rounds = if heavy { setting.rounds.min(2) } else { setting.rounds };
    #[expect(clippy::cast_precision_loss, reason = "a place on an axis")]
    let x = bytes as f64;
    comparison.alternate(rounds, x, name(bytes), contenders.collect());
}

impl Target {
    fn name(self, setting: &Setting) -> String {
        match self {
            Target::Sink => "sha256 alone".to_owned(),
            Target::Orlop => "orlop".to_owned(),
            Target::DockerRegistry => "docker-registry".to_owned(),
            Target::Peer(at) => setting.peers[at].name.clone(),
        }
    }

    fn start(self, setting: &Setting) -> Program {
        let all = Processors::all();
        match self {
            Target::Sink => Program::own("sha256 alone", &[sink::ARGUMENT], &all),
            Target::Orlop => Program::orlop(setting, &all),
            Target::DockerRegistry => Program::docker_registry(setting, &all),
            Target::Peer(at) => Program::peer(&setting.peers[at]),
        }
    }
}

impl Way {
    fn text(self) -> &'static str {
        match self {
            Way::Monolithic => "in one request",
            Way::Streamed => "as a stream of unknown length",
            Way::Chunked => "in eight chunks",
        }
    }

    /// Pushes a blob, and returns how many bytes that were.
    fn push(self, blob: &Blob, registry: &Program) -> u64 {
        let session = request(registry.address(), "POST", &format!("/v2/{REPOSITORY}/blobs/uploads/"));
        let mut location = next(&session, 202, registry);
        let to = registry.address();
        let end = |location: &str| {
            let separator = if location.contains('?') { '&' } else { '?' };
            format!("{location}{separator}digest={}", blob.digest())
        };
        let answer = match self {
            Way::Monolithic => {
                send_body(to, "PUT", &end(&location), "", Body::Known(blob.len()), blob.pieces())
            }
            Way::Streamed => {
                let sent = send_body(to, "PATCH", &location, "", Body::Unknown, blob.pieces());
                request(to, "PUT", &end(&next(&sent, 202, registry)))
            }
            Way::Chunked => {
                let chunk = blob.len() / CHUNKS;
                for number in 0..CHUNKS {
                    let from = number * chunk;
                    let range = format!("Content-Range: {from}-{}\r\n", from + chunk - 1);
                    let pieces = blob.part(from, chunk);
                    let sent = send_body(to, "PATCH", &location, &range, Body::Known(chunk), pieces);
                    location = next(&sent, 202, registry);
                }
                request(to, "PUT", &end(&location))
            }
        };
        assert_eq!(answer.status(), 201, "{}: a push", registry.name());
        blob.len()
    }
}

/// Where an upload goes on.
fn next(answer: &Answer, status: u16, registry: &Program) -> String {
    assert_eq!(answer.status(), status, "{}: an upload", registry.name());
    path_of(answer.header("location").expect("an upload has a location")).to_owned()
}
