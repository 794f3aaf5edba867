//! Large uploads: their checkpoints are made beside the sending, and hold whatever happens.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has to fail")]

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use orlop::blobs::UploadId;
use orlop::fsio::{Access, DirectoryLock, Disk, DiskFile, Entry, FileError, ReadNow, SimulatedDisk};
use orlop::oci::{Digest, DigestAlgorithm};
use orlop::registry::{Actor, BlobService, BlobWriter, Error, Options, Policy, Registry};

/// The distance of checkpoints.
const CHECKPOINT: usize = 64 << 20;

/// What the syncs of uploads do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Syncs {
    Pass,
    Wait,
    Fail,
}

/// A disk on which the syncs of uploads can be held up, or fail.
#[derive(Clone)]
struct GatedDisk {
    disk: SimulatedDisk,
    gate: Arc<(Mutex<Syncs>, Condvar)>,
}

impl GatedDisk {
    fn new(syncs: Syncs) -> GatedDisk {
        GatedDisk { disk: SimulatedDisk::new(), gate: Arc::new((Mutex::new(syncs), Condvar::new())) }
    }

    fn let_pass(&self) {
        *self.gate.0.lock().unwrap() = Syncs::Pass;
        self.gate.1.notify_all();
    }

    fn file(&self, path: &Path, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        if path.iter().any(|part| part == "uploads") {
            Box::new(GatedFile { file, gate: self.gate.clone() })
        } else {
            file
        }
    }
}

impl fmt::Debug for GatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GatedDisk")
    }
}

impl Disk for GatedDisk {
    fn make_dir(&self, dir: &Path) -> Result<bool, FileError> {
        self.disk.make_dir(dir)
    }

    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>, FileError> {
        Ok(self.file(path, self.disk.create(path)?))
    }

    fn open(&self, path: &Path, access: Access) -> Result<Option<Box<dyn DiskFile>>, FileError> {
        Ok(self.disk.open(path, access)?.map(|file| self.file(path, file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<bool, FileError> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), FileError> {
        self.disk.sync_dir(dir)
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>, FileError> {
        self.disk.list(dir)
    }

    fn len(&self, path: &Path) -> Result<Option<u64>, FileError> {
        self.disk.len(path)
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64, FileError> {
        self.disk.free_bytes(dir)
    }

    fn lock(&self, dir: &Path) -> Result<Option<DirectoryLock>, FileError> {
        self.disk.lock(dir)
    }
}

#[derive(Debug)]
struct GatedFile {
    file: Box<dyn DiskFile>,
    gate: Arc<(Mutex<Syncs>, Condvar)>,
}

impl DiskFile for GatedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn read_at_now(&self, buf: &mut [u8], offset: u64) -> io::Result<ReadNow> {
        self.file.read_at_now(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        let syncs = self.gate.0.lock().unwrap();
        let syncs = self.gate.1.wait_while(syncs, |syncs| *syncs == Syncs::Wait).unwrap();
        if *syncs == Syncs::Fail {
            return Err(io::Error::other("the disk can't"));
        }
        self.file.sync()
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        self.file.start_writeback(offset, len);
    }
}

fn open(disk: impl Disk) -> Registry {
    let mut options = Options::new("/data");
    options.disk = Arc::new(disk);
    options.policy = Policy { free_floor_bytes: 0, ..Policy::default() };
    Registry::open(options).unwrap()
}

fn blobs(registry: &Registry) -> BlobService {
    registry.namespace().repository(&"library/a".parse().unwrap()).blobs()
}

fn content(len: usize) -> Bytes {
    (0..len / 4).flat_map(|i| u32::try_from(i).unwrap().to_le_bytes()).collect::<Vec<u8>>().into()
}

/// Sends in pieces as a client's come.
async fn send(writer: &mut BlobWriter, content: &Bytes) -> Result<(), Error> {
    for start in (0..content.len()).step_by(200_000) {
        writer.write(content.slice(start..content.len().min(start + 200_000))).await?;
    }
    Ok(())
}

/// Hash and writing stood still at each checkpoint until all was synced and recorded.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_holds_up_nothing_and_a_power_cut_leaves_the_upload_there() {
    let disk = GatedDisk::new(Syncs::Wait);
    let content = content(CHECKPOINT + (9 << 20));
    let id: UploadId = {
        let registry = open(disk.clone());
        let mut writer = blobs(&registry).create(DigestAlgorithm::Sha256, &Actor::anonymous()).unwrap();
        let sending = send(&mut writer, &content);
        tokio::time::timeout(Duration::from_secs(60), sending).await.expect("it goes on").unwrap();
        disk.let_pass();
        assert_eq!(writer.flush().await.unwrap(), content.len() as u64);
        *writer.id()
    };
    for seed in 0..3 {
        let registry = open(disk.disk.reboot(seed));
        let mut writer = blobs(&registry).resume(&id).await.unwrap().expect("the upload is there");
        let size = usize::try_from(writer.size()).unwrap();
        assert_eq!(size, CHECKPOINT);
        send(&mut writer, &content.slice(size..)).await.unwrap();
        // The digest is that of the hash as it was recorded.
        let digest = Digest::of(DigestAlgorithm::Sha256, &content);
        assert_eq!(writer.commit(&digest).await.unwrap().size, content.len() as u64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_checkpoint_fails_is_gone_and_takes_no_room() {
    let disk = GatedDisk::new(Syncs::Fail);
    let registry = open(disk.clone());
    let mut writer = blobs(&registry).create(DigestAlgorithm::Sha256, &Actor::anonymous()).unwrap();
    let id = *writer.id();
    let content = content(CHECKPOINT + (1 << 20));
    let sent = send(&mut writer, &content).await;
    let failure = match sent {
        Ok(()) => writer.flush().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(failure.to_string().contains("the disk can't"), "{failure}");
    assert!(matches!(
        writer.commit(&Digest::of(DigestAlgorithm::Sha256, b"")).await,
        Err(Error::UploadUnknown)
    ));
    assert!(blobs(&registry).resume(&id).await.unwrap().is_none());
    assert!(disk.list(Path::new("/data/uploads")).unwrap().is_empty());
}
