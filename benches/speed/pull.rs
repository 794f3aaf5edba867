//! Pulls of blobs, beside nginx with sendfile serving the same file and beside other registries.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Advice, fadvise};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::blob::{Blob, MIB};
use crate::comparison::{Amount, Comparison, Contender, Summary};
use crate::load::exchange::{Answer, Wire, connect, request_over};
use crate::load::streams;
use crate::processors::Processors;
use crate::program::Program;
use crate::reach::Wanted;
use crate::report::Report;
use crate::setting::Setting;

/// How many bytes move in a round at least, so that small blobs are pulled often.
const ROUND: u64 = 256 * MIB;

/// From so many bytes in a round on, two rounds are enough.
const HEAVY: u64 = 4 << 30;

/// How long a range is.
const RANGE: u64 = MIB;

/// One that serves a blob at a path, and the file that it reads it from.
struct Source<'a> {
    program: &'a Program,
    target: String,
    file: Option<PathBuf>,
    tls: Option<Arc<ClientConfig>>,
}

/// Measures.
pub(crate) fn report(setting: &Setting, report: &mut Report) {
    let all = Processors::all();
    let folder = setting.folder();
    let data = folder.path().join("data");
    let orlop = Program::orlop_at(&data, &[], &all);
    // The very files that the registry serves, so that both read the same pages.
    let nginx = Program::nginx(setting, &data, None, &all);
    let docker = Program::docker_registry(setting, &all);
    let peers: Vec<_> = setting.peers.iter().map(Program::peer).collect();
    let sizes = setting.or_quick(vec![MIB, 100 * MIB, 1 << 30], vec![MIB, 4 * MIB]);
    let blobs: Vec<_> = sizes.iter().map(|bytes| Blob::new(*bytes)).collect();
    for blob in &blobs {
        [&orlop, &docker].into_iter().chain(&peers).for_each(|registry| blob.push(registry));
    }
    let sources = |blob: &Blob| {
        let file = file_of(&data, blob);
        let registry = |program, file| Source { program, target: blob.target(), file, tls: None };
        let mut sources = vec![
            Source { program: &nginx, target: below(&data, blob), file: Some(file.clone()), tls: None },
            registry(&orlop, Some(file)),
            registry(&docker, docker_file(&docker, blob)),
        ];
        sources.extend(peers.iter().map(|peer| registry(peer, None)));
        sources
    };

    let large = name(*sizes.last().expect("there are sizes"));
    for clients in setting.or_quick(vec![1, 8, 64], vec![1, 8]) {
        let mut comparison = Comparison::new(
            format!("Pulls from the page cache, {clients} at once, by clients that read their data"),
            "blob",
            Amount::Bytes,
        );
        for blob in &blobs {
            pulls(&mut comparison, setting, blob, clients, &sources(blob), false);
        }
        let summary = report.add(&comparison);
        if clients < 64 {
            reach_plain(report, &summary, &large, clients);
        }
    }
    for clients in [1, 8] {
        let mut comparison = Comparison::new(
            format!("Pulls from the disk, {clients} at once, nothing of the blob in the page cache"),
            "blob",
            Amount::Bytes,
        );
        for blob in &blobs {
            let mut sources = sources(blob);
            sources.retain(|source| source.file.is_some());
            pulls(&mut comparison, setting, blob, clients, &sources, true);
        }
        report.add(&comparison);
    }
    let largest = blobs.last().expect("there are blobs");
    ranges(setting, report, largest, &sources(largest));
    tls(setting, report, largest);
}

/// Rows of the table of what was to be reached.
fn reach_plain(report: &mut Report, summary: &Summary, large: &str, clients: u64) {
    let orlop = summary.of(large, "orlop");
    let work = format!("pull of {large}, {clients} at once: throughput");
    report.reach(&work, "nginx with sendfile", Wanted::AtLeast(1.2), orlop.ratio, "×");
    let work = format!("the same, {clients} at once: CPU per GiB");
    let cpu = orlop.cpu_ratio.unwrap_or(f64::NAN);
    report.reach(&work, "nginx with sendfile", Wanted::AtMost(0.8), cpu, "×");
}

/// Lets all sources serve the blob to so many clients.
fn pulls(
    comparison: &mut Comparison,
    setting: &Setting,
    blob: &Blob,
    clients: u64,
    sources: &[Source<'_>],
    is_cold: bool,
) {
    // A cold blob is read from the disk once, by whoever comes first.
    let times = if is_cold { 1 } else { (ROUND / blob.len() / clients).max(1) };
    let contenders = sources.iter().map(|source| {
        Contender::new(source.program.name(), move |_| {
            if let Some(file) = source.file.as_deref().filter(|_| is_cold) {
                forget(file);
            }
            streams(source.program, clients, false, |_| (0..times).map(|_| source.pull(blob)).sum())
        })
    });
    let rounds = if clients * times * blob.len() >= HEAVY { setting.rounds.min(2) } else { setting.rounds };
    #[expect(clippy::cast_precision_loss, reason = "a place on an axis")]
    let x = blob.len() as f64;
    comparison.alternate(rounds, x, name(blob.len()), contenders.collect());
}

/// Ranges of a large blob: one in each request, and a thousand in one.
fn ranges(setting: &Setting, report: &mut Report, blob: &Blob, sources: &[Source<'_>]) {
    let mut comparison = Comparison::new(format!("Ranges of {}", name(blob.len())), "request", Amount::Bytes);
    let steps = blob.len() / RANGE;
    let single = move |source: &Source<'_>| -> u64 {
        let read = (0..steps.min(256)).map(|step| {
            // All over the blob, not in its order.
            let from = (step * 97 % steps) * RANGE;
            let range = format!("Range: bytes={from}-{}\r\n", from + RANGE - 1);
            let answer = source.request(&range);
            assert_eq!(answer.status(), 206, "{}", source.program.name());
            answer.read()
        });
        read.sum()
    };
    let contenders = sources.iter().map(|source| {
        Contender::new(source.program.name(), move |_| streams(source.program, 1, false, |_| single(source)))
    });
    comparison.alternate(setting.rounds, 1.0, "one of 1 MiB", contenders.collect());

    let every = blob.len() / 1_000;
    let many = (0..1_000).map(|part| format!("{}-{}", part * every, part * every + every / 2));
    let many = format!("Range: bytes={}\r\n", many.collect::<Vec<_>>().join(","));
    // docker-registry answers several ranges too; a peer may not.
    let answers = |source: &&Source<'_>| source.request(&many).status() == 206;
    let contenders = sources.iter().filter(answers).map(|source| {
        let many = &many;
        Contender::new(source.program.name(), move |_| {
            streams(source.program, 1, false, |_| source.request(many).read())
        })
    });
    comparison.alternate(setting.rounds, 1_000.0, "1,000 in one, half of the blob", contenders.collect());
    report.add(&comparison);
}

/// The same over TLS 1.3, with a certificate that is made for it.
fn tls(setting: &Setting, report: &mut Report, blob: &Blob) {
    let folder = setting.folder();
    let made =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate can be made");
    let (certificate, key) = (folder.path().join("certificate.pem"), folder.path().join("key.pem"));
    let write = |path: &Path, text: String| {
        File::create(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .expect("a file can be written");
    };
    write(&certificate, made.cert.pem());
    write(&key, made.signing_key.serialize_pem());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&certificate).expect("it was just written")).expect("it is one");
    let client = Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());

    let all = Processors::all();
    let own = setting.folder();
    let set = |name: &str, path: &Path| format!("{name}={}", path.display());
    let arguments = ["--set", &set("tls.certificate", &certificate), "--set", &set("tls.key", &key)];
    let own = own.path().join("data");
    blob.push(&Program::orlop_at(&own, &[], &all));
    let orlop = Program::orlop_at(&own, &arguments, &all);
    let nginx = Program::nginx(setting, &own, Some((&certificate, &key)), &all);
    let source = |program, target| Source { program, target, file: None, tls: Some(client.clone()) };
    let sources = [source(&nginx, below(&own, blob)), source(&orlop, blob.target())];
    let mut last = None;
    for clients in [1, 8] {
        let mut comparison =
            Comparison::new(format!("Pulls over TLS 1.3, {clients} at once"), "blob", Amount::Bytes);
        pulls(&mut comparison, setting, blob, clients, &sources, false);
        last = Some(report.add(&comparison));
    }
    let summary = last.expect("it was measured");
    let cpu = summary.of(&name(blob.len()), "orlop").cpu_ratio.unwrap_or(f64::NAN);
    report.reach(
        "pull over TLS, 8 at once: CPU per GiB",
        "nginx with OpenSSL",
        Wanted::AtMost(0.6),
        cpu,
        "×",
    );
}

impl Source<'_> {
    /// Pulls and throws away; fails when it isn't all of it.
    fn pull(&self, blob: &Blob) -> u64 {
        let answer = self.request("");
        assert_eq!(answer.status(), 200, "{}: {}", self.program.name(), self.target);
        let read = answer.read();
        assert_eq!(read, blob.len(), "{}: {}", self.program.name(), self.target);
        read
    }

    fn request(&self, headers: &str) -> Answer {
        request_over(self.wire(), "GET", &self.target, headers)
    }

    fn wire(&self) -> Box<dyn Wire> {
        let stream = connect(self.program.address());
        let Some(tls) = &self.tls else { return Box::new(stream) };
        let name = ServerName::try_from("localhost").expect("it is a name");
        let session = ClientConnection::new(tls.clone(), name).expect("the settings are right");
        Box::new(StreamOwned::new(session, stream))
    }
}

/// The file of a blob in the data of Orlop.
pub(crate) fn file_of(data: &Path, blob: &Blob) -> PathBuf {
    data.join(&below(data, blob)[1..])
}

/// Its path for a server of the files in that data.
fn below(data: &Path, blob: &Blob) -> String {
    let hex = blob.digest().hex();
    let path = format!("/blobs/sha256/{}/{hex}", &hex[..2]);
    assert!(data.join(&path[1..]).exists(), "{path} is where docs/storage-format.md says");
    path
}

/// The file of a blob in the data of a docker-registry.
fn docker_file(docker: &Program, blob: &Blob) -> Option<PathBuf> {
    let hex = blob.digest().hex();
    let blobs = docker.folder()?.join("store/docker/registry/v2/blobs/sha256");
    Some(blobs.join(&hex[..2]).join(hex).join("data"))
}

/// Takes a file out of the page cache.
pub(crate) fn forget(file: &Path) {
    let file = File::open(file).expect("the blob's file is there");
    file.sync_all().expect("what isn't written can't be forgotten");
    fadvise(&file, 0, None, Advice::DontNeed).expect("the kernel takes advice");
}

/// A size, as people read it.
pub(crate) fn name(bytes: u64) -> String {
    if bytes >= 1 << 30 { format!("{} GiB", bytes >> 30) } else { format!("{} MiB", bytes >> 20) }
}
