//! File systems of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Daemon, find, run};

/// A file system of its own, in a mount namespace that ends with it.
#[derive(Debug)]
pub(crate) struct Disk {
    // Fields drop in this order: the mount goes before the folder that it lies on.
    holder: Daemon,
    folder: TempDir,
}

impl Disk {
    /// So many MiB of memory.
    pub(crate) fn tmpfs(mebibytes: u32) -> Disk {
        let folder = TempDir::with_prefix("orlop-disk-").expect("a temporary folder can be made");
        Disk::mounted(&format!("mount -t tmpfs -o size={mebibytes}m tmpfs \"$0\""), folder)
    }

    /// A file of so many MiB with an ext4 in it.
    pub(crate) fn ext4(mebibytes: u32) -> Disk {
        Disk::in_a_file(mebibytes, "mkfs.ext4", "-q -m 0")
    }

    /// A file of so many MiB with an XFS in it, whose files can share blocks.
    pub(crate) fn xfs(mebibytes: u32) -> Disk {
        Disk::in_a_file(mebibytes, "mkfs.xfs", "-q")
    }

    fn in_a_file(mebibytes: u32, make: &str, flags: &str) -> Disk {
        let folder = TempDir::with_prefix("orlop-disk-").expect("a temporary folder can be made");
        let (make, image) = (find(make).display().to_string(), folder.path().with_extension("img"));
        let image = image.display();
        // The image needs no name once it is mounted.
        let script = format!(
            "truncate -s {mebibytes}M \"{image}\" && {make} {flags} \"{image}\" && \
             mount -o loop \"{image}\" \"$0\" && rm \"{image}\""
        );
        Disk::mounted(&script, folder)
    }

    fn mounted(mount: &str, folder: TempDir) -> Disk {
        assert!(rustix::process::geteuid().is_root(), "mounting a disk needs root");
        find("mount");
        let mut command = Command::new(find("unshare"));
        let script = format!("{mount} && echo mounted && exec tail -f /dev/null");
        command.args(["--mount", "--", "/bin/sh", "-ec", &script]).arg(folder.path());
        let (holder, _) = Daemon::start("mount", &command, "mounted");
        Disk { holder, folder }
    }

    /// The mounted folder, as everybody else sees it.
    pub(crate) fn path(&self) -> PathBuf {
        let folder = self.folder.path().strip_prefix("/").expect("temporary folders have absolute paths");
        Path::new("/proc").join(self.holder.pid().to_string()).join("root").join(folder)
    }

    /// The bytes that are free when all that was written is there.
    pub(crate) fn available(&self) -> u64 {
        self.sync();
        let state = rustix::fs::statvfs(self.path()).expect("it is mounted");
        state.f_bavail * state.f_frsize
    }

    /// Lets nobody write to it any more.
    pub(crate) fn protect(&self) {
        let pid = self.holder.pid().to_string();
        let mut command = Command::new(find("nsenter"));
        command.args(["--target", &pid, "--mount", "mount", "-o", "remount,ro"]);
        run(command.arg(self.folder.path()));
    }

    /// Takes so many MiB, to be given back later.
    pub(crate) fn take(&self, mebibytes: usize) {
        std::fs::write(self.path().join("taken"), vec![1; mebibytes << 20]).expect("there is room");
    }

    /// Takes all that is free, down to the last block.
    pub(crate) fn fill(&self) {
        let mut file =
            std::fs::File::options().append(true).open(self.path().join("taken")).expect("it is there");
        let piece = vec![1; 64 << 10];
        for size in [64 << 10, 4 << 10, 1] {
            while std::io::Write::write_all(&mut file, &piece[..size]).is_ok() {}
        }
        let _ = file.sync_all();
    }

    /// Gives all of it back; ext4 does so no sooner than its journal says that it was given.
    pub(crate) fn free(&self) {
        std::fs::remove_file(self.path().join("taken")).expect("it was taken");
        self.sync();
    }

    fn sync(&self) {
        run(Command::new(find("sync")).arg("--file-system").arg(self.path()));
    }
}
