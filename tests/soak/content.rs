//! What is pushed: blobs that everybody shares, and images that are made of them.

use std::sync::Arc;

use orlop::oci::{Digest, DigestAlgorithm};
use serde_json::{Value, json};

use crate::random::{Content, Random};

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// How many blobs the clients share.
const SHARED: u64 = 48;

/// A blob, with its bytes.
#[derive(Debug)]
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) bytes: Vec<u8>,
}

impl Blob {
    pub(crate) fn new(bytes: Vec<u8>) -> Arc<Blob> {
        Arc::new(Blob { digest: digest_of(&bytes), bytes })
    }

    /// A blob that nobody else has, mostly small.
    pub(crate) fn unique(random: &mut Random) -> Arc<Blob> {
        Blob::new(Content::new(random.next(), some_len(random)).bytes())
    }

    fn descriptor(&self, kind: &str) -> Value {
        let media_type = format!("application/vnd.oci.image.{kind}");
        json!({"mediaType": media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// The blobs that all clients push, mount, skip and pull.
pub(crate) fn shared() -> Vec<Arc<Blob>> {
    (0..SHARED)
        .map(|number| {
            let mut random = Random::new(number);
            Blob::new(Content::new(number + 1, some_len(&mut random)).bytes())
        })
        .collect()
}

fn some_len(random: &mut Random) -> usize {
    let len = match random.below(20) {
        0 => 270_000 + random.below(100_000),
        1..=4 => 20_000 + random.below(60_000),
        _ => 16 + random.below(4_000),
    };
    usize::try_from(len).unwrap()
}

pub(crate) fn digest_of(bytes: &[u8]) -> String {
    Digest::of(DigestAlgorithm::Sha256, bytes).to_string()
}

/// A manifest, with all that it names.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) digest: String,
    pub(crate) media_type: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) blobs: Vec<Arc<Blob>>,
    pub(crate) children: Vec<Arc<Image>>,
}

impl Image {
    fn new(
        media_type: &'static str,
        document: &Value,
        blobs: Vec<Arc<Blob>>,
        children: Vec<Arc<Image>>,
    ) -> Arc<Image> {
        let bytes = document.to_string().into_bytes();
        Arc::new(Image { digest: digest_of(&bytes), media_type, bytes, blobs, children })
    }

    /// An image of these blobs, the first of which is its configuration. Without a note, everybody makes the same of them.
    pub(crate) fn of(blobs: Vec<Arc<Blob>>, subject: Option<&Image>, note: Option<u64>) -> Arc<Image> {
        let layers: Vec<Value> = blobs[1..].iter().map(|blob| blob.descriptor("layer.v1.tar")).collect();
        let mut document = json!({
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": blobs[0].descriptor("config.v1+json"),
            "layers": layers,
        });
        if let Some(subject) = subject {
            document["subject"] = subject.descriptor();
            document["artifactType"] = json!("application/vnd.example.note");
        }
        if let Some(note) = note {
            document["annotations"] = json!({"note": note.to_string()});
        }
        Image::new(IMAGE, &document, blobs, Vec::new())
    }

    pub(crate) fn index(children: Vec<Arc<Image>>, note: u64) -> Arc<Image> {
        let manifests: Vec<Value> = children.iter().map(|child| child.descriptor()).collect();
        let document = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": manifests,
            "annotations": {"note": note.to_string()},
        });
        Image::new(INDEX, &document, Vec::new(), children)
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}
