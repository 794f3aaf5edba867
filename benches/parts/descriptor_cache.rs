//! The descriptor cache: what a pull by tag looks up, with every row in the cache, and with none.

use std::hint::black_box;

use bytes::Bytes;
use orlop::metadata::{CacheOptions, Error, Read, manifests, tags};
use orlop::oci::Tag;

use crate::case::Case;
use crate::store::{Store, repository, tag};

/// How many images there are; all fit into the cache.
const IMAGES: usize = 256;

/// The bytes of the manifest under a tag.
fn pull(tx: &impl Read, tag: &Tag) -> Result<Option<Bytes>, Error> {
    let Some(tag) = tags::get(tx, repository(), tag)? else { return Ok(None) };
    let Some(record) = manifests::get(tx, repository(), &tag.digest)? else { return Ok(None) };
    black_box(record);
    manifests::payload_bytes(tx, &tag.digest)
}

/// Looks the images up in turns.
fn case(name: &'static str, rounds: u32, cache: CacheOptions) -> Case {
    let store = Store::with_images(IMAGES, cache);
    let tags: Vec<Tag> = (0..IMAGES).map(tag).collect();
    for tag in &tags {
        let found = store.metadata.look_up(|tx| pull(tx, tag)).expect("the disk works");
        assert!(found.is_some(), "{tag} was written");
    }
    let mut next = 0;
    Case::new(name, rounds, move || {
        let tag = &tags[next];
        next = (next + 1) % IMAGES;
        let found = store.metadata.look_up(|tx| pull(tx, black_box(tag))).expect("the disk works");
        black_box(found).expect("it was written");
    })
}

pub(crate) fn cases() -> Vec<Case> {
    let off = CacheOptions { descriptors: 0, manifest_bytes: 0 };
    vec![
        case("descriptor cache/pull that hits", 1_024, CacheOptions::default()),
        case("descriptor cache/pull without a cache", 256, off),
    ]
}
