//! What becomes of a store that the disk, or somebody, has damaged: what `orlop verify` says, what the server does, and
//! that a push heals it.
#![expect(clippy::unwrap_used, reason = "in a test, whatever is not as it should be is a failure")]

#[path = "cli/running.rs"]
#[allow(dead_code, reason = "the tests of the program use all of it")]
mod running;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::rc::Rc;

use orlop::oci::{Digest, DigestAlgorithm};
use reqwest::blocking::{Client, Response};
use running::{Running, copy_program, text};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn sha256(bytes: &[u8]) -> Digest {
    Digest::of(DigestAlgorithm::Sha256, bytes)
}

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

fn get(server: &Running, path: &str) -> Response {
    client().get(server.url(path)).send().unwrap()
}

fn head_blob(server: &Running, digest: &Digest) -> u16 {
    client().head(server.url(&format!("/v2/team/app/blobs/{digest}"))).send().unwrap().status().as_u16()
}

fn push_blob(server: &Running, bytes: &[u8]) -> Digest {
    let digest = sha256(bytes);
    let path = format!("/v2/team/app/blobs/uploads/?digest={digest}");
    assert_eq!(client().post(server.url(&path)).body(bytes.to_vec()).send().unwrap().status(), 201);
    digest
}

fn push_manifest(server: &Running, tag: &str, document: &Value) -> Vec<u8> {
    let bytes = serde_json::to_vec(document).unwrap();
    let request = client().put(server.url(&format!("/v2/team/app/manifests/{tag}"))).body(bytes.clone());
    let media_type = document["mediaType"].as_str().unwrap();
    assert_eq!(request.header("content-type", media_type).send().unwrap().status(), 201);
    bytes
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": sha256(bytes), "size": bytes.len()})
}

const CONFIG: &[u8] = b"{}";
const LAYER: &[u8] = b"the bytes of a layer";

/// Pushes an image with a tag, and an index of it with another; returns the digests of both.
fn push_image(server: &Running) -> (Digest, Digest) {
    push_blob(server, CONFIG);
    push_blob(server, LAYER);
    let image = push_manifest(
        server,
        "v1",
        &json!({
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": descriptor("application/vnd.oci.image.config.v1+json", CONFIG),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", LAYER)],
        }),
    );
    let index = push_manifest(
        server,
        "all",
        &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(IMAGE, &image)]}),
    );
    (sha256(&image), sha256(&index))
}

/// The program in a directory, run by a user who isn't root where that is possible.
struct Program {
    directory: TempDir,
    binary: Rc<TempDir>,
    user: Option<u32>,
}

/// A directory that everybody may use.
fn open_directory() -> TempDir {
    let directory = tempdir().unwrap();
    fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
    directory
}

impl Program {
    fn new() -> Self {
        let binary = Rc::new(open_directory());
        copy_program(binary.path());
        let user = rustix::process::geteuid().is_root().then_some(65534);
        Self { directory: open_directory(), binary, user }
    }

    /// The same in another directory.
    fn elsewhere(&self) -> Self {
        Self { directory: open_directory(), binary: Rc::clone(&self.binary), user: self.user }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join("data").join(below)
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.path("blobs/sha256").join(&hex[..2]).join(&hex)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.binary.path().join("orlop"));
        command.env_clear().env("RUST_BACKTRACE", "1").args(arguments);
        command.current_dir(self.directory.path()).stdin(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        let message = text(&output.stderr);
        assert!(!message.contains("panicked"), "{arguments:?}: {message}");
        output
    }

    fn verify(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[&["verify", "--json"], arguments].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    fn serve(&self) -> Running {
        Running::spawn(&mut self.command(&["serve", "--listen", "127.0.0.1:0"]))
    }
}

fn stop(server: Running) {
    let ended = server.stop();
    assert!(ended.status.success());
    assert!(!ended.log.iter().any(|line| line.contains("panicked")), "{:?}", ended.log);
}

// Quarantine.

#[test]
fn damage_is_set_aside_the_images_are_named_and_a_push_heals_them() {
    for is_beside in [true, false] {
        let program = Program::new();
        let mut server = Some(program.serve());
        let (image, index) = push_image(server.as_ref().unwrap());
        let layer = sha256(LAYER);
        fs::write(program.blob(&layer), b"the bytes of a l@yer").unwrap();
        if !is_beside {
            stop(server.take().unwrap());
        }

        let found = program.verify(&[]);
        assert_eq!((&found["clean"], found["damaged"].as_array().unwrap().len()), (&false.into(), 1));
        let damaged = &found["damaged"][0];
        assert_eq!((&damaged["digest"], &damaged["size"]), (&json!(layer), &json!(LAYER.len())));
        assert_eq!(damaged["reason"], format!("the bytes of the blob {layer} are damaged"));
        let mut images = damaged["images"].as_array().unwrap().clone();
        images.sort_by_key(|image| image["tags"].to_string());
        assert_eq!(
            images,
            [
                json!({"repository": "team/app", "deleted": false, "manifest": index, "tags": ["all"]}),
                json!({"repository": "team/app", "deleted": false, "manifest": image, "tags": ["v1"]}),
            ]
        );
        let aside = program.path("quarantine").join(format!("sha256-{}", layer.hex()));
        assert_eq!(fs::read(&aside).unwrap(), b"the bytes of a l@yer");
        assert!(!program.blob(&layer).exists());
        // Nothing more is found, and the damage isn't forgotten.
        let again = program.verify(&["--quick"]);
        assert_eq!((&again["clean"], &again["damaged"]), (&false.into(), &found["damaged"]));
        let shown = text(&program.run(&["verify"]).stdout);
        assert!(shown.contains(&format!("damaged: {layer} (20 B)")), "{shown}");
        assert!(shown.contains(&format!("  team/app:v1 ({image})\n")), "{shown}");
        let status: Value = serde_json::from_slice(&program.run(&["status", "--json"]).stdout).unwrap();
        assert_eq!((&status["damaged"], &status["blobs"]), (&1.into(), &2.into()));

        let server = server.unwrap_or_else(|| program.serve());
        assert_eq!((head_blob(&server, &layer), head_blob(&server, &sha256(CONFIG))), (404, 200));
        assert_eq!(get(&server, "/v2/team/app/manifests/v1").status(), 200);
        // What a client does that is told that the layer isn't there.
        push_image(&server);
        let blob = get(&server, &format!("/v2/team/app/blobs/{layer}"));
        assert_eq!(blob.bytes().unwrap().as_ref(), LAYER);
        let healed = program.verify(&[]);
        assert_eq!((&healed["clean"], &healed["damaged"]), (&true.into(), &json!([])), "{healed}");
        assert!(aside.exists(), "for a human to look at");
        stop(server);
    }
}

#[test]
fn a_dry_run_tells_the_same_and_changes_nothing() {
    let program = Program::new();
    let server = program.serve();
    push_image(&server);
    let layer = sha256(LAYER);
    fs::write(program.blob(&layer), b"short").unwrap();
    for _ in 0..2 {
        let found = program.verify(&["--dry-run"]);
        assert_eq!(found["damaged"][0]["images"].as_array().unwrap().len(), 2, "{found}");
        assert_eq!(found["problems"].as_array().unwrap().len(), 1);
        assert_eq!(fs::read(program.blob(&layer)).unwrap(), b"short");
    }
    assert_eq!(head_blob(&server, &layer), 200);
    stop(server);
}

#[test]
fn damage_that_only_deleted_images_have_is_said_to_be_theirs() {
    let program = Program::new();
    let server = program.serve();
    let (image, index) = push_image(&server);
    for digest in [index, image] {
        let path = format!("/v2/team/app/manifests/{digest}");
        assert_eq!(client().delete(server.url(&path)).send().unwrap().status(), 202);
    }
    fs::remove_file(program.blob(&sha256(LAYER))).unwrap();
    let found = program.verify(&[]);
    let images = found["damaged"][0]["images"].as_array().unwrap();
    let deleted = images.iter().find(|found| found["manifest"] == json!(image)).unwrap();
    assert_eq!((&deleted["deleted"], &deleted["repository"]), (&true.into(), &"team/app".into()));
    stop(server);
}

// The matrix: every kind of file, damaged in every way.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Blob,
    Upload,
    Metadata,
    Lock,
    Quarantine,
    AdminSocket,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Missing,
    Truncated,
    Flipped,
    /// Something of another kind is in its place.
    Replaced,
    WrongOwner,
}

/// What follows from damage.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing that anybody notices.
    None,
    /// `verify` finds this, sets the blob aside, and a push heals it.
    Healed(&'static str),
    /// `verify` finds this, and the server goes on without the blob, which it answers with 500.
    Unreadable(&'static str),
    /// `verify` finds nothing, and the upload's client is answered with this status.
    Upload(u16),
    /// `verify` finds this when the upload has become a blob.
    Later(&'static str),
    /// `verify` finds this, whatever the server does.
    Found(&'static str),
    /// `verify` and the server both end with this message, and with what to do.
    Refused(&'static str),
    /// The server serves, and says in its log that commands can't be used beside it.
    NoCommands,
}

fn outcome(kind: Kind, damage: Damage) -> Outcome {
    use Damage::{Flipped, Missing, Replaced, Truncated, WrongOwner};
    use Outcome::{Found, Healed, Later, NoCommands, Refused, Unreadable};
    match (kind, damage) {
        (Kind::Blob, Missing) => Healed("is missing"),
        (Kind::Blob, Truncated) => Healed("has 10 bytes instead of 20"),
        (Kind::Blob, Flipped) => Healed("are damaged"),
        (Kind::Blob, Replaced) => Healed("bytes instead of 20"),
        (Kind::Blob, WrongOwner) => Unreadable("can't be read"),
        (Kind::Upload, Missing | Truncated) => Outcome::Upload(404),
        (Kind::Upload, Flipped) => Later("are damaged"),
        (Kind::Upload, Replaced | WrongOwner) => Outcome::Upload(500),
        (Kind::Metadata, Missing) => Refused("metadata.redb is missing"),
        (Kind::Metadata, Truncated) => Refused("metadata.redb can't be opened"),
        (Kind::Metadata, Flipped) => Found("metadata.redb is damaged"),
        (Kind::Metadata, Replaced | WrongOwner) => Refused("metadata.redb"),
        (Kind::Lock, Replaced | WrongOwner) => Refused("data/lock"),
        (Kind::AdminSocket, Replaced) => NoCommands,
        (Kind::Lock, Missing | Truncated | Flipped)
        | (Kind::Quarantine, Missing | Truncated | Flipped | Replaced | WrongOwner)
        | (Kind::AdminSocket, Missing | Truncated | Flipped | WrongOwner) => Outcome::None,
    }
}

/// A stopped server's store with an image, an upload that has begun, a file in quarantine, and a socket that was left behind.
struct Store {
    program: Program,
    upload: String,
    upload_file: PathBuf,
    quarantined: PathBuf,
}

fn store(program: Program) -> Store {
    let server = program.serve();
    let healed = push_blob(&server, b"set aside once");
    fs::write(program.blob(&healed), b"set aside 0nce").unwrap();
    program.run(&["verify"]);
    push_blob(&server, b"set aside once");
    push_image(&server);
    let begun = client().post(server.url("/v2/team/app/blobs/uploads/")).body("").send().unwrap();
    let upload = begun.headers()["location"].to_str().unwrap().to_owned();
    let chunk = client().patch(server.url(&upload)).header("content-range", "0-9").body("some bytes");
    assert_eq!(chunk.send().unwrap().status(), 202);
    let id = upload.rsplit('/').next().unwrap().to_owned();
    server.signal(Signal::KILL);
    server.ended();
    let upload_file = program.path("uploads").join(id);
    assert_eq!(fs::read(&upload_file).unwrap(), b"some bytes");
    let quarantined = program.path("quarantine").join(format!("sha256-{}", healed.hex()));
    assert!(quarantined.is_file());
    Store { program, upload, upload_file, quarantined }
}

impl Store {
    fn file(&self, kind: Kind) -> PathBuf {
        match kind {
            Kind::Blob => self.program.blob(&sha256(LAYER)),
            Kind::Upload => self.upload_file.clone(),
            Kind::Metadata => self.program.path("metadata.redb"),
            Kind::Lock => self.program.path("lock"),
            Kind::Quarantine => self.quarantined.clone(),
            Kind::AdminSocket => self.program.path("admin.sock"),
        }
    }

    fn damage(&self, file: &Path, damage: Damage) {
        // What a socket has in it nobody can damage.
        let is_file = file.is_file();
        match damage {
            Damage::Missing => fs::remove_file(file).unwrap(),
            Damage::Truncated if is_file => {
                let opened = fs::OpenOptions::new().write(true).open(file).unwrap();
                opened.set_len(opened.metadata().unwrap().len() / 2).unwrap();
            }
            Damage::Flipped if is_file => {
                let mut bytes = fs::read(file).unwrap();
                // In the metadata a byte that is in use, in every copy of its page.
                let name = b"team/app";
                let used: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(name)).collect();
                for at in if used.is_empty() { vec![0] } else { used } {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1;
                    }
                }
                fs::write(file, bytes).unwrap();
            }
            Damage::Truncated | Damage::Flipped => {}
            Damage::Replaced => {
                fs::remove_file(file).unwrap();
                fs::create_dir(file).unwrap();
                chown(file, self.program.user, self.program.user).unwrap();
            }
            Damage::WrongOwner => {
                chown(file, Some(0), Some(0)).unwrap();
                fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
            }
        }
    }

    /// Checks that the outcome of the damage is what it should be.
    fn check(&self, expected: &Outcome) {
        let output = self.program.run(&["verify", "--json"]);
        if let Outcome::Refused(message) = expected {
            for command in [["verify"].as_slice(), &["serve", "--listen", "127.0.0.1:0"]] {
                let output = self.program.run(command);
                let said = text(&output.stderr);
                assert_eq!(output.status.code(), Some(1), "{said}");
                assert!(said.contains(message), "{said}");
            }
            return;
        }
        let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        let problems = found["problems"].to_string();
        match expected {
            Outcome::Healed(problem) | Outcome::Unreadable(problem) | Outcome::Found(problem) => {
                assert_eq!(output.status.code(), Some(3));
                assert!(problems.contains(problem), "{problems}");
            }
            Outcome::None
            | Outcome::Upload(_)
            | Outcome::Later(_)
            | Outcome::NoCommands
            | Outcome::Refused(_) => {
                assert_eq!(output.status.code(), Some(0), "{problems}");
            }
        }
        if let Outcome::Found(_) = expected {
            // Whether it starts or refuses: it doesn't panic.
            return;
        }
        let server = self.program.serve();
        let layer = format!("/v2/team/app/blobs/{}", sha256(LAYER));
        let blob = get(&server, &layer).status().as_u16();
        let upload = get(&server, &self.upload).status().as_u16();
        match expected {
            Outcome::Healed(_) => assert_eq!((blob, upload), (404, 204)),
            Outcome::Unreadable(_) => assert_eq!((blob, upload), (500, 204)),
            Outcome::Upload(status) => assert_eq!((blob, upload), (200, *status)),
            _ => assert_eq!((blob, upload), (200, 204)),
        }
        if upload == 204 {
            let finish = format!("{}?digest={}", self.upload, sha256(b"some bytes"));
            assert_eq!(client().put(server.url(&finish)).send().unwrap().status(), 201);
        }
        push_image(&server);
        match expected {
            Outcome::NoCommands => {
                server.logs("commands can't be used beside this server");
                assert!(text(&self.program.run(&["verify"]).stderr).contains("another process uses"));
            }
            Outcome::Later(problem) => {
                let found = self.program.verify(&[]);
                assert!(found["problems"].to_string().contains(problem), "{found}");
            }
            Outcome::Unreadable(_) => assert_eq!(self.program.verify(&[])["clean"], false),
            _ => assert_eq!(self.program.verify(&[])["clean"], true),
        }
        stop(server);
    }
}

#[test]
fn every_kind_of_file_in_every_kind_of_damage_has_its_outcome() {
    let program = Program::new();
    for kind in [Kind::Blob, Kind::Upload, Kind::Metadata, Kind::Lock, Kind::Quarantine, Kind::AdminSocket] {
        for damage in
            [Damage::Missing, Damage::Truncated, Damage::Flipped, Damage::Replaced, Damage::WrongOwner]
        {
            let program = program.elsewhere();
            if damage == Damage::WrongOwner && program.user.is_none() {
                // Only root can give files away.
                continue;
            }
            let store = store(program);
            let (file, expected) = (store.file(kind), outcome(kind, damage));
            // The harness shows what a failing test has printed.
            println!("{kind:?} × {damage:?}: {expected:?}");
            store.damage(&file, damage);
            store.check(&expected);
        }
    }
}
