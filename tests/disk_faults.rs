//! A disk that is full, or fails, at any operation of a push: that request fails and nothing else does.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has to fail")]

#[path = "power_cut/store.rs"]
mod store;

use bytes::Bytes;
use orlop::fsio::{Fault, SimulatedDisk};
use orlop::oci::{Digest, DigestAlgorithm, MediaType, Reference};
use orlop::registry::{Actor, Depth, Error, ManifestPut, Registry, Repository};
use store::{new_runtime, options, read_blob};

/// An open registry with one image in it, on a disk whose faults are still to come.
struct Bench {
    disk: SimulatedDisk,
    registry: Registry,
    before: Vec<u8>,
}

impl Bench {
    async fn new() -> Bench {
        let disk = SimulatedDisk::new();
        let registry = Registry::open(options(&disk)).unwrap();
        let bench = Bench { disk, registry, before: b"there before".to_vec() };
        bench.push(&bench.before.clone(), "before").await.unwrap();
        bench
    }

    fn repository(&self) -> Repository {
        self.registry.namespace().repository(&"library/a".parse().unwrap())
    }

    /// Pushes an image of one layer: in parts with a checkpoint, then its manifest under a tag.
    async fn push(&self, layer: &[u8], tag: &str) -> Result<(), Error> {
        let digest = Digest::of(DigestAlgorithm::Sha256, layer);
        let blobs = self.repository().blobs();
        let mut writer = blobs.create(DigestAlgorithm::Sha256, &Actor::anonymous())?;
        let (first, second) = layer.split_at(layer.len() / 2);
        writer.write(Bytes::copy_from_slice(first)).await?;
        writer.checkpoint().await?;
        writer.write(Bytes::copy_from_slice(second)).await?;
        writer.commit(&digest).await?;
        let descriptor = format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":{}}}"#, layer.len());
        let media_type: MediaType = "application/vnd.oci.image.manifest.v1+json".parse().unwrap();
        let payload = format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[{descriptor}]}}"#);
        let put = ManifestPut {
            payload: payload.into(),
            media_type,
            reference: Reference::Tag(tag.parse().unwrap()),
            tags: Vec::new(),
            actor: Actor::anonymous(),
        };
        self.repository().manifests().put(put).await.map(drop)
    }

    /// Reads an image as a pull does.
    fn pull(&self, layer: &[u8], tag: &str) -> Result<(), String> {
        let reference = Reference::Tag(tag.parse().unwrap());
        let manifest = self.repository().manifests().get(&reference).map_err(|error| error.to_string())?;
        manifest.ok_or_else(|| format!("{tag} is not there"))?;
        let digest = Digest::of(DigestAlgorithm::Sha256, layer);
        let size = read_blob(&self.repository(), &digest)?;
        if size == Some(layer.len() as u64) { Ok(()) } else { Err(format!("{digest} is not there")) }
    }

    fn assert_clean(&self) {
        let report = self.registry.verify(Depth::Full).unwrap();
        assert_eq!(report.problems, [] as [String; 0]);
    }
}

/// Long enough to make the database's file grow as well.
fn layer() -> Vec<u8> {
    (0..300_000_u32).map(|i| u8::try_from(i % 247).unwrap()).collect()
}

/// The operations of one push.
async fn operations_of_a_push() -> std::ops::RangeInclusive<u64> {
    let bench = Bench::new().await;
    let from = bench.disk.operations();
    bench.push(&layer(), "new").await.unwrap();
    from + 1..=bench.disk.operations()
}

async fn fill_up(copies_on_write: bool) {
    let mut refused = 0;
    for number in operations_of_a_push().await {
        let bench = Bench::new().await;
        if copies_on_write {
            bench.disk.copy_on_write();
        }
        bench.disk.fill_up_at(number);
        let at = || format!("full from {}", bench.disk.describe(number));
        match bench.push(&layer(), "new").await {
            Ok(()) => {}
            Err(Error::DiskFull) => refused += 1,
            Err(error) => panic!("{}: {error:?}", at()),
        }
        assert_eq!(bench.pull(&bench.before, "before"), Ok(()), "{}", at());
        assert!(bench.push(b"another", "another").await.is_err(), "{}", at());
        assert_eq!(bench.pull(&bench.before, "before"), Ok(()), "{}", at());
        bench.disk.set_capacity(None);
        bench.push(&layer(), "new").await.unwrap_or_else(|error| panic!("{}: {error:?}", at()));
        assert_eq!(bench.pull(&layer(), "new"), Ok(()), "{}", at());
        bench.registry.sweep_uploads().await.unwrap();
        bench.assert_clean();
    }
    assert!(refused > 5, "{refused}");
}

#[test]
fn a_disk_that_fills_up_at_any_operation_refuses_pushes_alone_until_there_is_room() {
    new_runtime().block_on(fill_up(false));
}

#[test]
fn a_disk_that_copies_on_write_fills_up_at_any_operation_and_refuses_pushes_alone_until_there_is_room() {
    new_runtime().block_on(fill_up(true));
}

#[test]
fn an_operation_that_fails_costs_its_request_alone_and_what_is_acknowledged_later_survives_a_power_cut() {
    new_runtime().block_on(async {
        for number in operations_of_a_push().await {
            let bench = Bench::new().await;
            bench.disk.fail_at(number, Fault::InputOutput);
            let at = || format!("failed at {}", bench.disk.describe(number));
            let _ = bench.push(&layer(), "new").await;
            assert_eq!(bench.pull(&bench.before, "before"), Ok(()), "{}", at());
            bench.push(&layer(), "new").await.unwrap_or_else(|error| panic!("{}: {error:?}", at()));
            bench.push(b"afterwards", "afterwards").await.unwrap();
            bench.assert_clean();
            for seed in 0..8 {
                let disk = bench.disk.reboot(seed);
                let registry = Registry::open(options(&disk))
                    .unwrap_or_else(|error| panic!("{}, seed {seed}: {error}", at()));
                let rebooted = Bench { disk, registry, before: bench.before.clone() };
                for (layer, tag) in
                    [(bench.before.as_slice(), "before"), (&layer(), "new"), (b"afterwards", "afterwards")]
                {
                    assert_eq!(rebooted.pull(layer, tag), Ok(()), "{}, seed {seed}", at());
                }
                rebooted.assert_clean();
            }
        }
    });
}

#[test]
fn reads_work_again_when_the_disk_does() {
    new_runtime().block_on(async {
        let bench = Bench::new().await;
        bench.disk.set_unreadable(true);
        let digest = Digest::of(DigestAlgorithm::Sha256, &bench.before);
        let _ = bench.pull(&bench.before, "before");
        assert!(read_blob(&bench.repository(), &digest).is_err());
        bench.disk.set_unreadable(false);
        assert_eq!(bench.pull(&bench.before, "before"), Ok(()));
        bench.push(b"afterwards", "afterwards").await.unwrap();
        bench.assert_clean();
    });
}
