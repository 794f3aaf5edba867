//! Archives of images, written by hand: OCI layouts, and what `docker save` writes.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{Content, image, noise, sha256};

/// The files of an archive, in the order in which they were written.
#[derive(Clone, Default)]
pub(crate) struct Archive {
    pub(crate) files: Vec<(String, Vec<u8>)>,
    index: Vec<Value>,
    listed: Vec<Value>,
}

/// Where a layout has the bytes of a digest.
pub(crate) fn place(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

impl Archive {
    pub(crate) fn add(&mut self, name: &str, bytes: &[u8]) {
        self.files.push((name.to_owned(), bytes.to_vec()));
    }

    pub(crate) fn blob(&mut self, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        self.add(&place(&digest), bytes);
        digest
    }

    /// A manifest, which the index names with these annotations.
    pub(crate) fn listed(&mut self, manifest: &Content, annotations: &Value) {
        self.blob(&manifest.bytes);
        let mut descriptor = manifest.descriptor();
        descriptor["annotations"] = annotations.clone();
        self.index.push(descriptor);
    }

    /// An image with what it names, different for each `seed`, that the index doesn't name.
    pub(crate) fn image(&mut self, seed: u64) -> Content {
        let (config, layer) = (format!("{{\"seed\":{seed}}}").into_bytes(), noise(seed, 1_000));
        self.blob(&config);
        self.blob(&layer);
        let image = image(&config, &[&layer], &json!({}));
        self.blob(&image.bytes);
        image
    }

    /// The same under a name, as skopeo and this registry write it.
    pub(crate) fn named(&mut self, name: &str, seed: u64) -> Content {
        let image = self.image(seed);
        self.listed(&image, &json!({"org.opencontainers.image.ref.name": name}));
        image
    }

    /// An image as Docker has saved it until version 25, of layers that are tar archives; returns its configuration.
    pub(crate) fn saved(&mut self, tags: &[&str], layers: &[&[u8]]) -> Vec<u8> {
        let ids: Vec<String> = layers.iter().map(|layer| sha256(layer)).collect();
        let config = serde_json::to_vec(&json!({"architecture": "amd64", "os": "linux", "tags": tags,
            "rootfs": {"type": "layers", "diff_ids": ids}}))
        .unwrap();
        let hex = sha256(&config).split_off(7);
        self.add(&format!("{hex}.json"), &config);
        let mut names = Vec::new();
        for (layer, id) in layers.iter().zip(&ids) {
            let name = format!("{}/layer.tar", &id[7..]);
            if !self.files.iter().any(|(own, _)| *own == name) {
                self.add(&name, layer);
            }
            names.push(name);
        }
        self.listed.push(json!({"Config": format!("{hex}.json"), "RepoTags": tags, "Layers": names}));
        config
    }

    /// All files, with the lists that name what is in them.
    pub(crate) fn whole(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = self.files.clone();
        if !self.index.is_empty() {
            let index = json!({"schemaVersion": 2, "manifests": self.index});
            files.push(("index.json".to_owned(), serde_json::to_vec(&index).unwrap()));
            files.push(("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
        }
        if !self.listed.is_empty() {
            files.push(("manifest.json".to_owned(), serde_json::to_vec(&self.listed).unwrap()));
        }
        files
    }

    pub(crate) fn tar(&self) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in self.whole() {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            if name.contains("..") {
                // What no writer of good will writes.
                header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
                header.set_cksum();
                builder.append(&header, &bytes[..]).unwrap();
            } else {
                builder.append_data(&mut header, name, &bytes[..]).unwrap();
            }
        }
        builder.into_inner().unwrap()
    }

    /// As a tar archive in a directory.
    pub(crate) fn packed(&self, dir: &TempDir) -> PathBuf {
        let path = dir.path().join("archive.tar");
        fs::write(&path, self.tar()).unwrap();
        path
    }

    /// As a directory.
    pub(crate) fn unpacked(&self) -> TempDir {
        let dir = TempDir::new().unwrap();
        for (name, bytes) in self.whole() {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
            fs::write(path, bytes).unwrap();
        }
        dir
    }
}
