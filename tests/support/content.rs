//! Content to push, and the short ways to push it.

use orlop::oci::{Digest, DigestAlgorithm};
use serde_json::{Value, json};

use super::client::Reply;
use super::server::{Server, names_in};

/// The media type of an OCI image manifest.
pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an OCI image index.
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A document with its media type.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    /// The media type that it is pushed with.
    pub(crate) media_type: String,
    /// The exact bytes.
    pub(crate) bytes: Vec<u8>,
}

impl Content {
    /// Returns a JSON document.
    pub(crate) fn json(media_type: &str, document: &Value) -> Content {
        Content { media_type: media_type.to_owned(), bytes: serde_json::to_vec_pretty(document).unwrap() }
    }

    /// Returns the canonical digest as text.
    pub(crate) fn digest(&self) -> String {
        sha256(&self.bytes)
    }

    /// Returns the descriptor under which an index or a subject names the document.
    pub(crate) fn descriptor(&self) -> Value {
        descriptor(&self.media_type, &self.bytes)
    }
}

/// Returns the digest of an algorithm as text.
pub(crate) fn digest(algorithm: DigestAlgorithm, bytes: &[u8]) -> String {
    Digest::of(algorithm, bytes).to_string()
}

/// Returns the sha256 digest as text.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    digest(DigestAlgorithm::Sha256, bytes)
}

/// Returns the sha512 digest as text.
pub(crate) fn sha512(bytes: &[u8]) -> String {
    digest(DigestAlgorithm::Sha512, bytes)
}

/// Returns bytes without a pattern that a mistake in an offset could hide behind; the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| step()).collect()
}

/// Returns a descriptor.
pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": sha256(bytes), "size": bytes.len()})
}

/// Returns an image of a configuration and layers; `more` is merged into its top level.
pub(crate) fn image(config: &[u8], layers: &[&[u8]], more: &Value) -> Content {
    let layers: Vec<Value> =
        layers.iter().map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar+gzip", layer)).collect();
    let document = json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": layers,
    });
    Content::json(IMAGE, &merged(document, more))
}

/// Returns an index of children that are given by descriptor; `more` is merged into its top level.
pub(crate) fn index(children: &[Value], more: &Value) -> Content {
    let document = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children});
    Content::json(INDEX, &merged(document, more))
}

/// Returns an artifact without content that is about `subject`; it needs the blob `{}`.
pub(crate) fn referrer(subject: &Value, artifact_type: &str, note: &str) -> Content {
    let document = json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "artifactType": artifact_type,
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [descriptor("application/vnd.oci.empty.v1+json", b"{}")],
        "subject": subject,
        "annotations": {"note": note},
    });
    Content::json(IMAGE, &document)
}

fn merged(mut document: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().into_iter().flatten() {
        document[key] = value.clone();
    }
    document
}

impl Server {
    /// Begins an upload and returns where it goes on.
    #[track_caller]
    pub(crate) fn begin(&self, repository: &str) -> String {
        self.post(&format!("/v2/{repository}/blobs/uploads/")).body(b"").send().expect(202).location()
    }

    /// Pushes a blob as containerd does, and returns its digest.
    #[track_caller]
    pub(crate) fn push_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        let location = self.begin(repository);
        self.put(&with_query(&location, &format!("digest={digest}"))).body(bytes).send().expect(201);
        digest
    }

    /// Pushes a manifest.
    #[track_caller]
    pub(crate) fn put_manifest(&self, repository: &str, reference: &str, manifest: &Content) -> Reply {
        self.put(&format!("/v2/{repository}/manifests/{reference}"))
            .header("content-type", &manifest.media_type)
            .body(&manifest.bytes)
            .send()
    }

    /// Pushes a small image under a tag, different for each `seed`, and returns its manifest.
    #[track_caller]
    pub(crate) fn push_image(&self, repository: &str, reference: &str, seed: u64) -> Content {
        let (config, layer) = (format!("{{\"seed\":{seed}}}").into_bytes(), noise(seed, 100));
        self.push_blob(repository, &config);
        self.push_blob(repository, &layer);
        let image = image(&config, &[&layer], &json!({}));
        let digest = image.digest();
        let reference = if reference.is_empty() { &digest } else { reference };
        self.put_manifest(repository, reference, &image).expect(201);
        image
    }

    /// Asserts that nothing has come of a push that failed: no blob, and no file of an upload.
    #[track_caller]
    pub(crate) fn assert_nothing_of(&self, repository: &str, bytes: &[u8]) {
        for digest in [sha256(bytes), sha512(bytes)] {
            self.get(&format!("/v2/{repository}/blobs/{digest}")).send().expect(404);
            self.head(&format!("/v2/{repository}/blobs/{digest}")).send().expect(404);
        }
        assert_eq!(upload_files(self), [""; 0], "files of uploads are left over");
    }
}

/// Adds a parameter to a location, which may have a query already.
pub(crate) fn with_query(location: &str, parameter: &str) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}{parameter}")
}

/// Returns the files of unfinished uploads in a server's data directory.
pub(crate) fn upload_files(server: &Server) -> Vec<String> {
    names_in(&server.data().join("uploads"))
}
