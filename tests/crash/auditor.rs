//! Compares what a server shows after a crash with what was acknowledged before it.

use std::collections::BTreeMap;

use crate::ledger::{Doubt, Ledger, digest_of};
use crate::pusher::finish;
use crate::random::Random;
use crate::wire::{Body, Connection};

/// What the auditors have seen, so that the test can tell that it has tested something.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) resumed_uploads: u64,
    pub(crate) resumed_bytes: u64,
    pub(crate) doubts_kept: u64,
    pub(crate) doubts_dropped: u64,
}

impl Seen {
    pub(crate) fn add(&mut self, other: Self) {
        self.resumed_uploads += other.resumed_uploads;
        self.resumed_bytes += other.resumed_bytes;
        self.doubts_kept += other.doubts_kept;
        self.doubts_dropped += other.doubts_dropped;
    }

    fn doubt(&mut self, was_kept: bool) {
        *if was_kept { &mut self.doubts_kept } else { &mut self.doubts_dropped } += 1;
    }
}

/// How much is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// What has changed since the last audit, and every tag.
    LastAudit,
    /// Everything that was ever acknowledged and not deleted.
    Ever,
}

/// Checks one client's repository on a server that nobody kills, and settles what was in doubt.
pub(crate) struct Auditor<'a, 'b> {
    pub(crate) connection: &'a mut Connection<'b>,
    pub(crate) ledger: &'a mut Ledger,
    pub(crate) seen: Seen,
}

impl Auditor<'_, '_> {
    /// Compares what the server shows with the ledger.
    pub(crate) fn audit(&mut self, since: Since, random: &mut Random) {
        if since == Since::Ever {
            self.ledger.fresh.extend(self.ledger.blobs.keys().cloned());
            self.ledger.fresh.extend(self.ledger.images.keys().cloned());
        }
        self.settle_doubt();
        self.settle_uploads(random);
        for digest in std::mem::take(&mut self.ledger.fresh) {
            self.expect_content(&digest);
        }
        for digest in std::mem::take(&mut self.ledger.absent) {
            assert!(self.get("blobs", &digest).is_none(), "blob {digest} was never finished, or deleted");
            assert!(self.get("manifests", &digest).is_none(), "manifest {digest} was deleted");
        }
        let visible = self.visible_tags();
        assert_eq!(visible, self.ledger.tags, "the tags of {}", self.ledger.repository);
    }

    fn expect_content(&mut self, digest: &str) {
        if let Some(content) = self.ledger.blobs.get(digest).copied() {
            let bytes = self
                .get("blobs", digest)
                .unwrap_or_else(|| panic!("blob {digest} was acknowledged and is lost"));
            assert!(bytes == content.bytes(), "blob {digest} is damaged");
        }
        if let Some(image) = self.ledger.images.get(digest).cloned() {
            let bytes = self.get("manifests", digest);
            let bytes = bytes.unwrap_or_else(|| panic!("manifest {digest} was acknowledged and is lost"));
            assert!(bytes == image.bytes, "manifest {digest} is damaged");
            // Whatever a manifest names must be there for whoever pulls it.
            for blob in image.blobs {
                let path = format!("/v2/{}/blobs/{blob}", self.ledger.repository);
                self.connection.request("HEAD", &path, &[], Body::Empty).unwrap().expect(200);
            }
        }
    }

    fn settle_doubt(&mut self) {
        match self.ledger.doubt.take() {
            None => {}
            Some(Doubt::Blob(digest, content)) => {
                let found = self.get("blobs", &digest);
                self.seen.doubt(found.is_some());
                if let Some(bytes) = found {
                    assert!(bytes == content.bytes(), "blob {digest} is damaged");
                    self.ledger.has_blob(digest, content);
                }
            }
            Some(Doubt::Image { digest, image, tag }) => {
                let was_known = self.ledger.images.contains_key(&digest);
                let found = self.get("manifests", &digest);
                if let Some(bytes) = &found {
                    assert!(*bytes == image.bytes, "manifest {digest} is damaged");
                    self.ledger.has_image(digest.clone(), image);
                }
                let Some(tag) = tag else { return self.seen.doubt(found.is_some()) };
                let is_tagged = self.visible_tags().get(&tag) == Some(&digest);
                self.seen.doubt(is_tagged);
                assert!(
                    was_known || found.is_some() == is_tagged,
                    "a manifest and its tag come together or not at all"
                );
                if is_tagged {
                    self.ledger.tags.insert(tag, digest);
                }
            }
            Some(Doubt::Untag(tag)) => {
                let is_gone = !self.visible_tags().contains_key(&tag);
                self.seen.doubt(is_gone);
                if is_gone {
                    self.ledger.tags.remove(&tag);
                }
            }
            Some(Doubt::DeleteImage(digest)) => {
                let is_gone = self.get("manifests", &digest).is_none();
                self.seen.doubt(is_gone);
                if is_gone {
                    self.ledger.lost_image(&digest);
                }
            }
            Some(Doubt::DeleteBlob(digest)) => {
                let is_gone = self.get("blobs", &digest).is_none();
                self.seen.doubt(is_gone);
                if is_gone {
                    self.ledger.lost_blob(&digest);
                }
            }
        }
    }

    /// Goes on with interrupted uploads from where the server says they stand.
    fn settle_uploads(&mut self, random: &mut Random) {
        let mut at = 0;
        while at < self.ledger.uploads.len() {
            let upload = self.ledger.uploads[at].clone();
            if upload.is_finishing {
                let found = self.get("blobs", &upload.digest);
                self.seen.doubt(found.is_some());
                if let Some(bytes) = found {
                    assert!(bytes == upload.content.bytes(), "blob {} is damaged", upload.digest);
                    self.ledger.uploads.remove(at);
                    self.ledger.has_blob(upload.digest, upload.content);
                    continue;
                }
            }
            let answer = self.connection.get(&upload.location).unwrap();
            if answer.status == 404 && upload.acknowledged == 0 {
                // Only a session was promised, and sessions without bytes are lost.
                self.ledger.uploads.remove(at);
                continue;
            }
            let answer = answer.expect(204);
            let range = answer.header("range").unwrap();
            let last: u64 = range.strip_prefix("0-").unwrap().parse().unwrap();
            let offset = if last == 0 { 0 } else { last + 1 };
            assert!(
                (upload.acknowledged..=upload.sent).contains(&offset),
                "{} bytes were acknowledged and {} sent, and the upload stands at {offset}",
                upload.acknowledged,
                upload.sent
            );
            self.ledger.uploads[at].acknowledged = offset;
            self.ledger.uploads[at].is_finishing = false;
            if random.below(4) == 0 {
                // This one waits for another crash.
                self.ledger.absent.insert(upload.digest);
                at += 1;
                continue;
            }
            if offset > 0 {
                self.seen.resumed_uploads += 1;
                self.seen.resumed_bytes += offset;
            }
            finish(self.connection, self.ledger, random, at).unwrap();
        }
    }

    /// The tags that the server lists, with the digests that they lead to.
    fn visible_tags(&mut self) -> BTreeMap<String, String> {
        let repository = self.ledger.repository.clone();
        let answer = self.connection.get(&format!("/v2/{repository}/tags/list")).unwrap();
        if answer.status == 404 {
            return BTreeMap::new();
        }
        let list: serde_json::Value = serde_json::from_slice(&answer.expect(200).body).unwrap();
        let mut tags = BTreeMap::new();
        for tag in list["tags"].as_array().unwrap() {
            let tag = tag.as_str().unwrap();
            let path = format!("/v2/{repository}/manifests/{tag}");
            let answer = self.connection.get(&path).unwrap().expect(200);
            let digest = answer.header("docker-content-digest").unwrap().to_owned();
            assert_eq!(digest_of(&answer.body), digest, "the manifest behind {tag}");
            tags.insert(tag.to_owned(), digest);
        }
        tags
    }

    fn get(&mut self, kind: &str, digest: &str) -> Option<Vec<u8>> {
        let path = format!("/v2/{}/{kind}/{digest}", self.ledger.repository);
        let answer = self.connection.get(&path).unwrap();
        if answer.status == 404 {
            return None;
        }
        let body = answer.expect(200).body;
        assert_eq!(digest_of(&body), digest, "the bytes of {path}");
        Some(body)
    }
}
