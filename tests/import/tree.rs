//! Trees of a distribution registry, written by hand.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::json;
use tempfile::TempDir;

use super::support::{Content, image, noise, sha256};

/// The root directory of a registry.
pub(crate) struct Tree(TempDir);

impl Tree {
    pub(crate) fn new() -> Tree {
        let tree = Tree(TempDir::new().unwrap());
        fs::create_dir_all(tree.path("repositories")).unwrap();
        tree
    }

    /// The directory that the registry's configuration names.
    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    /// Something below `docker/registry/v2`.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.0.path().join("docker/registry/v2").join(below)
    }

    pub(crate) fn write(&self, below: &str, bytes: &[u8]) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Where the bytes of a digest lie.
    pub(crate) fn data(digest: &str) -> String {
        let (algorithm, hex) = digest.split_once(':').unwrap();
        format!("blobs/{algorithm}/{}/{hex}/data", &hex[..2])
    }

    fn link(&self, directory: &str, digest: &str) {
        self.write(&format!("{directory}/{}/link", digest.replace(':', "/")), digest.as_bytes());
    }

    /// Bytes without a link.
    pub(crate) fn blob(&self, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        self.write(&Self::data(&digest), bytes);
        digest
    }

    /// A blob of a repository.
    pub(crate) fn layer(&self, name: &str, bytes: &[u8]) -> String {
        let digest = self.blob(bytes);
        self.link(&format!("repositories/{name}/_layers"), &digest);
        digest
    }

    /// A manifest of a repository, without what it names.
    pub(crate) fn manifest(&self, name: &str, manifest: &Content) -> String {
        let digest = self.blob(&manifest.bytes);
        self.link(&format!("repositories/{name}/_manifests/revisions"), &digest);
        digest
    }

    /// An image, different for each `seed`, without a tag.
    pub(crate) fn image(&self, name: &str, seed: u64) -> Content {
        let (config, layer) = (format!("{{\"seed\":{seed}}}").into_bytes(), noise(seed, 1_000));
        self.layer(name, &config);
        self.layer(name, &layer);
        let image = image(&config, &[&layer], &json!({}));
        self.manifest(name, &image);
        image
    }

    /// Points a tag to one manifest after the other, an hour apart, the first in 2020.
    pub(crate) fn tag(&self, name: &str, tag: &str, digests: &[String]) {
        let below = format!("repositories/{name}/_manifests/tags/{tag}");
        for (hour, digest) in digests.iter().enumerate() {
            let index = format!("{below}/index/{}/link", digest.replace(':', "/"));
            for link in [index, format!("{below}/current/link")] {
                self.write(&link, digest.as_bytes());
                let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000 + 3600 * hour as u64);
                fs::File::options().write(true).open(self.path(&link)).unwrap().set_modified(at).unwrap();
            }
        }
    }

    /// An image under a tag.
    pub(crate) fn tagged(&self, name: &str, tag: &str, seed: u64) -> Content {
        let image = self.image(name, seed);
        self.tag(name, tag, &[image.digest()]);
        image
    }

    /// A signature of a revision, as distribution 2.0 to 2.2 kept it.
    pub(crate) fn signature(&self, name: &str, manifest: &str, signature: &[u8]) -> String {
        let digest = self.blob(signature);
        let revision = manifest.replace(':', "/");
        self.link(&format!("repositories/{name}/_manifests/revisions/{revision}/signatures"), &digest);
        digest
    }

    /// Every file with its bytes, in the order of their paths.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let (mut found, mut folders) = (Vec::new(), vec![self.0.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                } else {
                    found.push((path.clone(), fs::read(path).unwrap_or_default()));
                }
            }
        }
        found.sort();
        found
    }
}
