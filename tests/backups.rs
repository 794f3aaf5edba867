//! `orlop backup` as people run it: each command with the real program, and each fault.
#![expect(clippy::unwrap_used, reason = "in a test, whatever is not as it should be is a failure")]

#[path = "backups/command.rs"]
mod command;
#[path = "backups/damaged.rs"]
mod damaged;
#[path = "backups/older.rs"]
mod older;
#[path = "backups/parts.rs"]
mod parts;
#[path = "backups/rounds.rs"]
mod rounds;
#[path = "backups/schedule.rs"]
mod schedule;
mod support;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use command::{Backups, Said, all_below, command};
use orlop::registry::{Options, Registry};
use rounds::{Random, kill_within, time};
use serde_json::{Value, json};
use support::{Content, FaultyUpstream, Server, image, noise, sha256};
use tempfile::TempDir;

struct Scene {
    server: Server,
    backups: Backups,
    folder: TempDir,
}

/// A server, and a place for backups.
fn scene() -> Scene {
    scene_with("")
}

/// The same with a configuration file.
fn scene_with(file: &str) -> Scene {
    let server = Server::with_file(file, &[]);
    // It goes when the server does; who takes only a part of the scene would drop the folder before.
    let backups = Backups(server.configuration().with_file_name("backup"));
    Scene { server, backups, folder: TempDir::new().unwrap() }
}

/// What a command says that works on the registry of a server, with its configuration.
#[track_caller]
fn orlop(server: &Server, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    command.args(arguments).arg("--data").arg(server.data()).arg("--config").arg(server.configuration());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The digest of the first layer of an image.
fn layer_of(image: &Content) -> String {
    let document: Value = serde_json::from_slice(&image.bytes).unwrap();
    document["layers"][0]["digest"].as_str().unwrap().to_owned()
}

/// Where a data directory has a blob.
fn blob_file(data: &Path, digest: &str) -> PathBuf {
    let hex = &digest["sha256:".len()..];
    data.join(format!("blobs/sha256/{}/{hex}", &hex[..2]))
}

/// What is wrong with a data directory, every byte hashed. By a process of its own: one that another test has just forked keeps
/// the lock of a directory that was open here.
fn problems(data: &Path) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    let output = command.args(["verify", "--dry-run", "--data"]).arg(data).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    if output.status.success() { Vec::new() } else { said.lines().map(ToOwned::to_owned).collect() }
}

#[test]
fn snapshots_are_taken_beside_a_server_and_without_one_and_listed_and_shown() {
    let Scene { mut server, backups, .. } = scene();
    server.push_image("team/app", "v1", 1);
    let data = server.data();
    let said = backups.run("create", &["--data", data.to_str().unwrap()]).ok();
    said.prints(&[
        "snapshot         000001-",
        "tags             1",
        "manifests        1",
        "blobs            2",
    ]);
    server.push_image("team/app", "v2", 2);
    server.stop();
    let second = backups.create(&data);
    assert_eq!((&second["tags"], &second["addedFiles"]), (&2.into(), &3.into()), "{second}");
    server.run_again();

    let names = backups.names();
    assert!(names[0].starts_with("000001-") && names[1].starts_with("000002-"), "{names:?}");
    backups.run("list", &[]).ok().prints(&["SNAPSHOT", "TAGS", "SIZE", &names[0], &names[1]]);
    for called in ["2", "latest", &names[1]] {
        let shown = backups.run("show", &[called]).ok().prints(&[&names[1], "tags             2"]);
        assert_eq!(shown.errors, "");
        assert_eq!(backups.run("show", &[called, "--json"]).ok().json(), second);
    }
    backups.run("show", &["3"]).code(1).complains(&["there is no snapshot 3", "orlop backup list"]);
}

#[test]
fn what_is_no_backup_directory_is_refused_by_each_command_that_reads() {
    let folder = TempDir::new().unwrap();
    let backups = Backups(folder.path().join("nowhere"));
    for (verb, arguments) in [
        ("list", &[][..]),
        ("show", &[]),
        ("verify", &[]),
        ("diff", &["1", "2"]),
        ("prune", &["--keep-last", "1"]),
        ("lock", &["--", "true"]),
        ("restore", &["latest", "--data", "/nowhere/at/all"]),
    ] {
        backups.run(verb, arguments).code(1).complains(&["no backup directory"]);
        command(&[verb]).output().map(|output| assert_eq!(output.status.code(), Some(2))).unwrap();
    }
    assert!(!backups.0.exists());
}

#[test]
fn a_diff_names_the_tags_that_came_went_and_moved_and_the_bytes() {
    let Scene { server, backups, .. } = scene();
    let data = server.data();
    let [stays, moves, goes] = ["stays", "moves", "goes"].map(|name| format!("team/app:{name}"));
    server.push_image("team/app", "stays", 1);
    let before = server.push_image("team/app", "moves", 2);
    let gone = server.push_image("team/app", "goes", 3);
    backups.create(&data);
    let after = server.push_image("team/app", "moves", 4);
    let came = server.push_image("team/app-2", "comes", 5);
    server.delete("/v2/team/app/manifests/goes").send().expect(202);
    backups.create(&data);

    let said = backups.run("diff", &["1", "2"]).ok();
    let said = said.prints(&[
        &format!("+ team/app-2:comes {}", came.digest()),
        &format!("- {goes} {}", gone.digest()),
        &format!("~ {moves} {} -> {}", before.digest(), after.digest()),
        "1 tags added, 1 gone, 1 moved; +",
    ]);
    said.omits(&[&stays]);
    // Back again, with what is newer as the earlier one.
    backups.run("diff", &["2", "1"]).ok().prints(&["- team/app-2:comes", "+ team/app:goes", "; -"]);
    let json = backups.run("diff", &["1", "--json"]).ok().json();
    assert_eq!((&json["added"], &json["gone"], &json["moved"]), (&1.into(), &1.into(), &1.into()), "{json}");
    backups.run("diff", &["1", "1"]).ok().prints(&["0 tags added, 0 gone, 0 moved; +0 B"]);
}

#[test]
fn prune_shows_its_plan_and_keeps_what_a_rule_keeps() {
    let Scene { server, backups, .. } = scene();
    let data = server.data();
    for seed in 1..=4 {
        server.push_image("app", &format!("v{seed}"), seed);
        backups.create(&data);
    }
    let names = backups.names();
    backups.run("prune", &[]).code(1).complains(&["say which snapshots stay", "--keep-last"]);
    let before = all_below(&backups.0);
    let plan = [
        &format!("keep    {}  last, hourly", names[3])[..],
        &format!("keep    {}  last", names[2]),
        &format!("remove  {}", names[1]),
        &format!("remove  {}", names[0]),
    ];
    let rules = ["--keep-last", "2", "--keep-hourly", "1"];
    backups.run("prune", &[&rules[..], &["--dry-run"]].concat()).ok().prints(&plan);
    assert_eq!(all_below(&backups.0), before, "a dry run changes nothing");
    assert_eq!(backups.names(), names);
    // Left by an interrupted one, of five bytes.
    fs::write(backups.0.join("blobs/sha256").join(&sha256(b"stray")[7..]), b"stray").unwrap();
    let dry = backups.run("prune", &[&rules[..], &["--dry-run"]].concat()).ok();
    dry.prints(&plan).prints(&["2 snapshots and 1 files (5 B) would be removed."]);
    let dry = backups.run("prune", &[&rules[..], &["--dry-run", "--json"]].concat()).ok();
    let lines: Vec<Value> = dry.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&lines[0]["keep"][0][0], &lines[0]["remove"][1]),
        (&json!(names[3]), &json!(names[0])),
        "{dry:#?}"
    );
    assert_eq!(lines[1], json!({"snapshots": 2, "files": 1, "bytes": 5}));
    let said = backups.run("prune", &rules).ok().prints(&plan);
    said.prints(&["2 snapshots and 1 files (5 B) are removed."]);
    assert_eq!(backups.names(), names[2..]);
    backups.verify();
    // All that the first ones have the others have too.
    backups.run("prune", &["--keep-daily", "1"]).ok().prints(&["keep    ", "daily", "remove  "]);
    assert_eq!(backups.names(), names[3..]);
    for rule in ["--keep-weekly", "--keep-monthly"] {
        backups.run("prune", &[rule, "3"]).ok().prints(&[&names[3], &rule[7..]]).omits(&["remove  "]);
    }
    assert_eq!(backups.names(), names[3..]);
}

#[test]
fn while_a_lock_is_held_a_snapshot_waits_for_its_name_pruning_waits_and_reading_goes_on() {
    let Scene { server, backups, folder } = scene();
    let data = server.data();
    server.push_image("app", "v1", 1);
    backups.create(&data);
    backups.create(&data);
    for code in [0, 3] {
        backups.run("lock", &["--", "sh", "-c", &format!("exit {code}")]).code(code);
    }
    backups.run("lock", &["--", "sh", "-c", "kill -9 $$"]).code(1);
    backups.run("lock", &["--", "/nowhere/at/all"]).code(1).complains(&["cannot run /nowhere/at/all"]);

    let begun = folder.path().join("begun");
    let script = format!("touch {}; read line; echo over", begun.display());
    let mut holding = backups.command("lock", &["--", "sh", "-c", &script]);
    let mut holding = holding.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    while !begun.exists() {
        assert!(holding.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    let mut creating = backups.command("create", &["--data", data.to_str().unwrap()]).spawn().unwrap();
    while !Path::new(backups.dir()).join("snapshots/.partial/SHA256SUMS").exists() {
        assert!(creating.try_wait().unwrap().is_none(), "it waits");
        std::thread::yield_now();
    }
    let refused = backups.run("create", &["--data", data.to_str().unwrap()]);
    refused.code(1).complains(&["another process works in", "try again"]);
    backups.verify();
    assert_eq!(backups.names().len(), 2);
    let mut pruning = backups.command("prune", &["--keep-last", "1"]);
    let mut pruning = pruning.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It has shown its plan.
    let mut byte = [0];
    pruning.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
    assert_eq!(backups.names().len(), 2);
    assert!(pruning.try_wait().unwrap().is_none(), "it waits");
    drop(holding.stdin.take());
    assert_eq!(holding.wait().unwrap().code(), Some(0));
    assert_eq!(creating.wait().unwrap().code(), Some(0));
    assert_eq!(pruning.wait().unwrap().code(), Some(0));
    // The plan was made without the third.
    assert_eq!(backups.names().len(), 2);
}

#[test]
fn a_snapshot_is_restored_whole_and_only_into_an_empty_directory() {
    let Scene { mut server, backups, folder } = scene();
    let images: Vec<_> =
        (1..4).map(|seed| server.push_image("team/app", &format!("v{seed}"), seed)).collect();
    backups.create(&server.data());
    server.push_image("team/app", "late", 9);
    let data = folder.path().join("restored");
    let dry = backups.run("restore", &["latest", "--dry-run", "--data", data.to_str().unwrap()]).ok();
    dry.prints(&["000001-", " can be restored to "]);
    assert!(!data.exists());
    let json = backups.run("restore", &["1", "--json", "--data", data.to_str().unwrap()]).ok().json();
    assert_eq!(json["snapshot"]["tags"], 3, "{json}");
    backups.restore("1", &data).code(1).complains(&["is not empty"]);
    backups.restore("1", &server.data()).code(1).complains(&["is not empty"]);
    assert_eq!(problems(&data), [""; 0]);

    server.stop();
    fs::remove_dir_all(server.data()).unwrap();
    backups.restore("latest", &server.data()).ok().prints(&["is restored to", "orlop serve --data"]);
    server.run_again();
    for (seed, image) in (1..).zip(&images) {
        let path = format!("/v2/team/app/manifests/v{seed}");
        server.get(&path).send().expect(200).expect_body(&image.bytes);
    }
    server.get("/v2/team/app/manifests/late").send().expect(404);
}

#[test]
fn no_command_draws_a_bar_where_its_output_is_no_terminal() {
    let Scene { server, backups, folder } = scene();
    let bytes = noise(1, 3 << 20);
    server.push_blob("app", &bytes);
    server.push_image("app", "v1", 1);
    let data = server.data();
    let restored = folder.path().join("restored");
    let said = [
        backups.run("create", &["--data", data.to_str().unwrap()]),
        backups.run("verify", &["--full"]),
        backups.restore("latest", &restored),
        backups.run("prune", &["--keep-last", "1"]),
    ];
    for said in said {
        let said = said.ok();
        assert_eq!(said.errors, "", "{said:#?}");
        assert!(!said.out.contains(['\r', '\x1b']), "{said:#?}");
    }
}

#[test]
fn whatever_the_umask_only_the_owner_can_read_what_a_backup_has() {
    let Scene { mut server, backups, folder } = scene();
    server.push_image("app", "v1", 1);
    server.stop();
    let (data, restored) = (server.data(), folder.path().join("restored"));
    let program = env!("CARGO_BIN_EXE_orlop");
    for umask in ["000", "027"] {
        let script = format!(
            "umask {umask} && {program} backup create {dir} --data {data} && \
             {program} backup verify {dir} --full && {program} backup prune {dir} --keep-last 2",
            dir = backups.dir(),
            data = data.display(),
        );
        Said::of(std::process::Command::new("sh").args(["-c", &script])).ok();
    }
    let script =
        format!("umask 000 && {program} backup restore {} 1 --data {}", backups.dir(), restored.display());
    Said::of(std::process::Command::new("sh").args(["-c", &script])).ok();
    let mut looked = 0;
    for path in all_below(&backups.0).into_iter().chain(all_below(&restored)) {
        let metadata = path.symlink_metadata().unwrap();
        let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(metadata.permissions().mode() & 0o777, expected, "{}", path.display());
        looked += 1;
    }
    assert!(looked > 25, "{looked}");
}

/// The kinds of files that a backup directory has, each by the end of its path.
const KINDS: [&str; 7] = [
    "/oci-layout",
    "/index.json",
    "/absent.jsonl",
    "/metadata.zst",
    "/snapshot.json",
    "/SHA256SUMS",
    "blobs/",
];

#[test]
fn a_flipped_bit_in_each_kind_of_file_is_named_and_nothing_is_restored_of_it() {
    let Scene { mut server, backups, folder } = scene();
    server.push_image("app", "v1", 1);
    server.stop();
    backups.create(&server.data());
    let files: Vec<_> = all_below(&backups.0).into_iter().filter(|path| path.is_file()).collect();
    let mut restores = 0;
    for kind in KINDS {
        let is_kind =
            |path: &str| if kind == "blobs/" { path.contains("/blobs/") } else { path.ends_with(kind) };
        let found: Vec<_> = files.iter().filter(|path| is_kind(path.to_str().unwrap())).collect();
        assert!(!found.is_empty(), "{kind}");
        for path in found {
            let right = fs::read(path).unwrap();
            let mut wrong = right.clone();
            match wrong.len() / 2 {
                0 => wrong.push(1),
                middle => wrong[middle] ^= 1,
            }
            fs::write(path, &wrong).unwrap();
            let said = backups.run("verify", &["--full"]).code(3);
            // What the sums are wrong about is named where they are.
            let dir = path.parent().unwrap().to_str().unwrap();
            let named = if kind == "/SHA256SUMS" { dir } else { path.to_str().unwrap() };
            said.prints(&["problem: ", named, "problems         "]);
            let json = backups.run("verify", &["--full", "--json"]).code(3).json();
            assert!(json["count"].as_u64().unwrap() > 0, "{json}");
            // Into another one each time, since what came whole is not read again.
            restores += 1;
            let refused = backups.restore("1", &folder.path().join(format!("restored{restores}")));
            assert_eq!(refused.code, Some(1), "{}: {refused:#?}", path.display());
            refused.complains(&[dir]);
            fs::write(path, right).unwrap();
        }
    }
    backups.verify();
    // That something is missing is seen without reading it.
    let blob = files.iter().find(|path| path.to_str().unwrap().contains("/blobs/sha256/")).unwrap();
    fs::remove_file(blob).unwrap();
    backups.run("verify", &[]).code(3).prints(&["problem: ", blob.to_str().unwrap(), "it isn't there"]);
    backups
        .restore("1", &folder.path().join("other"))
        .code(1)
        .complains(&["can't be restored whole", "missing"]);
}

/// Pushes so many small images, each of its own blobs.
fn push_images(server: &Server, seeds: std::ops::Range<u64>) -> Vec<(u64, Content)> {
    seeds
        .map(|seed| (seed, server.push_image(&format!("app{}", seed % 3), &format!("v{seed}"), seed)))
        .collect()
}

#[track_caller]
fn assert_serves(server: &Server, images: &[(u64, Content)]) {
    for (seed, image) in images {
        let path = format!("/v2/app{}/manifests/v{seed}", seed % 3);
        server.get(&path).send().expect(200).expect_body(&image.bytes);
    }
}

#[test]
fn a_create_that_is_killed_at_any_moment_leaves_whole_snapshots_and_the_next_one_takes_up_what_is_there() {
    let Scene { mut server, backups, folder } = scene();
    let mut random = Random::new(7);
    let data = server.data();
    let mut images = push_images(&server, 0..20);
    server.stop();
    let arguments = ["--data", data.to_str().unwrap()];
    let took = time(&mut Backups(folder.path().join("measured")).command("create", &arguments));
    let (mut whole, mut killed) = (0, 0);
    for round in 0..12 {
        if round % 5 == 4 {
            server.run_again();
            images.extend(push_images(&server, round * 100..round * 100 + 10));
            server.stop();
        }
        killed += u64::from(!kill_within(&mut backups.command("create", &arguments), took, &mut random));
        if !backups.0.join("format").exists() {
            continue;
        }
        let names = backups.names();
        assert!(names.len() >= whole, "{names:?}");
        whole = names.len();
        backups.verify();
    }
    assert!(killed > 2, "only {killed} were killed");
    let last = backups.create(&data);
    assert_eq!(last["tags"], images.len(), "{last}");
    backups.verify();
    // Nothing is there twice, and nothing is left over.
    let files = all_below(&backups.0.join("blobs")).into_iter().filter(|path| path.is_file()).count();
    assert_eq!(files, 3 * images.len());
    assert_eq!(fs::read_dir(backups.0.join("incoming")).unwrap().count(), 0);
    fs::remove_dir_all(&data).unwrap();
    backups.restore("latest", &data).ok();
    server.run_again();
    assert_serves(&server, &images);
}

#[test]
fn a_server_that_is_killed_while_it_takes_a_snapshot_leaves_whole_ones() {
    let Scene { mut server, backups, .. } = scene();
    let mut random = Random::new(3);
    let data = server.data();
    let mut images = push_images(&server, 0..20);
    let mut failed = 0;
    for round in 1..6_u64 {
        let mut creating = backups.command("create", &["--data", data.to_str().unwrap()]);
        let creating = creating.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let wanted = usize::try_from(random.below(40)).unwrap();
        let incoming = || fs::read_dir(backups.0.join("incoming")).map_or(0, Iterator::count);
        while incoming() < wanted
            && backups.0.join("snapshots").read_dir().map_or(0, Iterator::count)
                < usize::try_from(round).unwrap()
        {
            std::thread::yield_now();
        }
        server.kill();
        let output = creating.wait_with_output().unwrap();
        if !output.status.success() {
            failed += 1;
            let errors = String::from_utf8(output.stderr).unwrap();
            assert!(errors.contains("the server went away"), "{errors}");
        }
        server.run_again();
        backups.verify();
        images.extend(push_images(&server, round * 100..round * 100 + 10));
    }
    assert!(failed > 0);
    let last = backups.create(&data);
    assert_eq!((&last["tags"], &last["lost"]), (&images.len().into(), &json!([])), "{last}");
    backups.verify();
    server.stop();
    fs::remove_dir_all(&data).unwrap();
    backups.restore("latest", &data).ok();
    server.run_again();
    assert_serves(&server, &images);
}

fn copy_of(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

#[test]
fn a_prune_that_is_killed_at_any_moment_leaves_whole_snapshots_and_the_next_one_ends_it() {
    let Scene { mut server, backups, folder } = scene();
    let mut random = Random::new(11);
    let data = server.data();
    for round in 0..5_u64 {
        let images = push_images(&server, round * 10..round * 10 + 10);
        backups.create(&data);
        for (seed, image) in images {
            let path = format!("/v2/app{}/manifests/{}", seed % 3, image.digest());
            server.delete(&path).send().expect(202);
        }
        let purged = std::process::Command::new(env!("CARGO_BIN_EXE_orlop"))
            .args(["purge", "--all", "--data"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(purged.status.success(), "{purged:?}");
    }
    server.stop();
    let names = backups.names();
    let keep = ["--keep-last", "2"];
    let copy = |name: String| {
        let copy = Backups(folder.path().join(name));
        copy_of(&backups.0, &copy.0);
        copy
    };
    let measured = copy("measured".to_owned());
    let took = time(&mut measured.command("prune", &keep));
    let expected: Vec<_> = all_below(&measured.0)
        .into_iter()
        .map(|path| path.strip_prefix(&measured.0).unwrap().to_owned())
        .collect();
    let mut killed = 0;
    for round in 0..10 {
        let copy = copy(format!("round{round}"));
        killed += u64::from(!kill_within(&mut copy.command("prune", &keep), took, &mut random));
        let left = copy.names();
        assert!(left.ends_with(&names[3..]), "{left:?}");
        copy.verify();
        copy.run("prune", &keep).ok();
        copy.verify();
        let now: Vec<_> = all_below(&copy.0)
            .into_iter()
            .map(|path| path.strip_prefix(&copy.0).unwrap().to_owned())
            .collect();
        assert_eq!(now, expected, "round {round}");
        fs::remove_dir_all(&copy.0).unwrap();
    }
    assert!(killed > 2, "only {killed} were killed");
}

#[test]
fn a_restore_that_is_killed_at_any_moment_goes_on_and_serves_nothing_before_it_is_whole() {
    let Scene { mut server, backups, folder } = scene();
    let mut random = Random::new(5);
    let images = push_images(&server, 0..30);
    backups.create(&server.data());
    server.stop();
    let restore = |data: &Path| backups.command("restore", &["1", "--data", data.to_str().unwrap()]);
    let took = time(&mut restore(&folder.path().join("measured")));
    let mut killed = 0;
    for round in 0..8 {
        let data = folder.path().join(format!("round{round}"));
        let mut is_whole = false;
        for _ in 0..=round % 3 {
            if is_whole {
                break;
            }
            is_whole = kill_within(&mut restore(&data), took, &mut random);
            killed += u64::from(!is_whole);
        }
        match Registry::open(Options::new(&data)) {
            // Killed before it began, or after it had ended.
            Ok(registry) => {
                let tags = registry.status().unwrap().tags;
                is_whole = tags == images.len() as u64;
                assert!(is_whole || tags == 0, "{tags}");
                if !is_whole {
                    drop(registry);
                    fs::remove_dir_all(&data).unwrap();
                }
            }
            Err(error) => assert!(error.to_string().contains("orlop backup restore"), "{error}"),
        }
        if !is_whole {
            backups.restore("1", &data).ok();
        }
        assert_eq!(problems(&data), [""; 0], "round {round}");
        if round == 7 {
            fs::remove_dir_all(server.data()).unwrap();
            fs::rename(&data, server.data()).unwrap();
            server.run_again();
            assert_serves(&server, &images);
        }
    }
    assert!(killed > 2, "only {killed} were killed");
}

#[test]
fn a_forced_restore_moves_aside_what_was_there_and_removes_nothing() {
    let Scene { mut server, backups, .. } = scene();
    let data = server.data();
    let then = server.push_image("app", "v1", 1);
    backups.create(&data);
    let now = server.push_image("app", "v1", 2);
    let arguments = ["1", "--force", "--data", data.to_str().unwrap()];
    backups
        .run("restore", &arguments)
        .code(1)
        .complains(&["another process works in", data.to_str().unwrap()]);
    server.stop();
    backups.run("restore", &["1", "--data", data.to_str().unwrap()]).code(1).complains(&["--force moves"]);
    backups.run("restore", &[&arguments[..], &["--dry-run"]].concat()).ok().prints(&["can be restored"]);
    // Nothing is moved for a snapshot that isn't whole.
    let manifest = backups.content(&then.digest());
    fs::rename(&manifest, manifest.with_extension("away")).unwrap();
    backups.run("restore", &arguments).code(1).complains(&["can't be restored whole"]);
    fs::rename(manifest.with_extension("away"), &manifest).unwrap();
    assert!(!data.join("former").exists());
    for number in ["1", "2"] {
        let former = data.join("former").join(number);
        let said = backups.run("restore", &arguments).ok();
        said.prints(&["is restored to", &format!("What was there is in {}", former.display())]);
        assert_eq!(problems(&former), [""; 0]);
        server.run_again();
        server.get("/v2/app/manifests/v1").send().expect(200).expect_body(&then.bytes);
        server.stop();
    }
    let former = Registry::open(Options::new(data.join("former/1"))).unwrap();
    let app = former.namespace().repository(&"app".parse().unwrap());
    let tag = app.tags().get(&"v1".parse().unwrap()).unwrap().unwrap();
    assert_eq!(tag.canonical.to_string(), now.digest());
}

#[test]
fn a_full_check_that_was_killed_goes_on_where_it_was_and_finds_what_both_parts_find() {
    let Scene { server, backups, .. } = scene();
    server.push_image("app", "v1", 1);
    backups.create(&server.data());
    let blobs = backups.0.join("blobs/sha256");
    let mut names = Vec::new();
    for number in 0..6_000_u64 {
        let bytes = number.to_be_bytes();
        names.push(sha256(&bytes).split_off(7));
        fs::write(blobs.join(&names[names.len() - 1]), bytes).unwrap();
    }
    names.sort();
    // One that the first part finds, and one that the second one does.
    let damaged = [blobs.join(&names[10]), blobs.join(&names[5_990])];
    for path in &damaged {
        fs::write(path, b"damaged").unwrap();
    }
    let note = backups.0.join("verify.json");
    loop {
        let mut checking = backups.command("verify", &["--full"]);
        let mut checking = checking.stdout(Stdio::null()).spawn().unwrap();
        while !note.exists() && checking.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        checking.kill().unwrap();
        checking.wait().unwrap();
        if note.exists() {
            break;
        }
    }
    let said = backups.run("verify", &["--full", "--json"]).code(3).json();
    assert_eq!((&said["resumed"], &said["hashedFiles"]), (&true.into(), &6_003.into()), "{said}");
    let found: Vec<&str> =
        said["problems"].as_array().unwrap().iter().map(|it| it["path"].as_str().unwrap()).collect();
    assert_eq!(found, damaged.each_ref().map(|path| path.to_str().unwrap()));
    assert!(!note.exists(), "the next one begins afresh");
    for path in &damaged {
        fs::remove_file(path).unwrap();
    }
    let said = backups.run("verify", &["--full", "--json"]).ok().json();
    assert_eq!((&said["resumed"], &said["resumable"]), (&false.into(), &true.into()), "{said}");
    // What is too old, or makes no sense, is no reason to leave anything out.
    for text in ["{", "{\"begunAt\":1,\"after\":\"ffff\",\"files\":1,\"bytes\":1,\"damaged\":[]}"] {
        fs::write(&note, text).unwrap();
        let said = backups.run("verify", &["--full", "--json"]).ok().json();
        assert_eq!((&said["resumed"], &said["hashedFiles"]), (&false.into(), &6_001.into()), "{said}");
    }
}

#[test]
fn of_two_creates_at_once_one_may_be_refused_and_every_snapshot_is_whole() {
    let Scene { server, backups, .. } = scene();
    server.push_image("app", "v1", 1);
    let data = server.data();
    let arguments = ["--data", data.to_str().unwrap()];
    let mut taken = 0;
    for _ in 0..3 {
        let both: Vec<_> = (0..2)
            .map(|_| {
                let mut command = backups.command("create", &arguments);
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        for one in both {
            let output = one.wait_with_output().unwrap();
            let errors = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success() || errors.contains("another process works in"), "{errors}");
            taken += usize::from(output.status.success());
        }
    }
    assert!(taken >= 3);
    assert_eq!(backups.names().len(), taken);
    backups.verify();
}

#[test]
fn hard_links_are_made_only_when_asked_and_warned_of_and_never_restored() {
    let Scene { mut server, backups, folder } = scene();
    let image = server.push_image("app", "v1", 1);
    let data = server.data();
    let digest = layer_of(&image);
    let links = |path: &Path| fs::metadata(path).unwrap().nlink();
    let own = blob_file(&data, &digest);
    let copies = Backups(folder.path().join("copies"));
    copies.create(&data);
    assert_eq!(links(&own), 1);
    copies.run("verify", &["--full"]).ok().omits(&["warning"]);

    backups.run("create", &["--link", "--data", data.to_str().unwrap()]).ok();
    let linked = backups.content(&digest);
    assert_eq!((links(&own), links(&linked)), (2, 2));
    for arguments in [&[][..], &["--full"]] {
        let said = backups.run("verify", arguments).ok();
        said.prints(&["warning: 2 files share their bytes with another name", "problems         0"]);
    }
    assert_eq!(backups.run("verify", &["--json"]).ok().json()["linked"], 2);
    let restored = folder.path().join("restored");
    backups.restore("1", &restored).ok();
    assert_eq!(links(&blob_file(&restored, &digest)), 1);
    // What the registry removes stays in the backup.
    server.stop();
    fs::remove_dir_all(&data).unwrap();
    backups.verify();
    backups.restore("1", &data).ok();
    server.run_again();
    server.get("/v2/app/manifests/v1").send().expect(200).expect_body(&image.bytes);
}

#[test]
fn damaged_content_that_is_removed_comes_back_with_the_next_snapshot() {
    let Scene { server, backups, .. } = scene();
    server.push_image("app", "v1", 1);
    backups.create(&server.data());
    let content = Path::new(backups.dir()).join("blobs/sha256");
    let damaged = fs::read_dir(&content).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[0] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let named = damaged.display().to_string();
    backups.run("verify", &["--full"]).code(3).prints(&[&named, "Remove what is damaged below blobs"]);
    fs::remove_file(&damaged).unwrap();
    backups.run("verify", &[]).code(3).prints(&[&named]);
    backups.create(&server.data());
    backups.run("verify", &["--full"]).ok().omits(&["Remove what is damaged"]);
}

#[test]
fn what_the_registry_has_lost_is_named_by_each_create_and_by_verify() {
    let Scene { mut server, backups, folder } = scene();
    let lost = layer_of(&server.push_image("app", "v1", 1));
    server.push_image("app", "v2", 2);
    let data = server.data();
    let (own, away) = (blob_file(&data, &lost), folder.path().join("away"));
    fs::rename(&own, &away).unwrap();
    let arguments = ["--data", data.to_str().unwrap()];
    let said = backups.run("create", &arguments).code(3);
    let line = format!("lost             {lost}");
    said.prints(&["tags             2", "blobs            4", &line, "orlop verify names the images"]);
    server.stop();
    let json = backups.run("create", &[&arguments[..], &["--json"]].concat()).code(3).json();
    assert_eq!(json["lost"], json!([lost]), "{json}");
    let absent = format!("problem: {}: it isn't there", backups.content(&lost).display());
    let told = format!("/snapshot.json: {lost} was lost before it was taken");
    for of in [&["1"][..], &["2", "--full"]] {
        backups.run("verify", of).code(3).prints(&[&absent, &told, "problems         2"]);
    }
    backups.restore("2", &folder.path().join("restored")).code(1).complains(&["can't be restored whole"]);

    fs::rename(&away, &own).unwrap();
    server.run_again();
    let json = backups.create(&data);
    assert_eq!(json["lost"], json!([]), "{json}");
    backups.run("verify", &["latest", "--full"]).ok();
}

#[test]
fn what_is_cached_is_taken_along_only_when_that_is_asked_for() {
    let upstream = FaultyUpstream::start();
    let cached = image(b"{}", &[], &json!({}));
    upstream.put_blob(b"{}");
    upstream.put_manifest("1", &cached.media_type, &cached.bytes);
    let file = format!("[[upstream]]\nhost = \"hub.example\"\nurl = \"{}\"\n", upstream.url());
    let Scene { mut server, backups, .. } = scene_with(&file);
    server.push_image("app", "v1", 1);
    server.get("/v2/hub.example/box/manifests/1").send().expect(200);
    let data = server.data();
    let creates = || {
        for (flags, with_cached, tags) in [(&[][..], false, 1), (&["--include-cache"], true, 2)] {
            let arguments = [&["--json", "--data", data.to_str().unwrap()], flags].concat();
            let json = backups.run("create", &arguments).ok().json();
            assert_eq!((&json["withCached"], &json["tags"]), (&with_cached.into(), &tags.into()), "{json}");
        }
    };
    creates();
    server.stop();
    creates();
}

#[test]
fn users_and_tokens_are_restored_and_open_uploads_and_events_are_not() {
    // Nobody takes the events.
    let hook = "[[notifications.endpoint]]\nname = \"hook\"\nurl = \"http://127.0.0.1:1/\"\n";
    let Scene { mut server, backups, .. } = scene_with(hook);
    let (program, data) = (env!("CARGO_BIN_EXE_orlop"), server.data());
    let image = server.push_image("app", "v1", 1);
    let script = format!("echo sesame | {program} user add anna --password-stdin --data {}", data.display());
    Said::of(Command::new("sh").args(["-c", &script])).ok();
    let token = orlop(&server, &["token", "create", "ci", "--scope", "**:pull", "--json"]);
    let token: Value = serde_json::from_str(&token).unwrap();
    let anna = format!("Basic {}", STANDARD.encode("anna:sesame"));
    let ci = format!("Bearer {}", token["secret"].as_str().unwrap());
    let begun = server.post("/v2/app/blobs/uploads/").header("authorization", &anna).body(b"").send();
    let upload = begun.expect(202).location();
    let sent = server.patch(&upload).header("authorization", &anna).stream(b"so far").send();
    let upload = sent.expect(202).location();
    server.stop();
    let uploads_and_events = || -> (u64, u64) {
        let status: Value = serde_json::from_str(&orlop(&server, &["status", "--json"])).unwrap();
        (status["uploads"].as_u64().unwrap(), status["events"]["kept"].as_u64().unwrap())
    };
    let (uploads, events) = uploads_and_events();
    assert!(uploads == 1 && events > 0, "{uploads} {events}");
    backups.create(&data);
    fs::remove_dir_all(&data).unwrap();
    backups.restore("latest", &data).ok();
    assert_eq!(uploads_and_events(), (0, 0));
    server.run_again();
    for who in [&anna, &ci] {
        let reply = server.get("/v2/app/manifests/v1").header("authorization", who).send();
        reply.expect(200).expect_body(&image.bytes);
    }
    server.get("/v2/").send().expect_error(401, "UNAUTHORIZED");
    let reply = server.get(&upload).header("authorization", &anna).send();
    reply.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
}
