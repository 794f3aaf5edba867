//! A database in a temporary folder, with some images in it.

use std::path::Path;
use std::sync::Arc;

use orlop::fsio::{Disk, RealDisk};
use orlop::metadata::manifests::ManifestRecord;
use orlop::metadata::repositories::RepositoryId;
use orlop::metadata::tags::TagRecord;
use orlop::metadata::{CacheOptions, Error, Metadata, Options, WriteTx, manifests, tags};
use orlop::oci::{Digest, DigestAlgorithm, MediaType, Tag};
use orlop::telemetry::StorageMetrics;
use tempfile::TempDir;

use crate::document::image;

/// The repository that all images are in.
pub(crate) fn repository() -> RepositoryId {
    RepositoryId::from(1)
}

/// A database, which goes with its folder.
pub(crate) struct Store {
    pub(crate) metadata: Metadata,
    // Dropped behind the database that lies in it.
    _folder: TempDir,
}

impl Store {
    /// An empty database on the disk, with syncs.
    pub(crate) fn new(cache: CacheOptions) -> Store {
        let folder = TempDir::with_prefix("orlop-parts-").expect("a temporary folder can be made");
        Store { metadata: open(folder.path(), cache), _folder: folder }
    }

    /// A database of `images` images, each under a tag.
    pub(crate) fn with_images(images: usize, cache: CacheOptions) -> Store {
        let store = Store::new(cache);
        let images: Vec<Image> = (0..images).map(Image::new).collect();
        store
            .metadata
            .write_blocking(move |tx| images.iter().try_for_each(|image| image.write(tx)))
            .expect("the disk takes it");
        store
    }
}

fn open(folder: &Path, cache: CacheOptions) -> Metadata {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let options = Options { cache, ..Options::default() };
    Metadata::open(&disk, folder, options, StorageMetrics::default()).expect("a database can be made")
}

/// An image as a push brings it.
pub(crate) struct Image {
    payload: String,
    digest: Digest,
    tag: Tag,
}

impl Image {
    /// The image of this number.
    pub(crate) fn new(number: usize) -> Image {
        let payload = image(number, 7);
        let digest = Digest::of(DigestAlgorithm::Sha256, payload.as_bytes());
        Image { payload, digest, tag: tag(number) }
    }

    /// Writes its rows: the revision, the payload, and the tag with its history.
    pub(crate) fn write(&self, tx: &WriteTx<'_>) -> Result<(), Error> {
        let record = ManifestRecord {
            media_type: MediaType::OCI_IMAGE_MANIFEST,
            size: self.payload.len() as u64,
            pushed_at: 1_700_000_000_000,
            actor: "somebody".to_owned(),
            pushed_as: self.digest,
            subject: None,
            due_at: None,
        };
        manifests::insert(tx, repository(), &self.digest, &record, self.payload.as_bytes())?;
        let record = TagRecord {
            digest: self.digest,
            named: self.digest,
            updated_at: record.pushed_at,
            actor: record.actor,
        };
        tags::set(tx, repository(), &self.tag, &record)?;
        Ok(())
    }
}

/// The tag of the image of this number.
pub(crate) fn tag(number: usize) -> Tag {
    format!("v{number}").parse().expect("it is a tag")
}
