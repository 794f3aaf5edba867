//! Exports, and the way back.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;

use super::support::{index, referrer};
use super::*;

/// What an export said.
struct Exported {
    code: i32,
    bytes: Vec<u8>,
    errors: String,
}

fn export(server: &Server, arguments: &[&str]) -> Exported {
    let output = orlop(&["export"]).args(arguments).arg("--data").arg(server.data()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    Exported { code: output.status.code().unwrap(), bytes: output.stdout, errors }
}

/// The files of a tar archive, all of which have neither time nor owner.
fn unpacked(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
        let is_file = header.entry_type().is_file();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if is_file {
            files.insert(name, bytes);
        }
    }
    files
}

/// The files of a directory.
fn files_of(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut files, mut dirs) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

/// A registry with an image of two platforms, one that is signed, and one with a blob that is named by sha512.
fn stocked() -> (Server, Vec<(String, Content)>) {
    let server = Server::start();
    let image = server.push_image("team/app", "v1", 1);
    let (one, other) = (server.push_image("multi", "", 2), server.push_image("multi", "", 3));
    let of = |image: &Content, architecture: &str| {
        let mut descriptor = image.descriptor();
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        descriptor
    };
    let multi = index(&[of(&one, "riscv64"), of(&other, "s390x")], &json!({}));
    server.put_manifest("multi", "latest", &multi).expect(201);
    server.push_blob("team/app", b"{}");
    let signature = referrer(&image.descriptor(), "application/vnd.example.signature", "by hand");
    server.put_manifest("team/app", &signature.digest(), &signature).expect(201);
    let layer = noise(9, 700);
    server.push_blob("long", &layer);
    server.push_blob("long", b"{\"a\":9}");
    let location = server.begin("long");
    let named = sha512(&layer);
    server.put(&support::with_query(&location, &format!("digest={named}"))).body(&layer).send().expect(201);
    let mut document: Value =
        serde_json::from_slice(&super::image(b"{\"a\":9}", &[&layer], &json!({})).bytes).unwrap();
    document["layers"][0]["digest"] = json!(named);
    let long = Content::json(support::IMAGE, &document);
    server.put_manifest("long", "v1", &long).expect(201);
    let images = vec![
        ("team/app:v1".to_owned(), image),
        ("multi:latest".to_owned(), multi),
        ("long:v1".to_owned(), long),
        (format!("team/app@{}", signature.digest()), signature),
    ];
    (server, images)
}

#[track_caller]
fn assert_same(from: &Server, to: &Server, images: &[(String, Content)]) {
    for (name, image) in images {
        let (name, reference) = name.split_once([':', '@']).unwrap();
        let path = format!("/v2/{name}/manifests/{reference}");
        let reply = to.get(&path).header("accept", "*/*").send().expect(200);
        reply.expect_body(&image.bytes).expect_header("content-type", &image.media_type);
        let document: Value = serde_json::from_slice(&image.bytes).unwrap();
        for blob in document["layers"].as_array().into_iter().flatten().chain(document.get("config")) {
            let path = format!("/v2/{name}/blobs/{}", blob["digest"].as_str().unwrap());
            let bytes = from.get(&path).send().expect(200).body;
            to.get(&path).send().expect(200).expect_body(&bytes);
        }
    }
}

#[test]
fn what_is_exported_comes_back_with_the_same_digests_and_always_as_the_same_bytes() {
    let (server, images) = stocked();
    let dir = TempDir::new().unwrap();
    let (layout, file) = (dir.path().join("layout"), dir.path().join("all.tar"));
    let names = ["team/app", "multi:latest", "long:v1", "--referrers"];
    for to in [&layout, &file] {
        let done = export(&server, &[&["oci", to.to_str().unwrap()][..], &names].concat());
        assert_eq!(done.code, 0, "{}", done.errors);
    }
    let bytes = fs::read(&file).unwrap();
    let piped =
        export(&server, &[&["oci", "-"][..], &["multi", "long:v1", "team/app:v1", "--referrers"]].concat());
    assert!(
        piped.code == 0 && piped.bytes == bytes,
        "the order of the names makes no difference: {}",
        piped.errors
    );
    assert!(unpacked(&bytes) == files_of(&layout), "a directory has the same files as a tar archive");
    for (name, bytes) in unpacked(&bytes).iter().filter(|(name, _)| name.starts_with("blobs/")) {
        let (algorithm, hex) = name["blobs/".len()..].split_once('/').unwrap();
        let computed = if algorithm == "sha256" { sha256(bytes) } else { sha512(bytes) };
        assert_eq!(computed, format!("{algorithm}:{hex}"));
    }
    for path in [&layout, &file] {
        let other = Server::start();
        said(orlop(&["import", "oci"]).arg(path).arg("--data").arg(other.data())).clean();
        assert_same(&server, &other, &images);
        let subject = images[0].1.digest();
        let listed = other.get(&format!("/v2/team/app/referrers/{subject}")).send().expect(200).json();
        assert_eq!(listed["manifests"].as_array().unwrap().len(), 1);
    }
    // Without a server the bytes are the same too.
    let mut server = server;
    server.stop();
    let alone = export(&server, &[&["oci", "-"][..], &names].concat());
    assert!(alone.code == 0 && alone.bytes == bytes, "{}", alone.errors);
    server.run_again();
}

#[test]
fn docker_gets_one_platform_and_several_names() {
    let (server, _) = stocked();
    let image = server.push_image("team/app", "v2", 1);
    let done =
        export(&server, &["docker", "-", "team/app:v1", "team/app:v2", "multi", "--platform", "linux/s390x"]);
    assert_eq!(done.code, 0, "{}", done.errors);
    let files = unpacked(&done.bytes);
    let listed: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2, "one image has two names: {listed}");
    assert_eq!(listed[0]["RepoTags"], json!(["multi:latest"]));
    assert_eq!(listed[1]["RepoTags"], json!(["team/app:v1", "team/app:v2"]));
    let document: Value = serde_json::from_slice(&image.bytes).unwrap();
    assert_eq!(
        listed[1]["Config"],
        document["config"]["digest"].as_str().unwrap().replacen("sha256:", "blobs/sha256/", 1)
    );
    for listed in listed.as_array().unwrap() {
        for name in listed["Layers"].as_array().unwrap().iter().chain([&listed["Config"]]) {
            assert!(files.contains_key(name.as_str().unwrap()), "{name}");
        }
    }
    let refused = export(&server, &["docker", "-", "multi:latest"]);
    assert!(refused.code == 1 && refused.errors.contains("linux/riscv64, linux/s390x"), "{}", refused.errors);
    let artifact =
        server.get(&format!("/v2/team/app/referrers/{}", image.digest())).send().expect(200).json();
    let artifact = format!("team/app@{}", artifact["manifests"][0]["digest"].as_str().unwrap());
    let refused = export(&server, &["docker", "-", &artifact]);
    assert!(refused.code == 1 && refused.errors.contains("export oci"), "{}", refused.errors);
    // Of a layout one platform can be taken too.
    let one = unpacked(&export(&server, &["oci", "-", "multi", "--platform", "linux/s390x"]).bytes);
    let listed: Value = serde_json::from_slice(&one["index.json"]).unwrap();
    assert_eq!(listed["manifests"][0]["mediaType"], support::IMAGE);
    assert_eq!(one.len(), 5);
}

#[test]
fn what_a_sparse_index_lacks_is_told_of() {
    let server = Server::start();
    let mut archive = archive::Archive::default();
    let here = archive.image(1);
    let gone = image(b"{}", &[b"gone"], &json!({}));
    let sparse = index(&[here.descriptor(), gone.descriptor()], &json!({}));
    archive.listed(&sparse, &json!({"org.opencontainers.image.ref.name": "app:v1"}));
    assert_eq!(said_of(&server, archive.unpacked().path()).count("sparseIndexes"), 1);
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("layout");
    let done = export(&server, &["oci", path.to_str().unwrap(), "app:v1", "--json"]);
    let said: Value = serde_json::from_slice(&done.bytes).unwrap();
    assert_eq!((done.code, &said["absent"][0]["digest"]), (0, &json!(gone.digest())), "{}", done.errors);
    let other = Server::start();
    let imported = said_of(&other, &path);
    assert_eq!(imported.count("sparseIndexes"), 1);
    let piped = export(&server, &["oci", "-", "app:v1"]);
    assert!(piped.errors.contains("left out"), "{}", piped.errors);
}

fn said_of(server: &Server, path: &Path) -> Imported {
    said(orlop(&["import", "oci"]).arg(path).arg("--data").arg(server.data())).clean()
}

#[test]
fn nothing_is_replaced_without_force_and_nothing_half_is_left() {
    let (mut server, images) = stocked();
    let dir = TempDir::new().unwrap();
    let names = || {
        let names =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<std::collections::BTreeSet<String>>()
    };
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let dry = export(&server, &["oci", &at("dry.tar"), "team/app:v1", "--dry-run"]);
    assert!(dry.code == 0 && String::from_utf8_lossy(&dry.bytes).contains("would be written"));
    assert_eq!(names().len(), 0);
    fs::write(at("file.tar"), b"mine").unwrap();
    fs::create_dir(at("folder")).unwrap();
    fs::write(at("folder/file"), b"mine").unwrap();
    for to in ["file.tar", "folder"] {
        let refused = export(&server, &["oci", &at(to), "team/app:v1"]);
        assert!(refused.code == 1 && refused.errors.contains("--force"), "{}", refused.errors);
    }
    let refused = export(&server, &["oci", &at("folder"), "team/app:v1", "--force"]);
    assert!(refused.code == 1 && refused.errors.contains("not replaced"), "{}", refused.errors);
    assert_eq!(fs::read(at("folder/file")).unwrap(), b"mine");
    for _ in 0..2 {
        for to in ["file.tar", "layout"] {
            let done = export(&server, &["oci", &at(to), "team/app:v1", "--force"]);
            assert_eq!(done.code, 0, "{}", done.errors);
        }
    }
    assert_eq!(names().into_iter().collect::<Vec<_>>(), ["file.tar", "folder", "layout"]);
    for absent in ["team/other", "team/app:v9"] {
        let refused = export(&server, &["oci", &at("new"), absent]);
        assert!(refused.code == 1 && refused.errors.contains("there is no team/"), "{}", refused.errors);
    }
    // A blob whose bytes have changed on the disk ends the archive before it is one.
    let document: Value = serde_json::from_slice(&images[0].1.bytes).unwrap();
    let hex = document["layers"][0]["digest"].as_str().unwrap()[7..].to_owned();
    let blob = server.data().join(format!("blobs/sha256/{}/{hex}", &hex[..2]));
    let bytes = fs::read(&blob).unwrap();
    let mut bent = bytes.clone();
    bent[3] ^= 1;
    fs::write(&blob, &bent).unwrap();
    for (format, to) in [("oci", "bent"), ("oci", "bent.tar"), ("docker", "bent.tar")] {
        let broken = export(&server, &[format, &at(to), "team/app:v1"]);
        assert!(broken.code == 1 && broken.errors.contains("log"), "{}", broken.errors);
    }
    assert!(server.log().contains("is damaged on the disk"));
    assert_eq!(names().len(), 3);
    server.stop();
    let broken = export(&server, &["oci", &at("bent"), "team/app:v1"]);
    assert!(broken.code == 1 && broken.errors.contains("orlop verify"), "{}", broken.errors);
    fs::write(&blob, &bytes).unwrap();
    server.run_again();
}
