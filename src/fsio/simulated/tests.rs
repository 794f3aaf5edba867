//! What the simulated disk may lose, and what it may not.

use super::{Fault, SimulatedDisk};
use crate::fsio::{Access, Disk, DiskFile, Entry, copy_durable};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// Enough seeds for every kind of loss, several times.
const SEEDS: std::ops::Range<u64> = 0..64;

fn read(disk: &SimulatedDisk, path: &str) -> Option<Vec<u8>> {
    let file = disk.open(Path::new(path), Access::Read).unwrap()?;
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    let read = file.read_at(&mut bytes, 0).unwrap();
    assert_eq!(read, bytes.len());
    Some(bytes)
}

/// Everything that a file may hold after a cut at this moment.
fn outcomes(disk: &SimulatedDisk, path: &str) -> BTreeSet<Option<Vec<u8>>> {
    SEEDS.map(|seed| read(&disk.reboot(seed), path)).collect()
}

#[expect(clippy::unnecessary_wraps, reason = "the counterpart of `None`")]
fn some(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(bytes.to_vec())
}

/// A disk with a durable, empty file `/f`.
fn disk_with_file() -> (SimulatedDisk, Box<dyn DiskFile>) {
    let disk = SimulatedDisk::new();
    let file = disk.create(Path::new("/f")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    (disk, file)
}

#[test]
fn unsynced_bytes_may_be_there_or_not_and_synced_ones_are() {
    let (disk, file) = disk_with_file();
    file.write_at(b"one", 0).unwrap();
    let before = outcomes(&disk, "/f");
    assert!(before.contains(&some(b"")) && before.contains(&some(b"one")), "{before:?}");
    assert!(before.contains(&some(&[0; 3])), "a length without its bytes: {before:?}");
    file.sync().unwrap();
    assert_eq!(outcomes(&disk, "/f"), BTreeSet::from([some(b"one")]));
}

#[test]
fn a_synced_file_whose_directory_is_not_may_have_no_name() {
    let disk = SimulatedDisk::new();
    let file = disk.create(Path::new("/f")).unwrap();
    file.write_at(b"one", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&disk, "/f"), BTreeSet::from([None, some(b"one")]));
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(outcomes(&disk, "/f"), BTreeSet::from([some(b"one")]));
}

#[test]
fn a_name_is_no_promise_about_the_bytes() {
    let (disk, file) = disk_with_file();
    file.write_at(&[7; 600], 0).unwrap();
    let found = outcomes(&disk, "/f");
    let torn = |bytes: &Vec<u8>| bytes.len() == 600 && bytes[..512] != [7; 512] && bytes[512..] == [7; 88];
    assert!(found.iter().flatten().any(torn), "the second sector without the first");
    assert!(
        found.iter().flatten().all(|bytes| bytes[..bytes.len().min(512)].windows(2).all(|w| w[0] == w[1]))
    );
}

#[test]
fn writes_may_be_reordered_between_two_syncs_but_not_across_one() {
    let (disk, file) = disk_with_file();
    file.set_len(1024).unwrap();
    file.sync().unwrap();
    file.write_at(b"a", 0).unwrap();
    file.write_at(b"b", 512).unwrap();
    let pairs = |disk: &SimulatedDisk| -> BTreeSet<(u8, u8)> {
        outcomes(disk, "/f").into_iter().flatten().map(|bytes| (bytes[0], bytes[512])).collect()
    };
    assert_eq!(pairs(&disk), BTreeSet::from([(0, 0), (0, b'b'), (b'a', 0), (b'a', b'b')]));
    file.sync().unwrap();
    file.write_at(b"c", 0).unwrap();
    assert_eq!(pairs(&disk), BTreeSet::from([(b'a', b'b'), (b'c', b'b')]));
}

#[test]
fn a_length_is_durable_after_a_sync_only() {
    let (disk, file) = disk_with_file();
    file.write_at(b"long", 0).unwrap();
    file.sync().unwrap();
    file.set_len(2).unwrap();
    assert_eq!(outcomes(&disk, "/f"), BTreeSet::from([some(b"lo"), some(b"long")]));
    file.sync().unwrap();
    assert_eq!(outcomes(&disk, "/f"), BTreeSet::from([some(b"lo")]));
}

#[test]
fn a_rename_is_old_or_new_until_its_directory_is_synced() {
    let (disk, file) = disk_with_file();
    file.write_at(b"old", 0).unwrap();
    file.sync().unwrap();
    let new = disk.create(Path::new("/new")).unwrap();
    new.write_at(b"new", 0).unwrap();
    new.sync().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.rename(Path::new("/new"), Path::new("/f")).unwrap();
    assert_eq!(outcomes(&disk, "/f"), BTreeSet::from([some(b"old"), some(b"new")]));
    for seed in SEEDS {
        let disk = disk.reboot(seed);
        assert_eq!(read(&disk, "/f") == some(b"new"), read(&disk, "/new").is_none(), "one of two names");
    }
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(outcomes(&disk, "/f"), BTreeSet::from([some(b"new")]));
}

#[test]
fn of_a_rename_between_directories_the_old_name_may_come_back_until_its_own_directory_is_synced() {
    let disk = SimulatedDisk::new();
    for dir in ["/a", "/b"] {
        disk.create_dir(Path::new(dir)).unwrap();
    }
    disk.create(Path::new("/a/f")).unwrap().sync().unwrap();
    disk.sync_dir(Path::new("/a")).unwrap();
    disk.rename(Path::new("/a/f"), Path::new("/b/f")).unwrap();
    for seed in SEEDS {
        let disk = disk.reboot(seed);
        assert_ne!(read(&disk, "/a/f"), read(&disk, "/b/f"), "never without a name");
    }
    disk.sync_dir(Path::new("/b")).unwrap();
    assert_eq!(outcomes(&disk, "/b/f"), BTreeSet::from([some(b"")]));
    assert_eq!(outcomes(&disk, "/a/f"), BTreeSet::from([None, some(b"")]));
    disk.sync_dir(Path::new("/a")).unwrap();
    assert_eq!(outcomes(&disk, "/a/f"), BTreeSet::from([None]));
}

#[test]
fn a_removed_file_may_come_back_until_its_directory_is_synced() {
    let (disk, file) = disk_with_file();
    assert!(disk.remove(Path::new("/f")).unwrap());
    assert_eq!(outcomes(&disk, "/f"), BTreeSet::from([None, some(b"")]));
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(outcomes(&disk, "/f"), BTreeSet::from([None]));
    file.write_at(b"x", 0).unwrap();
    assert_eq!(file.len().unwrap(), 1, "an open file outlives its name");
}

#[test]
fn a_directory_made_with_its_parents_is_durable_and_one_made_alone_is_not() {
    let disk = SimulatedDisk::new();
    disk.create_dir(Path::new("/a/b/c")).unwrap();
    disk.make_dir(Path::new("/a/d")).unwrap();
    let mut found = BTreeSet::new();
    for seed in SEEDS {
        let disk = disk.reboot(seed);
        assert_eq!(disk.list(Path::new("/a/b")).unwrap(), [Entry { name: "c".into(), is_dir: true, len: 0 }]);
        found.insert(disk.list(Path::new("/a")).unwrap().len());
    }
    assert_eq!(found, BTreeSet::from([1, 2]));
}

#[test]
fn a_directory_that_was_lost_takes_along_what_was_synced_in_it() {
    let disk = SimulatedDisk::new();
    disk.make_dir(Path::new("/a")).unwrap();
    disk.create(Path::new("/a/f")).unwrap().sync().unwrap();
    disk.sync_dir(Path::new("/a")).unwrap();
    assert_eq!(outcomes(&disk, "/a/f"), BTreeSet::from([None, some(b"")]));
}

#[test]
fn all_files_and_directories_share_one_numbering() {
    let (disk, file) = disk_with_file();
    let other = disk.create(Path::new("/g")).unwrap();
    file.write_at(b"1", 0).unwrap();
    other.write_at(b"2", 0).unwrap();
    file.sync().unwrap();
    other.sync().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!((disk.operations(), disk.syncs()), (8, 4));
    assert_eq!(disk.describe(5), "5: write 1 bytes at 0 of /g");
    assert_eq!(disk.describe_sync(3), "7: sync /g");
    assert_eq!((disk.sync_window(1), disk.sync_window(2)), (3..=8, 7..=9));
    let mut replay = disk.replay();
    replay.advance_to(6);
    let disk = replay.reboot(0);
    assert_eq!((read(&disk, "/f"), read(&disk, "/g")), (some(b"1"), None));
}

#[test]
fn the_operation_in_flight_may_have_happened_unless_it_is_a_sync() {
    let (disk, file) = disk_with_file();
    disk.cut_power_at(3);
    let error = file.write_at(b"in flight", 0).unwrap_err();
    assert_eq!(error.to_string(), "the power is off");
    assert!(file.sync().is_err() && file.read_at(&mut [0], 0).is_err() && file.len().is_err());
    assert!(disk.create(Path::new("/g")).is_err() && disk.open(Path::new("/f"), Access::Read).is_err());
    assert_eq!(disk.operations(), 3);
    assert_eq!(read(&disk.reboot(0), "/f"), some(b""));
    assert_eq!(read(&disk.reboot(1), "/f"), some(b"in flight"));

    let (disk, file) = disk_with_file();
    file.write_at(b"bytes", 0).unwrap();
    disk.cut_power_at(4);
    assert!(file.sync().is_err());
    assert_eq!(read(&disk.reboot(0), "/f"), some(b""));
}

#[test]
fn an_ignored_sync_answers_success_and_does_nothing() {
    let (disk, file) = disk_with_file();
    disk.ignore_sync(2);
    file.write_at(b"one", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(read(&disk.reboot(0), "/f"), some(b""));
    file.sync().unwrap();
    assert_eq!(read(&disk.reboot(0), "/f"), some(b"one"));
    let mut without_the_third = disk.replay().ignoring_sync(3);
    while without_the_third.advance() {}
    assert_eq!(read(&without_the_third.reboot(0), "/f"), some(b""));
}

#[test]
fn a_failed_sync_gives_the_bytes_up_and_a_later_one_does_not_save_them() {
    let (disk, file) = disk_with_file();
    file.write_at(b"one", 0).unwrap();
    disk.fail_at(4, Fault::InputOutput);
    assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    file.sync().unwrap();
    assert_eq!(read(&disk, "/f"), some(b"one"));
    assert_eq!(read(&disk.reboot(0), "/f"), some(b""));

    // A page is written back as a whole, and what was given up can't undo what was written later.
    file.write_at(b"O", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&disk, "/f"), BTreeSet::from([some(b"One")]));
}

#[test]
fn a_full_disk_refuses_what_takes_room_and_nothing_else() {
    let (disk, file) = disk_with_file();
    disk.set_capacity(Some(4));
    file.write_at(b"1234", 0).unwrap();
    assert_eq!(disk.free_bytes(Path::new("/")).unwrap(), 0);
    assert_eq!(file.write_at(b"5", 4).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(file.set_len(5).is_err());
    file.write_at(b"4321", 0).unwrap();
    file.set_len(1).unwrap();
    assert_eq!(disk.free_bytes(Path::new("/")).unwrap(), 3);
    disk.set_capacity(None);
    file.write_at(b"56789", 4).unwrap();

    disk.fill_up_at(disk.operations() + 1);
    file.write_at(b"1", 0).unwrap();
    assert!(file.write_at(b"1", 4096).is_err());
    disk.copy_on_write();
    assert!(disk.create(Path::new("/g")).unwrap_err().is_full());
    assert!(file.write_at(b"1", 0).is_err(), "a disk that copies on write needs room to overwrite");
    file.sync().unwrap();
    assert_eq!(disk.free_bytes(Path::new("/")).unwrap(), 0);
    assert!(disk.remove(Path::new("/f")).unwrap());
    disk.set_capacity(None);
    disk.create(Path::new("/g")).unwrap();
}

#[test]
fn a_directory_is_locked_once_until_the_lock_is_dropped() {
    let disk = SimulatedDisk::new();
    let held = disk.lock(Path::new("/a")).unwrap();
    assert!(held.is_some() && disk.lock(Path::new("/a")).unwrap().is_none());
    drop(held);
    assert!(disk.lock(Path::new("/a")).unwrap().is_some());
}

#[test]
fn files_behave_as_on_a_real_disk() {
    let (disk, file) = disk_with_file();
    let path = Path::new("/f");
    assert_eq!(disk.create(path).unwrap_err().source.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(disk.create(Path::new("/no/f")).unwrap_err().source.kind(), io::ErrorKind::NotFound);
    assert_eq!(disk.rename(Path::new("/no"), path).unwrap_err().source.kind(), io::ErrorKind::NotFound);
    assert!(disk.open(Path::new("/no"), Access::Read).unwrap().is_none());
    assert!(!disk.remove(Path::new("/no")).unwrap());
    assert!(disk.list(Path::new("/no")).unwrap().is_empty());
    file.write_at(b"b", 3).unwrap();
    assert_eq!(read(&disk, "/f"), some(b"\0\0\0b"));
    assert_eq!((disk.len(path).unwrap(), disk.len(Path::new("/no")).unwrap()), (Some(4), None));
    let read_only = disk.open(path, Access::Read).unwrap().unwrap();
    assert!(read_only.write_at(b"x", 0).is_err());
    assert_eq!(read_only.read_at(&mut [0; 8], 9).unwrap(), 0);
}

#[test]
fn a_copy_is_whole_or_absent_after_a_cut_at_any_step() {
    let (disk, file) = disk_with_file();
    let content: Vec<u8> = (0..5000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
    file.write_at(&content, 0).unwrap();
    file.sync().unwrap();
    copy_durable(&disk, Path::new("/f"), Path::new("/copy")).unwrap();
    let mut replay = disk.replay();
    loop {
        for seed in SEEDS {
            let copy = read(&replay.reboot(seed), "/copy");
            assert!(copy.is_none() || copy.as_ref() == Some(&content), "{}", replay.completed());
        }
        if !replay.advance() {
            break;
        }
    }
    assert_eq!(outcomes(&disk, "/copy"), BTreeSet::from([Some(content)]));
}
