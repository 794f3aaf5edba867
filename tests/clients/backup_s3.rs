//! Backups in a store that speaks S3.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::backup_age::files;
use crate::garage::{BUCKET, Garage, SECRET};
use crate::image::{Compression, random_files, sha256_of};
use crate::process::{run, run_to_failure, run_verbosely};
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::{Client, Host, Layout};

/// A layer of it is larger than a part.
const LARGE: usize = 20 << 20;

fn place(prefix: &str) -> String {
    format!("s3://{BUCKET}/{prefix}")
}

/// The real program, which knows how the store is reached.
pub(crate) fn orlop(garage: &Garage, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("ORLOP_") {
            command.env_remove(key);
        }
    }
    garage.settle(&mut command);
    command.args(arguments);
    command
}

fn create(garage: &Garage, to: &str, data: &Path) -> Value {
    let said = run(orlop(garage, &["backup", "create", to, "--json", "--data"]).arg(data));
    serde_json::from_str(&said).expect("it is JSON")
}

fn start(garage: &Garage, data: &Path) -> Server {
    let settings = garage.settings();
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    Server::start_at(data, &settings)
}

fn large(name: &str) -> Layout {
    let layer = |_| random_files(1, LARGE);
    let mut layers: Vec<_> = (0..2).map(layer).collect();
    layers.push(vec![("etc/hello", name.into())]);
    Layout::with_layers(Compression::Gzip, &layers)
}

/// A data directory with so many images that are sent in parts.
fn data_with(folder: &TempDir, images: usize) -> PathBuf {
    let data = folder.path().join("data");
    let server = Server::start_at(&data, &[]);
    let skopeo = Skopeo::on(Host::new());
    for number in 0..images {
        skopeo.push(&large(&number.to_string()), &server.image(&format!("team/box:{number}")));
    }
    data
}

#[test]
fn snapshots_in_a_bucket_share_content_are_checked_pruned_and_restored() {
    let garage = Garage::start();
    let folder = TempDir::with_prefix("orlop-s3-").expect("a temporary folder can be made");
    let at = place("one/registry");
    let skopeo = Skopeo::on(Host::new());
    let server = start(&garage, &folder.path().join("data"));
    let (one, two) = (server.image("team/box:1"), server.image("team/box:2"));
    skopeo.push(&large("one"), &one);
    let first = create(&garage, &at, server.data());
    assert_eq!(first["addedFiles"], 1 + 5, "a manifest, a configuration and four layers: {first}");
    skopeo.push(&large("two"), &two);
    let digests = [&one, &two].map(|image| skopeo.digest(image));
    let second = create(&garage, &at, server.data());
    assert_eq!(second["addedFiles"], 1 + 4, "both have busybox: {second}");
    let third = create(&garage, &at, server.data());
    assert_eq!((&third["addedFiles"], &third["bytes"]), (&Value::from(0), &second["bytes"]));
    // What is sent is what it is called, and others can read it.
    let objects = garage.list("one/registry/blobs/sha256/");
    assert_eq!(objects.len(), 11);
    let copy = folder.path().join("copy");
    for object in &objects {
        garage.get(object, &copy);
        assert_eq!(sha256_of(&copy), format!("sha256:{}", &object[object.len() - 64..]));
    }
    assert_eq!(garage.list("one/registry/locks"), [""; 0]);

    run(&mut orlop(&garage, &["backup", "verify", &at, "--full"]));
    assert_eq!(listed(&garage, &at).len(), 3);
    let differs = run(&mut orlop(&garage, &["backup", "diff", &at, "1", "2"]));
    assert!(differs.contains("+ team/box:2"), "{differs}");

    // Each damage is found by the name of the object.
    let large = objects.iter().find(|object| {
        garage.get(object, &copy);
        fs::metadata(&copy).expect("it was written").len() > 8 << 20
    });
    let large = large.expect("one is large");
    garage.get(large, &copy);
    let mut bytes = fs::read(&copy).expect("it was written");
    bytes[LARGE / 2] ^= 1;
    let changed = folder.path().join("changed");
    fs::write(&changed, bytes).expect("a file can be written");
    garage.put(large, &changed);
    run(&mut orlop(&garage, &["backup", "verify", &at]));
    let said = run_to_failure(&mut orlop(&garage, &["backup", "verify", &at, "--full"]));
    assert!(said.contains(large.as_str()), "{said}");
    garage.delete(large);
    let said = run_to_failure(&mut orlop(&garage, &["backup", "verify", &at]));
    assert!(said.contains(large.as_str()) && said.contains("isn't there"), "{said}");
    let data = folder.path().join("restored");
    let mut restore = orlop(&garage, &["backup", "restore", &at, "2", "--data"]);
    let said = run_to_failure(restore.arg(&data));
    assert!(said.contains(large.as_str()), "{said}");
    garage.put(large, &copy);

    run(&mut restore);
    let restored = start(&garage, &data);
    let images = ["team/box:1", "team/box:2"].map(|image| restored.image(image));
    assert_eq!([&images[0], &images[1]].map(|image| skopeo.digest(image)), digests);
    assert_eq!(skopeo.pull_and_read(&images[0], "/etc/hello"), "one");
    assert_eq!(skopeo.pull_and_read(&images[1], "/etc/hello"), "two");

    // One image of an earlier snapshot comes to a server that runs.
    let other = start(&garage, &folder.path().join("other"));
    let mut part = orlop(&garage, &["backup", "restore", &at, "2", "--tag", "team/box:2", "--data"]);
    run(part.arg(other.data()));
    assert_eq!(skopeo.digest(&other.image("team/box:2")), digests[1]);
    assert_eq!(skopeo.pull_and_read(&other.image("team/box:2"), "/etc/hello"), "two");

    // The newest has one image. It stays, with its content.
    let small = folder.path().join("small");
    run(orlop(&garage, &["backup", "restore", &at, "1", "--data"]).arg(&small));
    assert_eq!(create(&garage, &at, &small)["addedFiles"], 0);
    run(&mut orlop(&garage, &["backup", "prune", &at, "--keep-last", "1"]));
    run(&mut orlop(&garage, &["backup", "verify", &at, "--full"]));
    assert_eq!(garage.list("one/registry/blobs/").len(), 6);
    let files = garage.list("one/registry/snapshots/");
    assert!(files.len() == 6 && files.iter().all(|file| file.contains("/000004-")), "{files:?}");
    let all = garage.list("");
    assert_eq!(all.len(), 6 + 6 + 1, "only the format is beside them");

    // What is fetched into a folder is a backup directory.
    let fetched = folder.path().join("fetched");
    for object in &all {
        let file = fetched.join(object.strip_prefix("one/registry/").expect("all are below it"));
        fs::create_dir_all(file.parent().expect("it has a folder")).expect("a folder can be made");
        garage.get(object, &file);
    }
    let fetched = fetched.display().to_string();
    run(&mut orlop(&garage, &["backup", "verify", &fetched, "--full"]));
    assert_eq!(create(&garage, &fetched, &small)["addedFiles"], 0, "it is gone on with");
}

#[test]
fn what_interrupts_a_snapshot_leaves_no_part_of_one() {
    let mut garage = Garage::start();
    let folder = TempDir::with_prefix("orlop-s3-").expect("a temporary folder can be made");
    let data = data_with(&folder, 3);
    let at = place("");
    // As soon as an object is sent in parts, the process is killed.
    let mut killed = begin(&garage, &at, &data);
    wait_for_parts(&data);
    killed.kill().expect("it can be killed");
    killed.wait().expect("it ends");
    assert!(garage.uploads() > 0);
    assert_eq!(garage.list("locks/content/").len(), 1);
    assert!(listed(&garage, &at).is_empty());
    let before = garage.list("blobs/").len() as u64;
    let taken = create(&garage, &at, &data);
    assert_eq!(taken["addedFiles"], 3 * 6 - 2 - before, "{taken}");
    assert_eq!((garage.uploads(), garage.list("locks/").len()), (0, 0));
    run(&mut orlop(&garage, &["backup", "verify", &at, "--full"]));

    // As soon as one is, the store is killed, and comes back.
    let at = place("other");
    let slow = begin(&garage, &at, &data);
    wait_for_parts(&data);
    garage.kill();
    garage.start_again();
    let ended = slow.wait_with_output().expect("it ends");
    assert!(ended.status.success(), "{ended:?}");
    run(&mut orlop(&garage, &["backup", "verify", &at, "--full"]));
    assert_eq!(garage.uploads(), 0);

    // A store that doesn't come back is told of.
    garage.kill();
    let said = run_to_failure(orlop(&garage, &["backup", "create", &at, "--data"]).arg(&data));
    assert!(said.contains("s3://backups/other") && said.contains("Run the command again"), "{said}");
}

fn begin(garage: &Garage, at: &str, data: &Path) -> Child {
    spawn(orlop(garage, &["backup", "create", at, "--data"]).arg(data))
}

fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("it starts")
}

/// Makes one byte of a file another.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).expect("it can be read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).expect("it can be written");
}

fn listed(garage: &Garage, at: &str) -> Vec<Value> {
    let listed = run(&mut orlop(garage, &["backup", "list", at, "--json"]));
    serde_json::from_str(&listed).expect("it is JSON")
}

/// Waits until an object is being sent in parts, which is noted in the data directory.
fn wait_for_parts(data: &Path) {
    let end = Instant::now() + Duration::from_secs(60);
    let is_noted = || {
        let folders = fs::read_dir(data.join("backup")).into_iter().flatten().flatten();
        let mut files =
            folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten());
        files.any(|file| file.file_name().to_string_lossy().starts_with("upload-"))
    };
    while !is_noted() {
        assert!(Instant::now() < end, "nothing is sent in parts");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn of_two_snapshots_at_once_each_is_whole_or_refused() {
    let garage = Garage::start();
    let folder = TempDir::with_prefix("orlop-s3-").expect("a temporary folder can be made");
    let at = place("both");
    let data = data_with(&folder, 1);
    let server = start(&garage, &data);
    let running = [(); 2].map(|()| begin(&garage, &at, server.data()));
    let ended = running.map(|running| running.wait_with_output().expect("it ends"));
    let done = ended.iter().filter(|ended| ended.status.success()).count();
    assert!(done > 0, "{ended:?}");
    for refused in ended.iter().filter(|ended| !ended.status.success()) {
        assert!(String::from_utf8_lossy(&refused.stderr).contains("another process works in"), "{refused:?}");
    }
    assert_eq!(listed(&garage, &at).len(), done);
    run(&mut orlop(&garage, &["backup", "verify", &at, "--full"]));
    // A hold keeps others from removing, and ends.
    let held = run(orlop(&garage, &["backup", "lock", &at, "--", "echo", "held"]).current_dir(folder.path()));
    assert_eq!(held, "held");
    assert_eq!(garage.list("both/locks"), [""; 0]);
}

#[test]
fn pruning_waits_for_whoever_copies_the_bucket() {
    let garage = Garage::start();
    let folder = TempDir::with_prefix("orlop-s3-").expect("a temporary folder can be made");
    let at = place("held");
    let data = data_with(&folder, 0);
    let [_, last] = [(); 2].map(|()| create(&garage, &at, &data));
    let copy = ["backup", "lock", &at, "--", "sh", "-c", "echo copying; exec cat"];
    let mut copying = spawn(orlop(&garage, &copy).current_dir(folder.path()));
    let mut said = BufReader::new(copying.stdout.take().expect("it was piped")).lines();
    assert_eq!(said.next().and_then(Result::ok).as_deref(), Some("copying"));
    let mut pruning = spawn(&mut orlop(&garage, &["backup", "prune", &at, "--keep-last", "1"]));
    // Each time that it asks for the lock it makes an object of its own.
    let (mut seen, end) = (BTreeSet::new(), Instant::now() + Duration::from_secs(60));
    while seen.len() < 3 {
        let ended = pruning.try_wait().expect("it can be asked");
        assert!(ended.is_none(), "it doesn't wait for the copy: {ended:?}");
        assert!(Instant::now() < end, "it doesn't ask again: {seen:?}");
        seen.extend(garage.list("held/locks/names/"));
    }
    assert_eq!(listed(&garage, &at).len(), 2);
    drop(copying.stdin.take());
    assert!(copying.wait().expect("it ends").success(), "the copy");
    let pruned = pruning.wait_with_output().expect("it ends");
    assert!(pruned.status.success(), "{pruned:?}");
    let left = listed(&garage, &at);
    assert!(left.len() == 1 && left[0]["name"] == last["name"], "{left:?}");
    run(&mut orlop(&garage, &["backup", "verify", &at, "--full"]));
    assert_eq!(garage.list("held/locks"), [""; 0]);
}

#[test]
fn what_the_registry_has_damaged_is_named_and_never_gets_into_the_bucket() {
    let garage = Garage::start();
    let folder = TempDir::with_prefix("orlop-s3-").expect("a temporary folder can be made");
    let data = data_with(&folder, 1);
    let mut blobs = files(&data.join("blobs"));
    blobs.sort_by_key(|blob| fs::metadata(blob).expect("it is there").len());
    let [small, .., large] = &blobs[..] else { panic!("{blobs:?}") };
    let lost = BTreeSet::from([small, large].map(|blob| {
        damage(blob);
        format!("sha256:{}", blob.file_name().expect("it has a name").to_string_lossy())
    }));
    let at = place("x");
    let mut command = orlop(&garage, &["backup", "create", &at, "--json", "--data"]);
    let ended = command.arg(&data).output().expect("it runs");
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    let taken: Value = serde_json::from_slice(&ended.stdout).expect("it is JSON");
    let named: BTreeSet<String> = serde_json::from_value(taken["lost"].clone()).expect("it is a list");
    assert_eq!(named, lost);
    // The manifest and three of the five blobs.
    let objects = garage.list("x/blobs/sha256/");
    assert_eq!((&taken["addedFiles"], objects.len()), (&4.into(), 4), "{taken}");
    for digest in &lost {
        assert!(!objects.iter().any(|object| object.ends_with(&digest[7..])), "{digest}: {objects:?}");
    }
    assert_eq!(garage.uploads(), 0);
}

#[test]
fn wrong_keys_are_told_of_and_never_told() {
    let garage = Garage::start();
    let folder = TempDir::with_prefix("orlop-s3-").expect("a temporary folder can be made");
    let data = data_with(&folder, 0);
    let at = place("x");
    let wrong = SECRET.replace('b', "c");
    let mut command = orlop(&garage, &["backup", "create", &at, "--data"]);
    let said =
        run_to_failure(command.arg(&data).env("AWS_SECRET_ACCESS_KEY", &wrong).env("RUST_LOG", "trace"));
    assert!(said.contains("AWS_SECRET_ACCESS_KEY where it runs"), "{said}");
    assert!(!said.contains(&wrong), "{said}");
    let mut command = orlop(&garage, &["backup", "list", &at]);
    let said = run_to_failure(command.env_remove("AWS_SECRET_ACCESS_KEY"));
    assert!(said.contains("there are no keys"), "{said}");
    let said = run_to_failure(&mut orlop(&garage, &["backup", "list", "s3://nothing-there/x"]));
    assert!(said.contains("s3://nothing-there/x"), "{said}");

    // By flags and a file; a server says in no log what is in that.
    let keys = folder.path().join("keys");
    let [endpoint, region, id, secret, _] = garage.settings().try_into().expect("there are five");
    let text = format!("[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n", id.1, secret.1);
    fs::write(&keys, text).expect("a file can be written");
    let server = Server::start_at(&data, &[("ORLOP_LOG_LEVEL", "debug")]);
    let keys = keys.display().to_string();
    let flags = ["--s3-endpoint", &endpoint.1, "--s3-region", &region.1, "--s3-credentials", &keys];
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    command.args(["backup", "create", &at, "--data"]).arg(&data).args(flags).env("NO_PROXY", "127.0.0.1");
    let said = run_verbosely(&mut command);
    assert!(said.contains("000001-") && !said.contains(SECRET), "{said}");
    assert!(!server.log().contains(SECRET), "{}", server.log());
    assert!(garage.list("x/snapshots/").len() == 6);
}

#[test]
fn what_the_store_has_lost_is_named_and_the_rest_is_checked() {
    let garage = Garage::start();
    let folder = TempDir::with_prefix("orlop-s3-").expect("a temporary folder can be made");
    let data = data_with(&folder, 1);
    let at = place("x");
    create(&garage, &at, &data);
    let file = garage.largest_file();
    damage(&file);
    let said = run_to_failure(&mut orlop(&garage, &["backup", "verify", &at, "--full", "--json"]));
    let verified: Value = serde_json::from_str(said.lines().next().unwrap_or_default()).expect("it is JSON");
    assert_eq!((&verified["count"], &verified["hashedFiles"]), (&Value::from(1), &Value::from(6)), "{said}");
    let named = verified["problems"][0]["path"].as_str().expect("it has a path");
    assert!(named.starts_with("s3://backups/x/blobs/sha256/"), "{said}");

    // A run that was interrupted behind the third file, and had found this one, is gone on with.
    let objects = garage.list("x/blobs/sha256/");
    let name = |object: &str| object.rsplit('/').next().expect("it has a name").to_owned();
    let begun = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_millis();
    let note = json!({
        "begunAt": u64::try_from(begun).expect("it fits"), "after": name(&objects[2]), "files": 3, "bytes": 1_000,
        "damaged": [name(named)],
    });
    let file = folder.path().join("note");
    fs::write(&file, note.to_string()).expect("it can be written");
    garage.put("x/verify.json", &file);
    let said = run_to_failure(&mut orlop(&garage, &["backup", "verify", &at, "--full", "--json"]));
    let verified: Value = serde_json::from_str(said.lines().next().unwrap_or_default()).expect("it is JSON");
    assert_eq!((&verified["resumed"], &verified["hashedFiles"]), (&true.into(), &6.into()), "{said}");
    assert!(verified["problems"].as_array().expect("a list").iter().any(|it| it["path"] == named), "{said}");
    assert_eq!(garage.list("x/verify.json"), [""; 0], "the next one begins afresh");
}

#[test]
fn a_server_takes_encrypted_snapshots_to_a_bucket_by_the_clock() {
    let garage = Garage::start();
    let folder = TempDir::with_prefix("orlop-s3-").expect("a temporary folder can be made");
    let keys = folder.path().join("keys");
    let [endpoint, region, id, secret, _] = garage.settings().try_into().expect("there are five");
    let text = format!("aws_access_key_id = {}\naws_secret_access_key = {}\n", id.1, secret.1);
    fs::write(&keys, text).expect("a file can be written");
    let (identity, recipient) = crate::backup_age::identity(&folder, "identity");
    let at = place("clock");
    let configuration = format!(
        "[[backup]]\nto = {at:?}\nevery = \"1s\"\nkeep_last = 1\nencrypt_to = [{recipient:?}]\ns3_endpoint = {:?}\ns3_region = {:?}\n\
         s3_credentials = {:?}\n",
        endpoint.1,
        region.1,
        keys.display().to_string(),
    );
    let server = Server::start_configured(&configuration, &[]);
    let end = Instant::now() + Duration::from_secs(60);
    while !garage.list("clock/snapshots/").iter().any(|key| key.contains("/000003-")) {
        assert!(Instant::now() < end, "{}", server.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!server.log().contains(SECRET), "{}", server.log());
    drop(server);
    run(&mut orlop(&garage, &["backup", "verify", &at, "--full", "--identity", &identity]));
    let said = run_to_failure(&mut orlop(&garage, &["backup", "verify", &at, "--full"]));
    assert!(said.contains("--identity"), "{said}");
}
