//! Imports from trees of a distribution registry and from archives that are written by hand, whole ones and ones damaged in each
//! way, and from other registries.
#![expect(clippy::unwrap_used, reason = "in a test, whatever is not as it should be is a failure")]

#[path = "import/archive.rs"]
mod archive;
#[path = "import/archives.rs"]
mod archives;
#[path = "import/exports.rs"]
mod exports;
#[path = "import/registries.rs"]
mod registries;
#[path = "schema1/signer.rs"]
mod signer;
mod support;
#[path = "import/tree.rs"]
mod tree;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use signer::Signer;
use support::{Content, Server, descriptor, image, index, noise, referrer, sha256, sha512};
use tempfile::TempDir;
use tree::Tree;

/// What an import said.
#[derive(Debug)]
struct Imported {
    /// The exit code.
    code: i32,
    /// What was skipped: paths below `docker/registry/v2` and reasons, in the order of the paths.
    skipped: Vec<(String, String)>,
    /// What came; null where it was refused.
    result: Value,
    /// What it complained of.
    errors: String,
}

impl Imported {
    #[track_caller]
    fn count(&self, what: &str) -> u64 {
        self.result[what].as_u64().unwrap_or_else(|| panic!("no {what} in {self:?}"))
    }

    #[track_caller]
    fn clean(self) -> Imported {
        assert_eq!((self.code, &self.skipped[..], self.count("skipped")), (0, &[][..], 0), "{self:?}");
        self
    }
}

/// The program, without what the environment would tell it.
fn orlop(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ORLOP_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

fn command(data: &Path, tree: &Path, arguments: &[&str]) -> Command {
    let mut command = orlop(&["import", "distribution"]);
    command.arg(tree).arg("--data").arg(data).args(arguments);
    command
}

/// Runs an import, and reads what it says.
#[track_caller]
fn said(command: &mut Command) -> Imported {
    imported(&command.arg("--json").output().unwrap())
}

#[track_caller]
fn imported(output: &Output) -> Imported {
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let mut lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let result = match lines.last() {
        Some(last) if last.get("dryRun").is_some() => lines.pop().unwrap(),
        _ => Value::Null,
    };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let below = |path: String| {
        let at = path.rfind("docker/registry/v2/").map_or(0, |at| at + "docker/registry/v2/".len());
        path[at..].to_owned()
    };
    let mut skipped: Vec<_> =
        lines.iter().map(|line| (below(text(&line["path"])), text(&line["reason"]))).collect();
    skipped.sort();
    Imported { code: output.status.code().unwrap(), skipped, result, errors: errors.into_owned() }
}

#[track_caller]
fn import_from(data: &Path, tree: &Path, arguments: &[&str]) -> Imported {
    said(&mut command(data, tree, arguments))
}

#[track_caller]
fn import(server: &Server, tree: &Tree, arguments: &[&str]) -> Imported {
    import_from(&server.data(), tree.root(), arguments)
}

/// Pulls a manifest with all that it names, and compares every byte with the tree.
#[track_caller]
fn pull(server: &Server, tree: &Tree, name: &str, reference: &str, manifest: &Content) {
    let path = format!("/v2/{name}/manifests/{reference}");
    let reply = server.get(&path).header("accept", "*/*").send().expect(200);
    reply
        .expect_body(&manifest.bytes)
        .expect_header("docker-content-digest", manifest.digest())
        .expect_header("content-type", &manifest.media_type);
    let document: Value = serde_json::from_slice(&manifest.bytes).unwrap();
    let blobs = document["layers"].as_array().into_iter().flatten().chain(document.get("config"));
    for blob in blobs {
        let digest = blob["digest"].as_str().unwrap();
        let bytes = fs::read(tree.path(&Tree::data(digest))).unwrap();
        server.get(&format!("/v2/{name}/blobs/{digest}")).send().expect(200).expect_body(&bytes);
    }
}

fn history(server: &Server, name: &str, tag: &str) -> Vec<(String, String)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    command.args(["tag", "history", &format!("{name}:{tag}"), "--json", "--data"]).arg(server.data());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let entries = said["history"].as_array().unwrap_or_else(|| panic!("{said}"));
    entries.iter().map(|entry| (text(&entry["digest"]), text(&entry["at"]))).collect()
}

#[test]
fn every_repository_comes_with_its_images_its_tags_and_their_history() {
    let (tree, server) = (Tree::new(), Server::start());
    let mut images = Vec::new();
    for (seed, name) in (1..).zip(["app", "team/app", "team/app/deep/er", "team"]) {
        images.push((name, tree.tagged(name, "v1", seed)));
    }
    let olds: Vec<Content> = (20..23).map(|seed| tree.image("app", seed)).collect();
    let mut digests: Vec<String> = olds.iter().map(Content::digest).collect();
    // The registry has forgotten this one, and the tag's index still names it.
    digests.insert(1, sha256(b"deleted long ago"));
    tree.tag("app", "latest", &digests);
    let of = |image: &Content, architecture: &str| {
        let mut descriptor = image.descriptor();
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        descriptor
    };
    let inner = index(&[of(&olds[0], "arm64")], &json!({}));
    let outer = index(&[of(&olds[1], "amd64"), inner.descriptor()], &json!({}));
    tree.manifest("app", &outer);
    tree.manifest("app", &inner);
    tree.tag("app", "multi", &[outer.digest()]);
    // Uploads under way, and other files that don't matter.
    tree.write("repositories/app/_uploads/0190a6b0/data", b"half a blob");
    tree.write("repositories/uploading/_uploads/0190a6b0/data", b"half a blob");
    tree.write("repositories/.DS_Store", b"");

    let before = tree.files();
    let imported = import(&server, &tree, &[]).clean();
    let counts = ["repositories", "manifests", "tags", "knownManifests"].map(|what| imported.count(what));
    assert_eq!(counts, [4, 9, 6, 0]);
    assert_eq!((imported.count("blobs"), imported.count("unnamedLayers")), (14, 0));
    for (name, image) in &images {
        pull(&server, &tree, name, "v1", image);
        pull(&server, &tree, name, &image.digest(), image);
    }
    for image in olds.iter().chain([&inner, &outer]) {
        pull(&server, &tree, "app", &image.digest(), image);
    }
    pull(&server, &tree, "app", "multi", &outer);
    let catalog = server.get("/v2/_catalog").send().expect(200);
    assert_eq!(catalog.strings("repositories"), ["app", "team", "team/app", "team/app/deep/er"]);
    let tags = server.get("/v2/app/tags/list").send().expect(200);
    assert_eq!(tags.strings("tags"), ["latest", "multi", "v1"]);
    let history = history(&server, "app", "latest");
    digests.reverse();
    assert_eq!(history.iter().map(|(digest, _)| digest.clone()).collect::<Vec<_>>(), digests);
    assert_eq!(history[3].1, "2020-09-13T12:26:40.000Z", "{history:?}");
    assert!(tree.files() == before, "nothing in the tree is changed");
}

#[test]
fn without_a_server_the_command_imports_by_itself_also_from_the_inner_directory() {
    let (tree, mut server) = (Tree::new(), Server::start());
    let image = tree.tagged("team/app", "v1", 1);
    server.stop();
    import_from(&server.data(), &tree.path(""), &[]).clean();
    server.run_again();
    pull(&server, &tree, "team/app", "v1", &image);
}

#[test]
fn a_directory_without_a_tree_is_refused() {
    let (server, empty) = (Server::start(), TempDir::new().unwrap());
    for directory in [empty.path().to_owned(), empty.path().join("absent")] {
        let output = command(&server.data(), &directory, &[]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("is no store of a distribution registry"), "{said}");
    }
    let pattern = command(&server.data(), empty.path(), &["--repository", "Team"]).output().unwrap();
    assert_eq!(pattern.status.code(), Some(2));
}

/// One way to damage an image `app:v1`, whose layer, manifest and tag the tree has.
struct Damage {
    what: &'static str,
    harm: fn(&Tree, &Parts),
    /// What has to be told of, and why.
    told: fn(&Parts) -> (String, &'static str),
    /// Whether the image comes all the same.
    comes: bool,
}

/// Where the parts of the image lie.
struct Parts {
    layer: String,
    layer_link: String,
    manifest: String,
    manifest_link: String,
    current: String,
    old: String,
}

impl Parts {
    fn of(image: &Content) -> Parts {
        let document: Value = serde_json::from_slice(&image.bytes).unwrap();
        let layer = document["layers"][0]["digest"].as_str().unwrap().to_owned();
        let tag = "repositories/app/_manifests/tags/v1";
        Parts {
            layer_link: format!("repositories/app/_layers/{}/link", layer.replace(':', "/")),
            layer: Tree::data(&layer),
            manifest_link: format!(
                "repositories/app/_manifests/revisions/{}/link",
                image.digest().replace(':', "/")
            ),
            manifest: Tree::data(&image.digest()),
            current: format!("{tag}/current/link"),
            old: format!("{tag}/index/{}/link", sha256(b"old").replace(':', "/")),
        }
    }
}

const DAMAGE: &[Damage] = &[
    Damage {
        what: "the link of a layer is empty",
        harm: |tree, parts| tree.write(&parts.layer_link, b""),
        told: |parts| (parts.layer_link.clone(), "it is empty"),
        comes: false,
    },
    Damage {
        what: "the link of a layer has no digest",
        harm: |tree, parts| tree.write(&parts.layer_link, b"sha256:1234"),
        told: |parts| (parts.layer_link.clone(), "what it has is no digest"),
        comes: false,
    },
    Damage {
        what: "the link of a layer leads to another one",
        harm: |tree, parts| tree.write(&parts.layer_link, sha256(b"another").as_bytes()),
        told: |parts| (parts.layer_link.clone(), "it leads to another blob"),
        comes: false,
    },
    Damage {
        what: "the link of a layer is gone",
        harm: |tree, parts| fs::remove_file(tree.path(&parts.layer_link)).unwrap(),
        told: |parts| (parts.manifest_link.replace("/link", ""), "which can't be had"),
        comes: false,
    },
    Damage {
        what: "the bytes of a layer are gone",
        harm: |tree, parts| fs::remove_file(tree.path(&parts.layer)).unwrap(),
        told: |parts| (parts.layer_link.clone(), "which is not there"),
        comes: false,
    },
    Damage {
        what: "the bytes of a layer are others",
        harm: |tree, parts| tree.write(&parts.layer, &noise(77, 1_000)),
        told: |parts| (parts.layer.clone(), "its bytes have another digest: sha256:"),
        comes: false,
    },
    Damage {
        what: "a layer is too short",
        harm: |tree, parts| tree.write(&parts.layer, b"short"),
        told: |parts| (parts.layer.clone(), "it has 5 bytes, and a manifest says 1000"),
        comes: false,
    },
    Damage {
        what: "a layer is a directory",
        harm: |tree, parts| {
            fs::remove_file(tree.path(&parts.layer)).unwrap();
            fs::create_dir(tree.path(&parts.layer)).unwrap();
        },
        told: |parts| (parts.layer.clone(), "it is no file"),
        comes: false,
    },
    Damage {
        what: "a layer is a symbolic link",
        harm: |tree, parts| {
            fs::rename(tree.path(&parts.layer), tree.root().join("outside")).unwrap();
            symlink(tree.root().join("outside"), tree.path(&parts.layer)).unwrap();
        },
        told: |parts| (parts.layer.clone(), "it is a symbolic link, and none is followed"),
        comes: false,
    },
    Damage {
        what: "the link of a manifest is empty",
        harm: |tree, parts| tree.write(&parts.manifest_link, b""),
        told: |parts| (parts.manifest_link.clone(), "it is empty"),
        comes: false,
    },
    Damage {
        what: "the bytes of a manifest are gone",
        harm: |tree, parts| fs::remove_file(tree.path(&parts.manifest)).unwrap(),
        told: |parts| (parts.manifest_link.clone(), "which is not there"),
        comes: false,
    },
    Damage {
        what: "a byte of a manifest is another",
        harm: |tree, parts| {
            let mut bytes = fs::read(tree.path(&parts.manifest)).unwrap();
            bytes[0] = b' ';
            tree.write(&parts.manifest, &bytes);
        },
        told: |parts| (parts.manifest.clone(), "its bytes have another digest"),
        comes: false,
    },
    Damage {
        what: "the manifest of a tag was deleted",
        harm: |tree, parts| fs::remove_file(tree.path(&parts.manifest_link)).unwrap(),
        told: |parts| (parts.current.clone(), "which the repository doesn't have"),
        comes: false,
    },
    Damage {
        what: "the link of a tag is empty",
        harm: |tree, parts| tree.write(&parts.current, b""),
        told: |parts| (parts.current.clone(), "it is empty"),
        comes: false,
    },
    Damage {
        what: "the link of a tag is gone",
        harm: |tree, parts| fs::remove_file(tree.path(&parts.current)).unwrap(),
        told: |parts| (parts.current.clone(), "so the tag points to nothing"),
        comes: false,
    },
    Damage {
        what: "an entry of a tag's history is empty",
        harm: |tree, parts| tree.write(&parts.old, b""),
        told: |parts| (parts.old.clone(), "it is empty"),
        comes: true,
    },
    Damage {
        what: "a tag has a name that none may have",
        harm: |tree, _| tree.tag("app", "-v2", &[sha256(b"old")]),
        told: |_| ("repositories/app/_manifests/tags/-v2".to_owned(), "not one that a tag may have"),
        comes: true,
    },
    Damage {
        what: "a repository has a name that none may have",
        harm: |tree, _| drop(tree.tagged("Team/app", "v1", 9)),
        told: |_| ("repositories/Team".to_owned(), "not one that a repository may have"),
        comes: true,
    },
    Damage {
        what: "a repository is a symbolic link",
        harm: |tree, _| symlink("app", tree.path("repositories/linked")).unwrap(),
        told: |_| ("repositories/linked".to_owned(), "it is a symbolic link"),
        comes: true,
    },
    Damage {
        what: "a revision has a name that is no digest",
        harm: |tree, _| tree.write("repositories/app/_manifests/revisions/sha256/123/link", b"sha256:123"),
        told: |_| ("repositories/app/_manifests/revisions/sha256/123".to_owned(), "its name is no digest"),
        comes: true,
    },
    Damage {
        what: "a revision is no manifest",
        harm: |tree, _| {
            drop(tree.manifest("app", &Content { media_type: String::new(), bytes: b"{}".to_vec() }));
        },
        told: |_| (Tree::data(&sha256(b"{}")), "no manifest of a kind that is known here"),
        comes: true,
    },
];

#[test]
fn each_damage_is_told_of_with_its_path_and_the_rest_comes() {
    for damage in DAMAGE {
        for mode in [&[][..], &["--dry-run", "--verify"], &["--link", "--verify"]] {
            let (tree, server) = (Tree::new(), Server::start());
            let image = tree.tagged("app", "v1", 1);
            let whole = tree.tagged("app", "whole", 2);
            let other = tree.tagged("other/app", "v1", 3);
            let parts = Parts::of(&image);
            (damage.harm)(&tree, &parts);
            let imported = import(&server, &tree, mode);
            let (path, reason) = (damage.told)(&parts);
            let is_told = |(at, why): &(String, String)| *at == path && why.contains(reason);
            assert!(imported.skipped.iter().any(is_told), "{}: {path}: {imported:#?}", damage.what);
            let paths: std::collections::BTreeSet<_> =
                imported.skipped.iter().map(|(path, _)| path).collect();
            assert_eq!(paths.len(), imported.skipped.len(), "{}: told twice: {imported:#?}", damage.what);
            assert_eq!(imported.code, 3, "{}", damage.what);
            assert_eq!(imported.count("skipped"), imported.skipped.len() as u64);
            if mode.contains(&"--dry-run") {
                server.get("/v2/app/tags/list").send().expect(404);
                continue;
            }
            pull(&server, &tree, "app", "whole", &whole);
            pull(&server, &tree, "other/app", "v1", &other);
            let path = "/v2/app/manifests/v1";
            if damage.comes {
                pull(&server, &tree, "app", "v1", &image);
            } else {
                server.get(path).send().expect(404);
            }
        }
    }
}

#[test]
fn what_is_mended_comes_with_the_next_import() {
    let (tree, server) = (Tree::new(), Server::start());
    let (one, other) = (tree.image("app", 1), tree.image("app", 2));
    let both = index(&[one.descriptor(), other.descriptor()], &json!({}));
    tree.manifest("app", &both);
    tree.tag("app", "v1", &[both.digest()]);
    let layer = Parts::of(&one).layer;
    let bytes = fs::read(tree.path(&layer)).unwrap();
    tree.write(&layer, b"damaged");
    let imported = import(&server, &tree, &[]);
    assert_eq!((imported.code, imported.count("sparseIndexes")), (3, 1), "{imported:?}");
    pull(&server, &tree, "app", "v1", &both);
    pull(&server, &tree, "app", &other.digest(), &other);
    server.get(&format!("/v2/app/manifests/{}", one.digest())).send().expect(404);
    tree.write(&layer, &bytes);
    let imported = import(&server, &tree, &[]).clean();
    assert_eq!((imported.count("manifests"), imported.count("knownManifests")), (1, 2));
    pull(&server, &tree, "app", &one.digest(), &one);
    // The index needs it again.
    server.delete(&format!("/v2/app/manifests/{}", one.digest())).send().expect(405);
}

#[test]
fn an_import_that_is_repeated_copies_nothing_and_takes_what_is_new() {
    let (tree, server) = (Tree::new(), Server::start());
    let images: Vec<Content> = (1..4).map(|seed| tree.image("app", seed)).collect();
    let digests: Vec<String> = images.iter().map(Content::digest).collect();
    for tag in ["moves", "set-here"] {
        tree.tag("app", tag, &digests[..2]);
    }
    assert_eq!(import(&server, &tree, &[]).clean().count("bytes"), 3 * 1_000 + 3 * 10);
    let again = import(&server, &tree, &[]).clean();
    for what in ["manifests", "tags", "blobs", "bytes", "linkedBlobs"] {
        assert_eq!(again.count(what), 0, "{what}");
    }
    assert_eq!((again.count("knownManifests"), again.count("knownTags")), (3, 2));

    tree.tag("app", "moves", &digests);
    tree.tag("app", "set-here", &digests);
    let own = server.push_image("app", "set-here", 9);
    let new = tree.tagged("app", "new", 4);
    let imported = import(&server, &tree, &[]);
    assert_eq!((imported.count("manifests"), imported.count("tags")), (1, 2));
    let (path, reason) = &imported.skipped[0];
    assert_eq!((imported.skipped.len(), imported.code), (1, 3));
    assert!(path.ends_with("tags/set-here/current/link") && reason.contains("and stays"), "{imported:?}");
    pull(&server, &tree, "app", "moves", &images[2]);
    pull(&server, &tree, "app", "new", &new);
    server.get("/v2/app/manifests/set-here").send().expect(200).expect_body(&own.bytes);
    let moved: Vec<String> = history(&server, "app", "moves").into_iter().map(|(digest, _)| digest).collect();
    assert_eq!(moved, [digests[2].clone(), digests[1].clone(), digests[0].clone()]);
}

#[test]
fn a_blob_of_several_repositories_is_copied_once() {
    let (tree, server) = (Tree::new(), Server::start());
    for name in ["a", "b", "c/d"] {
        tree.tagged(name, "v1", 1);
    }
    let imported = import(&server, &tree, &[]).clean();
    assert_eq!((imported.count("blobs"), imported.count("linkedBlobs")), (2, 4));
}

#[test]
fn a_dry_run_changes_nothing_and_a_pattern_leaves_the_others_out() {
    let (tree, server) = (Tree::new(), Server::start());
    for (seed, name) in (1..).zip(["base", "team/app", "team/app/web", "other"]) {
        tree.tagged(name, "v1", seed);
    }
    let patterns = ["--repository", "team/**", "--repository", "base"];
    let imported = import(&server, &tree, &[&["--dry-run"][..], &patterns].concat()).clean();
    assert_eq!((imported.count("repositories"), imported.count("manifests")), (3, 3));
    assert_eq!((imported.count("blobs"), imported.count("tags")), (6, 3));
    let catalog = || server.get("/v2/_catalog").send().expect(200).strings("repositories");
    assert_eq!(catalog(), [""; 0]);
    import(&server, &tree, &patterns).clean();
    assert_eq!(catalog(), ["base", "team/app", "team/app/web"]);
    let imported = import(&server, &tree, &["--dry-run"]).clean();
    assert_eq!((imported.count("manifests"), imported.count("knownManifests")), (1, 3));
    let text = command(&server.data(), tree.root(), &["--dry-run"]).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("manifests        1 would come, 3 were here"), "{text}");
}

#[test]
fn layers_that_no_manifest_names_are_left_out_unless_they_are_wanted() {
    let (tree, server) = (Tree::new(), Server::start());
    tree.tagged("app", "v1", 1);
    let digest = tree.layer("app", b"of a deleted image");
    // What the collection of a distribution registry leaves behind is no damage.
    let collected = tree.layer("app", b"collected");
    fs::remove_file(tree.path(&Tree::data(&collected))).unwrap();
    let imported = import(&server, &tree, &[]).clean();
    assert_eq!((imported.count("unnamedLayers"), imported.count("unnamedBytes")), (1, 18));
    server.head(&format!("/v2/app/blobs/{digest}")).send().expect(404);
    let imported = import(&server, &tree, &["--all-layers"]).clean();
    assert_eq!((imported.count("unnamedLayers"), imported.count("blobs")), (0, 1));
    server.head(&format!("/v2/app/blobs/{digest}")).send().expect(200);
}

#[test]
fn hard_links_share_the_files_and_are_hashed_only_where_that_is_wanted() {
    let (tree, server) = (Tree::new(), Server::start());
    let image = tree.tagged("app", "v1", 1);
    let imported = import(&server, &tree, &["--link"]).clean();
    assert_eq!((imported.count("blobs"), imported.count("copiedBytes")), (2, 0));
    pull(&server, &tree, "app", "v1", &image);
    let layer = Parts::of(&image).layer;
    let hex = layer.split('/').nth(3).unwrap();
    let here = server.data().join(format!("blobs/sha256/{}/{hex}", &hex[..2]));
    assert_eq!(fs::metadata(&here).unwrap().ino(), fs::metadata(tree.path(&layer)).unwrap().ino());
    // The tree may go.
    fs::remove_dir_all(tree.path("")).unwrap();
    let bytes = fs::read(&here).unwrap();
    server.get(&format!("/v2/app/blobs/sha256:{hex}")).send().expect(200).expect_body(&bytes);
}

#[test]
fn an_index_whose_images_were_deleted_comes_as_it_is() {
    let (tree, server) = (Tree::new(), Server::start());
    let here = tree.image("app", 1);
    let gone = image(b"{}", &[b"gone"], &json!({}));
    let sparse = index(&[here.descriptor(), gone.descriptor()], &json!({}));
    tree.manifest("app", &sparse);
    tree.tag("app", "v1", &[sparse.digest()]);
    let imported = import(&server, &tree, &[]).clean();
    assert_eq!(imported.count("sparseIndexes"), 1);
    pull(&server, &tree, "app", "v1", &sparse);
    // What comes back is kept by the index again.
    for blob in [&b"{}"[..], b"gone"] {
        server.push_blob("app", blob);
    }
    server.put_manifest("app", &gone.digest(), &gone).expect(201);
    server.delete(&format!("/v2/app/manifests/{}", gone.digest())).send().expect(405);
}

#[test]
fn referrers_that_a_client_has_listed_under_a_tag_are_referrers_here() {
    let (tree, server) = (Tree::new(), Server::start());
    let subject = tree.tagged("app", "v1", 1);
    tree.layer("app", b"{}");
    let signature = referrer(&subject.descriptor(), "application/vnd.example.signature", "by hand");
    tree.manifest("app", &signature);
    let mut listed = signature.descriptor();
    listed["artifactType"] = json!("application/vnd.example.signature");
    let list = index(&[listed], &json!({}));
    tree.manifest("app", &list);
    tree.tag("app", &subject.digest().replace(':', "-"), &[list.digest()]);
    import(&server, &tree, &[]).clean();
    let referrers = server.get(&format!("/v2/app/referrers/{}", subject.digest())).send().expect(200).json();
    assert_eq!(referrers["manifests"].as_array().unwrap().len(), 1, "{referrers}");
    assert_eq!(referrers["manifests"][0]["digest"], signature.digest());
    // A list keeps nobody from deleting what it lists.
    server.delete(&format!("/v2/app/manifests/{}", signature.digest())).send().expect(202);
}

#[test]
fn a_layer_may_be_named_by_another_algorithm_and_a_foreign_one_may_be_absent() {
    let (tree, server) = (Tree::new(), Server::start());
    let layer = noise(5, 1_000);
    let canonical = tree.blob(&layer);
    let (algorithm, hex) = ("sha512", sha512(&layer).split_off(7));
    tree.write(&format!("repositories/app/_layers/{algorithm}/{hex}/link"), canonical.as_bytes());
    tree.layer("app", b"{}");
    let mut named = descriptor("application/vnd.oci.image.layer.v1.tar", &layer);
    named["digest"] = json!(sha512(&layer));
    let mut foreign = descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", b"foreign");
    foreign["urls"] = json!(["https://example.invalid/layer"]);
    let image = image(b"{}", &[], &json!({"layers": [named, foreign]}));
    tree.manifest("app", &image);
    tree.tag("app", "v1", &[image.digest()]);
    import(&server, &tree, &["--link"]).clean();
    for digest in [sha512(&layer), canonical] {
        server.get(&format!("/v2/app/blobs/{digest}")).send().expect(200).expect_body(&layer);
    }
    server.get("/v2/app/manifests/v1").send().expect(200).expect_body(&image.bytes);
}

#[test]
fn signatures_beside_a_schema_1_manifest_are_served_with_it() {
    let (tree, server) = (Tree::new(), Server::start());
    let layer = tree.layer("app", &noise(1, 1_000));
    let payload = serde_json::to_vec_pretty(&json!({
        "schemaVersion": 1, "name": "app", "tag": "v1", "architecture": "amd64",
        "fsLayers": [{"blobSum": layer}], "history": [{"v1Compatibility": "{}"}],
    }))
    .unwrap();
    let digest = tree.manifest("app", &Content { media_type: String::new(), bytes: payload.clone() });
    tree.tag("app", "v1", std::slice::from_ref(&digest));
    let signers = [Signer::generate(), Signer::generate()];
    let signatures: Vec<String> =
        signers.iter().map(|signer| signer.sign(&payload, "2016-01-01T00:00:00Z")).collect();
    for signature in &signatures {
        tree.signature("app", &digest, signature.as_bytes());
    }
    // One that somebody else's payload was signed with, and one whose bytes are gone.
    let wrong = signers[0].sign(b"{\n   \"other\": 1\n}", "2017-01-01T00:00:00Z");
    tree.signature("app", &digest, wrong.as_bytes());
    let lost = tree.signature("app", &digest, b"lost");
    fs::remove_file(tree.path(&Tree::data(&lost))).unwrap();

    let imported = import(&server, &tree, &[]);
    assert_eq!((imported.count("signatures"), imported.count("skipped"), imported.code), (2, 2, 3));
    assert!(imported.skipped.iter().all(|(path, _)| path.contains("/signatures")), "{imported:?}");
    let reply = server.get("/v2/app/manifests/v1").send().expect(200);
    let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let document =
        reply.expect_header("docker-content-digest", &digest).expect_header("content-type", signed).json();
    let mut ids: Vec<String> = document["signatures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|signature| signature["header"]["jwk"]["kid"].as_str().unwrap().to_owned())
        .collect();
    let mut expected: Vec<String> = signers.iter().map(Signer::key_id).collect();
    ids.sort();
    expected.sort();
    assert_eq!(ids, expected);
    // Another signature comes with the next import.
    let third = Signer::generate();
    tree.signature("app", &digest, third.sign(&payload, "2018-01-01T00:00:00Z").as_bytes());
    assert_eq!(import(&server, &tree, &[]).count("signatures"), 1);
}

#[test]
fn an_unsigned_schema_1_manifest_comes_as_such() {
    let (tree, server) = (Tree::new(), Server::start());
    let layer = tree.layer("app", &noise(1, 1_000));
    let payload = serde_json::to_vec(&json!({
        "schemaVersion": 1, "name": "app", "tag": "v1", "architecture": "amd64",
        "fsLayers": [{"blobSum": layer}], "history": [{"v1Compatibility": "{}"}],
    }))
    .unwrap();
    let digest = tree.manifest("app", &Content { media_type: String::new(), bytes: payload.clone() });
    tree.tag("app", "v1", &[digest]);
    import(&server, &tree, &[]).clean();
    let reply = server.get("/v2/app/manifests/v1").send().expect(200).expect_body(&payload);
    reply.expect_header("content-type", "application/vnd.docker.distribution.manifest.v1+json");
}

#[test]
fn names_that_belong_to_an_upstream_here_or_are_not_served_are_told_of() {
    for (file, outside, told) in [
        ("cache = [\"docker.io\"]\n", "docker.io/library/box", "cached of an upstream"),
        ("scope = [\"team/**\"]\n", "other/box", "serves only team/**, and other/box is not among that"),
    ] {
        let tree = Tree::new();
        tree.tagged(outside, "v1", 1);
        let image = tree.tagged("team/app", "v1", 2);
        let server = Server::with_file(file, &[]);
        for arguments in [&["--dry-run"][..], &[]] {
            let imported = import(&server, &tree, arguments);
            assert_eq!(imported.code, 3, "{imported:?}");
            let [(path, reason)] = &imported.skipped[..] else { panic!("{imported:?}") };
            assert_eq!(path, &format!("repositories/{outside}"));
            assert!(reason.contains(told), "{reason}");
            let counts = ["manifests", "tags", "blobs"].map(|what| imported.count(what));
            assert_eq!(counts, [1, 1, 2], "{imported:?}");
        }
        pull(&server, &tree, "team/app", "v1", &image);
    }
}

/// Begins imports into a stopped server's data, and kills each when so many files more are there; what is there is consistent each time.
#[track_caller]
fn kill_imports(server: &Server, command: impl Fn(&Path) -> Command) {
    let mut kills = 0;
    for byte in noise(2026, 12) {
        let mut killed = command(&server.data()).stdout(Stdio::null()).spawn().unwrap();
        let wanted = files_below(&server.data()) + usize::from(byte % 16);
        while files_below(&server.data()) < wanted && killed.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        kills += usize::from(killed.try_wait().unwrap().is_none());
        killed.kill().unwrap();
        killed.wait().unwrap();
        assert_eq!(server.problems(), [""; 0], "after {kills} kills");
    }
    assert!(kills > 3, "{kills} imports were killed in their midst");
}

fn files_below(data: &Path) -> usize {
    let list = |path: &Path| fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path());
    list(&data.join("blobs/sha256")).map(|prefix| list(&prefix).count()).sum()
}

/// Whatever was under way, the store is consistent, and the next import goes on behind what is there.
#[test]
fn an_import_that_is_killed_anywhere_goes_on() {
    let tree = Tree::new();
    let images: Vec<Content> =
        (0..40).map(|seed| tree.tagged(&format!("app{}", seed % 5), &format!("v{seed}"), seed)).collect();
    let mut server = Server::start();
    server.stop();
    let data = server.data();
    kill_imports(&server, |data| command(data, tree.root(), &[]));
    let blobs = || files_below(&data);
    let before = blobs() as u64;
    let imported = import_from(&data, tree.root(), &[]).clean();
    assert_eq!(imported.count("manifests") + imported.count("knownManifests"), 40);
    assert!(imported.count("blobs") + before <= 2 * 80, "{imported:?}");
    assert_eq!(blobs(), 80);
    server.run_again();
    for (seed, image) in images.iter().enumerate() {
        pull(&server, &tree, &format!("app{}", seed % 5), &format!("v{seed}"), image);
    }
}
