//! Real images, made on the spot from busybox as OCI image layouts.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{find, run};

/// How the layers of a layout are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// As plain tar files, so that a client compresses them when it pushes.
    None,
    /// By gzip, as nearly all images are.
    Gzip,
}

/// An image (or an index of images) in an OCI image layout, under the reference name `1`.
#[derive(Debug)]
pub(crate) struct Layout {
    folder: TempDir,
}

/// One file of an image.
pub(crate) type File<'a> = (&'a str, Vec<u8>);

impl Layout {
    /// An image of several layers: busybox, then `etc/hello` with the given text, then some files of random bytes.
    pub(crate) fn of(hello: &str) -> Layout {
        Layout::with_layers(
            Compression::Gzip,
            &[vec![("etc/hello", hello.into())], random_files(12, 64 << 10)],
        )
    }

    /// The same image, but `etc/hello` is in a layer that is named by its sha512.
    pub(crate) fn by_sha512(hello: &str) -> Layout {
        let layout = Layout::of(hello);
        let mut manifest = layout.manifest();
        let layer = &mut manifest["layers"][1]["digest"];
        let former = layout.blob(layer.as_str().expect("a layer has a digest"));
        let digest = digest_of("sha512", &former);
        fs::create_dir(layout.path("blobs/sha512")).expect("a folder can be made");
        fs::rename(former, layout.blob(&digest)).expect("a file can be renamed");
        *layer = digest.into();
        let named = layout.add_json("application/vnd.oci.image.manifest.v1+json", &manifest);
        layout.name(named)
    }

    /// An image for this machine with busybox as its first layer and one more for each list of files.
    pub(crate) fn with_layers(compression: Compression, layers: &[Vec<File<'_>>]) -> Layout {
        let layout = Layout::empty();
        let manifest = layout.add_image(native_architecture(), compression, layers);
        layout.name(manifest)
    }

    /// An index with one image for each architecture, whose `etc/hello` says which one it is.
    pub(crate) fn for_architectures(architectures: &[&str]) -> Layout {
        let layout = Layout::empty();
        let images: Vec<Value> = architectures
            .iter()
            .map(|architecture| {
                let files = vec![("etc/hello", (*architecture).into())];
                let mut manifest = layout.add_image(architecture, Compression::Gzip, &[files]);
                manifest["platform"] = json!({ "architecture": architecture, "os": "linux" });
                manifest
            })
            .collect();
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": images });
        let index = layout.add_json(media_type, &index);
        layout.name(index)
    }

    /// An image with one layer that holds one file of `bytes` incompressible bytes, a multiple of 32 MiB.
    pub(crate) fn with_large_layer(bytes: u64) -> Layout {
        let layout = Layout::empty();
        let root = layout.path("root");
        fs::create_dir(&root).expect("a folder can be made");
        // Repeated after more than any compressor looks back.
        let piece = random_bytes(32 << 20);
        let mut file = fs::File::create(root.join("large")).expect("a file can be made");
        for _ in 0..bytes / piece.len() as u64 {
            file.write_all(&piece).expect("there is room");
        }
        let (layer, diff_id) = layout.add_layer(&root, Compression::None, true);
        let manifest = layout.add_manifest(native_architecture(), &[layer], &[diff_id]);
        layout.name(manifest)
    }

    /// The folder that holds it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where clients find it, in the notation of containers/image.
    pub(crate) fn oci(&self) -> String {
        format!("oci:{}:1", self.folder.path().display())
    }

    /// The digest of the manifest or index that the layout names.
    pub(crate) fn digest(&self) -> String {
        let index: Value = read_json(&self.path("index.json"));
        index["manifests"][0]["digest"].as_str().expect("a descriptor has a digest").to_owned()
    }

    /// The manifest (or index) itself.
    pub(crate) fn manifest(&self) -> Value {
        read_json(&self.blob(&self.digest()))
    }

    /// The file that holds a blob.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        self.folder.path().join("blobs").join(digest.replace(':', "/"))
    }

    fn empty() -> Layout {
        // podman takes the path for a repository's name, and those are in lower case.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("orlop-image-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir();
        let layout = Layout { folder: folder.expect("a temporary folder can be made") };
        fs::create_dir_all(layout.path("blobs/sha256")).expect("a folder can be made");
        fs::write(layout.path("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
            .expect("a file can be written");
        layout
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn name(self, mut descriptor: Value) -> Layout {
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": "1" });
        let index = json!({ "schemaVersion": 2, "manifests": [descriptor] });
        fs::write(self.path("index.json"), index.to_string()).expect("a file can be written");
        self
    }

    fn add_image(&self, architecture: &str, compression: Compression, layers: &[Vec<File<'_>>]) -> Value {
        let busybox = fs::read(find("busybox")).expect("busybox can be read");
        let first = vec![("bin/busybox", busybox)];
        let mut descriptors = Vec::new();
        let mut diff_ids = Vec::new();
        for files in std::iter::once(&first).chain(layers) {
            let root = TempDir::new_in(self.folder.path()).expect("a temporary folder can be made");
            for (name, bytes) in files {
                let path = root.path().join(name);
                fs::create_dir_all(path.parent().expect("a file has a folder"))
                    .expect("a folder can be made");
                fs::write(&path, bytes).expect("a file can be written");
                if name.starts_with("bin/") {
                    run(Command::new("chmod").arg("755").arg(&path));
                }
            }
            let (descriptor, diff_id) = self.add_layer(root.path(), compression, false);
            descriptors.push(descriptor);
            diff_ids.push(diff_id);
        }
        self.add_manifest(architecture, &descriptors, &diff_ids)
    }

    fn add_layer(&self, root: &Path, compression: Compression, is_large: bool) -> (Value, String) {
        let tar = self.path("layer.tar");
        let options =
            ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--mode=a+rX"];
        // As Go writes it: the zstd:chunked writer of containers/storage parses the file and writes it anew, so any other
        // form of the same content would end with another digest than the image says.
        // (Large layers are not for it, and would take long in blocks of 512 bytes.)
        let blocking = if is_large { "--blocking-factor=2048" } else { "--blocking-factor=1" };
        let form = ["--format=ustar", blocking];
        run(Command::new(find("tar"))
            .args(options)
            .args(form)
            .arg("-C")
            .arg(root)
            .arg("-cf")
            .arg(&tar)
            .arg("."));
        fs::remove_dir_all(root).expect("a folder can be removed");
        fs::create_dir(root).expect("a folder can be made");
        match compression {
            Compression::None => {
                let layer = self.add_file("application/vnd.oci.image.layer.v1.tar", &tar);
                let diff_id = layer["digest"].as_str().expect("a descriptor has a digest").to_owned();
                (layer, diff_id)
            }
            Compression::Gzip => {
                let diff_id = sha256_of(&tar);
                run(Command::new(find("gzip")).args(["-n", "-1"]).arg(&tar));
                (
                    self.add_file("application/vnd.oci.image.layer.v1.tar+gzip", &self.path("layer.tar.gz")),
                    diff_id,
                )
            }
        }
    }

    fn add_manifest(&self, architecture: &str, layers: &[Value], diff_ids: &[String]) -> Value {
        let config = json!({
            "created": "2026-01-01T00:00:00Z",
            "architecture": architecture,
            "os": "linux",
            "config": { "Cmd": ["/bin/busybox", "cat", "/etc/hello"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": vec![json!({ "created": "2026-01-01T00:00:00Z", "created_by": "orlop" }); layers.len()],
        });
        let config = self.add_json("application/vnd.oci.image.config.v1+json", &config);
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers });
        self.add_json(media_type, &manifest)
    }

    fn add_json(&self, media_type: &str, value: &Value) -> Value {
        let path = self.path("new.json");
        fs::write(&path, value.to_string()).expect("a file can be written");
        self.add_file(media_type, &path)
    }

    fn add_file(&self, media_type: &str, path: &Path) -> Value {
        let digest = sha256_of(path);
        let size = fs::metadata(path).expect("the file is there").len();
        fs::rename(path, self.blob(&digest)).expect("a file can be renamed");
        json!({ "mediaType": media_type, "digest": digest, "size": size })
    }
}

/// The digest of a file, by coreutils: what the server says must not be checked with its own code.
pub(crate) fn sha256_of(path: &Path) -> String {
    digest_of("sha256", path)
}

fn digest_of(algorithm: &str, path: &Path) -> String {
    let line = run(Command::new(find(&format!("{algorithm}sum"))).arg(path));
    let hex = line.split_whitespace().next().unwrap_or_default();
    format!("{algorithm}:{}", hex.trim_start_matches('\\'))
}

/// The digest of some bytes, by coreutils.
pub(crate) fn sha256_of_bytes(bytes: &[u8]) -> String {
    let mut child = Command::new(find("sha256sum"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sha256sum starts");
    child.stdin.take().expect("it was piped").write_all(bytes).expect("sha256sum reads");
    let output = child.wait_with_output().expect("sha256sum ends");
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    format!("sha256:{}", line.split_whitespace().next().unwrap_or_default())
}

/// Random bytes, which no compression makes smaller.
pub(crate) fn random_bytes(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut source = fs::File::open("/dev/urandom").expect("it opens");
    std::io::Read::read_exact(&mut source, &mut bytes).expect("it never ends");
    bytes
}

/// A number of files of random bytes, `data/0` and so on.
pub(crate) fn random_files(count: usize, len: usize) -> Vec<File<'static>> {
    const NAMES: [&str; 16] = [
        "data/0", "data/1", "data/2", "data/3", "data/4", "data/5", "data/6", "data/7", "data/8", "data/9",
        "data/a", "data/b", "data/c", "data/d", "data/e", "data/f",
    ];
    NAMES.iter().take(count).map(|name| (*name, random_bytes(len))).collect()
}

/// This machine's architecture as images name it.
pub(crate) fn native_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// An architecture that this machine is not.
pub(crate) fn foreign_architecture() -> &'static str {
    if native_architecture() == "amd64" { "arm64" } else { "amd64" }
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("the file is there")).expect("it is JSON")
}
