//! Taking a snapshot.

use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::thread;

use serde::Serialize;
use serde_json::json;

use super::backup::Backup;
use super::directory::write_file;
use super::form::Form;
use super::metadata_copy::CopyWriter;
use super::store::{Amount, Intake};
use super::{Error, Progress, Snapshot, SnapshotName, Step, Tell, sums};
use crate::fsio::{Access, Disk, FileError, FileReader, FileWriter, Turn, in_background};
use crate::metadata::{Content, Export, ExportedTag, SCHEMA, Table, content, is_manifest};
use crate::oci::{Digest, RepositoryName};
use crate::registry::{CollectionHold, Registry};

/// The bytes that are read and written at a time.
const BUFFER: usize = 1 << 20;

/// So often progress is told, in rows.
const TOLD_ROWS: u64 = 10_000;

/// How many times as long as it took to bring content until it was synced the copying rests behind that, where others push meanwhile:
/// they wait for the same journal.
const REST: u32 = 1;

/// The folder in a data directory for the files of snapshots that go elsewhere, or are encrypted, while they are made.
const FOLDER: &str = "backup";

/// How a snapshot is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CreateOptions {
    /// With what is cached of upstreams.
    pub with_cached: bool,
    /// Blobs by hard links where that can be done: they cost nothing, and share the sector that fails.
    pub link: bool,
}

/// Takes a snapshot of all that the registry holds as of one instant, while it goes on.
///
/// Content that the directory has isn't copied again. On return the snapshot is durable; after an error or a crash there is none,
/// and what was copied is there for the next one. While somebody copies the directory, the snapshot waits for its name. The hold
/// has to be taken before, and ends when all has been read. Blocks.
pub fn create(
    registry: &Registry,
    hold: CollectionHold,
    backup: &Backup,
    options: CreateOptions,
    tell: Tell<'_>,
) -> Result<Snapshot, Error> {
    let _lock = backup.lock()?;
    let disk = backup.disk();
    let workshop = backup.workshop(&registry.data().join(FOLDER))?;
    let number = backup.names()?.last().map_or(1, |last| last.number() + 1);
    let taken_at = registry.now();
    let mut writing = Writing { backup, dir: &workshop, table: Table::Meta, open: None, tell: &mut *tell };
    registry.export(options.with_cached, &mut writing)?;
    let written = writing.finish()?;
    // Whoever pushes meanwhile comes first. The export itself doesn't give way: the longer it takes, the more the file grows.
    let Copied { blobs, added, lost } = in_background(|| {
        let mut copying = Copying {
            link: options.link,
            disk,
            dir: &workshop,
            intake: backup.intake(&workshop)?,
            turn: Turn::begin(registry.changes()),
            syncs: 0,
            registry,
            lost: Vec::new(),
            tell: &mut *tell,
        };
        copying.payloads()?;
        let blobs = copying.blobs()?;
        let lost = copying.lost.iter().chain(copying.intake.lost()).map(ToString::to_string);
        Ok::<_, Error>(Copied { blobs, added: copying.intake.added(), lost: lost.collect() })
    })?;
    let name = SnapshotName::new(number, taken_at);
    let snapshot = Snapshot {
        name: name.clone(),
        taken_at: taken_at.to_rfc3339(),
        taken_at_millis: taken_at.millis(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        schema: SCHEMA,
        with_cached: options.with_cached,
        tags: written.tags,
        manifests: written.manifests.files,
        blobs: blobs.files,
        bytes: blobs.bytes + written.manifests.bytes,
        added_files: added.files,
        added_bytes: added.bytes,
        absent: written.absent,
        lost,
        rows: written.rows,
    };
    if backup.is_encrypted() {
        seal(disk, backup.form(), &workshop)?;
    } else {
        disk.remove(&workshop.join(sums::CONTENTS))?;
        write_file(disk, &workshop.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    }
    let text = serde_json::to_vec_pretty(&snapshot).expect("it has nothing that JSON hasn't");
    write_file(disk, &workshop.join("snapshot.json"), &text)?;
    let sums = sums::of(disk, backup.form(), &workshop)?;
    write_file(disk, &workshop.join(sums::NAME), sums.as_bytes())?;
    drop(hold);
    let _names = backup.lock_names_patiently(&mut || say_waiting(tell))?;
    let mut files = sums::files(backup.form());
    // Last, since it says that all the others are there.
    files.push(sums::NAME.to_owned());
    backup.store().publish(&name, &workshop, &files)?;
    Ok(snapshot)
}

/// Encrypts the files that tell names.
fn seal(disk: &dyn Disk, form: &Form, workshop: &Path) -> Result<(), Error> {
    for name in ["absent.jsonl", "index.json", "metadata.zst"] {
        let (from, to) = (workshop.join(name), workshop.join(form.name(name)));
        disk.remove(&to)?;
        let failed = |source| FileError::new("encrypt", &from, source);
        let missing = || Error::Damaged { path: from.clone(), reason: "it isn't there".to_owned() };
        let mut source = FileReader::new(disk.open(&from, Access::Read)?.ok_or_else(missing)?);
        let target = BufWriter::with_capacity(BUFFER, FileWriter::new(disk.create(&to)?));
        let mut target = form.writer(target).map_err(failed)?;
        std::io::copy(&mut source, &mut target).map_err(failed)?;
        target.finish().and_then(|mut target| target.flush()).map_err(failed)?;
        disk.remove(&from)?;
    }
    Ok(())
}

/// What an export has written.
#[derive(Debug, Default)]
struct Written {
    tags: u64,
    manifests: Amount,
    absent: u64,
    rows: u64,
}

/// An entry of `index.json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexEntry<'a> {
    media_type: &'a str,
    digest: &'a Digest,
    size: u64,
    annotations: IndexAnnotations<'a>,
}

#[derive(Serialize)]
struct IndexAnnotations<'a> {
    #[serde(rename = "org.opencontainers.image.ref.name")]
    name: &'a str,
}

type Out = BufWriter<FileWriter>;

/// Takes an export: everything but the bytes of blobs. Payloads that the backup hasn't got wait in one file, since making a file
/// for each takes longer than the export should. The list of content says what is to be copied; where the backup is encrypted it stays,
/// for those who can't read the names, and has the manifests too.
struct Writing<'a> {
    backup: &'a Backup,
    dir: &'a Path,
    /// Whose rows come.
    table: Table,
    open: Option<Open>,
    tell: Tell<'a>,
}

/// The files of an export.
struct Open {
    metadata: CopyWriter,
    index: Out,
    absent: Out,
    payloads: Out,
    contents: Out,
    written: Written,
}

const PAYLOADS: &str = "payloads.tmp";

impl Writing<'_> {
    fn open(&mut self) -> &mut Open {
        self.open.as_mut().expect("an export begins with a restart")
    }

    fn line(&self, name: &str, write: impl FnOnce() -> std::io::Result<()>) -> Result<(), Error> {
        Ok(write().map_err(|source| FileError::new("write", &self.dir.join(name), source))?)
    }

    /// Ends the files.
    fn finish(mut self) -> Result<Written, Error> {
        let Open { metadata, mut index, mut absent, mut payloads, mut contents, mut written } =
            self.open.take().expect("an export begins with a restart");
        written.rows = metadata.finish()?;
        self.line("index.json", || index.write_all(b"]}").and_then(|()| index.flush()))?;
        self.line("absent.jsonl", || absent.flush())?;
        self.line(PAYLOADS, || payloads.flush())?;
        self.line(sums::CONTENTS, || contents.flush())?;
        Ok(written)
    }
}

impl Export for Writing<'_> {
    type Error = Error;

    fn restart(&mut self) -> Result<(), Error> {
        let disk = self.backup.disk();
        let out = |name: &str| {
            let path = self.dir.join(name);
            disk.remove(&path)?;
            Ok::<_, Error>(BufWriter::with_capacity(BUFFER, FileWriter::new(disk.create(&path)?)))
        };
        let metadata = CopyWriter::create(disk, self.dir.join("metadata.zst"), SCHEMA)?;
        let (mut index, absent) = (out("index.json")?, out("absent.jsonl")?);
        let (payloads, contents) = (out(PAYLOADS)?, out(sums::CONTENTS)?);
        let head =
            br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":["#;
        self.line("index.json", || index.write_all(head))?;
        self.open = Some(Open { metadata, index, absent, payloads, contents, written: Written::default() });
        Ok(())
    }

    fn payload(&mut self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        let len = bytes.len() as u64;
        let is_there = self.backup.has(digest, len)?;
        let open = self.open();
        open.written.manifests.add(len);
        if is_there {
            return Ok(());
        }
        let (key, len) = (digest.to_key(), u32::try_from(bytes.len()).expect("manifests are bounded"));
        let key_len = u8::try_from(key.len()).expect("a digest is short");
        let parts: [&[u8]; 4] = [&[key_len], &key, &len.to_be_bytes(), bytes];
        let out = &mut open.payloads;
        let wrote = parts.iter().try_for_each(|part| out.write_all(part));
        self.line(PAYLOADS, || wrote)
    }

    fn tag(&mut self, tag: ExportedTag<'_>) -> Result<(), Error> {
        let ExportedTag { repository, tag, digest, media_type, size } = tag;
        let open = self.open();
        let separator = if open.written.tags == 0 { "" } else { "," };
        open.written.tags += 1;
        let name = format!("{repository}:{tag}");
        let entry = IndexEntry {
            media_type: media_type.as_str(),
            digest,
            size,
            annotations: IndexAnnotations { name: &name },
        };
        let entry = serde_json::to_string(&entry).expect("it has nothing that JSON hasn't");
        let wrote = write!(open.index, "{separator}\n{entry}");
        self.line("index.json", || wrote)
    }

    fn absent(&mut self, repository: &RepositoryName, parent: &Digest, child: &Digest) -> Result<(), Error> {
        let open = self.open();
        open.written.absent += 1;
        let entry = json!({
            "repository": repository.as_str(),
            "manifest": parent.to_string(),
            "digest": child.to_string(),
        });
        let wrote = writeln!(open.absent, "{entry}");
        self.line("absent.jsonl", || wrote)
    }

    fn table(&mut self, table: Table) -> Result<(), Error> {
        self.table = table;
        self.open().metadata.table(table.name())
    }

    fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let is_manifest = is_manifest(self.table.name());
        if (!is_manifest || self.backup.is_encrypted())
            && let Some(content) = content(self.table.name(), key, value)?
        {
            let kind = if is_manifest { "manifest" } else { "blob" };
            let out = &mut self.open().contents;
            let wrote = match content {
                Content::Canonical(digest, len) => writeln!(out, "{digest} {len} {kind}"),
                Content::Alias(alias, canonical) => writeln!(out, "{alias} {canonical} {kind}"),
            };
            self.line(sums::CONTENTS, || wrote)?;
        }
        let open = self.open();
        open.metadata.row(key, value)?;
        let rows = open.metadata.rows();
        if !rows.is_multiple_of(TOLD_ROWS) {
            return Ok(());
        }
        say(self.tell, Step::Metadata, rows, None)
    }
}

/// Tells how far the work has come; an error where it should end.
pub(super) fn say(tell: Tell<'_>, step: Step, done: u64, total: Option<u64>) -> Result<(), Error> {
    if tell(Progress { step, done, total }).is_break() { Err(Error::Stopped) } else { Ok(()) }
}

/// Tells that somebody else has to end first.
pub(super) fn say_waiting(tell: Tell<'_>) -> Result<(), Error> {
    say(tell, Step::Waiting, 0, None)
}

/// What the copying has brought.
struct Copied {
    /// What there is of blobs.
    blobs: Amount,
    /// What the backup hadn't got.
    added: Amount,
    /// Content that couldn't be read, or was wrong.
    lost: Vec<String>,
}

/// Brings content to the backup that it hasn't got, by the files of an export.
struct Copying<'a> {
    disk: &'a dyn Disk,
    /// Where these files are.
    dir: &'a Path,
    intake: Box<dyn Intake + 'a>,
    registry: &'a Registry,
    /// What has been done since the last rest.
    turn: Turn,
    /// How often it was synced when that began.
    syncs: u64,
    link: bool,
    /// Manifests whose bytes were wrong.
    lost: Vec<Digest>,
    tell: Tell<'a>,
}

impl Copying<'_> {
    /// Brings the payloads that wait.
    fn payloads(&mut self) -> Result<(), Error> {
        let path = self.dir.join(PAYLOADS);
        let Some(file) = self.disk.open(&path, Access::Read)? else { return Ok(()) };
        let mut input = BufReader::with_capacity(BUFFER, FileReader::new(file));
        let broken = |source| Error::from(FileError::new("read", &path, source));
        let mut byte = [0];
        while input.read(&mut byte).map_err(broken)? == 1 {
            let mut key = vec![0; byte[0].into()];
            let mut len = [0; 4];
            input.read_exact(&mut key).and_then(|()| input.read_exact(&mut len)).map_err(broken)?;
            let mut bytes = vec![0; u32::from_be_bytes(len) as usize];
            input.read_exact(&mut bytes).map_err(broken)?;
            let digest =
                Digest::from_key(&key).ok_or_else(|| broken(std::io::ErrorKind::InvalidData.into()))?;
            if Digest::of(digest.algorithm(), &bytes) != digest {
                self.lost.push(digest);
            } else if !self.intake.has(&digest, bytes.len() as u64)? {
                self.intake.bytes(&digest, bytes)?;
                self.rest();
            }
        }
        self.disk.remove(&path)?;
        Ok(())
    }

    /// Copies the blobs, and gives content that is known by another digest that name too. Returns what there is of blobs.
    fn blobs(&mut self) -> Result<Amount, Error> {
        let (mut all, mut missing) = (Amount::default(), 0);
        self.each(|copying, content| {
            if let Content::Canonical(digest, len) = content {
                all.add(len);
                if !copying.intake.has(&digest, len)? {
                    missing += len;
                }
            }
            Ok(())
        })?;
        let mut done = 0;
        self.each(|copying, content| match content {
            Content::Canonical(digest, len) if !copying.intake.has(&digest, len)? => {
                done += len;
                let from = copying.registry.blob_path(&digest);
                if !(copying.link && copying.intake.link(&from, &digest, len)?) {
                    copying.intake.file(&from, &digest, len)?;
                }
                copying.rest();
                say(copying.tell, Step::Copying, done, Some(missing.max(done)))
            }
            Content::Canonical(..) | Content::Alias(..) => Ok(()),
        })?;
        self.intake.settle()?;
        self.each(|copying, content| match content {
            Content::Alias(alias, canonical) => copying.intake.alias(&alias, &canonical),
            Content::Canonical(..) => Ok(()),
        })?;
        Ok(all)
    }

    /// Leaves the disk to those who push, if something was synced since the last time.
    fn rest(&mut self) {
        let syncs = self.intake.syncs();
        if syncs != self.syncs {
            thread::sleep(self.turn.rest(self.registry.changes(), REST));
            self.turn = Turn::begin(self.registry.changes());
            self.syncs = syncs;
        }
    }

    /// Hands the blobs of the list, and the aliases of all content, to `take`.
    fn each(&mut self, mut take: impl FnMut(&mut Self, Content) -> Result<(), Error>) -> Result<(), Error> {
        let path = self.dir.join(sums::CONTENTS);
        let missing = || Error::Damaged { path: path.clone(), reason: "it isn't there".to_owned() };
        let list = FileReader::new(self.disk.open(&path, Access::Read)?.ok_or_else(missing)?);
        // Payloads are there by now.
        sums::each_listed(list, &path, &mut |content, is_manifest| {
            if is_manifest { Ok(()) } else { take(self, content) }
        })
    }
}
