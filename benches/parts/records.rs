//! Records: what lies in the tables, to bytes and back.

use std::fmt::Debug;
use std::hint::black_box;

use orlop::metadata::blobs::LinkRecord;
use orlop::metadata::manifests::ManifestRecord;
use orlop::metadata::tags::TagRecord;
use orlop::metadata::{Record, decode, encode};
use orlop::oci::MediaType;

use crate::case::Case;
use crate::document::digest;

/// The media type of a record that isn't one of the known ones, which are constants.
const OWN_TYPE: &str = "application/vnd.example.thing.v1+json";

fn cases_of<R: Record + PartialEq + Debug + 'static>(names: [&'static str; 2], record: R) -> [Case; 2] {
    let bytes = encode(&record);
    assert_eq!(decode::<R>(&bytes).expect("it was just written"), record);
    let [encoding, decoding] = names;
    [
        Case::new(encoding, 1_000, move || {
            black_box(encode(black_box(&record)));
        }),
        Case::new(decoding, 1_000, move || {
            black_box(decode::<R>(black_box(&bytes))).expect("it was written by the codec");
        }),
    ]
}

pub(crate) fn cases() -> Vec<Case> {
    let manifest = ManifestRecord {
        media_type: MediaType::OCI_IMAGE_MANIFEST,
        size: 1_742,
        pushed_at: 1_700_000_000_000,
        actor: "somebody".to_owned(),
        pushed_as: digest("manifest", 1),
        subject: Some(digest("manifest", 2)),
        due_at: None,
    };
    let tag = TagRecord {
        digest: digest("manifest", 1),
        named: digest("manifest", 1),
        updated_at: 1_700_000_000_000,
        actor: "somebody".to_owned(),
    };
    let link = LinkRecord {
        media_type: OWN_TYPE.parse().expect("it is a media type"),
        created_at: 1_700_000_000_000,
        actor: "somebody".to_owned(),
        due_at: Some(1_700_003_600_000),
    };
    [
        cases_of(["records/encode a revision", "records/decode a revision"], manifest),
        cases_of(["records/encode a tag", "records/decode a tag"], tag),
        cases_of(["records/encode a link", "records/decode a link"], link),
    ]
    .into_iter()
    .flatten()
    .collect()
}
