//! What others wait for while cold blobs come from a slow disk, which the kernel makes slow for the server alone.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::{major, minor};

use crate::blob::{Blob, MIB, REPOSITORY};
use crate::comparison::{Amount, Comparison, Contender};
use crate::load::exchange::request;
use crate::load::{Connection, Request, Turn, open};
use crate::measured::Measured;
use crate::processors::Processors;
use crate::program::Program;
use crate::pull::{file_of, forget};
use crate::reach::Wanted;
use crate::report::Report;
use crate::setting::Setting;

/// How much the disk reads in a second.
const SPEED: u64 = 64 * MIB;

/// How many cold blobs are pulled at once.
const PULLS: usize = 4;

/// How far apart other requests are.
const EVERY: Duration = Duration::from_millis(2);

/// How many connections those have.
const CONNECTIONS: u64 = 4;

/// Measures.
pub(crate) fn report(setting: &Setting, report: &mut Report) {
    let all = Processors::all();
    let bytes = setting.or_quick(128 * MIB, 16 * MIB);
    let folder = setting.folder();
    let data = folder.path().join("data");
    let orlop = Program::orlop_at(&data, &[], &all);
    let blobs: Vec<_> = (0..PULLS).map(|_| Blob::new(bytes)).collect();
    for blob in &blobs {
        blob.push(&orlop);
    }
    let small = Blob::new(4096);
    small.push(&orlop);
    let files: Vec<_> = blobs.iter().map(|blob| file_of(&data, blob)).collect();
    let nginx = Program::nginx(setting, &data, None, &all);
    let path = |file: &Path| format!("/{}", file.strip_prefix(&data).expect("it lies below").display());
    let tags = format!("/v2/{REPOSITORY}/blobs/{}", small.digest());
    let small = path(&file_of(&data, &small));

    let mut comparison = Comparison::new(
        format!(
            "Small requests each {} ms, while {PULLS} blobs come from a disk of {} MiB/s",
            EVERY.as_millis(),
            SPEED / MIB
        ),
        "meanwhile",
        Amount::Operations,
    );
    for (x, label, is_busy) in [(0.0, "nothing", false), (1.0, "cold pulls", true)] {
        let cold = |server: &Program, targets: Vec<String>, asked: &str| {
            if !is_busy {
                let stop = AtomicBool::new(false);
                return thread::scope(|scope| {
                    scope.spawn(|| {
                        thread::sleep(Duration::from_secs(setting.or_quick(8, 1)));
                        stop.store(true, Ordering::Relaxed);
                    });
                    others(server, asked, &stop, &all)
                });
            }
            for file in &files {
                forget(file);
            }
            let _slow = SlowDisk::for_server(server, &data);
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                let pulls = || {
                    let pull = |target: &String| request(server.address(), "GET", target).read();
                    let all: Vec<_> = thread::scope(|scope| {
                        let running: Vec<_> =
                            targets.iter().map(|target| scope.spawn(move || pull(target))).collect();
                        running.into_iter().map(|pull| pull.join().expect("the client ends well")).collect()
                    });
                    stop.store(true, Ordering::Relaxed);
                    assert!(all.iter().all(|read| *read == bytes), "all of it was pulled");
                };
                scope.spawn(pulls);
                others(server, asked, &stop, &all)
            })
        };
        let contenders = vec![
            Contender::new("nginx", |_| cold(&nginx, files.iter().map(|file| path(file)).collect(), &small)),
            Contender::new("orlop", |_| cold(&orlop, blobs.iter().map(Blob::target).collect(), &tags)),
        ];
        comparison.alternate(setting.rounds.min(5), x, label, contenders);
    }
    let summary = report.add(&comparison);
    let p99 = summary.of("cold pulls", "orlop").p99.unwrap_or(f64::NAN) * 1e3;
    report.reach(
        "other requests while cold blobs come from a slow disk: p99",
        "",
        Wanted::AtMost(5.0),
        p99,
        "ms",
    );
}

/// Asks for something small until `stop`, at its times.
fn others(server: &Program, target: &str, stop: &AtomicBool, on: &Processors) -> Measured {
    let asked = Request::new("GET", target, &[], b"");
    let before = server.cpu();
    let measured =
        open(server.address(), CONNECTIONS, EVERY, stop, on, async |connection: &mut Connection, _: Turn| {
            let (status, length) = connection.exchange(&asked).await;
            assert_eq!((status, length), (200, 4096), "{target}");
        });
    let cpu = server.cpu().zip(before).map(|(after, before)| after.saturating_sub(before));
    Measured { server_cpu: cpu, ..measured }
}

/// A group of processes that reads slowly from the disk of a folder; it ends, and with it the bound, with this value.
struct SlowDisk {
    group: PathBuf,
    parent: PathBuf,
}

impl SlowDisk {
    /// Bounds what the server reads. Needs root, and the kernel's control groups of either version.
    fn for_server(server: &Program, folder: &Path) -> SlowDisk {
        let device = fs::metadata(folder).expect("the folder is there").st_dev();
        let device = format!("{}:{}", major(device), minor(device));
        let of_version_1 = Path::new("/sys/fs/cgroup/blkio");
        let (parent, file, bound) = if of_version_1.exists() {
            (of_version_1, "blkio.throttle.read_bps_device", format!("{device} {SPEED}"))
        } else {
            (Path::new("/sys/fs/cgroup"), "io.max", format!("{device} rbps={SPEED}"))
        };
        let group = parent.join(format!("orlop-bench-{}", std::process::id()));
        fs::create_dir_all(&group).expect("root may make a control group");
        fs::write(group.join(file), bound).expect("the kernel bounds what is read from this disk");
        for process in server.processes() {
            fs::write(group.join("cgroup.procs"), process).expect("a process can be moved");
        }
        SlowDisk { group, parent: parent.to_owned() }
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        let inside = fs::read_to_string(self.group.join("cgroup.procs")).unwrap_or_default();
        for process in inside.lines() {
            let _ = fs::write(self.parent.join("cgroup.procs"), process);
        }
        let _ = fs::remove_dir(&self.group);
    }
}
