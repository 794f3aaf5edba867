//! Pulls: noted in memory, and written down many at a time.
//!
//! No pull waits for a commit; a crash loses those of the last seconds. What is noted is taken out all at once and divided into batches
//! in the order of the table, so that a commit touches few of its pages. Each has a number, which is
//! written with it: so whoever asks is told of everything once, whether it is in memory, being written, or in the table,
//! and a batch whose commit failed is written again without being counted twice if it was durable after all.
//!
//! Docker and containerd ask for a tag by HEAD and pull the digest that they were told. So a pull by digest counts for the tag
//! that somebody has asked for just before.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use foldhash::HashMap;
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::{Error, Inner};
use crate::clock::Timestamp;
use crate::metadata::repositories::RepositoryId;
use crate::metadata::usage::{self, BatchRecord, UsageRecord};
use crate::metadata::{self, Metadata, Read, WriteTx, manifests, tags};
use crate::oci::{Digest, Tag};

/// Into how many parts, each with its own lock, the notes are divided.
const SHARDS: usize = 64;
/// The most rows that wait in one of them; further ones are lost, and counted.
const SHARD_ROWS: usize = 1024;
/// As many rows are written before their time: half of all that can wait. To write a row costs more than to answer a pull, so that a registry
/// of which many thousand images are pulled over and over adds their pulls up until their time has come.
const MANY: usize = SHARDS * SHARD_ROWS / 2;
/// A transaction writes so many rows, or those of one manifest, so that a push waits some milliseconds for it.
const BATCH_ROWS: usize = 256;
/// The most batches that are made at once: there are no more of them than rows.
const MOST_BATCHES: u64 = (SHARDS * SHARD_ROWS) as u64;
/// The most tags of which one part remembers beyond a batch that they were asked for.
const SHARD_ASKED: usize = 256;
/// A pull by digest so soon after its tag was asked for is one of the tag.
const PULL_FOLLOWS: u64 = 60_000;

/// How a manifest was used, or a tag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// How often it was pulled.
    pub pulls: u64,
    /// When it was last pulled.
    pub pulled_at: Option<Timestamp>,
    /// When it was last pulled, or asked for by HEAD, as those do who have it already.
    pub used_at: Option<Timestamp>,
}

impl From<UsageRecord> for Usage {
    fn from(record: UsageRecord) -> Usage {
        let time = |millis| (millis > 0).then(|| Timestamp::from_millis(millis));
        Usage { pulls: record.pulls, pulled_at: time(record.pulled_at), used_at: time(record.used_at) }
    }
}

/// What somebody did with a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Took its bytes.
    Pull,
    /// Asked what it is.
    Ask,
}

/// A manifest in a repository, by its canonical digest.
type Place = (RepositoryId, Digest);

/// The same, or a tag that points to it.
pub(super) type Named = (RepositoryId, Digest, Option<Tag>);

/// The pulls that are not written yet.
#[derive(Debug)]
pub(super) struct Pulls {
    shards: [Mutex<Shard>; SHARDS],
    /// The batches that are being written, or were written last.
    taken: RwLock<Taken>,
    /// Held by who writes. What is in it has yet to be written.
    unwritten: tokio::sync::Mutex<VecDeque<Arc<Batch>>>,
    /// The rows that wait in all shards.
    rows: AtomicUsize,
    many: Notify,
    /// Pulls lost since the last line in the log about it.
    lost: AtomicU64,
    /// Since when pulls are noted, where the table doesn't say so.
    since: Timestamp,
    has_begun: AtomicBool,
}

#[derive(Debug, Default)]
struct Shard {
    /// No batch that the notes will be in has a lower number, and none that was taken before a higher one.
    batch: u64,
    noted: HashMap<Place, Noted>,
    rows: usize,
    /// What was asked for before the notes were taken, and may yet be answered by a pull.
    asked: HashMap<Place, Asked>,
}

/// How a manifest was used, and under which tags, in their order; nearly always that is one, which lies here too, since an answer has no time
/// to look elsewhere.
#[derive(Debug, Clone, Default)]
struct Noted {
    manifest: UsageRecord,
    tags: SmallVec<[(Tag, UsageRecord); 1]>,
    asked: Option<Asked>,
}

/// The tag of a manifest that was asked for last.
#[derive(Debug, Clone)]
struct Asked {
    tag: Tag,
    at: u64,
    /// How often that was without a pull since.
    unanswered: u32,
}

/// Notes that were taken to be written, in the order of their keys, so that those of one transaction lie side by side in the table. They stay
/// until others are taken, for readers that began before they were written: as many rows at most as may wait beside them.
#[derive(Debug, Default)]
struct Taken {
    batches: Vec<Arc<Batch>>,
}

/// What is in memory of one use.
#[derive(Debug)]
struct InMemory {
    /// In the batch with this number.
    taken: (u64, UsageRecord),
    /// In no batch yet; none that it will be in has a lower number.
    waiting: (u64, UsageRecord),
}

#[derive(Debug, Default)]
struct Batch {
    number: u64,
    /// In the order of their places.
    noted: Vec<(Place, Noted)>,
}

impl Noted {
    fn of(&self, tag: Option<&Tag>) -> Option<&UsageRecord> {
        match tag {
            Some(tag) => self.place(tag).ok().map(|place| &self.tags[place].1),
            None => Some(&self.manifest),
        }
    }

    /// Where the tag is, or should be.
    fn place(&self, tag: &Tag) -> Result<usize, usize> {
        self.tags.binary_search_by(|(other, _)| other.cmp(tag))
    }

    fn rows(&self) -> usize {
        1 + self.tags.len()
    }

    /// The tag of which a pull by digest is one, if somebody has asked for it just before.
    fn answer(&mut self, now: u64) -> Option<Tag> {
        let asked = self.asked.as_mut().filter(|asked| asked.is_open(now))?;
        asked.unanswered -= 1;
        Some(asked.tag.clone())
    }

    /// Notes that its tag at this place was asked for.
    fn ask(&mut self, place: usize, now: u64) {
        let (tag, _) = &self.tags[place];
        match &mut self.asked {
            Some(asked) if asked.tag == *tag => {
                asked.at = now;
                asked.unanswered = asked.unanswered.saturating_add(1);
            }
            asked => *asked = Some(Asked { tag: tag.clone(), at: now, unanswered: 1 }),
        }
    }
}

impl Asked {
    /// Whether a pull by digest would be the one that it announced.
    fn is_open(&self, now: u64) -> bool {
        self.unanswered > 0 && now.saturating_sub(self.at) <= PULL_FOLLOWS
    }
}

impl Shard {
    /// Notes a use. Returns how many rows are new; `None` where there is no room for them.
    fn note(&mut self, place: Place, tag: Option<&Tag>, what: Use, used: &UsageRecord) -> Option<usize> {
        let (now, room) = (used.used_at, SHARD_ROWS - self.rows);
        let needed = 1 + usize::from(tag.is_some() || !self.asked.is_empty());
        let (noted, is_new) = match self.noted.entry(place) {
            Entry::Occupied(entry) => (entry.into_mut(), false),
            Entry::Vacant(_) if room < needed => return None,
            Entry::Vacant(entry) => {
                let asked = self.asked.remove(&place);
                (entry.insert(Noted { asked, ..Noted::default() }), true)
            }
        };
        let answered = match (what, tag) {
            (Use::Pull, None) => noted.answer(now),
            (Use::Pull, Some(_)) | (Use::Ask, _) => None,
        };
        let mut added = usize::from(is_new);
        if let Some(tag) = tag.or(answered.as_ref()) {
            let place = match noted.place(tag) {
                Ok(place) => place,
                Err(_) if added == room => return None,
                Err(place) => {
                    noted.tags.insert(place, (tag.clone(), UsageRecord::default()));
                    added += 1;
                    place
                }
            };
            noted.tags[place].1.add(used);
            if what == Use::Ask {
                noted.ask(place, now);
            }
        }
        noted.manifest.add(used);
        self.rows += added;
        Some(added)
    }

    /// Takes the notes out; what is in them of open questions stays.
    fn take(&mut self, now: u64, into: &mut Vec<(Place, Noted)>) -> usize {
        self.asked.retain(|_, asked| asked.is_open(now));
        for (place, mut noted) in self.noted.drain() {
            if let Some(asked) = noted.asked.take_if(|asked| asked.is_open(now))
                && self.asked.len() < SHARD_ASKED
            {
                self.asked.insert(place, asked);
            }
            into.push((place, noted));
        }
        std::mem::take(&mut self.rows)
    }
}

impl Taken {
    /// The batch that has a place, if one has, and what is noted there.
    fn get(&self, place: &Place) -> Option<(u64, &Noted)> {
        let is_before = |batch: &Arc<Batch>| batch.noted.last().is_some_and(|(last, _)| last < place);
        let batch = self.batches.get(self.batches.partition_point(is_before))?;
        let at = batch.noted.binary_search_by(|(other, _)| other.cmp(place)).ok()?;
        Some((batch.number, &batch.noted[at].1))
    }
}

impl Pulls {
    /// Begins behind the last batch that is written.
    pub(super) fn new(metadata: &Metadata, now: Timestamp) -> Result<Pulls, metadata::Error> {
        let written = metadata.read(usage::batch)?;
        let last = written.map_or(0, |written| written.last);
        let shard = || Mutex::new(Shard { batch: last + 1, ..Shard::default() });
        Ok(Pulls {
            shards: std::array::from_fn(|_| shard()),
            taken: RwLock::default(),
            unwritten: tokio::sync::Mutex::default(),
            rows: AtomicUsize::new(0),
            many: Notify::new(),
            lost: AtomicU64::new(0),
            since: now,
            has_begun: AtomicBool::new(written.is_some()),
        })
    }

    /// Since when pulls are noted.
    pub(super) fn since(&self, tx: &impl Read) -> Result<Timestamp, metadata::Error> {
        Ok(usage::batch(tx)?.map_or(self.since, |written| Timestamp::from_millis(written.since)))
    }

    fn shard(&self, digest: &Digest) -> MutexGuard<'_, Shard> {
        let place = usize::from(digest.as_bytes()[0]) % SHARDS;
        self.shards[place].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that somebody uses a manifest, under a tag or by its digest.
    pub(super) fn note(
        &self,
        now: Timestamp,
        id: RepositoryId,
        digest: &Digest,
        tag: Option<&Tag>,
        what: Use,
    ) {
        let now = now.millis();
        let used = match what {
            Use::Pull => UsageRecord { pulls: 1, pulled_at: now, used_at: now },
            Use::Ask => UsageRecord { pulls: 0, pulled_at: 0, used_at: now },
        };
        let mut shard = self.shard(digest);
        match shard.note((id, *digest), tag, what, &used) {
            Some(0) => {}
            Some(added) => {
                // Whoever takes them has the lock then.
                let before = self.rows.fetch_add(added, Ordering::Relaxed);
                if before < MANY && before + added >= MANY {
                    self.many.notify_one();
                }
            }
            None => {
                self.lost.fetch_add(used.pulls, Ordering::Relaxed);
                self.many.notify_one();
            }
        }
    }

    /// Waits until so much is noted that [`flush`] should not wait for its time.
    pub(super) async fn many(&self) {
        self.many.notified().await;
    }

    /// How manifests were used by whatever name, or tags that point to them, as of now.
    pub(super) fn usages(&self, metadata: &Metadata, of: &[Named]) -> Result<Vec<Usage>, metadata::Error> {
        loop {
            // What is in memory goes first: what is written meanwhile is then known by the number of its batch.
            let noted: Vec<_> = of.iter().map(|named| self.noted(named)).collect();
            if let Some(usages) = usages_beside(metadata, of, &noted)? {
                return Ok(usages);
            }
        }
    }

    /// When a manifest was last used by whatever name, in milliseconds since 1970, as the transaction and the memory have it; 0
    /// where it never was.
    pub(super) fn used_at(
        &self,
        tx: &impl Read,
        id: RepositoryId,
        digest: &Digest,
    ) -> Result<u64, metadata::Error> {
        let InMemory { taken, waiting } = self.noted(&(id, *digest, None));
        let written = usage::get(tx, id, digest, None)?;
        Ok([taken.1.used_at, waiting.1.used_at].into_iter().fold(written.used_at, u64::max))
    }

    fn noted(&self, (id, digest, tag): &Named) -> InMemory {
        let place = (*id, *digest);
        let of = |noted: &Noted| noted.of(tag.as_ref()).copied().unwrap_or_default();
        // Nothing goes from the notes into a batch meanwhile.
        let taken = self.taken.read().unwrap_or_else(PoisonError::into_inner);
        let shard = self.shard(digest);
        InMemory {
            taken: taken.get(&place).map(|(batch, noted)| (batch, of(noted))).unwrap_or_default(),
            waiting: (shard.batch, shard.noted.get(&place).map(of).unwrap_or_default()),
        }
    }

    /// Makes batches of all notes. Those before have to be written.
    fn take(&self, now: Timestamp) -> Vec<Arc<Batch>> {
        let mut taken = self.taken.write().unwrap_or_else(PoisonError::into_inner);
        let mut noted = Vec::with_capacity(self.rows.load(Ordering::Relaxed));
        let (mut rows, mut first) = (0, 0);
        // One after the other: whoever notes a pull waits for none of the others, nor for what follows.
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            rows += shard.take(now.millis(), &mut noted);
            first = shard.batch;
            shard.batch += MOST_BATCHES;
        }
        self.rows.fetch_sub(rows, Ordering::Relaxed);
        noted.sort_unstable_by_key(|(place, _)| *place);
        let batches = Batch::divide(noted, first);
        let written = std::mem::replace(&mut taken.batches, batches.clone());
        // Nobody has to wait until they are freed.
        drop(taken);
        drop(written);
        batches
    }
}

impl Batch {
    /// Batches, numbered from `number`, of what stands in the order of its places.
    fn divide(noted: Vec<(Place, Noted)>, number: u64) -> Vec<Arc<Batch>> {
        let mut batches: Vec<Batch> = Vec::new();
        let mut rows = 0;
        for one in noted {
            rows += one.1.rows();
            match batches.last_mut() {
                Some(batch) if rows <= BATCH_ROWS => batch.noted.push(one),
                _ => {
                    rows = one.1.rows();
                    batches.push(Batch { number: number + batches.len() as u64, noted: vec![one] });
                }
            }
        }
        batches.into_iter().map(Arc::new).collect()
    }

    /// Adds the batch to the tables, unless they have it. What is no more is left out, and a tag's part goes to where the tag
    /// points now.
    fn apply(&self, tx: &WriteTx<'_>, since: Timestamp) -> Result<(), metadata::Error> {
        let written = usage::batch(tx)?.unwrap_or(BatchRecord { since: since.millis(), last: 0 });
        if written.last >= self.number {
            return Ok(());
        }
        for ((id, digest), noted) in &self.noted {
            if manifests::exists(tx, *id, digest)? {
                usage::add(tx, *id, digest, None, &noted.manifest)?;
            }
            for (tag, used) in &noted.tags {
                if let Some(now) = tags::get(tx, *id, tag)? {
                    usage::add(tx, *id, &now.digest, Some(tag), used)?;
                }
            }
        }
        usage::set_batch(tx, BatchRecord { last: self.number, ..written })
    }
}

/// How they were used, as the tables have it and the memory had it; `None` where notes were taken in between, and some of them are
/// written, since nobody knows which.
fn usages_beside(
    metadata: &Metadata,
    of: &[Named],
    noted: &[InMemory],
) -> Result<Option<Vec<Usage>>, metadata::Error> {
    metadata.read(|tx| {
        let written = usage::batch(tx)?.map_or(0, |written| written.last);
        if noted.iter().any(|noted| noted.waiting.0 <= written) {
            return Ok(None);
        }
        let usage = |((id, digest, tag), noted): (&Named, &InMemory)| {
            let mut usage = usage::get(tx, *id, digest, tag.as_ref())?;
            for (_, more) in [noted.taken, noted.waiting].iter().filter(|(batch, _)| *batch > written) {
                usage.add(more);
            }
            Ok(usage.into())
        };
        of.iter().zip(noted).map(usage).collect::<Result<_, metadata::Error>>().map(Some)
    })
}

/// Records since when pulls are noted, unless that is known.
pub(super) async fn begin(inner: &Arc<Inner>) -> Result<(), Error> {
    let pulls = &inner.pulls;
    if pulls.has_begun.load(Ordering::Relaxed) {
        return Ok(());
    }
    let since = pulls.since.millis();
    let begin = move |tx: &WriteTx<'_>| match usage::batch(tx)? {
        Some(_) => Ok::<_, Error>(()),
        None => Ok(usage::set_batch(tx, BatchRecord { since, last: 0 })?),
    };
    inner.metadata.write(begin).await?;
    pulls.has_begun.store(true, Ordering::Relaxed);
    Ok(())
}

/// Writes everything down that was noted before. It may be given up at any moment, and goes on with the next call.
pub(super) async fn flush(inner: &Arc<Inner>) -> Result<(), Error> {
    let pulls = &inner.pulls;
    let mut unwritten = pulls.unwritten.lock().await;
    write(inner, &mut unwritten).await?;
    // Others may note more all the time, which is for the next call.
    if pulls.rows.load(Ordering::Relaxed) > 0 {
        unwritten.extend(pulls.take(inner.clock.now()));
        write(inner, &mut unwritten).await?;
    }
    let lost = pulls.lost.swap(0, Ordering::Relaxed);
    if lost > 0 {
        tracing::warn!(
            pulls = lost,
            "pulls were not counted: too many manifests were pulled at once, or the disk is slow"
        );
    }
    Ok(())
}

async fn write(inner: &Inner, unwritten: &mut VecDeque<Arc<Batch>>) -> Result<(), Error> {
    while let Some(batch) = unwritten.front() {
        let (batch, since) = (batch.clone(), inner.pulls.since);
        inner.metadata.write(move |tx| Ok::<_, Error>(batch.apply(tx, since)?)).await?;
        unwritten.pop_front();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::fsio::{Fault, SimulatedDisk};
    use crate::oci::{MediaType, Reference};
    use crate::registry::{Actor, DeletedName, ManifestPut, Options, Registry, Repository};
    use crate::telemetry::StorageMetrics;

    struct Bench {
        disk: SimulatedDisk,
        clock: Arc<ManualClock>,
        metrics: StorageMetrics,
        registry: Registry,
    }

    impl Bench {
        fn new() -> Bench {
            Bench::on(SimulatedDisk::new())
        }

        fn on(disk: SimulatedDisk) -> Bench {
            let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
            let metrics = StorageMetrics::default();
            let options = Options {
                disk: Arc::new(disk.clone()),
                clock: clock.clone(),
                metrics: metrics.clone(),
                ..Options::new("/data")
            };
            Bench { disk, clock, metrics, registry: Registry::open(options).unwrap() }
        }

        fn repository(&self) -> Repository {
            self.registry.namespace().repository(&"library/a".parse().unwrap())
        }

        /// Pushes an index of nothing, which `note` tells from others.
        async fn push(&self, note: &str, tags: &[&str]) -> Digest {
            let media_type: MediaType = "application/vnd.oci.image.index.v1+json".parse().unwrap();
            let payload = format!(
                r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[],"annotations":{{"note":"{note}"}}}}"#
            );
            let digest = Digest::of(crate::oci::DigestAlgorithm::Sha256, payload.as_bytes());
            let put = ManifestPut {
                payload: payload.into(),
                media_type,
                reference: Reference::Digest(digest),
                tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
                actor: Actor::anonymous(),
            };
            self.repository().manifests().put(put).await.unwrap();
            digest
        }

        fn pull(&self, reference: &str) {
            assert!(self.repository().manifests().get(&reference.parse().unwrap()).unwrap().is_some());
        }

        fn ask(&self, reference: &str) {
            assert!(self.repository().manifests().ask(&reference.parse().unwrap()).unwrap().is_some());
        }

        fn usage(&self, reference: &str) -> Usage {
            self.repository().manifests().usage(&reference.parse().unwrap()).unwrap().unwrap()
        }

        fn pulls(&self, reference: &str) -> u64 {
            self.usage(reference).pulls
        }
    }

    #[tokio::test]
    async fn many_pulls_cost_one_commit_and_are_known_before_it() {
        let bench = Bench::new();
        let digest = bench.push("one", &["v1", "latest"]).await.to_string();
        bench.registry.flush_pulls().await.unwrap();
        let commits = bench.metrics.commits();
        assert_eq!(bench.usage("v1"), Usage::default());
        for _ in 0..1000 {
            bench.pull("v1");
            bench.pull(&digest);
        }
        bench.clock.advance(Duration::from_secs(1));
        bench.pull("latest");
        let expected = |pulls, millis| {
            let at = Some(Timestamp::from_millis(millis));
            Usage { pulls, pulled_at: at, used_at: at }
        };
        for flushed in [false, true] {
            if flushed {
                bench.registry.flush_pulls().await.unwrap();
            }
            assert_eq!(bench.usage("v1"), expected(1000, 1_000_000));
            assert_eq!(bench.usage("latest"), expected(1, 1_001_000));
            assert_eq!(bench.usage(&digest), expected(2001, 1_001_000));
        }
        bench.registry.flush_pulls().await.unwrap();
        assert_eq!(bench.metrics.commits(), commits + 1);
    }

    #[tokio::test]
    async fn a_pull_by_digest_just_after_its_tag_was_asked_for_is_one_of_the_tag() {
        let bench = Bench::new();
        let digest = bench.push("one", &["v1", "v2"]).await.to_string();
        // As Docker and containerd do.
        bench.ask("v1");
        assert_eq!((bench.pulls("v1"), bench.pulls(&digest)), (0, 0));
        let asked = bench.usage("v1");
        assert!(asked.used_at.is_some() && asked.pulled_at.is_none());
        bench.registry.flush_pulls().await.unwrap();
        bench.pull(&digest);
        assert_eq!((bench.pulls("v1"), bench.pulls("v2"), bench.pulls(&digest)), (1, 0, 1));
        // Once for each time.
        bench.pull(&digest);
        assert_eq!((bench.pulls("v1"), bench.pulls(&digest)), (1, 2));
        bench.ask("v1");
        bench.ask("v2");
        bench.pull(&digest);
        assert_eq!((bench.pulls("v1"), bench.pulls("v2")), (1, 1));
        // And not for ever.
        bench.ask("v1");
        bench.clock.advance(Duration::from_secs(61));
        bench.pull(&digest);
        assert_eq!((bench.pulls("v1"), bench.pulls(&digest)), (1, 4));
        // Whoever asks for the digest has it already.
        bench.ask(&digest);
        let states = bench.repository().expiry().tags(None, 10).unwrap().items;
        let used: Vec<_> = states.iter().map(|state| state.pulled_at.map(Timestamp::millis)).collect();
        assert_eq!(used, [Some(1_000_000), Some(1_000_000)]);
        bench.ask("v2");
        let states = bench.repository().expiry().tags(None, 10).unwrap().items;
        assert_eq!(states[1].pulled_at, Some(bench.clock.now()));
        assert_eq!(bench.pulls(&digest), 4);
        assert_eq!(bench.usage(&digest).used_at, Some(bench.clock.now()));
    }

    #[tokio::test]
    async fn usage_follows_a_tag_goes_with_what_is_deleted_and_comes_back_with_it() {
        let bench = Bench::new();
        let one = bench.push("one", &["v1", "latest"]).await;
        for _ in 0..3 {
            bench.pull("latest");
        }
        bench.pull("v1");
        let two = bench.push("two", &["latest"]).await;
        // Noted for the one, and written when the tag was at the other.
        bench.registry.flush_pulls().await.unwrap();
        bench.pull("latest");
        assert_eq!(
            (bench.pulls("latest"), bench.pulls(&one.to_string()), bench.pulls(&two.to_string())),
            (4, 4, 1)
        );
        bench.registry.flush_pulls().await.unwrap();
        bench.push("three", &["latest"]).await;
        assert_eq!(bench.pulls("latest"), 4);

        let repository = bench.repository();
        let rows = || {
            let mut rows = Vec::new();
            let live = |tx: &metadata::ReadTx| {
                usage::each(tx, |id, _, tag, usage| {
                    if !id.is_deletion() {
                        rows.push((tag.to_owned(), usage.pulls));
                    }
                    Ok(())
                })
            };
            bench.registry.0.metadata.read(live).unwrap();
            rows.sort();
            rows
        };
        let of = |tag: &str, pulls| (tag.to_owned(), pulls);
        assert_eq!(rows(), [of("", 1), of("", 4), of("latest", 4), of("v1", 1)]);
        assert!(repository.tags().untag(&"v1".parse().unwrap()).await.unwrap());
        assert_eq!(rows(), [of("", 1), of("", 4), of("latest", 4)]);
        repository
            .deletions()
            .undelete(&DeletedName::Tag("v1".parse().unwrap()), &Actor::anonymous())
            .await
            .unwrap();
        assert_eq!(rows(), [of("", 1), of("", 4), of("latest", 4), of("v1", 1)]);

        // Noted before the manifest goes, and written after it.
        bench.pull("v1");
        repository.manifests().delete(&one).await.unwrap();
        bench.registry.flush_pulls().await.unwrap();
        assert_eq!(rows(), [of("", 1), of("latest", 4)]);
        repository.deletions().undelete(&DeletedName::Digest(one), &Actor::anonymous()).await.unwrap();
        assert_eq!(rows(), [of("", 1), of("", 4), of("latest", 4), of("v1", 1)]);
        repository.manifests().delete(&one).await.unwrap();
        bench.registry.purge_deletions().await.unwrap();
        bench.registry.collect(|_| ()).await.unwrap();
        assert_eq!(bench.registry.0.metadata.read(|tx| tx.count(metadata::Table::Usage)).unwrap(), 2);
    }

    #[test]
    fn concurrent_pulls_and_flushes_lose_nothing_and_count_nothing_twice() {
        const PULLERS: u64 = 3;
        const PULLS: u64 = 2000;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let bench = Bench::new();
        let digest = runtime.block_on(bench.push("one", &["v1"])).to_string();
        let other = runtime.block_on(bench.push("two", &["v2"])).to_string();
        let (begun, done, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..PULLERS {
                scope.spawn(|| {
                    for number in 0..PULLS {
                        begun.fetch_add(1, Ordering::SeqCst);
                        bench.pull(if number % 2 == 0 { "v1" } else { &digest });
                        done.fetch_add(1, Ordering::SeqCst);
                        bench.pull("v2");
                    }
                    over.fetch_add(1, Ordering::SeqCst);
                });
            }
            scope.spawn(|| {
                while over.load(Ordering::SeqCst) < PULLERS {
                    let at_least = done.load(Ordering::SeqCst);
                    let pulls = bench.pulls(&digest);
                    let at_most = begun.load(Ordering::SeqCst);
                    assert!((at_least..=at_most).contains(&pulls), "{at_least} <= {pulls} <= {at_most}");
                }
            });
            while over.load(Ordering::SeqCst) < PULLERS {
                note_others(&bench);
                runtime.block_on(bench.registry.flush_pulls()).unwrap();
            }
        });
        runtime.block_on(bench.registry.close());
        let disk = bench.disk.clone();
        drop(bench);
        let bench = Bench::on(disk);
        let total = PULLERS * PULLS;
        assert_eq!((bench.pulls(&digest), bench.pulls("v1")), (total, total / 2));
        assert_eq!((bench.pulls(&other), bench.pulls("v2")), (total, total));
    }

    /// Notes so many pulls of what isn't there that there are three batches, of which the last has what is.
    fn note_others(bench: &Bench) {
        for number in 0..2 * u32::try_from(BATCH_ROWS).unwrap() {
            let other = Digest::of(crate::oci::DigestAlgorithm::Sha256, &number.to_be_bytes());
            bench.registry.0.pulls.note(bench.clock.now(), RepositoryId::from(0), &other, None, Use::Pull);
        }
    }

    #[tokio::test]
    async fn whoever_asks_while_notes_are_taken_and_written_asks_again() {
        let bench = Bench::new();
        let digest = bench.push("one", &["v1"]).await;
        let id =
            bench.repository().manifests().served(&Reference::Digest(digest)).unwrap().unwrap().repository;
        let (pulls, of) = (&bench.registry.0.pulls, [(id, digest, None)]);
        let pulls_beside = |noted: &[InMemory]| {
            let usages = usages_beside(&bench.registry.0.metadata, &of, noted).unwrap();
            usages.map(|usages| usages[0].pulls)
        };
        let noted = || [pulls.noted(&of[0])];
        bench.registry.flush_pulls().await.unwrap();
        bench.pull("v1");
        let before = noted();
        assert_eq!(pulls_beside(&before), Some(1));
        bench.registry.flush_pulls().await.unwrap();
        assert_eq!(pulls_beside(&before), None);
        let after = noted();
        assert_eq!(pulls_beside(&after), Some(1));
        // What is being written was taken before, and is known by its number.
        bench.pull("v1");
        let batches = pulls.take(bench.clock.now());
        let beside = noted();
        assert_eq!((batches.len(), pulls_beside(&beside)), (1, Some(2)));
        let batch = batches[0].clone();
        let write = move |tx: &WriteTx<'_>| Ok::<_, Error>(batch.apply(tx, Timestamp::default())?);
        bench.registry.0.metadata.write(write).await.unwrap();
        assert_eq!(pulls_beside(&beside), Some(2));
    }

    #[tokio::test]
    async fn a_flush_that_is_given_up_loses_nothing_and_counts_nothing_twice() {
        let bench = Bench::new();
        let digest = bench.push("one", &["v1"]).await.to_string();
        bench.registry.flush_pulls().await.unwrap();
        for given_up in 1..=20 {
            bench.pull("v1");
            note_others(&bench);
            // It has handed the first batch over, and others perhaps.
            let _ = futures_util::FutureExt::now_or_never(bench.registry.flush_pulls());
            bench.pull(&digest);
            assert_eq!((bench.pulls("v1"), bench.pulls(&digest)), (given_up, 2 * given_up));
        }
        bench.registry.flush_pulls().await.unwrap();
        assert_eq!((bench.pulls("v1"), bench.pulls(&digest)), (20, 40));
        assert_eq!(bench.registry.0.pulls.rows.load(Ordering::Relaxed), 0);
    }

    /// A commit that fails may be durable all the same.
    #[tokio::test]
    async fn a_flush_that_fails_at_any_operation_is_made_up_for_and_counts_nothing_twice() {
        let prepare = || async {
            let bench = Bench::new();
            let digest = bench.push("one", &["v1"]).await.to_string();
            bench.registry.flush_pulls().await.unwrap();
            bench.pull("v1");
            bench.pull(&digest);
            note_others(&bench);
            (bench, digest)
        };
        let (bench, _) = prepare().await;
        let from = bench.disk.operations();
        bench.registry.flush_pulls().await.unwrap();
        let mut failed = 0;
        for number in from + 1..=bench.disk.operations() {
            let (bench, digest) = prepare().await;
            bench.disk.fail_at(number, Fault::InputOutput);
            failed += u32::from(bench.registry.flush_pulls().await.is_err());
            bench.pull("v1");
            assert_eq!((bench.pulls("v1"), bench.pulls(&digest)), (2, 3), "{}", bench.disk.describe(number));
            bench.registry.flush_pulls().await.unwrap();
            assert_eq!((bench.pulls("v1"), bench.pulls(&digest)), (2, 3), "{}", bench.disk.describe(number));
            bench.registry.close().await;
            let bench = Bench::on(bench.disk.reboot(0));
            assert_eq!((bench.pulls("v1"), bench.pulls(&digest)), (2, 3), "{}", bench.disk.describe(number));
        }
        assert!(failed > 3, "{failed}");
    }

    #[tokio::test]
    async fn a_crash_loses_what_was_not_flushed_and_a_close_nothing() {
        let bench = Bench::new();
        bench.push("one", &["v1"]).await;
        bench.pull("v1");
        bench.registry.flush_pulls().await.unwrap();
        bench.pull("v1");
        let crashed = Bench::on(bench.disk.reboot(0));
        assert_eq!(crashed.pulls("v1"), 1);
        bench.registry.close().await;
        let closed = Bench::on(bench.disk.reboot(0));
        assert_eq!(closed.pulls("v1"), 2);
    }

    #[tokio::test]
    async fn it_is_known_since_when_pulls_are_noted() {
        let bench = Bench::new();
        let since = |bench: &Bench| bench.repository().expiry().pulls_noted_since().unwrap();
        bench.clock.advance(Duration::from_secs(9));
        bench.registry.flush_pulls().await.unwrap();
        bench.registry.close().await;
        let again = Bench::on(bench.disk.reboot(0));
        again.clock.advance(Duration::from_secs(100));
        assert_eq!(since(&again), Some(Timestamp::from_millis(1_000_000)));
        let operations = again.disk.operations();
        again.registry.flush_pulls().await.unwrap();
        assert_eq!(again.disk.operations(), operations, "nobody has pulled anything");
    }

    #[tokio::test]
    async fn what_is_noted_is_bounded_and_much_of_it_is_written_early_and_in_parts() {
        let bench = Bench::new();
        let pulls = &bench.registry.0.pulls;
        let digest = |number: u32| Digest::of(crate::oci::DigestAlgorithm::Sha256, &number.to_be_bytes());
        let note =
            |number| pulls.note(bench.clock.now(), RepositoryId::from(7), &digest(number), None, Use::Pull);
        let early = pulls.many();
        tokio::pin!(early);
        let is_early = |early: std::pin::Pin<&mut _>| futures_util::FutureExt::now_or_never(early).is_some();
        (0..u32::try_from(MANY).unwrap() - 1).for_each(note);
        assert!(!is_early(early.as_mut()));
        (0..100_000).for_each(note);
        assert!(is_early(early.as_mut()));
        assert_eq!(pulls.rows.load(Ordering::Relaxed), SHARDS * SHARD_ROWS);
        assert_eq!(pulls.lost.load(Ordering::Relaxed), 100_000 - (SHARDS * SHARD_ROWS) as u64);
        let commits = bench.metrics.commits();
        bench.registry.flush_pulls().await.unwrap();
        assert_eq!(pulls.rows.load(Ordering::Relaxed), 0);
        let parts = bench.metrics.commits() - commits;
        assert_eq!(parts, 1 + (SHARDS * SHARD_ROWS / BATCH_ROWS) as u64);
    }

    #[test]
    fn batches_follow_the_order_of_the_table_and_questions_outlive_them() {
        let bench = Bench::new();
        let pulls = &bench.registry.0.pulls;
        let now = bench.clock.now();
        let digest = |number: u32| Digest::of(crate::oci::DigestAlgorithm::Sha256, &number.to_be_bytes());
        let id = |number: u32| RepositoryId::from(u64::from(number % 7 + 1));
        let tag: Tag = "v1".parse().unwrap();
        let all = 0..20_000_u32;
        all.clone().for_each(|number| pulls.note(now, id(number), &digest(number), Some(&tag), Use::Ask));
        let batches = pulls.take(now);
        let numbers: Vec<_> = batches.iter().map(|batch| batch.number).collect();
        assert!(numbers.windows(2).all(|two| two[0] + 1 == two[1]), "{numbers:?}");
        let rows = |batch: &Arc<Batch>| batch.noted.iter().map(|(_, noted)| noted.rows()).sum::<usize>();
        let (last, others) = batches.split_last().unwrap();
        assert!(others.iter().all(|batch| rows(batch) == BATCH_ROWS) && rows(last) <= BATCH_ROWS);
        let places: Vec<_> =
            batches.iter().flat_map(|batch| batch.noted.iter().map(|(place, _)| *place)).collect();
        assert!(places.len() == all.len() && places.is_sorted());

        let asked = |shard: &Mutex<Shard>| shard.lock().unwrap().asked.len();
        assert!(pulls.shards.iter().all(|shard| asked(shard) == SHARD_ASKED));
        let of_tag = |number| pulls.noted(&(id(number), digest(number), Some(tag.clone()))).waiting.1.pulls;
        all.clone().for_each(|number| pulls.note(now, id(number), &digest(number), None, Use::Pull));
        assert_eq!(all.map(of_tag).sum::<u64>(), (SHARDS * SHARD_ASKED) as u64);
    }
}
