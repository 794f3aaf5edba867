//! Whole small images: ten layers of 4 KiB, a configuration and a manifest, pushed and pulled by many clients at once as Docker does.
//! Every 201 is of something durable.

use std::time::Duration;

use orlop::oci::{Digest, DigestAlgorithm};

use crate::blob::path_of;
use crate::comparison::{Amount, Comparison, Contender};
use crate::load::exchange::BYTES;
use crate::load::{Connection, Request, Turn, Until, closed};
use crate::measured::Measured;
use crate::processors::Processors;
use crate::program::Program;
use crate::reach::Wanted;
use crate::report::Report;
use crate::setting::Setting;

/// How many layers an image has.
const LAYERS: u64 = 10;

/// How long one is, in words of eight bytes: 4 KiB.
const LAYER_WORDS: u64 = 512;

/// How long a round is.
const ROUND: Duration = Duration::from_secs(3);

/// How many images are there to be pulled, for each client.
const PULLED: u64 = 4;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// How often the images of 16 and of 64 clients were to be pushed, as multiples of docker-registry.
const WANTED: [(u32, f64); 2] = [(16, 4.0), (64, 8.0)];

/// Measures.
pub(crate) fn report(setting: &Setting, report: &mut Report) {
    let all = Processors::all();
    let orlop = Program::orlop(setting, &all);
    let docker = Program::docker_registry(setting, &all);
    let peers: Vec<_> = setting.peers.iter().map(Program::peer).collect();
    let servers: Vec<_> = [&docker, &orlop].into_iter().chain(&peers).collect();
    let every = |comparison: &mut Comparison, clients: u32, run: &dyn Fn(&Program, usize) -> Measured| {
        let contenders =
            servers.iter().map(|server| Contender::new(server.name(), |round| run(server, round)));
        comparison.alternate(setting.rounds, clients.into(), clients.to_string(), contenders.collect());
    };

    for (title, shared) in [("all of them new", 0), ("nine of ten layers there already", LAYERS - 1)] {
        let title = format!("Images of ten layers of 4 KiB pushed, {title}");
        let mut comparison = Comparison::new(&title, "clients", Amount::Operations);
        for (clients, _) in WANTED {
            let begun = format!("{clients}-{shared}");
            for server in servers.iter().filter(|_| shared > 0) {
                // What is shared has to be there.
                run(server, clients, Until::Each(1), &all, async |connection, turn| {
                    Image::of(&begun, turn.client, 0, shared).push(connection, server).await;
                });
            }
            every(&mut comparison, clients, &|server, round| {
                run(server, clients, Until::Elapsed(ROUND), &all, async |connection, turn| {
                    let number = (round as u64 + 1) << 32 | turn.number;
                    Image::of(&begun, turn.client, number, shared).push(connection, server).await;
                })
            });
        }
        let summary = report.add(&comparison);
        if shared == 0 {
            for (clients, wanted) in WANTED {
                let figures = summary.of(&clients.to_string(), "orlop");
                let work = format!("whole small images pushed by {clients} clients, all durable");
                report.reach(&work, "docker-registry", Wanted::AtLeast(wanted), figures.ratio, "×");
            }
        }
    }

    let title = "Images of ten layers of 4 KiB pulled";
    let mut comparison = Comparison::new(title, "clients", Amount::Operations);
    for (clients, _) in WANTED {
        let begun = format!("{clients}-pulled");
        let of = |client| (0..PULLED).map(|number| Image::of(&begun, client, number, 0)).collect();
        let images: Vec<Vec<Image>> = (0..clients.into()).map(of).collect();
        let image = |turn: Turn| {
            let place = |number| usize::try_from(number).expect("there are few");
            &images[place(turn.client)][place(turn.number % PULLED)]
        };
        for server in &servers {
            run(server, clients, Until::Each(PULLED), &all, async |connection, turn| {
                image(turn).push(connection, server).await;
            });
        }
        every(&mut comparison, clients, &|server, _| {
            run(server, clients, Until::Elapsed(ROUND), &all, async |connection, turn| {
                image(turn).pull(connection, server).await;
            })
        });
    }
    report.add(&comparison);
    report.note(
        "A client has one connection, and a repository of its own; it asks for each blob by HEAD, begins an upload, sends the bytes by \
         PATCH, ends by PUT, and puts the manifest last, one after the other. Servers and clients share all processors.",
    );
}

/// Lets clients do one thing after the other.
fn run(
    server: &Program,
    clients: u32,
    until: Until,
    on: &Processors,
    operation: impl AsyncFn(&mut Connection, Turn) + Sync,
) -> Measured {
    server.forget_peak();
    let before = server.cpu_of_all_threads();
    let measured = closed(server.address(), clients.into(), until, on, operation);
    Measured {
        server_cpu: server
            .cpu_of_all_threads()
            .zip(before)
            .map(|(after, before)| after.saturating_sub(before)),
        peak_memory: server.peak_memory(),
        // It has no processors of its own.
        is_load_the_limit: false,
        ..measured
    }
}

/// An image that nobody else has.
struct Image {
    repository: String,
    tag: String,
    layers: Vec<Blob>,
    config: Blob,
}

struct Blob {
    content: Vec<u8>,
    digest: Digest,
}

impl Blob {
    fn new(content: Vec<u8>) -> Blob {
        let digest = Digest::of(DigestAlgorithm::CANONICAL, &content);
        Blob { content, digest }
    }

    /// Bytes in no order that nothing can compress, different for each seed.
    fn random(seed: &str) -> Blob {
        let seed = Digest::of(DigestAlgorithm::CANONICAL, seed.as_bytes());
        let state = seed.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let word = |number: u64| {
            let mixed = state.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)).to_le_bytes()
        };
        Blob::new((0..LAYER_WORDS).flat_map(word).collect())
    }

    fn descriptor(&self, media_type: &str) -> String {
        let Blob { content, digest } = self;
        format!("{{\"mediaType\":\"{media_type}\",\"digest\":\"{digest}\",\"size\":{}}}", content.len())
    }

    async fn push(&self, repository: &str, connection: &mut Connection, to: &Program) {
        let there = format!("/v2/{repository}/blobs/{}", self.digest);
        let (status, _) = connection.exchange(&Request::new("HEAD", &there, &[], b"")).await;
        if status == 200 {
            return;
        }
        let uploads = format!("/v2/{repository}/blobs/uploads/");
        let (status, _) = connection.exchange(&Request::new("POST", &uploads, &[], b"")).await;
        assert_eq!(status, 202, "{}: a session", to.name());
        let location = location(connection);
        let body = [("Content-Type", BYTES)];
        let (status, _) = connection.exchange(&Request::new("PATCH", &location, &body, &self.content)).await;
        assert_eq!(status, 202, "{}: the bytes", to.name());
        let location = self::location(connection);
        let separator = if location.contains('?') { '&' } else { '?' };
        let end = format!("{location}{separator}digest={}", self.digest);
        let (status, _) = connection.exchange(&Request::new("PUT", &end, &[], b"")).await;
        assert_eq!(status, 201, "{}: a blob", to.name());
    }
}

fn location(connection: &Connection) -> String {
    path_of(connection.header("location").expect("an upload has a location")).to_owned()
}

impl Image {
    /// The image of a client with this number; the first `shared` of its layers are those of all its images.
    fn of(begun: &str, client: u64, number: u64, shared: u64) -> Image {
        // Of this very run, so that no earlier one has left it anywhere.
        let own = format!("{}-{begun}-{client}", std::process::id());
        let layer = |layer: u64| {
            let of = if layer < shared { "all".to_owned() } else { number.to_string() };
            Blob::random(&format!("{own} {of} {layer}"))
        };
        Image {
            repository: format!("bench/images-{own}"),
            tag: format!("v{number}"),
            layers: (0..LAYERS).map(layer).collect(),
            config: Blob::new(format!("{{\"image\":\"{own} {number}\"}}").into_bytes()),
        }
    }

    async fn push(&self, connection: &mut Connection, to: &Program) {
        for blob in self.layers.iter().chain([&self.config]) {
            blob.push(&self.repository, connection, to).await;
        }
        let layers: Vec<_> = self.layers.iter().map(|layer| layer.descriptor(LAYER)).collect();
        let manifest = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{MANIFEST}\",\"config\":{},\"layers\":[{}]}}",
            self.config.descriptor(CONFIG),
            layers.join(",")
        );
        let target = format!("/v2/{}/manifests/{}", self.repository, self.tag);
        let request = Request::new("PUT", &target, &[("Content-Type", MANIFEST)], manifest.as_bytes());
        let (status, _) = connection.exchange(&request).await;
        assert_eq!(status, 201, "{}: a manifest", to.name());
    }

    async fn pull(&self, connection: &mut Connection, from: &Program) {
        let manifest = format!("/v2/{}/manifests/{}", self.repository, self.tag);
        let blobs = self.layers.iter().chain([&self.config]);
        let blobs = blobs.map(|blob| format!("/v2/{}/blobs/{}", self.repository, blob.digest));
        for target in std::iter::once(manifest).chain(blobs) {
            let request = Request::new("GET", &target, &[("Accept", MANIFEST)], b"");
            let (status, _) = connection.exchange(&request).await;
            assert_eq!(status, 200, "{}: {target}", from.name());
        }
    }
}
