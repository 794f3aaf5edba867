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
        let tag = json(directory, &["du", "team/app:v1"]);
        assert_eq!((&tag["parts"][0]["name"], &tag["parts"][0]["blobs"]), (&"v1".into(), &2.into()));
        let printed = said(directory, &["du", "team/app"]);
        assert!(printed.lines().next().unwrap().contains("UNIQUE"), "{printed}");
        assert!(said(directory, &["du", "--after", "team/app"]).lines().count() == 2);
        assert!(refused(directory, &["du", "nobody"]).contains("no such repository"));
        assert_eq!(run(directory.path(), &["du", "NOBODY"]).status.code(), Some(2));
    });
}
