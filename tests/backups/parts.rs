//! Restoring some repositories or tags, into a registry that serves and into one that doesn't.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::command::{Backups, Said};
use crate::rounds::Random;
use crate::support::{Content, Server, image, index, referrer};
use crate::{Scene, all_below, problems, scene};

const SIGNATURE: &str = "application/vnd.example.signature";

/// Restores into the registry of this server.
fn restore(scene: &Scene, arguments: &[&str]) -> Said {
    let data = scene.server.data();
    scene.backups.run("restore", &[&["latest", "--data", data.to_str().unwrap()], arguments].concat())
}

#[track_caller]
fn other(server: &Server, arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    let output = command.args(arguments).arg("--json").arg("--data").arg(server.data()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(output.stdout.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap())
        .unwrap()
}

/// Deletes repositories for good.
#[track_caller]
fn delete(server: &Server, names: &[&str]) {
    for name in names {
        other(server, &["repository", "delete", name]);
    }
    other(server, &["purge", "--all"]);
}

#[track_caller]
fn pulls(server: &Server, name: &str, reference: &str, manifest: &Content) {
    let reply = server.get(&format!("/v2/{name}/manifests/{reference}")).header("accept", "*/*").send();
    reply.expect(200).expect_body(&manifest.bytes).expect_header("content-type", &manifest.media_type);
    let document: Value = serde_json::from_slice(&manifest.bytes).unwrap();
    for blob in document["layers"].as_array().into_iter().flatten().chain(document.get("config")) {
        let digest = blob["digest"].as_str().unwrap();
        let reply = server.get(&format!("/v2/{name}/blobs/{digest}")).send().expect(200);
        assert_eq!(reply.header("content-length"), blob["size"].to_string());
    }
}

fn is_gone(server: &Server, name: &str, reference: &str) {
    server.get(&format!("/v2/{name}/manifests/{reference}")).send().expect(404);
}

/// An image for two platforms under a tag, with a referrer of one of them and a signature as cosign keeps them.
struct Signed {
    index: Content,
    platforms: [Content; 2],
    attestation: Content,
    cosigned: Content,
    cosign_tag: String,
}

fn push_signed(server: &Server, name: &str, tag: &str, seed: u64) -> Signed {
    let platforms = [server.push_image(name, "", seed), server.push_image(name, "", seed + 1)];
    let index = index(&[platforms[0].descriptor(), platforms[1].descriptor()], &json!({}));
    server.put_manifest(name, tag, &index).expect(201);
    server.push_blob(name, b"{}");
    let attestation = referrer(&platforms[1].descriptor(), SIGNATURE, "of a platform");
    server.put_manifest(name, &attestation.digest(), &attestation).expect(201);
    let cosigned = image(b"{}", &[b"{}"], &json!({"annotations": {"signs": index.digest()}}));
    let cosign_tag = format!("{}.sig", index.digest().replace(':', "-"));
    server.put_manifest(name, &cosign_tag, &cosigned).expect(201);
    Signed { index, platforms, attestation, cosigned, cosign_tag }
}

#[track_caller]
fn has_signed(server: &Server, name: &str, tag: &str, signed: &Signed) {
    pulls(server, name, tag, &signed.index);
    for platform in &signed.platforms {
        pulls(server, name, &platform.digest(), platform);
    }
    let referrers = server.get(&format!("/v2/{name}/referrers/{}", signed.platforms[1].digest())).send();
    assert_eq!(referrers.expect(200).json()["manifests"][0]["digest"], signed.attestation.digest());
    pulls(server, name, &signed.cosign_tag, &signed.cosigned);
}

#[test]
fn repositories_come_back_whole_into_a_registry_that_serves_and_the_others_stay() {
    let scene = scene();
    let Scene { server, backups, .. } = &scene;
    let former = server.push_image("team/app", "latest", 1);
    let latest = server.push_image("team/app", "latest", 2);
    let untagged = server.push_image("team/app", "", 3);
    let signed = push_signed(server, "team/box", "v1", 10);
    let gone = server.push_image("other", "v1", 30);
    let history = other(server, &["tag", "history", "team/app:latest"]);
    backups.create(&server.data());
    delete(server, &["team/app", "team/box", "other"]);
    let kept = server.push_image("kept", "v1", 40);

    let said = restore(&scene, &["--repository", "team/**"]).ok();
    let said = said.prints(&[&format!("+ team/app:latest {}", latest.digest())]);
    let said = said.prints(&[&format!("+ team/box:v1 {}", signed.index.digest())]);
    said.prints(&[
        "repositories     2",
        "tags             3 came, 0 were here",
        "conflicts        0",
        "failed           0",
    ]);
    for (reference, image) in
        [("latest", &latest), (&*former.digest(), &former), (&untagged.digest(), &untagged)]
    {
        pulls(server, "team/app", reference, image);
    }
    has_signed(server, "team/box", "v1", &signed);
    is_gone(server, "other", "v1");
    pulls(server, "kept", "v1", &kept);
    let entries = |history: &Value| -> Vec<(Value, Value)> {
        let entries = history["history"].as_array().unwrap().iter();
        entries.map(|entry| (entry["digest"].clone(), entry["at"].clone())).collect()
    };
    assert_eq!(entries(&other(server, &["tag", "history", "team/app:latest"])), entries(&history));

    // Everything else too; what is here isn't brought again.
    let json = restore(&scene, &["--repository", "**", "--json"]).ok().json();
    assert_eq!(
        (&json["tags"], &json["knownTags"], &json["blobs"]),
        (&1.into(), &3.into(), &2.into()),
        "{json}"
    );
    pulls(server, "other", "v1", &gone);
    let json = restore(&scene, &["--repository", "**", "--json"]).ok().json();
    assert_eq!(
        (&json["tags"], &json["manifests"], &json["bytes"]),
        (&0.into(), &0.into(), &0.into()),
        "{json}"
    );
}

#[test]
fn a_tag_comes_with_its_platforms_and_signatures_and_nothing_else_comes() {
    let scene = scene();
    let Scene { server, backups, .. } = &scene;
    let signed = push_signed(server, "team/app", "v1.0", 10);
    server.push_image("team/app", "v2", 1);
    server.push_image("team/app-2", "v1.0", 2);
    backups.create(&server.data());
    delete(server, &["team/app", "team/app-2"]);
    let json = restore(&scene, &["--tag", "team/app:v1.*", "--json"]).ok().json();
    assert_eq!(
        (&json["tags"], &json["manifests"], &json["repositories"]),
        (&2.into(), &5.into(), &1.into()),
        "{json}"
    );
    has_signed(server, "team/app", "v1.0", &signed);
    is_gone(server, "team/app", "v2");
    is_gone(server, "team/app-2", "v1.0");
    // What matches nothing is no failure, and says so by its counts.
    restore(&scene, &["--tag", "team/app:v3"])
        .ok()
        .prints(&["repositories     0", "tags             0 came"]);
    for wrong in [["--tag", "team/app"], ["--repository", "Team"], ["--tag", "a:b:c"]] {
        restore(&scene, &wrong).code(2);
    }
}

#[test]
fn a_tag_that_points_elsewhere_stays_unless_it_is_forced_and_its_history_has_both() {
    let scene = scene();
    let Scene { server, backups, .. } = &scene;
    let then = server.push_image("app", "v1", 1);
    let same = server.push_image("app", "same", 3);
    backups.create(&server.data());
    let now = server.push_image("app", "v1", 2);
    let told = format!("! app:v1 points to {} here, and to {} in the snapshot", now.digest(), then.digest());
    for arguments in [&["--tag", "app:*"][..], &["--repository", "app", "--dry-run"]] {
        let said = restore(&scene, arguments).code(3);
        let said = said.prints(&[&told]).prints(&[&format!("= app:same {}", same.digest())]);
        said.prints(&["conflicts        1"]);
        pulls(server, "app", "v1", &now);
    }
    let moved = format!("~ app:v1 {} -> {}", now.digest(), then.digest());
    restore(&scene, &["--tag", "app:v1", "--force", "--dry-run"]).ok().prints(&[&moved, "1 would come"]);
    pulls(server, "app", "v1", &now);
    restore(&scene, &["--tag", "app:v1", "--force"]).ok().prints(&[&moved]);
    pulls(server, "app", "v1", &then);
    pulls(server, "app", &now.digest(), &now);
    let history = other(server, &["tag", "history", "app:v1"]);
    let digests: Vec<_> =
        history["history"].as_array().unwrap().iter().map(|entry| entry["digest"].clone()).collect();
    assert_eq!(digests, [then.digest(), now.digest(), then.digest()].map(Value::from));
}

#[test]
fn a_dry_run_says_what_would_come_and_changes_nothing() {
    let scene = scene();
    let Scene { server, backups, .. } = &scene;
    let signed = push_signed(server, "app", "v1", 10);
    let kept = server.push_image("kept", "v1", 1);
    backups.create(&server.data());
    delete(server, &["app"]);
    let before = all_below(&server.data().join("blobs"));
    let said = restore(&scene, &["--repository", "**", "--dry-run"]).ok();
    let said = said.prints(&[&format!("+ app:v1 {}", signed.index.digest())]);
    let said = said.prints(&[&format!("= kept:v1 {}", kept.digest())]);
    // The blobs of the deleted repository are there until their lease ends, but no repository has them.
    said.prints(&[
        "tags             2 would come, 1 were here",
        "manifests        5 would come",
        "blobs            5 would come",
    ]);
    is_gone(server, "app", "v1");
    assert_eq!(all_below(&server.data().join("blobs")), before);
    assert!(!server.data().join("restoring.parts").exists());
}

#[test]
fn without_a_server_parts_come_into_a_directory_that_is_there_and_into_a_fresh_one() {
    let mut scene = scene();
    let image = scene.server.push_image("app", "v1", 1);
    scene.backups.create(&scene.server.data());
    delete(&scene.server, &["app"]);
    scene.server.stop();
    restore(&scene, &["--tag", "app:v1"]).ok();
    let fresh = scene.folder.path().join("deeper/fresh");
    scene.backups.run("restore", &["1", "--repository", "app", "--data", fresh.to_str().unwrap()]).ok();
    assert_eq!(problems(&fresh), [""; 0]);
    scene.server.run_again();
    pulls(&scene.server, "app", "v1", &image);
    scene.server.stop();
    fs::remove_dir_all(scene.server.data()).unwrap();
    fs::rename(&fresh, scene.server.data()).unwrap();
    scene.server.run_again();
    pulls(&scene.server, "app", "v1", &image);
}

#[test]
fn an_image_whose_bytes_are_damaged_or_gone_has_no_tag_and_the_others_come() {
    let scene = scene();
    let Scene { server, backups, .. } = &scene;
    let images: Vec<_> = (0..5).map(|seed| server.push_image("app", &format!("v{seed}"), seed)).collect();
    backups.create(&server.data());
    delete(server, &["app"]);
    other(server, &["gc"]);
    let file = |digest: &str| backups.0.join("blobs").join(digest.replace(':', "/"));
    let layer = |image: &Content| {
        let document: Value = serde_json::from_slice(&image.bytes).unwrap();
        file(document["layers"][0]["digest"].as_str().unwrap())
    };
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[7] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let harmed = [layer(&images[0]), layer(&images[1]), file(&images[2].digest()), file(&images[3].digest())];
    flip(&harmed[0]);
    fs::remove_file(&harmed[1]).unwrap();
    flip(&harmed[2]);
    fs::remove_file(&harmed[3]).unwrap();
    let said = restore(&scene, &["--tag", "app:*", "--json"]).code(3);
    let lines: BTreeMap<String, Value> = said
        .out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["name"].is_string())
        .map(|line| (line["name"].as_str().unwrap().to_owned(), line))
        .collect();
    for (at, path) in harmed.iter().enumerate() {
        let line = &lines[&format!("app:v{at}")];
        assert!(line["reason"].as_str().unwrap().contains(path.to_str().unwrap()), "{line}");
        is_gone(server, "app", &format!("v{at}"));
    }
    assert_eq!(said.json()["failed"], 4, "{said:#?}");
    pulls(server, "app", "v4", &images[4]);
}

#[test]
fn what_the_configuration_forbids_is_told_of_each_by_its_tag() {
    let file = "scope = [\"fixed/**\", \"small/**\"]\n[[immutable]]\nrepositories = [\"fixed/**\"]\n\
                [[quota]]\nrepositories = [\"small/**\"]\nmax_size = \"700\"\n";
    let scene = Scene { server: Server::with_file(file, &[]), ..scene() };
    let Scene { server, backups, .. } = &scene;
    server.push_image("fixed/app", "v1", 1);
    server.push_image("small/app", "v1", 2);
    // What the backup has comes from a registry without these rules.
    let source = Server::start();
    source.push_image("fixed/app", "v1", 3);
    source.push_image("fixed/app", "new", 4);
    source.push_image("small/app", "v2", 5);
    source.push_image("small/app", "v3", 6);
    source.push_image("other/app", "v1", 7);
    backups.create(&source.data());
    let said = restore(&scene, &["--repository", "**", "--force"]).code(3);
    let said = said.prints(&["! fixed/app:v1: the tag v1 is immutable here"]);
    let said = said.prints(&["! small/app:v", "may hold 700 bytes"]);
    let said = said.prints(&["+ fixed/app:new "]);
    let outside =
        "! other/app:v1: this registry serves only fixed/**, small/**, and other/app is not among that";
    said.prints(&[outside]);
    for arguments in [&["--tag", "other/**:v1"][..], &["--tag", "other/**:v1", "--dry-run"]] {
        restore(&scene, arguments).code(3).prints(&[outside, "tags             0", "failed           1"]);
        let json = restore(&scene, &[arguments, &["--json"]].concat()).code(3).json();
        let counts = ["tags", "manifests", "blobs", "bytes"].map(|what| json[what].clone());
        assert_eq!(counts, [0, 0, 0, 0].map(Value::from), "{json}");
    }
}

#[test]
fn content_of_every_kind_comes_back_as_it_was() {
    let mut scene = scene();
    // Schema 1 with signatures, content named by sha512, unknown media types, referrers.
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/schema-3.tar.gz");
    let data = scene.folder.path().join("schema-3");
    fs::create_dir(&data).unwrap();
    let unpacked = Command::new("tar").arg("-xzf").arg(fixture).arg("-C").arg(&data).status().unwrap();
    assert!(unpacked.success());
    scene.backups.create(&data);
    let said = restore(&scene, &["--repository", "**"]).ok();
    said.prints(&["conflicts        0", "failed           0"]);
    scene.server.stop();
    let open = |data: &Path| orlop::registry::Registry::open(orlop::registry::Options::new(data)).unwrap();
    let (then, now) = (open(&data), open(&scene.server.data()));
    let names = then.namespace().repositories(None, 100).unwrap().items;
    assert_eq!(names, now.namespace().repositories(None, 100).unwrap().items);
    let (mut manifests, mut signatures) = (0, 0);
    for name in names {
        let [then, now] = [&then, &now].map(|registry| registry.namespace().repository(&name));
        let tags = then.tags().list(None, 100).unwrap().items;
        assert_eq!(tags, now.tags().list(None, 100).unwrap().items);
        for tag in tags {
            let reference = orlop::oci::Reference::Tag(tag);
            let [then, now] =
                [&then, &now].map(|repository| repository.manifests().get(&reference).unwrap().unwrap());
            assert_eq!((then.0.digest, then.0.canonical, then.1), (now.0.digest, now.0.canonical, now.1));
        }
        for manifest in then.manifests().all(None, 100).unwrap().items {
            let reference = orlop::oci::Reference::Digest(manifest.canonical);
            let [one, other] =
                [&then, &now].map(|repository| repository.manifests().get(&reference).unwrap().unwrap());
            assert_eq!((one.0.media_type, one.1), (other.0.media_type, other.1));
            let [one, other] = [&then, &now]
                .map(|repository| repository.signatures().get(&manifest.canonical).unwrap().unwrap().len());
            assert_eq!(one, other);
            let [some, others] = [&then, &now].map(|repository| {
                repository.referrers().list(&manifest.canonical, None, None).unwrap().descriptors
            });
            assert_eq!(some, others);
            manifests += 1;
            signatures += one;
        }
    }
    assert!(manifests >= 7 && signatures >= 7, "{manifests} {signatures}");
}

/// However often the server dies, a tag leads to a whole image or isn't there; and a collection that runs all the time takes
/// nothing of what came.
#[test]
fn a_server_that_is_killed_while_parts_come_has_whole_images_or_none_and_goes_on() {
    let mut scene = scene();
    let mut random = Random::new(9);
    let images = crate::push_images(&scene.server, 0..30);
    scene.backups.create(&scene.server.data());
    delete(&scene.server, &["app0", "app1", "app2"]);
    let arguments = ["latest", "--repository", "app*"];
    let mut failed = 0;
    for _ in 0..6 {
        let data = scene.server.data();
        let data = data.to_str().unwrap();
        let mut restoring = scene.backups.command("restore", &[&arguments[..], &["--data", data]].concat());
        let mut restoring = restoring.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut collecting = Command::new(env!("CARGO_BIN_EXE_orlop"));
        let mut collecting = collecting
            .args(["gc", "--data", data])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let wanted = random.below(12);
        let tags = || -> usize {
            let name = "/v2/app0/tags/list";
            let reply = scene.server.get(name).send();
            if reply.get("content-length").is_none() { 0 } else { reply.text().matches("\"v").count() }
        };
        while (tags() as u64) < wanted && restoring.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        scene.server.kill();
        failed += u64::from(!restoring.wait().unwrap().success());
        collecting.wait().unwrap();
        scene.server.run_again();
        for (seed, image) in &images {
            let path = format!("/v2/app{}/manifests/v{seed}", seed % 3);
            let reply = scene.server.get(&path).send().expect_one_of(&[200, 404]);
            if reply.text().len() == image.bytes.len() {
                pulls(&scene.server, &format!("app{}", seed % 3), &format!("v{seed}"), image);
            }
        }
    }
    assert!(failed > 0);
    let data = scene.server.data();
    Backups::run(&scene.backups, "restore", &[&arguments[..], &["--data", data.to_str().unwrap()]].concat())
        .ok();
    other(&scene.server, &["gc"]);
    crate::assert_serves(&scene.server, &images);
    for (seed, image) in &images {
        pulls(&scene.server, &format!("app{}", seed % 3), &format!("v{seed}"), image);
    }
}
