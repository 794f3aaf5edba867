//! Commands that change what is stored: beside a server and without one, by the same code.

use serde_json::Value;

use super::running::{Running, run, text};
use super::{TempDir, client, digest_of, push_blob, tempdir};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Pushes an image of one layer under a tag; returns its digest.
fn push_image(server: &Running, layer: &str, tag: &str) -> String {
    push_blob(server, b"{}");
    push_blob(server, layer.as_bytes());
    let descriptor = |bytes: &str| serde_json::json!({"mediaType": "a/b", "digest": digest_of(bytes.as_bytes()), "size": bytes.len()});
    let image = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor("{}"), "layers": [descriptor(layer)],
    });
    let image = image.to_string();
    let put = client().put(server.url(&format!("/v2/team/app/manifests/{tag}"))).body(image.clone());
    assert_eq!(put.header("content-type", MANIFEST).send().unwrap().status(), 201);
    digest_of(image.as_bytes())
}

/// Runs a command that has to succeed, and returns what it printed.
#[track_caller]
fn said(directory: &TempDir, arguments: &[&str]) -> String {
    let output = run(directory.path(), arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
fn refused(directory: &TempDir, arguments: &[&str]) -> String {
    super::failure(directory.path(), arguments)
}

fn json(directory: &TempDir, arguments: &[&str]) -> Value {
    serde_json::from_str(&said(directory, &[arguments, &["--json"]].concat())).unwrap()
}

/// Does `work` beside a running server and once more without one.
fn beside_and_without(work: impl Fn(&TempDir, &str, &str)) {
    for is_running in [true, false] {
        let directory = tempdir().unwrap();
        let server = Running::start(directory.path(), &[]);
        let first = push_image(&server, "one", "v1");
        let second = push_image(&server, "two", "v1");
        if is_running {
            work(&directory, &first, &second);
            server.stop();
        } else {
            server.stop();
            work(&directory, &first, &second);
        }
        assert!(said(&directory, &["verify"]).contains("Everything is in order"));
    }
}

#[test]
fn a_tag_goes_back_and_comes_back() {
    beside_and_without(|directory, first, second| {
        let history = said(directory, &["tag", "history", "team/app:v1"]);
        let lines: Vec<&str> = history.lines().collect();
        assert!(lines[1].contains(second) && lines[2].contains(first), "{history}");
        let status = json(directory, &["status"]);
        assert_eq!(
            (&status["manifests"], &status["tags"], &status["untagged"]),
            (&2.into(), &1.into(), &1.into())
        );
        assert!(
            status["untaggedBytes"].as_u64().unwrap() > 3,
            "its manifest, and the layer that only it names"
        );
        let back = said(directory, &["tag", "rollback", "team/app:v1"]);
        assert!(back.contains(&format!("team/app:v1 points to {first} again")), "{back}");
        let back = said(directory, &["tag", "rollback", "team/app:v1", "--to", "1"]);
        assert!(back.contains(second), "{back}");
        assert!(
            refused(directory, &["tag", "rollback", "team/app:v1", "--to", "77"]).contains("no such entry")
        );
        assert!(refused(directory, &["tag", "history", "team/app:v7"]).contains("no such entry"));
    });
}

#[test]
fn a_repository_is_deleted_listed_undeleted_and_renamed() {
    beside_and_without(|directory, _, _| {
        assert!(said(directory, &["deleted"]).contains("Nothing was deleted"));
        said(directory, &["repository", "delete", "team/app"]);
        let listed = said(directory, &["deleted", "team/app"]);
        assert!(listed.contains("repository") && listed.contains("team/app"), "{listed}");
        assert_eq!(json(directory, &["deleted"])["deletions"][0]["kind"], "repository");
        assert!(refused(directory, &["repository", "delete", "team/app"]).contains("no such repository"));
        let back = said(directory, &["undelete", "team/app"]);
        assert_eq!(back, "The repository team/app is back.\n");
        assert!(refused(directory, &["undelete", "team/app"]).contains("nothing of that name"));
        assert!(
            refused(directory, &["repo", "rename", "team/app", "team/app"]).contains("team/app is taken")
        );
        said(directory, &["repo", "rename", "team/app", "team/new"]);
        assert!(said(directory, &["tag", "history", "team/new:v1"]).contains("sha256:"));
        assert!(refused(directory, &["repo", "rename", "team/app", "x"]).contains("no such repository"));
    });
}

#[test]
fn a_purge_and_a_collection_free_the_space_that_no_lease_holds() {
    let directory = tempdir().unwrap();
    std::fs::write(
        directory.path().join("orlop.toml"),
        "collection.lease = \"1s\"\ncollection.every = \"1h\"\n",
    )
    .unwrap();
    let server = Running::start(directory.path(), &[]);
    let digest = push_image(&server, "one", "v1");
    let deleted = client().delete(server.url(&format!("/v2/team/app/manifests/{digest}"))).send().unwrap();
    assert_eq!(deleted.status(), 202);
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    let plan = json(&directory, &["gc", "--dry-run"]);
    assert_eq!(plan["dryRun"], true);
    assert_eq!(
        (&plan["links"], &plan["blobs"], &plan["kept"]["deletions"]),
        (&2.into(), &0.into(), &1.into())
    );
    assert_eq!(plan["kept"]["roots"][0]["by"], "deletion");
    assert_eq!(json(&directory, &["gc", "--dry-run"]), plan, "nothing has gone");
    assert_eq!(said(&directory, &["purge", "--all"]), "1 can't come back any more.\n");
    let gone = json(&directory, &["gc"]);
    assert_eq!((&gone["blobs"], &gone["bytes"], &gone["deletions"]), (&2.into(), &5.into(), &1.into()));
    let printed = said(&directory, &["gc"]);
    assert!(printed.contains("gone") && printed.contains("0 deletions that can be undone"), "{printed}");
    assert!(refused(&directory, &["purge", "team/app:v1"]).contains("nothing of that name"));
    assert_eq!(run(directory.path(), &["purge"]).status.code(), Some(2));
    server.stop();
}

#[test]
fn sizes_are_shown_by_repository_and_by_tag() {
    beside_and_without(|directory, _, _| {
        let store = json(directory, &["du"]);
        assert_eq!(store["parts"][0]["name"], "team/app");
        assert_eq!(store["parts"][0]["bytes"], store["total"]["bytes"]);
        let printed = said(directory, &["du"]);
        let total = printed.lines().find(|line| line.starts_with("total")).unwrap();
        assert!(total.ends_with(" 1"), "the one tag: {printed}");
        let tag = json(directory, &["du", "team/app:v1"]);
        assert_eq!((&tag["parts"][0]["name"], &tag["parts"][0]["blobs"]), (&"v1".into(), &2.into()));
        let printed = said(directory, &["du", "team/app"]);
        assert!(printed.lines().next().unwrap().contains("UNIQUE"), "{printed}");
        assert!(said(directory, &["du", "--after", "team/app"]).lines().count() == 2);
        assert!(refused(directory, &["du", "nobody"]).contains("no such repository"));
        assert_eq!(run(directory.path(), &["du", "NOBODY"]).status.code(), Some(2));
    });
}

#[test]
fn repositories_and_tags_are_listed_by_pattern() {
    beside_and_without(|directory, first, second| {
        let listed = json(directory, &["ls"]);
        assert_eq!((&listed["name"], &listed["tags"]), (&"team/app".into(), &1.into()), "{listed}");
        assert_eq!((&listed["manifests"], &listed["cached"]), (&2.into(), &false.into()), "{listed}");
        assert!(listed["lastPush"].as_str().unwrap().starts_with("20"), "{listed}");
        let shown = said(directory, &["ls"]);
        assert!(shown.starts_with("REPOSITORY") && shown.contains("team/app"), "{shown}");
        assert!(said(directory, &["ls", "team/*"]).contains("team/app"));
        assert_eq!(said(directory, &["ls", "other/**"]), "No repository matches.\n");
        assert_eq!(said(directory, &["ls", "other/**", "--json"]), "");

        let tag = json(directory, &["tags", "team/app"]);
        assert_eq!((&tag["tag"], &tag["digest"]), (&"v1".into(), &second.into()), "{tag}");
        assert!(said(directory, &["tags", "team/app", "v*"]).contains(second));
        assert_eq!(said(directory, &["tags", "team/app", "w*"]), "No tag matches.\n");
        assert!(refused(directory, &["tags", "nobody"]).contains("no such repository"));
        assert_eq!(run(directory.path(), &["ls", "Team"]).status.code(), Some(2));
        assert!(!shown.contains(first));
    });
}

#[test]
fn an_image_is_shown_with_its_parts_and_its_tags_history() {
    beside_and_without(|directory, first, second| {
        let image = json(directory, &["inspect", "team/app:v1"]);
        assert_eq!((&image["digest"], &image["mediaType"]), (&second.into(), &MANIFEST.into()), "{image}");
        assert_eq!(image["tags"], serde_json::json!(["v1"]));
        assert_eq!(
            (&image["config"]["size"], &image["layers"][0]["size"]),
            (&2.into(), &3.into()),
            "{image}"
        );
        assert_eq!(image["layers"][0]["present"], true);
        let history: Vec<&str> = image["history"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["digest"].as_str().unwrap())
            .collect();
        assert_eq!(history, [second, first]);
        let again = json(directory, &["inspect", "team/app:v1"]);
        assert_eq!(again["pulls"], image["pulls"], "to look is no pull");
        let shown = said(directory, &["inspect", "team/app:v1"]);
        for part in [second, first, "LAYER", "CONFIG", "THE TAG'S HISTORY", &digest_of(b"two")] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let untagged = json(directory, &["inspect", &format!("team/app@{first}")]);
        assert_eq!(
            (&untagged["tags"], &untagged["history"]),
            (&serde_json::json!([]), &serde_json::json!([]))
        );
        assert!(refused(directory, &["inspect", "team/app"]).contains("orlop tags team/app"));
        assert!(refused(directory, &["inspect", "team/app:v2"]).contains("no such manifest"));
    });
}

#[test]
fn platforms_and_what_is_about_an_image_are_shown_and_what_is_missing_is_marked() {
    let directory = tempdir().unwrap();
    let server = Running::start(directory.path(), &["--set", "manifests.sparse_indexes=true"]);
    let image = push_image(&server, "one", "v1");
    let put = |reference: &str, kind: &str, body: &Value| {
        let url = server.url(&format!("/v2/team/app/manifests/{reference}"));
        let put = client().put(url).header("content-type", kind).body(body.to_string());
        assert_eq!(put.send().unwrap().status(), 201, "{body}");
    };
    let entry = |digest: &str, architecture: &str| {
        serde_json::json!({"mediaType": MANIFEST, "digest": digest, "size": 7,
            "platform": {"os": "linux", "architecture": architecture, "variant": "v8"}})
    };
    let absent = digest_of(b"absent");
    let index = "application/vnd.oci.image.index.v1+json";
    put(
        "all",
        index,
        &serde_json::json!({"schemaVersion": 2, "mediaType": index,
            "manifests": [entry(&image, "arm64"), entry(&absent, "amd64")], "annotations": {"who": "anna"}}),
    );
    let about = serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "a/signature",
        "config": {"mediaType": "a/b", "digest": digest_of(b"{}"), "size": 2}, "layers": [],
        "subject": {"mediaType": MANIFEST, "digest": image, "size": 7}});
    put("sig", MANIFEST, &about);
    put(&format!("{}.att", image.replace(':', "-")), MANIFEST, &about);
    let shown = said(&directory, &["inspect", "team/app:all"]);
    for part in ["linux/arm64/v8", "linux/amd64/v8", &absent, "not here", "who = anna"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let shown = said(&directory, &["inspect", "team/app:v1"]);
    assert!(shown.contains("a/signature") && shown.contains(".att"), "{shown}");
    assert!(said(&directory, &["inspect", "team/app:sig"]).contains(&format!("about            {image}")));
    server.stop();
}

#[test]
fn what_is_removed_is_told_before_and_comes_back() {
    beside_and_without(|directory, first, second| {
        let would = json(directory, &["rm", "team/app", "--dry-run"]);
        assert_eq!(
            (&would["dryRun"], &would["tags"], &would["manifests"]),
            (&true.into(), &1.into(), &2.into())
        );
        // Nobody can be asked here.
        assert!(refused(directory, &["rm", "team/app"]).contains("--yes"));
        assert!(said(directory, &["ls"]).contains("team/app"));
        assert!(said(directory, &["rm", "team/app", "--yes"]).contains("orlop undelete team/app"));
        assert_eq!(said(directory, &["ls"]), "There are no repositories.\n");
        said(directory, &["undelete", "team/app"]);

        said(directory, &["rm", "team/app:v1", "-n"]);
        assert!(said(directory, &["tags", "team/app"]).contains("v1"));
        assert!(said(directory, &["rm", "team/app:v1"]).contains("the tag alone"));
        assert_eq!(said(directory, &["tags", "team/app"]), "It has no tags.\n");
        assert_eq!(json(directory, &["inspect", &format!("team/app@{second}")])["digest"], second);
        said(directory, &["undelete", "team/app:v1"]);

        let gone = json(directory, &["rm", &format!("team/app@{second}")]);
        assert_eq!((&gone["kind"], &gone["tags"]), (&"manifest".into(), &1.into()), "{gone}");
        assert!(refused(directory, &["inspect", "team/app:v1"]).contains("no such manifest"));
        said(directory, &["undelete", &format!("team/app@{second}")]);
        assert!(said(directory, &["tags", "team/app"]).contains(second));
        for wrong in ["nobody", "team/app:v2", &format!("team/app@{}", digest_of(b"no"))] {
            refused(directory, &["rm", wrong, "--yes"]);
            refused(directory, &["rm", wrong, "--dry-run"]);
        }
        assert!(json(directory, &["inspect", &format!("team/app@{first}")])["digest"] == *first);
    });
}

/// A page has a thousand entries.
#[test]
fn lists_of_any_length_come_whole() {
    let directory = tempdir().unwrap();
    let server = Running::start(directory.path(), &[]);
    let index = "application/vnd.oci.image.index.v1+json";
    let empty = serde_json::json!({"schemaVersion": 2, "mediaType": index, "manifests": []}).to_string();
    // Side by side, so that they share commits.
    let pushing = &|numbers: std::ops::Range<usize>| {
        let client = client();
        for number in numbers {
            for image in [format!("r{number:04}/manifests/v1"), format!("tagged/manifests/v{number:04}")] {
                let put = client.put(server.url(&format!("/v2/{image}"))).header("content-type", index);
                assert_eq!(put.body(empty.clone()).send().unwrap().status(), 201);
            }
        }
    };
    std::thread::scope(|scope| {
        for part in 0..15 {
            scope.spawn(move || pushing(part * 67..(part + 1) * 67));
        }
    });
    let listed = |arguments: &[&str]| said(&directory, arguments).lines().count();
    assert_eq!((listed(&["ls"]), listed(&["ls", "r*"]), listed(&["ls", "r100*"])), (1_007, 1_006, 6));
    assert_eq!((listed(&["ls", "--json"]), listed(&["tags", "tagged", "--json"])), (1_006, 1_005));
    assert_eq!((listed(&["tags", "tagged"]), listed(&["tags", "tagged", "v1*"])), (1_006, 6));
    assert_eq!(
        (listed(&["du"]), listed(&["du", "tagged"]), listed(&["du", "--after", "r0999"])),
        (1_008, 1_007, 8)
    );
    server.stop();
    assert_eq!((listed(&["ls"]), listed(&["tags", "tagged"])), (1_007, 1_006));
}
