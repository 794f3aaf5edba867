//! Partial pulls: of a layer in `zstd:chunked` form, podman fetches only the files that it doesn't have.

use reqwest::StatusCode;

use crate::image::{Compression, File, random_bytes, sha256_of_bytes};
use crate::podman::Podman;
use crate::process::run_verbosely;
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::wire::Wire;
use crate::{Host, Layout};

const NAMES: [&str; 24] = [
    "data/00", "data/01", "data/02", "data/03", "data/04", "data/05", "data/06", "data/07", "data/08",
    "data/09", "data/10", "data/11", "data/12", "data/13", "data/14", "data/15", "data/16", "data/17",
    "data/18", "data/19", "data/20", "data/21", "data/22", "data/23",
];

#[test]
fn podman_fetches_only_the_files_that_it_lacks() {
    let server = Server::start();
    let skopeo = Skopeo::on(Host::new());
    let mut files: Vec<File<'_>> = NAMES.iter().map(|name| (*name, random_bytes(200_000))).collect();
    push_chunked(&skopeo, &files, &server.image("chunked:1"));
    // Every third file changes, so that what is lacking lies in many places.
    for (_, bytes) in files.iter_mut().step_by(3) {
        *bytes = random_bytes(200_000);
    }
    push_chunked(&skopeo, &files, &server.image("chunked:2"));

    // The overlay driver is the one that does it, and /dev/shm a file system that overlay can stand on anywhere.
    let storage =
        tempfile::TempDir::with_prefix_in("orlop-storage-", "/dev/shm").expect("a folder can be made");
    let host = Host::new();
    let partial =
        "[storage.options]\npull_options = {enable_partial_images = \"true\", use_hard_links = \"false\"}";
    host.use_storage_at("overlay", storage.path(), partial);
    let podman = Podman::on(host);

    let wire = Wire::to(server.address());
    assert!(pull(&podman, &wire.image("chunked:1")).contains("Retrieved partial blob"));
    let whole = wire.downloaded();
    assert!(whole > 24 * 200_000, "{whole}");
    assert!(pull(&podman, &wire.image("chunked:2")).contains("Retrieved partial blob"));
    let changed = wire.downloaded() - whole;
    assert!(changed > 8 * 200_000 && changed < 12 * 200_000, "{changed} of {whole}");

    let ranges: Vec<String> =
        wire.requests().iter().filter_map(|request| request.header("range").map(ToOwned::to_owned)).collect();
    assert!(ranges.iter().any(|range| range.matches(',').count() >= 7), "{ranges:#?}");

    let last = r#"sha256sum < "$(podman image mount "$1")/data/21""#;
    let read =
        crate::process::run(podman.host().command("sh").args(["-c", last, "sh", &wire.image("chunked:2")]));
    assert_eq!(format!("sha256:{}", read.trim_end_matches("  -")), sha256_of_bytes(&files[21].1));
    drop(podman);
}

fn push_chunked(skopeo: &Skopeo, files: &[File<'_>], reference: &str) {
    let image = Layout::with_layers(Compression::None, &[files.to_vec()]);
    skopeo.copy(&image.oci(), &format!("docker://{reference}"), &["--dest-compress-format", "zstd:chunked"]);
}

fn pull(podman: &Podman, reference: &str) -> String {
    run_verbosely(&mut podman.command(&["--log-level", "debug", "pull", "--tls-verify=false", reference]))
}

/// Asks as containers/storage asks (its header recorded from podman 4.3 and extended to a thousand parts): ascending
/// parts, not touching each other, in one `Range`.
#[test]
fn recorded_requests_for_many_ranges_get_every_part() {
    let server = Server::start();
    let blob = random_bytes(8 << 20);
    let digest = sha256_of_bytes(&blob);
    let http = reqwest::blocking::Client::new();
    let push = server.url(&format!("ranges/blobs/uploads/?digest={digest}"));
    let pushed = http.post(push).body(blob.clone()).send().expect("the server answers");
    assert_eq!(pushed.status(), StatusCode::CREATED);

    for count in [2, 9, 128, 1000] {
        let parts: Vec<(usize, usize)> =
            (0..count).map(|index| (index * 8000 + 17, index * 8000 + 17 + index % 900)).collect();
        let list: Vec<String> = parts.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        let response = http
            .get(server.url(&format!("ranges/blobs/{digest}")))
            .header("range", format!("bytes={}", list.join(",")))
            .header("user-agent", "containers/5.23.1 (github.com/containers/image)")
            .send()
            .expect("the server answers");
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
        let content_type = response.headers()["content-type"].to_str().expect("it is text").to_owned();
        let boundary =
            content_type.strip_prefix("multipart/byteranges; boundary=").expect("a multipart answer");
        let boundary = boundary.trim_matches('"').to_owned();
        let length: usize =
            response.headers()["content-length"].to_str().expect("text").parse().expect("a number");
        let body = response.bytes().expect("the body is whole");
        assert_eq!(body.len(), length);
        let mut rest = &body[..];
        for (first, last) in &parts {
            let head_end = find(rest, b"\r\n\r\n");
            let head = String::from_utf8_lossy(&rest[..head_end]).to_lowercase();
            assert!(head.contains(&format!("--{}", boundary.to_lowercase())), "{head}");
            assert!(head.contains(&format!("content-range: bytes {first}-{last}/{}", blob.len())), "{head}");
            let bytes = &rest[head_end + 4..head_end + 4 + (last - first + 1)];
            assert!(bytes == &blob[*first..=*last], "the bytes of {first}-{last}");
            rest = &rest[head_end + 4 + bytes.len()..];
        }
        assert_eq!(String::from_utf8_lossy(rest).trim(), format!("--{boundary}--"));
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|window| window == wanted).expect("it is there")
}
