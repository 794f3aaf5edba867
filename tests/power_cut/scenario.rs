//! A day in the life of a registry: every kind of write, each entered in the ledger when it was acknowledged.

use bytes::Bytes;
use orlop::fsio::SimulatedDisk;
use orlop::oci::{Digest, DigestAlgorithm, MediaType, Reference, RepositoryName, Tag};
use orlop::registry::{Actor, ManifestPut, Options, Registry, Repository};

use crate::ledger::{Change, Ledger, UploadPromise};
use crate::store::new_runtime;

pub(crate) fn bytes(seed: usize, len: usize) -> Bytes {
    (0..len).map(|i| u8::try_from((i * 7 + i / 251 + seed * 13) % 251).unwrap()).collect::<Vec<u8>>().into()
}

/// The contents of the blobs that are pushed: a configuration, a layer, one of no bytes, and one that is sent in parts.
pub(crate) fn contents() -> [Bytes; 4] {
    [
        Bytes::from_static(b"{\"architecture\":\"amd64\",\"os\":\"linux\"}"),
        bytes(1, 5000),
        Bytes::new(),
        large(),
    ]
}

/// Long enough that it isn't kept in memory until its end.
fn large() -> Bytes {
    bytes(2, 400_000)
}

pub(crate) fn sha256(content: &[u8]) -> Digest {
    Digest::of(DigestAlgorithm::Sha256, content)
}

pub(crate) fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

pub(crate) fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

pub(crate) fn image_type() -> MediaType {
    "application/vnd.oci.image.manifest.v1+json".parse().unwrap()
}

pub(crate) fn index_type() -> MediaType {
    "application/vnd.oci.image.index.v1+json".parse().unwrap()
}

fn descriptor(media_type: &str, content: &[u8]) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{}}}"#, sha256(content), content.len())
}

/// An image of these layers, which `note` tells from another one of the same layers.
pub(crate) fn image(config: &[u8], layers: &[&[u8]], subject: Option<&[u8]>, note: &str) -> Bytes {
    let config = descriptor("application/vnd.oci.image.config.v1+json", config);
    let layers: Vec<_> =
        layers.iter().map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar", layer)).collect();
    let subject = subject
        .map_or(String::new(), |it| format!(r#""subject":{},"#, descriptor(image_type().as_str(), it)));
    let json = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{config},"layers":[{}],{subject}"annotations":{{"note":"{note}"}}}}"#,
        image_type(),
        layers.join(","),
    );
    json.into()
}

fn index(manifests: &[&[u8]]) -> Bytes {
    let manifests: Vec<_> =
        manifests.iter().map(|manifest| descriptor(image_type().as_str(), manifest)).collect();
    let manifests = manifests.join(",");
    format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{manifests}]}}"#, index_type()).into()
}

/// A registry at work, and its ledger.
struct Day {
    /// Empty only while it is restarted.
    registry: Option<Registry>,
    ledger: Ledger,
}

/// Runs the whole scenario on an undisturbed disk.
pub(crate) fn run(options: fn(&SimulatedDisk) -> Options) -> Ledger {
    new_runtime().block_on(async {
        let disk = SimulatedDisk::new();
        let registry = Some(Registry::open(options(&disk)).unwrap());
        let mut ledger = Ledger::new(disk, options);
        ledger.acknowledged("open", 0, Vec::new());
        let mut day = Day { registry, ledger };
        day.push_images().await;
        day.push_in_parts().await;
        day.push_at_once().await;
        day.delete().await;
        day.restart().await;
        day.ledger
    })
}

impl Day {
    fn repository(&self, repository: &str) -> Repository {
        self.registry.as_ref().unwrap().namespace().repository(&name(repository))
    }

    /// What the push of a blob changes, in one commit.
    fn blob(&mut self, repository: &str, digest: Digest, len: usize) -> Change {
        self.ledger.blobs.push(digest);
        vec![
            (format!("repository {repository}"), Some(String::new())),
            (format!("blob {repository}@{digest}"), Some(len.to_string())),
        ]
    }

    async fn put_blob(&mut self, repository: &str, content: Bytes) {
        let (from, len, digest) = (self.ledger.disk.operations(), content.len(), sha256(&content));
        self.repository(repository).blobs().put(content, None, &Actor::anonymous()).await.unwrap();
        let change = self.blob(repository, digest, len);
        self.ledger.acknowledged("push a blob", from, vec![change]);
    }

    async fn put_manifest(&mut self, repository: &str, media_type: MediaType, payload: Bytes, tags: &[&str]) {
        let (from, digest) = (self.ledger.disk.operations(), sha256(&payload));
        let put = ManifestPut {
            payload,
            media_type: media_type.clone(),
            reference: Reference::Digest(digest),
            tags: tags.iter().map(|text| tag(text)).collect(),
            actor: Actor::anonymous(),
        };
        self.repository(repository).manifests().put(put).await.unwrap();
        let mut change = vec![(format!("manifest {repository}@{digest}"), Some(media_type.to_string()))];
        change.extend(tags.iter().map(|tag| (format!("tag {repository}:{tag}"), Some(digest.to_string()))));
        self.ledger.acknowledged("push a manifest", from, vec![change]);
    }

    async fn close_and_open(&mut self) {
        // The directory is free for the next process when the last handle has gone.
        self.registry.take().unwrap().close().await;
        self.registry = Some(Registry::open((self.ledger.options)(&self.ledger.disk)).unwrap());
    }

    async fn push_images(&mut self) {
        let [config, layer, empty, _] = contents();
        for content in [&layer, &config, &empty] {
            self.put_blob("library/a", content.clone()).await;
        }
        let first = image(&config, &[&layer, &empty], None, "first");
        self.put_manifest("library/a", image_type(), first.clone(), &["v1", "latest"]).await;

        for content in [&layer, &config] {
            let from = self.ledger.disk.operations();
            let (blobs, source) = (self.repository("library/b").blobs(), name("library/a"));
            let mounted = blobs.mount(&sha256(content), Some(&source), &Actor::anonymous()).await;
            assert!(mounted.unwrap().is_some());
            let change = self.blob("library/b", sha256(content), content.len());
            self.ledger.acknowledged("mount", from, vec![change]);
        }
        let second = image(&config, &[&layer], None, "second");
        self.put_manifest("library/b", image_type(), second.clone(), &[]).await;
        self.put_manifest("library/b", index_type(), index(&[&second]), &["multi"]).await;
        self.put_manifest("library/b", image_type(), image(&config, &[], Some(&second), "signature"), &[])
            .await;

        let third = image(&config, &[&layer], None, "third");
        self.put_manifest("library/a", image_type(), third, &["v1"]).await;
    }

    async fn push_in_parts(&mut self) {
        let content = large();
        let digest = sha256(&content);
        let blobs = self.repository("library/a").blobs();
        let mut writer = blobs.create(DigestAlgorithm::Sha512, &Actor::anonymous()).unwrap();
        let id = *writer.id();
        let promise = |from: u64, until: u64, len: u64| UploadPromise {
            from,
            until,
            repository: name("library/a"),
            id,
            len,
            content: content.to_vec(),
        };
        writer.write(content.slice(..100_000)).await.unwrap();
        assert_eq!(writer.checkpoint().await.unwrap(), 100_000);
        let first = self.ledger.disk.operations();
        writer.write(content.slice(100_000..390_000)).await.unwrap();
        assert_eq!(writer.checkpoint().await.unwrap(), 390_000);
        let second = self.ledger.disk.operations();
        self.ledger.uploads.push(promise(first, second, 100_000));
        drop((writer, blobs));

        // The process ends and another one goes on.
        self.close_and_open().await;
        let from = self.ledger.disk.operations();
        let blobs = self.repository("library/a").blobs();
        let mut writer = blobs.resume(&id).await.unwrap().unwrap();
        assert_eq!(writer.size(), 390_000);
        writer.write(content.slice(390_000..)).await.unwrap();
        let sha512 = Digest::of(DigestAlgorithm::Sha512, &content);
        writer.commit(&sha512).await.unwrap();
        let mut change = self.blob("library/a", digest, content.len());
        change.extend(self.blob("library/a", sha512, content.len()));
        self.ledger.acknowledged("finish an upload", from, vec![change]);
        // Until the very end it is an upload or a blob.
        self.ledger.uploads.push(promise(second, self.ledger.disk.operations(), 390_000));

        let from = self.ledger.disk.operations();
        let blobs = self.repository("library/a").blobs();
        let mut writer = blobs.create(DigestAlgorithm::Sha256, &Actor::anonymous()).unwrap();
        let id = *writer.id();
        writer.write(bytes(9, 1000)).await.unwrap();
        writer.checkpoint().await.unwrap();
        let promised = self.ledger.disk.operations();
        self.ledger.acknowledged("record an upload", from, Vec::new());
        self.put_blob("library/a", bytes(10, 100)).await;
        let from = self.ledger.disk.operations();
        self.ledger.uploads.push(UploadPromise {
            from: promised,
            until: from,
            repository: name("library/a"),
            id,
            len: 1000,
            content: bytes(9, 1000).to_vec(),
        });
        writer.cancel().await.unwrap();
        self.ledger.blobs.push(sha256(&bytes(9, 1000)));
        self.ledger.acknowledged("cancel an upload", from, Vec::new());
    }

    /// Several pushes at the same time, of which a cut may keep any.
    async fn push_at_once(&mut self) {
        let from = self.ledger.disk.operations();
        let actor = Actor::anonymous();
        let (one, other) = (self.repository("library/a").blobs(), self.repository("library/c").blobs());
        let (results, again) = (
            [
                one.put(bytes(5, 700), None, &actor),
                one.put(bytes(6, 1700), None, &actor),
                other.put(bytes(7, 2700), None, &actor),
            ],
            other.put(bytes(5, 700), None, &actor),
        );
        let [a, b, c] = results;
        let (a, b, c, again) = tokio::join!(a, b, c, again);
        let mut changes = Vec::new();
        for (repository, pushed) in
            [("library/a", a), ("library/a", b), ("library/c", c), ("library/c", again)]
        {
            let pushed = pushed.unwrap();
            let change = self.blob(repository, pushed.digest, usize::try_from(pushed.size).unwrap());
            // Which of the requests made the repository is not known.
            changes.push(change[1..].to_vec());
        }
        changes.push(vec![("repository library/c".to_owned(), Some(String::new()))]);
        self.ledger.acknowledged("push blobs at once", from, changes);
    }

    async fn delete(&mut self) {
        let from = self.ledger.disk.operations();
        assert!(self.repository("library/a").tags().untag(&tag("latest")).await.unwrap());
        self.ledger.acknowledged("untag", from, vec![vec![("tag library/a:latest".to_owned(), None)]]);

        let [config, layer, empty, _] = contents();
        let first = sha256(&image(&config, &[&layer, &empty], None, "first"));
        let from = self.ledger.disk.operations();
        assert!(self.repository("library/a").manifests().delete(&first).await.unwrap().is_some());
        let change = vec![(format!("manifest library/a@{first}"), None)];
        self.ledger.acknowledged("delete a manifest", from, vec![change]);

        let from = self.ledger.disk.operations();
        assert!(self.repository("library/a").blobs().delete(&sha256(&empty)).await.unwrap());
        let change = vec![(format!("blob library/a@{}", sha256(&empty)), None)];
        self.ledger.acknowledged("delete a blob", from, vec![change]);
    }

    async fn restart(&mut self) {
        let from = self.ledger.disk.operations();
        self.close_and_open().await;
        self.registry.as_ref().unwrap().sweep_uploads().await.unwrap();
        self.ledger.acknowledged("restart", from, Vec::new());
        self.put_blob("library/d", bytes(8, 600)).await;
        self.put_blob("library/a", contents()[2].clone()).await;
    }
}
