//! A first and a second snapshot of ten thousand images, and restoring them, beside `cp -a` and restic.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures_util::future::try_join_all;
use orlop::oci::{Reference, Tag};
use orlop::registry::{Actor, Error, ManifestPut};
use tokio::runtime::Runtime;

use crate::figures::median;
use crate::store::{MANIFEST, Store, manifest, put_blob};
use crate::tools::{orlop, remove, run, settle, taken};

const ROUNDS: usize = 3;

/// How many images there are at first, and how many come between the two snapshots.
const IMAGES: u64 = 10_000;
const MORE: u64 = 100;

/// In how many repositories they are.
const REPOSITORIES: u64 = 100;

/// The bytes of the layer that all have, of the one that a repository shares, and of each image's own.
const BASE: usize = 8 << 20;
const SHARED: usize = 1 << 20;
const OWN: usize = 64 << 10;

/// How many pushes are under way at once while the store is made.
const AT_ONCE: u64 = 512;

const NAMES: [&str; 3] = ["orlop backup", "cp -a", "restic"];
const STEPS: [&str; 3] = ["first", "second", "restore"];

/// What the rounds have measured of one step with one tool.
#[derive(Default)]
struct Figures {
    seconds: Vec<f64>,
    bytes: Vec<f64>,
}

/// Prints the comparison.
#[expect(clippy::cast_precision_loss, reason = "three digits are read")]
pub(crate) fn report(folder: &Path) {
    let runtime = Runtime::new().expect("it starts");
    let tools = Tools { folder: folder.to_owned() };
    runtime.block_on(push(&tools.data(), 0..IMAGES));
    let mut figures: BTreeMap<(usize, usize), Figures> = BTreeMap::new();
    println!(
        "## {IMAGES} images ({} MiB), then {MORE} more, from an empty page cache\n\n\
         | round | step | | s | MiB on the disk |\n| --- | --- | --- | --- | --- |",
        taken(&tools.data()) >> 20
    );
    for round in 0..ROUNDS {
        (0..NAMES.len()).for_each(|tool| tools.clear(tool));
        for (step, name) in STEPS.iter().enumerate() {
            if step == 1 {
                let first = IMAGES + MORE * round as u64;
                runtime.block_on(push(&tools.data(), first..first + MORE));
            }
            for turn in 0..NAMES.len() {
                // Who goes first changes.
                let tool = (turn + round) % NAMES.len();
                settle();
                let seconds = tools.step(tool, step).as_secs_f64();
                let bytes = taken(&tools.target(tool)) as f64 / f64::from(1 << 20);
                println!("| {} | {name} | {} | {seconds:.2} | {bytes:.0} |", round + 1, NAMES[tool]);
                let figures = figures.entry((step, tool)).or_default();
                figures.seconds.push(seconds);
                figures.bytes.push(bytes);
            }
        }
    }
    println!("\n| median | | s | × cp -a | MiB on the disk |\n| --- | --- | --- | --- | --- |");
    for ((step, tool), each) in &figures {
        let copy = median(&figures[&(*step, 1)].seconds);
        let (seconds, bytes) = (median(&each.seconds), median(&each.bytes));
        println!(
            "| {} | {} | {seconds:.2} | {:.2} | {bytes:.0} |",
            STEPS[*step],
            NAMES[*tool],
            seconds / copy
        );
    }
    println!();
}

/// What is compared.
struct Tools {
    folder: PathBuf,
}

impl Tools {
    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where a tool keeps its backups.
    fn target(&self, tool: usize) -> PathBuf {
        self.folder.join(format!("backup-{tool}"))
    }

    fn restored(&self) -> PathBuf {
        self.folder.join("restored")
    }

    fn restic(&self) -> Command {
        let mut command = Command::new("restic");
        command
            .arg("--repo")
            .arg(self.target(2))
            .args(["--quiet", "--no-cache"])
            .env("RESTIC_PASSWORD", "bench");
        command
    }

    /// Forgets former backups, and prepares those who need it.
    fn clear(&self, tool: usize) {
        remove(&self.target(tool));
        if tool == 2 {
            run(self.restic().arg("init"));
        } else {
            std::fs::create_dir(self.target(tool)).expect("it can be made");
        }
    }

    /// Takes a backup, or restores the last one; durable when it returns.
    fn step(&self, tool: usize, step: usize) -> Duration {
        let (target, restored) = (self.target(tool), self.restored());
        let is_restore = step == 2;
        let mut command = match tool {
            0 => orlop(),
            1 => Command::new("cp"),
            _ => self.restic(),
        };
        match (tool, is_restore) {
            (0, false) => command.args(["backup", "create"]).arg(&target).arg("--data").arg(self.data()),
            (0, true) => {
                command.args(["backup", "restore"]).arg(&target).args(["latest", "--data"]).arg(&restored)
            }
            (1, false) => command.arg("-a").arg(self.data()).arg(target.join(STEPS[step])),
            (1, true) => command.arg("-a").arg(target.join(STEPS[1])).arg(&restored),
            (_, false) => command.arg("backup").arg(self.data()),
            (_, true) => command.args(["restore", "latest", "--target"]).arg(&restored),
        };
        let mut time = run(&mut command);
        // The others don't see to it themselves.
        if tool == 1 || is_restore {
            time += run(Command::new("sync").arg("--file-system").arg(&self.folder));
        }
        if is_restore {
            remove(&restored);
        }
        time
    }
}

/// Pushes the images with these numbers.
async fn push(data: &Path, numbers: std::ops::Range<u64>) {
    let store = Store::unsynced(data);
    let mut next = numbers.start;
    while next < numbers.end {
        let some = next..numbers.end.min(next + AT_ONCE);
        next = some.end;
        // Each layer once, and before the images.
        for number in some.clone().filter(|number| *number < REPOSITORIES) {
            let repository = store.repository(number);
            for layer in [noise(0, BASE), noise(1 + number, SHARED)] {
                put_blob(&repository, layer).await.expect("it is pushed");
            }
        }
        let pushes = some.map(|number| {
            let repository = store.repository(number % REPOSITORIES);
            tokio::spawn(async move {
                let config = format!("{{\"image\":{number}}}");
                let own = noise(1_000_000 + number, OWN);
                put_blob(&repository, config.clone()).await?;
                put_blob(&repository, own.clone()).await?;
                let layers = [noise(0, BASE), noise(1 + number % REPOSITORIES, SHARED), own];
                let put = ManifestPut {
                    payload: manifest(&config, &layers, "bench").into(),
                    media_type: MANIFEST.parse().expect("it is a media type"),
                    reference: Reference::Tag(format!("v{number}").parse::<Tag>().expect("it is a tag")),
                    tags: Vec::new(),
                    actor: Actor::anonymous(),
                };
                repository.manifests().put(put).await?;
                Ok::<_, Error>(())
            })
        });
        let ended = try_join_all(pushes).await.expect("no push panics");
        ended.into_iter().collect::<Result<(), _>>().expect("images are pushed");
    }
    store.registry.close().await;
}

/// Bytes that nothing compresses, the same for the same seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    while bytes.len() < len {
        // SplitMix64.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes
}
