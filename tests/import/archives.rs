//! Imports from archives: OCI layouts in a directory and as tar, and what `docker save` writes.

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::archive::{Archive, place};
use super::support::{index, referrer};
use super::*;

/// Imports by `orlop import <kind> <path>`.
#[track_caller]
fn import_by(server: &Server, kind: &str, path: &Path, arguments: &[&str]) -> Imported {
    said(orlop(&["import", kind]).arg(path).arg("--data").arg(server.data()).args(arguments))
}

/// The same with the archive on standard input.
#[track_caller]
fn import_input(server: &Server, kind: &str, bytes: &[u8], arguments: &[&str]) -> Imported {
    let mut command = orlop(&["import", kind, "-", "--data"]);
    command.arg(server.data()).args(arguments).arg("--json").stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writing = std::thread::spawn(move || drop(input.write_all(&bytes)));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    imported(&output)
}

/// Pulls a manifest with all that it names, and compares every byte with the archive.
#[track_caller]
fn pull_of(server: &Server, archive: &Archive, name: &str, reference: &str, manifest: &Content) {
    let path = format!("/v2/{name}/manifests/{reference}");
    let reply = server.get(&path).header("accept", "*/*").send().expect(200);
    reply.expect_body(&manifest.bytes).expect_header("docker-content-digest", manifest.digest());
    let document: Value = serde_json::from_slice(&manifest.bytes).unwrap();
    for blob in document["layers"].as_array().into_iter().flatten().chain(document.get("config")) {
        let digest = blob["digest"].as_str().unwrap();
        let (_, bytes) = archive.files.iter().find(|(name, _)| *name == place(digest)).unwrap();
        server.get(&format!("/v2/{name}/blobs/{digest}")).send().expect(200).expect_body(bytes);
    }
}

/// A layout with an image of two platforms, a signature of it that has no name, and images with names of all kinds.
fn layout() -> (Archive, Vec<(&'static str, &'static str, Content)>) {
    let mut archive = Archive::default();
    let (one, other) = (archive.image(1), archive.image(2));
    let multi = index(&[one.descriptor(), other.descriptor()], &json!({}));
    archive.listed(&multi, &json!({"org.opencontainers.image.ref.name": "team/multi:v1"}));
    let signature = referrer(&multi.descriptor(), "application/vnd.example.signature", "by hand");
    archive.blob(b"{}");
    archive.listed(&signature, &json!({}));
    let docker = archive.image(3);
    let names = json!({"io.containerd.image.name": "docker.io/library/box:1", "org.opencontainers.image.ref.name": "1"});
    archive.listed(&docker, &names);
    let hosted = archive.named("registry.example.org:5000/a/b:v2", 4);
    let images = vec![("team/multi", "v1", multi), ("box", "1", docker), ("a/b", "v2", hosted)];
    (archive, images)
}

#[test]
fn a_layout_comes_from_a_directory_a_tar_archive_or_a_pipe_and_then_not_again() {
    let (archive, images) = layout();
    let (dir, packed) = (archive.unpacked(), TempDir::new().unwrap());
    let (server, piped) = (Server::start(), Server::start());
    let first = import_by(&server, "oci", dir.path(), &[]).clean();
    let counts = ["repositories", "manifests", "tags", "blobs"].map(|what| first.count(what));
    assert_eq!(counts, [3, 6, 3, 9], "{first:?}");
    let again = import_by(&server, "oci", &archive.packed(&packed), &[]).clean();
    let counts = ["manifests", "tags", "blobs", "knownTags"].map(|what| again.count(what));
    assert_eq!(counts, [0, 0, 0, 3], "{again:?}");
    import_input(&piped, "oci", &archive.tar(), &[]).clean();
    for server in [&server, &piped] {
        for (name, tag, image) in &images {
            pull_of(server, &archive, name, tag, image);
        }
        let subject = images[0].2.digest();
        let referrers = server.get(&format!("/v2/team/multi/referrers/{subject}")).send().expect(200).json();
        assert_eq!(
            referrers["manifests"].as_array().unwrap().len(),
            1,
            "what has no name follows its subject"
        );
    }
    assert_eq!(
        fs::read_dir(piped.data())
            .unwrap()
            .filter(|entry| { entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".tmp") })
            .count(),
        0,
        "nothing of the pipe is left"
    );
}

#[test]
fn without_a_server_the_command_imports_an_archive_by_itself() {
    let (archive, images) = layout();
    let mut server = Server::start();
    server.stop();
    import_input(&server, "oci", &archive.tar(), &[]).clean();
    server.run_again();
    pull_of(&server, &archive, "team/multi", "v1", &images[0].2);
}

#[test]
fn an_image_gets_the_name_that_is_asked_for() {
    let mut archive = Archive::default();
    let image = archive.named("v1.0", 1);
    let (dir, server) = (archive.unpacked(), Server::start());
    let unnamed = import_by(&server, "oci", dir.path(), &[]);
    assert_eq!((unnamed.code, unnamed.skipped.len()), (3, 1));
    assert!(unnamed.skipped[0].1.contains("--as NAME"), "{unnamed:?}");
    import_by(&server, "oci", dir.path(), &["--as", "team/app"]).clean();
    import_by(&server, "oci", dir.path(), &["--as", "team/app:other"]).clean();
    import_by(&server, "oci", dir.path(), &["--as", "app", "--below", "old/place"]).clean();
    for (name, tag) in [("team/app", "v1.0"), ("team/app", "other"), ("old/place/app", "v1.0")] {
        pull_of(&server, &archive, name, tag, &image);
    }
    let (several, _) = layout();
    let refused = import_by(&server, "oci", several.unpacked().path(), &["--as", "app:v1"]);
    assert!(refused.code == 1 && refused.errors.contains("without a tag"), "{refused:?}");
}

#[test]
fn patterns_leave_images_out_and_a_dry_run_changes_nothing() {
    let (archive, _) = layout();
    let (dir, server) = (archive.unpacked(), Server::start());
    let dry = import_by(&server, "oci", dir.path(), &["--dry-run"]).clean();
    let counts = ["manifests", "tags", "blobs"].map(|what| dry.count(what));
    assert_eq!(counts, [6, 3, 9], "{dry:?}");
    let catalog = || server.get("/v2/_catalog").send().expect(200).strings("repositories");
    assert_eq!(catalog(), [""; 0]);
    let some =
        import_by(&server, "oci", dir.path(), &["--repository", "a/*", "--repository", "box", "--tag", "v*"]);
    assert_eq!((some.count("tags"), catalog()), (1, vec!["a/b".to_owned()]), "{some:?}");
}

#[test]
fn a_tag_that_was_pushed_here_stays_and_one_of_an_import_follows() {
    let (mut old, mut new) = (Archive::default(), Archive::default());
    old.named("app:v1", 1);
    let moved = new.named("app:v1", 2);
    let server = Server::start();
    import_by(&server, "oci", old.unpacked().path(), &[]).clean();
    import_by(&server, "oci", new.unpacked().path(), &[]).clean();
    pull_of(&server, &new, "app", "v1", &moved);
    assert_eq!(history(&server, "app", "v1").len(), 2);
    let pushed = server.push_image("app", "v1", 3);
    for arguments in [&["--dry-run"][..], &[]] {
        let stays = import_by(&server, "oci", new.unpacked().path(), arguments);
        assert!(stays.code == 3 && stays.skipped[0].1.contains("stays"), "{stays:?}");
    }
    server
        .head("/v2/app/manifests/v1")
        .send()
        .expect(200)
        .expect_header("docker-content-digest", pushed.digest());
    import_by(&server, "oci", new.unpacked().path(), &["--move-tags"]).clean();
    pull_of(&server, &new, "app", "v1", &moved);
}

#[test]
fn quotas_and_immutable_tags_hold_for_imports() {
    let (mut first, mut second, mut other) = (Archive::default(), Archive::default(), Archive::default());
    first.named("app:v1", 1);
    second.named("app:v1", 2);
    other.named("small/app:v1", 3);
    let file = "[[immutable]]\nrepositories = [\"app\"]\ntags = [\"v*\"]\n[[quota]]\nrepositories = [\"small/**\"]\nmax_size = \"1 KiB\"\n";
    let server = Server::with_file(file, &[]);
    import_by(&server, "oci", first.unpacked().path(), &[]).clean();
    let refused = import_by(&server, "oci", second.unpacked().path(), &["--move-tags"]);
    assert!(refused.code == 3 && refused.skipped[0].1.contains("immutable"), "{refused:?}");
    let refused = import_by(&server, "oci", other.unpacked().path(), &[]);
    assert!(refused.code == 3 && format!("{refused:?}").contains("quota"), "{refused:?}");
    server.head("/v2/small/app/manifests/v1").send().expect(404);
}

/// What is done to an archive, what is told of it, and whether the other image comes.
type Damage = (&'static str, fn(&mut Archive, &Content), &'static str);

#[test]
fn each_damage_of_a_layout_is_told_of_by_its_path_and_the_rest_comes() {
    fn layer(image: &Content) -> String {
        let document: Value = serde_json::from_slice(&image.bytes).unwrap();
        place(document["layers"][0]["digest"].as_str().unwrap())
    }
    fn file<'a>(archive: &'a mut Archive, name: &str) -> &'a mut Vec<u8> {
        &mut archive.files.iter_mut().find(|(own, _)| own == name).unwrap().1
    }
    let damages: [Damage; 7] = [
        (
            "a layer is missing",
            |archive, image| archive.files.retain(|(name, _)| *name != layer(image)),
            "can't be had",
        ),
        (
            "a layer has other bytes",
            |archive, image| file(archive, &layer(image))[5] ^= 1,
            "have another digest",
        ),
        ("a layer is longer", |archive, image| file(archive, &layer(image)).push(0), "it has 1001 bytes"),
        (
            "a manifest is missing",
            |archive, image| {
                archive.files.retain(|(name, _)| *name != place(&image.digest()));
            },
            "is not there",
        ),
        (
            "a manifest has other bytes",
            |archive, image| {
                for (name, bytes) in &mut archive.files {
                    if *name == place(&image.digest()) {
                        bytes.push(b'\n');
                    }
                }
            },
            "have another digest",
        ),
        (
            "a manifest is huge",
            |archive, image| {
                for (name, bytes) in &mut archive.files {
                    if *name == place(&image.digest()) {
                        bytes.resize(9 << 20, b' ');
                    }
                }
            },
            "more than 8388608 bytes",
        ),
        (
            "a name leads out",
            |archive, _| archive.add("../../etc/cron.d/x", b"x"),
            "leads out of the archive",
        ),
    ];
    for (what, damage, reason) in damages {
        let mut archive = Archive::default();
        let (sound, broken) = (archive.named("sound:v1", 1), archive.named("broken:v1", 2));
        let mut broken_one = archive.clone();
        damage(&mut broken_one, &broken);
        let server = Server::start();
        let imported = import_input(&server, "oci", &broken_one.tar(), &[]);
        assert_eq!(imported.code, 3, "{what}: {imported:?}");
        assert!(imported.skipped.iter().any(|(_, told)| told.contains(reason)), "{what}: {imported:?}");
        pull_of(&server, &archive, "sound", "v1", &sound);
        if !reason.contains("leads out") {
            server.head("/v2/broken/manifests/v1").send().expect(404);
        }
        // What is mended comes.
        import_input(&server, "oci", &archive.tar(), &[]).clean();
        pull_of(&server, &archive, "broken", "v1", &broken);
    }
}

#[test]
fn nothing_outside_of_an_archive_is_read() {
    let mut archive = Archive::default();
    let image = archive.named("app:v1", 1);
    let (dir, outside, server) = (archive.unpacked(), TempDir::new().unwrap(), Server::start());
    let blob = dir.path().join(place(&image.digest()));
    fs::rename(&blob, outside.path().join("manifest")).unwrap();
    symlink(outside.path().join("manifest"), &blob).unwrap();
    let imported = import_by(&server, "oci", dir.path(), &[]);
    assert!(imported.code == 3 && imported.skipped[0].1.contains("symbolic link"), "{imported:?}");
    // The same within a tar archive, whose links lead nowhere but into itself.
    let mut builder = tar::Builder::new(archive.tar());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "blobs/link", outside.path().join("manifest")).unwrap();
    let bytes = [builder.into_inner().unwrap()].concat();
    let hidden = import_input(&server, "oci", &bytes, &[]);
    assert_eq!(hidden.code, 0, "what is behind the end of an archive isn't read: {hidden:?}");
}

#[test]
fn what_is_no_archive_is_refused_with_what_to_do() {
    let (server, empty) = (Server::start(), TempDir::new().unwrap());
    let mut whole = Archive::default();
    whole.named("app:v1", 1);
    let tar = whole.tar();
    let mut saved = Archive::default();
    saved.saved(&["app:v1"], &[b"layer"]);
    for (kind, bytes, reason) in [
        ("oci", &b"nothing"[..], "no tar archive"),
        ("oci", &[&b"\x1f\x8b\x08"[..], &[0; 600]].concat(), "gunzip -c"),
        ("docker", &tar, "no manifest.json"),
        ("oci", &saved.tar(), "orlop import docker"),
        ("docker", &saved.tar()[..1024], "there is no manifest.json"),
        ("oci", &tar[..tar.len() / 2], "ends in the middle"),
        ("oci", b"", "no tar archive"),
    ] {
        let refused = import_input(&server, kind, bytes, &[]);
        assert!(refused.code == 1 && refused.errors.contains(reason), "{reason}: {refused:?}");
    }
    for (path, reason) in
        [(empty.path().to_owned(), "no oci-layout"), (empty.path().join("absent"), "there is no /")]
    {
        let refused = import_by(&server, "oci", &path, &[]);
        assert!(refused.code == 1 && refused.errors.contains(reason), "{refused:?}");
    }
}

#[test]
fn what_docker_save_writes_comes_with_the_same_digest_each_time() {
    let mut archive = Archive::default();
    let (base, top) = (noise(1, 3_000), noise(2, 2_000));
    archive.saved(&["team/app:v1", "registry.example.org/team/app:latest"], &[&base, &top]);
    let config = archive.saved(&["box:1"], &[&base]);
    let (server, other) = (Server::start(), Server::start());
    let first = import_input(&server, "docker", &archive.tar(), &[]).clean();
    assert_eq!(["manifests", "tags", "blobs"].map(|what| first.count(what)), [2, 3, 4], "{first:?}");
    let again = import_input(&server, "docker", &archive.tar(), &[]).clean();
    assert_eq!(["manifests", "tags", "blobs"].map(|what| again.count(what)), [0, 0, 0], "{again:?}");
    let dir = TempDir::new().unwrap();
    import_by(&other, "docker", &archive.packed(&dir), &[]).clean();
    for (name, tag) in [("team/app", "v1"), ("team/app", "latest"), ("box", "1")] {
        let digests = [&server, &other].map(|server| {
            let reply = server.head(&format!("/v2/{name}/manifests/{tag}")).send().expect(200);
            reply.header("docker-content-digest").to_owned()
        });
        assert_eq!(digests[0], digests[1]);
    }
    let manifest = server.get("/v2/box/manifests/1").send().expect(200);
    let manifest =
        manifest.expect_header("content-type", "application/vnd.docker.distribution.manifest.v2+json").json();
    assert_eq!(manifest["layers"][0]["digest"], sha256(&base), "the digest that the configuration has");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar");
    assert_eq!(manifest["config"]["digest"], sha256(&config));
    server.get(&format!("/v2/box/blobs/{}", sha256(&base))).send().expect(200).expect_body(&base);
}

#[test]
fn a_layer_that_docker_has_linked_to_another_image_comes_too() {
    let layer = noise(1, 900);
    let mut archive = Archive::default();
    archive.saved(&["one:1"], &[&layer]);
    let hex = sha256(&layer).split_off(7);
    let mut builder = tar::Builder::new(Vec::new());
    let mut listed = Value::Null;
    for (name, bytes) in archive.whole() {
        if name == "manifest.json" {
            listed = serde_json::from_slice(&bytes).unwrap();
            listed[0]["Layers"] = json!(["other/layer.tar"]);
            continue;
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "other/layer.tar", format!("../{hex}/layer.tar")).unwrap();
    let listed = serde_json::to_vec(&listed).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(listed.len() as u64);
    builder.append_data(&mut header, "manifest.json", &listed[..]).unwrap();
    let server = Server::start();
    import_input(&server, "docker", &builder.into_inner().unwrap(), &[]).clean();
    server.get(&format!("/v2/one/blobs/sha256:{hex}")).send().expect(200).expect_body(&layer);
}

#[test]
fn an_archive_of_docker_25_keeps_its_digests() {
    let mut archive = Archive::default();
    let image = archive.image(1);
    archive.listed(&image, &json!({"io.containerd.image.name": "docker.io/library/box:1"}));
    let mut both = archive.clone();
    both.saved(&["box:1"], &[b"another way to read it"]);
    let server = Server::start();
    import_input(&server, "docker", &both.tar(), &[]).clean();
    pull_of(&server, &archive, "box", "1", &image);
}

#[test]
fn a_damaged_image_of_docker_is_told_of_and_the_others_come() {
    let mut archive = Archive::default();
    archive.saved(&["sound:1"], &[&noise(1, 500)]);
    archive.saved(&["broken:1"], &[&noise(2, 500)]);
    let damages: [fn(&mut Archive); 3] = [
        |archive| drop(archive.files.pop()),
        |archive| archive.files.last_mut().unwrap().1[7] ^= 1,
        |archive| {
            let at = archive.files.len() - 2;
            archive.files[at].1.push(b' ');
        },
    ];
    for damage in damages {
        let mut broken_one = archive.clone();
        damage(&mut broken_one);
        let server = Server::start();
        let imported = import_input(&server, "docker", &broken_one.tar(), &[]);
        assert!(imported.code == 3 && !imported.skipped.is_empty(), "{imported:?}");
        server.head("/v2/sound/manifests/1").send().expect(200);
        server.head("/v2/broken/manifests/1").send().expect(404);
    }
}

/// Whatever was under way, the store is consistent, and the next import goes on behind what is there.
#[test]
fn an_import_of_an_archive_that_is_killed_anywhere_goes_on() {
    let mut archive = Archive::default();
    let images: Vec<Content> =
        (0..40).map(|seed| archive.named(&format!("app{}:v{seed}", seed % 5), seed)).collect();
    let (dir, mut server) = (archive.unpacked(), Server::start());
    server.stop();
    kill_imports(&server, |data| {
        let mut command = orlop(&["import", "oci"]);
        command.arg(dir.path()).arg("--data").arg(data);
        command
    });
    server.run_again();
    import_by(&server, "oci", dir.path(), &[]).clean();
    for (seed, image) in images.iter().enumerate() {
        pull_of(&server, &archive, &format!("app{}", seed % 5), &format!("v{seed}"), image);
    }
}
