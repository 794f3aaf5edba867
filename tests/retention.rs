//! Runs of the retention policies: over a registry as a library has it, and by the real program.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::future::ready;
use std::ops::ControlFlow;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use orlop::clock::{Clock, ManualClock, Timestamp};
use orlop::config::Input;
use orlop::maintenance::retention::Retention;
use orlop::maintenance::{ACTOR, Decided, RunOptions, RunReport, run};
use orlop::oci::{Digest, DigestAlgorithm, Reference, Tag};
use orlop::registry::{
    Actor, DeletedKind, DeletedName, Depth, ManifestPut, Options, Registry, Repository, TagState,
};
use serde_json::{Value, json};
use support::{IMAGE, INDEX, Server};
use tempfile::TempDir;

const DAY: u64 = 86_400_000;

/// How much is pushed while policies run.
const PUSHES: u64 = 1_000;

/// A registry whose time is day 1000 at first, and policies out of a configuration file.
struct Store {
    registry: Registry,
    clock: Arc<ManualClock>,
    retention: Retention,
    _dir: TempDir,
}

impl Store {
    fn with(file: &str, change: impl FnOnce(&mut Options)) -> Store {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("orlop.toml");
        std::fs::write(&path, file).unwrap();
        let config = Input { file: Some(path), ..Input::default() }.load().unwrap().config;
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000 * DAY)));
        let mut options = orlop::server::registry_options(&config);
        options.data = dir.path().join("data");
        options.clock = clock.clone();
        change(&mut options);
        let registry = Registry::open(options).unwrap();
        Store { registry, clock, retention: config.retention.policies, _dir: dir }
    }

    fn new(file: &str) -> Store {
        Store::with(file, |_| {})
    }

    fn repository(&self, name: &str) -> Repository {
        self.registry.namespace().repository(&name.parse().unwrap())
    }

    fn on_day(&self, day: u64) {
        self.clock.set(Timestamp::from_millis(day * DAY));
    }

    async fn run(&self, dry_run: bool) -> (RunReport, Vec<Decided>) {
        let mut decided = Vec::new();
        let options = RunOptions { repository: None, dry_run };
        let report = run(&self.registry, &self.retention, &options, |one| {
            decided.push(one);
            ready(ControlFlow::Continue(()))
        });
        (report.await.unwrap(), decided)
    }

    fn verify(&self) {
        let report = self.registry.verify(Depth::Full).unwrap();
        assert_eq!((report.problems, report.orphans), (vec![], vec![]));
    }
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn put(content: &str, reference: Reference) -> ManifestPut {
    ManifestPut {
        payload: Bytes::copy_from_slice(content.as_bytes()),
        media_type: "application/vnd.example.thing".parse().unwrap(),
        reference,
        tags: Vec::new(),
        actor: Actor::new("ann"),
    }
}

async fn push(repository: &Repository, content: &str, name: &str) -> Digest {
    repository.manifests().put(put(content, Reference::Tag(tag(name)))).await.unwrap().canonical
}

async fn push_untagged(repository: &Repository, content: &str) -> Digest {
    let digest = Digest::of(DigestAlgorithm::Sha256, content.as_bytes());
    repository.manifests().put(put(content, Reference::Digest(digest))).await.unwrap().canonical
}

fn tags_of(repository: &Repository) -> Vec<(String, Digest)> {
    let tags = repository.tags();
    let all = tags.scroll().map(|tag| tag.unwrap());
    all.map(|tag| (tag.to_string(), tags.get(&tag).unwrap().unwrap().canonical)).collect()
}

/// What goes, as text.
fn deleted(decided: &[Decided]) -> Vec<String> {
    let gone = decided.iter().filter(|one| one.deletes);
    gone.map(|one| {
        let subject = one.tag.as_ref().map_or_else(|| one.digest.to_string(), ToString::to_string);
        format!("{} {subject} {}", one.repository, one.reason)
    })
    .collect()
}

const BUILDS: &str = "
    [[immutable]]
    repositories = [\"team/**\"]
    tags = [\"v*\"]

    [[retention.policy]]
    name = \"builds\"
    repositories = [\"team/**\"]
    keep_last = 2
    keep_matching = [\"latest\"]
    delete_others = true
";

#[tokio::test(flavor = "multi_thread")]
async fn a_run_deletes_exactly_what_the_dry_run_said_and_all_of_it_comes_back() {
    let store = Store::new(BUILDS);
    let (app, other) = (store.repository("team/app"), store.repository("other"));
    let mut first = None;
    for (day, name) in ["v1", "latest", "b1", "b2", "b3", "b4"].into_iter().enumerate() {
        store.on_day(1_000 + day as u64);
        first.get_or_insert(push(&app, name, name).await);
        push(&other, name, name).await;
    }
    let follower = format!("sha256-{}.sig", first.unwrap().hex());
    push(&app, "signature", &follower).await;
    let before = (tags_of(&app), tags_of(&other));

    let (dry, said) = store.run(true).await;
    assert_eq!((tags_of(&app), tags_of(&other)), before, "a dry run changes nothing");
    assert!(app.deletions().list(None, 10).unwrap().items.is_empty());
    let reasons: Vec<(String, &str, &str)> = said
        .iter()
        .map(|one| {
            let name = one.tag.as_ref().unwrap().to_string();
            (name, if one.deletes { "delete" } else { "keep" }, one.reason.as_str())
        })
        .collect();
    let row = |name: &str, decision, reason| (name.to_owned(), decision, reason);
    assert_eq!(
        reasons,
        [
            row("b1", "delete", "builds: delete_others = true"),
            row("b2", "delete", "builds: delete_others = true"),
            row("b3", "keep", "builds: keep_last = 2"),
            row("b4", "keep", "builds: keep_last = 2"),
            row("latest", "keep", "builds: keep_matching = \"latest\""),
            row(&follower, "keep", "follows the image that it accompanies"),
            row("v1", "keep", "the tag is immutable"),
        ]
    );
    assert_eq!((dry.repositories, dry.kept_tags, dry.deleted_tags), (1, 5, 2));

    let (report, done) = store.run(false).await;
    assert_eq!((report, &done), (dry, &said), "the run does what was said");
    let kept: Vec<(String, Digest)> =
        before.0.iter().filter(|(name, _)| !["b1", "b2"].contains(&name.as_str())).cloned().collect();
    assert_eq!((tags_of(&app), tags_of(&other)), (kept, before.1.clone()));
    store.verify();

    // Who and why stands beside each, and each comes back.
    let deletions = app.deletions().list(None, 10).unwrap().items;
    assert_eq!(deletions.len(), 2);
    for deletion in deletions {
        assert_eq!((deletion.kind, deletion.actor.as_str()), (DeletedKind::Tag, ACTOR));
        assert_eq!(deletion.reason.as_deref(), Some("builds: delete_others = true"));
        let name = DeletedName::Tag(deletion.tag.unwrap());
        app.deletions().undelete(&name, &Actor::new("ben")).await.unwrap();
    }
    assert_eq!(tags_of(&app), before.0);
    store.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_n_are_counted_over_all_pages_and_a_run_that_ended_early_is_completed_by_the_next() {
    let store = Store::new(BUILDS);
    let repository = store.repository("team/many");
    let digest = push_untagged(&repository, "many").await;
    let names: Vec<Tag> = (0..1_200).map(|at| tag(&format!("b{at:04}"))).collect();
    for names in names.chunks(100) {
        let set = names.iter().map(|name| {
            let tags = repository.tags();
            async move { tags.tag(&digest, name, &Actor::new("ann")).await.unwrap() }
        });
        futures_util::future::join_all(set).await;
    }
    // All of one time, so that their names decide; the ones to keep stand on the last page.
    let mut seen = 0;
    let options = RunOptions::default();
    let report = run(&store.registry, &store.retention, &options, |_| {
        seen += 1;
        ready(if seen == 500 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    let report = report.await.unwrap();
    assert!(report.ended_early && report.deleted_tags == 500, "{report:?}");
    let left = tags_of(&repository).len();
    assert!((684..=700).contains(&left), "{left} are left: none but those of one step more may go");
    let (report, _) = store.run(false).await;
    assert!(!report.ended_early);
    let left: Vec<String> = tags_of(&repository).into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, ["b1198", "b1199"]);
    store.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pushed_again_since_it_was_decided_stays() {
    let store = Store::new(BUILDS);
    let repository = store.repository("team/app");
    push(&repository, "one", "b1").await;
    push(&repository, "one", "v1").await;
    let expiry = repository.expiry();
    let states = expiry.tags(None, 10).unwrap().items;
    let [stale, immutable] = &states[..] else { panic!("{states:?}") };
    assert!(immutable.is_immutable && !stale.is_immutable);
    store.on_day(1_001);
    push(&repository, "one", "b1").await;
    let actor = Actor::new(ACTOR);
    assert!(!expiry.expire_tag(stale, &actor, "x").await.unwrap(), "the same again, at another time");
    let fresh = expiry.tags(None, 1).unwrap().items.remove(0);
    push(&repository, "two", "b1").await;
    assert!(!expiry.expire_tag(&fresh, &actor, "x").await.unwrap(), "another manifest at the same time");
    assert!(!expiry.expire_tag(immutable, &actor, "x").await.unwrap());
    let gone = TagState { tag: tag("gone"), ..fresh };
    assert!(!expiry.expire_tag(&gone, &actor, "x").await.unwrap());
    let fresh = expiry.tags(None, 1).unwrap().items.remove(0);
    assert!(expiry.expire_tag(&fresh, &actor, "x").await.unwrap());
    assert_eq!(tags_of(&repository).len(), 1);
    store.verify();
}

const UNTAGGED: &str = "
    [[retention.policy]]
    name = \"loose\"
    repositories = [\"**\"]
    delete_untagged_after = \"7d\"
";

#[tokio::test(flavor = "multi_thread")]
async fn manifests_without_tags_go_after_their_grace_and_not_what_an_index_or_a_subject_holds() {
    let store = Store::new(UNTAGGED);
    let repository = store.repository("team/app");
    let manifests = repository.manifests();
    let typed = |text: String, media_type: &str, reference| ManifestPut {
        payload: Bytes::from(text),
        media_type: media_type.parse().unwrap(),
        ..put("", reference)
    };
    let empty = r#"{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}"#;
    repository.blobs().put(Bytes::from_static(b"{}"), None, &Actor::new("ann")).await.unwrap();
    let image = |note: &str, more: &str| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{empty},"layers":[],"annotations":{{"note":"{note}"}}{more}}}"#
        )
    };
    let by_digest = |text: &str| Reference::Digest(Digest::of(DigestAlgorithm::Sha256, text.as_bytes()));
    let mut pushed = Vec::new();
    for note in ["child", "loose", "subject"] {
        let text = image(note, "");
        let reference = by_digest(&text);
        pushed.push((
            manifests.put(typed(text.clone(), IMAGE, reference)).await.unwrap().canonical,
            text.len(),
        ));
    }
    let [(child, size), (loose, _), (subject, subject_size)] = pushed[..] else { panic!("three") };
    let descriptor =
        |digest: &Digest, size| format!(r#"{{"mediaType":"{IMAGE}","digest":"{digest}","size":{size}}}"#);
    let index =
        format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, descriptor(&child, size));
    manifests.put(typed(index, INDEX, Reference::Tag(tag("multi")))).await.unwrap();
    let referrer = image("referrer", &format!(r#","subject":{}"#, descriptor(&subject, subject_size)));
    let reference = by_digest(&referrer);
    let referrer = manifests.put(typed(referrer, IMAGE, reference)).await.unwrap().canonical;
    repository.tags().tag(&subject, &tag("v1"), &Actor::new("ann")).await.unwrap();

    store.on_day(1_007);
    let (report, decided) = store.run(true).await;
    assert_eq!((report.kept_manifests, report.deleted_manifests), (1, 0), "{decided:?}");
    let [waiting] = &decided.iter().filter(|one| one.tag.is_none()).collect::<Vec<_>>()[..] else {
        panic!("one")
    };
    assert_eq!(waiting.reason, "not yet: loose: delete_untagged_after = \"7d\"");
    store.on_day(1_008);
    repository.tags().untag(&tag("v1")).await.unwrap();
    let (_, said) = store.run(true).await;
    assert!(manifests.exists(&loose).unwrap());
    let (report, done) = store.run(false).await;
    assert_eq!(deleted(&done), deleted(&said));
    assert_eq!(deleted(&done), [format!("team/app {loose} loose: delete_untagged_after = \"7d\"")]);
    assert_eq!(
        (report.kept_manifests, report.deleted_manifests),
        (1, 1),
        "the subject's grace begins with its untagging"
    );
    for (digest, is_there) in [(child, true), (loose, false), (subject, true), (referrer, true)] {
        assert_eq!(manifests.exists(&digest).unwrap(), is_there);
    }
    store.verify();
    let back =
        repository.deletions().undelete(&DeletedName::Digest(loose), &Actor::new("ben")).await.unwrap();
    assert_eq!((back.kind, back.actor.as_str()), (DeletedKind::Manifest, ACTOR));
    assert!(manifests.exists(&loose).unwrap());
    let (report, _) = store.run(false).await;
    assert_eq!(report.deleted_manifests, 0, "what came back has its grace again");
    store.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pulled_stays_by_its_tag_and_by_its_digest() {
    let store = Store::new(
        "
        [[retention.policy]]
        name = \"used\"
        repositories = [\"**\"]
        keep_last_pulled = 1
        keep_pulled_within = \"5d\"
        delete_others = true
        delete_untagged_after = \"7d\"
    ",
    );
    let repository = store.repository("team/app");
    let manifests = repository.manifests();
    for name in ["early", "last", "late", "never"] {
        push(&repository, name, name).await;
    }
    let (used, unused) =
        (push_untagged(&repository, "used").await, push_untagged(&repository, "unused").await);
    let pull = |day, reference: Reference| {
        store.on_day(day);
        assert!(manifests.get(&reference).unwrap().is_some());
    };
    pull(1_003, Reference::Tag(tag("early")));
    pull(1_005, Reference::Tag(tag("late")));
    pull(1_006, Reference::Tag(tag("last")));
    pull(1_006, Reference::Digest(used));
    store.on_day(1_010);
    let (_, decided) = store.run(true).await;
    let said: Vec<(String, &str, Option<u64>)> = decided
        .iter()
        .map(|one| {
            let subject = one.tag.as_ref().map_or_else(|| one.digest.to_string(), ToString::to_string);
            (subject, one.reason.as_str(), one.pulled_at.map(|at| at.millis() / DAY))
        })
        .collect();
    let row = |subject: &str, reason, day| (subject.to_owned(), reason, day);
    let mut untagged = [
        row(&used.to_string(), "not yet: used: delete_untagged_after = \"7d\"", Some(1_006)),
        row(&unused.to_string(), "used: delete_untagged_after = \"7d\"", None),
    ];
    untagged.sort_by_key(|(subject, _, _)| subject.parse::<Digest>().unwrap());
    assert_eq!(
        said[..4],
        [
            row("early", "used: delete_others = true", Some(1_003)),
            row("last", "used: keep_last_pulled = 1", Some(1_006)),
            row("late", "used: keep_pulled_within = \"5d\"", Some(1_005)),
            row("never", "used: delete_others = true", None),
        ]
    );
    assert_eq!(said[4..], untagged);
    store.run(false).await;
    let left: Vec<String> = tags_of(&repository).into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, ["last", "late"]);
    assert!(manifests.exists(&used).unwrap() && !manifests.exists(&unused).unwrap());
    store.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_a_push_may_be_about_to_name_stays_whatever_the_grace() {
    let file = UNTAGGED.replace("7d", "1ms");
    let store = Store::new(&format!("collection.lease = \"2d\"\n{file}"));
    let repository = store.repository("team/app");
    let digest = push_untagged(&repository, "child").await;
    store.on_day(1_001);
    let (report, decided) = store.run(false).await;
    assert_eq!((report.kept_manifests, report.deleted_manifests), (1, 0));
    assert_eq!(decided[0].reason, "a push may be about to name it");
    let state = repository.expiry().untagged(None, 1).unwrap().items.remove(0);
    assert!(!repository.expiry().expire_untagged(&state, &Actor::new(ACTOR), "x").await.unwrap());
    store.on_day(1_003);
    let (report, _) = store.run(false).await;
    assert_eq!((report.kept_manifests, report.deleted_manifests), (0, 1));
    assert!(!repository.manifests().exists(&digest).unwrap());
    store.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_beside_pushes_take_nothing_that_is_younger_than_the_policy_says() {
    let file = "
        [[retention.policy]]
        name = \"young\"
        repositories = [\"**\"]
        delete_older_than = \"1h\"
    ";
    let store = Arc::new(Store::new(file));
    let repository = store.repository("team/app");
    let pushes = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (repository, store, pushes) = (repository.clone(), store.clone(), pushes.clone());
            tokio::spawn(async move {
                while let pushed @ 0..PUSHES = pushes.fetch_add(1, Ordering::Relaxed) {
                    let name = format!("t{}", pushed * 7 % 40);
                    let now = store.clock.now();
                    push(&repository, &format!("{client} {pushed}"), &name).await;
                    // Nobody sets the time back, and whatever was set within the hour has to be there.
                    let found = repository.tags().get(&tag(&name)).unwrap();
                    let is_young = store.clock.now().since(now) < Duration::from_secs(3_000);
                    assert!(found.is_some() || !is_young, "{name} was taken away");
                }
            })
        })
        .collect();
    let mut deleted = 0;
    while pushes.load(Ordering::Relaxed) < PUSHES {
        store.clock.set(store.clock.now().saturating_add(Duration::from_secs(600)));
        deleted += store.run(false).await.0.deleted_tags;
    }
    for client in clients {
        client.await.unwrap();
    }
    assert!(deleted > 0);
    store.verify();
}

// The program.

#[test]
fn a_server_runs_its_policies_by_the_clock() {
    let file = "
        retention.every = \"300ms\"
        [[retention.policy]]
        name = \"short\"
        repositories = [\"team/**\"]
        delete_older_than = \"1ms\"
    ";
    let server = Server::with_file(file, &[]);
    server.push_image("other", "v1", 1);
    server.push_image("team/a", "v1", 1);
    server.wait_for_line(&["the retention policies have run", "repositories=1", "tags=1"]);
    server.get("/v2/team/a/manifests/v1").send().expect(404);
    server.get("/v2/other/manifests/v1").send().expect(200);
    server.wait_for_line(&["the retention policies have run", "repositories=1", "tags=0"]);
}

/// Runs a command in the directory of a server's configuration, beside the server or without one.
fn orlop(server: &Server, arguments: &[&str]) -> Output {
    let directory = server.data().parent().unwrap().to_owned();
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ORLOP_")) {
        command.env_remove(name);
    }
    command.args(arguments).current_dir(directory).stdin(Stdio::null()).output().unwrap()
}

/// What a command that succeeds prints, as lines.
fn lines(server: &Server, arguments: &[&str]) -> Vec<String> {
    let output = orlop(server, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The tags or digests of a run's rows, each with its decision and its rule, and the run's result.
fn policy_run(server: &Server, arguments: &[&str]) -> (Vec<(String, String, String)>, Value) {
    let lines = lines(server, &[&["policy", "run", "--json"], arguments].concat());
    let mut rows: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let result = rows.pop().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let row = |row: &Value| {
        let subject = if row["tag"].is_null() { &row["digest"] } else { &row["tag"] };
        (
            format!("{}:{}", text(&row["repository"]), text(subject)),
            text(&row["decision"]),
            text(&row["rule"]),
        )
    };
    (rows.iter().map(row).collect(), result)
}

const TEAMS: &str = "
    collection.lease = \"1ms\"
    delete.tags = false
    delete.manifests = false

    [[retention.policy]]
    name = \"a\"
    repositories = [\"team/a\"]
    keep_last = 1
    delete_others = true
    delete_untagged_after = \"1ms\"

    [[retention.policy]]
    name = \"b\"
    repositories = [\"team/b\"]
    tags = [\"v*\"]
    except = [\"v9\"]
    keep_semver = \"^2\"
    delete_others = true
";

fn fill(server: &Server) {
    for repository in ["team/a", "team/b", "other"] {
        for (at, tag) in ["v1", "v2", "v9", "x"].into_iter().enumerate() {
            server.push_image(repository, tag, at as u64 + 1);
        }
    }
}

fn tags_at(server: &Server, repository: &str) -> Vec<String> {
    let reply = server.get(&format!("/v2/{repository}/tags/list")).send().expect(200);
    reply.json()["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
}

#[test]
fn beside_a_server_a_dry_run_says_what_the_run_does() {
    let mut server = Server::with_file(TEAMS, &[]);
    fill(&server);
    let shown = lines(&server, &["policy", "show"]);
    assert_eq!(
        shown,
        [
            "a for team/a",
            "  tags *",
            "  keep_last = 1",
            "  delete_others = true",
            "  delete_untagged_after = \"1ms\"",
            "b for team/b",
            "  tags v*, except v9",
            "  keep_semver = \"^2\"",
            "  delete_others = true",
        ]
    );

    let (rows, result) = policy_run(&server, &["--dry-run"]);
    let gone: Vec<_> = rows.iter().filter(|(_, decision, _)| decision == "delete").cloned().collect();
    let row = |subject: &str, rule: &str| (subject.to_owned(), "delete".to_owned(), rule.to_owned());
    assert_eq!(
        gone,
        [
            row("team/a:v1", "a: delete_others = true"),
            row("team/a:v2", "a: delete_others = true"),
            row("team/a:v9", "a: delete_others = true"),
            row("team/b:v1", "b: delete_others = true"),
        ]
    );
    assert_eq!(rows.len(), 8, "{rows:?}");
    assert_eq!(
        (&result["dryRun"], &result["keptTags"], &result["deletedTags"]),
        (&json!(true), &json!(4), &json!(4))
    );
    for repository in ["team/a", "team/b", "other"] {
        assert_eq!(tags_at(&server, repository), ["v1", "v2", "v9", "x"], "a dry run changes nothing");
    }

    // One repository, then all.
    let (rows, _) = policy_run(&server, &["--repository", "team/b"]);
    assert_eq!(rows, gone[3..]);
    assert_eq!(tags_at(&server, "team/a").len(), 4);
    let (rows, _) = policy_run(&server, &[]);
    assert_eq!(rows, gone[..3]);
    assert_eq!(tags_at(&server, "team/a"), ["x"]);
    assert_eq!(tags_at(&server, "team/b"), ["v2", "v9", "x"]);
    assert_eq!(tags_at(&server, "other").len(), 4);

    // What has no tag now goes with the next run, once no push can be about to name it.
    let said = loop {
        let (mut said, _) = policy_run(&server, &["--dry-run", "--repository", "team/a"]);
        said.retain(|(_, decision, _)| decision == "delete");
        if said.len() == 3 {
            break said;
        }
    };
    let (done, result) = policy_run(&server, &[]);
    assert_eq!(done, said);
    assert_eq!(result["deletedManifests"], 3);

    // All of it comes back, beside the server and without it.
    for (subject, _, _) in &done {
        lines(&server, &["undelete", &subject.replacen(":sha256", "@sha256", 1)]);
    }
    lines(&server, &["undelete", "team/a:v1"]);
    lines(&server, &["undelete", "team/a:v2"]);
    server.stop();
    lines(&server, &["undelete", "team/a:v9"]);
    lines(&server, &["undelete", "team/b:v1"]);
    server.run_again();
    for repository in ["team/a", "team/b", "other"] {
        assert_eq!(tags_at(&server, repository), ["v1", "v2", "v9", "x"]);
        for tag in ["v1", "v2", "v9", "x"] {
            server.get(&format!("/v2/{repository}/manifests/{tag}")).send().expect(200);
        }
    }
}

#[test]
fn without_a_server_the_same_command_runs_the_policies_that_it_reads() {
    let mut server = Server::with_file(TEAMS, &[]);
    fill(&server);
    server.get("/v2/team/a/manifests/x").send().expect(200);
    server.stop();
    let (said, _) = policy_run(&server, &["--dry-run"]);
    let gone: Vec<_> = said.iter().filter(|(_, decision, _)| decision == "delete").cloned().collect();
    let (done, result) = policy_run(&server, &[]);
    assert_eq!((&done, &result["deletedTags"]), (&gone, &json!(4)));
    let table = lines(&server, &["policy", "run", "--dry-run"]);
    let columns: Vec<Vec<&str>> =
        table.iter().map(|line| line.split_whitespace().take(5).collect()).collect();
    assert_eq!(columns[0], ["REPOSITORY", "TAG", "PUSHED", "PULLED", "DECISION"]);
    assert_eq!((columns[1][0], columns[1][1], columns[1][4]), ("team/a", "x", "keep"));
    assert!(columns[1][3].ends_with('Z'), "a pull from the server is known: {}", table[1]);
    assert!(columns.contains(&vec!["team/b", "v2", columns[5][2], "-", "keep"]), "never pulled: {table:?}");
    assert!(table[1].ends_with("keep      a: keep_last = 1"), "{}", table[1]);
    assert_eq!(table[0].find("RULE"), table[1].find("a: "), "columns are aligned");
    server.run_again();
    assert_eq!(tags_at(&server, "team/a"), ["x"]);
    assert_eq!(tags_at(&server, "team/b"), ["v2", "v9", "x"]);

    let without = lines(&server, &["policy", "run", "--repository", "other", "--dry-run"]);
    assert_eq!(without[0], "No retention policy is about any repository here.");
    let wrong = orlop(&server, &["policy", "run", "--repository", "Not/a/name"]);
    assert_eq!(wrong.status.code(), Some(2));
}
