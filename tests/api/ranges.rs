//! Parts of blobs.

use crate::support::{Server, noise};

struct Blob {
    server: Server,
    bytes: Vec<u8>,
    path: String,
}

impl Blob {
    fn of(len: usize) -> Blob {
        let server = Server::start();
        let bytes = noise(7, len);
        let path = format!("/v2/a/blobs/{}", server.push_blob("a", &bytes));
        Blob { server, bytes, path }
    }

    #[track_caller]
    fn is_part(&self, range: &str, first: usize, last: usize) {
        self.server
            .get(&self.path)
            .header("range", range)
            .send()
            .expect(206)
            .expect_header("content-range", format!("bytes {first}-{last}/{}", self.bytes.len()))
            .expect_header("content-length", last - first + 1)
            .expect_body(&self.bytes[first..=last]);
    }

    #[track_caller]
    fn is_unsatisfiable(&self, range: &str) {
        self.server
            .get(&self.path)
            .header("range", range)
            .send()
            .expect(416)
            .expect_header("content-range", format!("bytes */{}", self.bytes.len()));
    }

    #[track_caller]
    fn is_whole(&self, range: &str) {
        self.server
            .get(&self.path)
            .header("range", range)
            .send()
            .expect(200)
            .expect_no_header("content-range")
            .expect_body(&self.bytes);
    }

    /// Asks for several ranges and returns each part's `Content-Range` positions, its bytes checked.
    #[track_caller]
    fn parts(&self, ranges: &str) -> Vec<(usize, usize)> {
        let reply = self.server.get(&self.path).header("range", ranges).send().expect(206);
        let content_type = reply.header("content-type").to_owned();
        let boundary = content_type
            .strip_prefix("multipart/byteranges; boundary=")
            .unwrap()
            .trim_matches('"')
            .to_owned();
        assert_eq!(reply.get("content-range"), None);
        assert_eq!(reply.header("content-length"), reply.body.len().to_string());
        let mut found = Vec::new();
        let mut rest = &reply.body[..];
        let delimiter = format!("--{boundary}");
        if rest.starts_with(b"\r\n") {
            rest = &rest[2..];
        }
        loop {
            rest = rest.strip_prefix(delimiter.as_bytes()).unwrap();
            if rest == b"--\r\n" || rest == b"--" {
                return found;
            }
            rest = rest.strip_prefix(b"\r\n").unwrap();
            let end = rest.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
            let head = std::str::from_utf8(&rest[..end]).unwrap().to_ascii_lowercase();
            let line = head.lines().find_map(|line| line.strip_prefix("content-range: bytes ")).unwrap();
            let (range, size) = line.split_once('/').unwrap();
            assert_eq!(size, self.bytes.len().to_string());
            let (first, last) = range.split_once('-').unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            rest = &rest[end + 4..];
            let (part, after) = rest.split_at(last - first + 1);
            assert!(part == &self.bytes[first..=last], "the bytes of {first}-{last}");
            rest = after.strip_prefix(b"\r\n").unwrap();
            found.push((first, last));
        }
    }
}

#[test]
fn row_2_a_range_is_206() {
    Blob::of(6_000).is_part("bytes=0-0", 0, 0);
}

#[test]
fn s1_9_range_list() {
    let blob = Blob::of(3_000);
    blob.is_part("bytes=500-1499", 500, 1_499);
    blob.is_part("bytes=500-", 500, 2_999);
    blob.is_part("bytes=-500", 2_500, 2_999);
    blob.is_part("bytes=2000-5000", 2_000, 2_999);
    blob.is_unsatisfiable("bytes=500-0");
    blob.is_unsatisfiable("bytes=5000-10000");
}

#[test]
fn s1_9_ranges_at_the_edges() {
    let blob = Blob::of(3_000);
    blob.is_part("bytes=0-2999", 0, 2_999);
    blob.is_part("bytes=2999-", 2_999, 2_999);
    blob.is_part("bytes=-5000", 0, 2_999);
    blob.is_part("bytes=0-18446744073709551615", 0, 2_999);
    blob.is_part("bytes=2999-99999999999999999999999999", 2_999, 2_999);
    blob.is_unsatisfiable("bytes=3000-");
    blob.is_unsatisfiable("bytes=-0");
    blob.is_unsatisfiable("bytes=99999999999999999999999999-");
}

#[test]
fn a_range_that_is_none_is_ignored_or_refused() {
    let blob = Blob::of(3_000);
    blob.is_whole("lines=0-5");
    blob.is_whole("bytes");
    for range in ["bytes=", "bytes=a-b", "bytes=--5", "bytes=5", "bytes=0-5;6-7", "bytes=0x0-0x5"] {
        let reply = blob.server.get(&blob.path).header("range", range).send().expect_one_of(&[200, 416]);
        if reply.status == 200 {
            reply.expect_body(&blob.bytes);
        }
    }
}

#[test]
fn any_range_of_an_empty_blob_is_all_of_it() {
    let blob = Blob::of(0);
    for range in ["bytes=0-0", "bytes=0-", "bytes=-1", "bytes=0-0,2-2"] {
        blob.is_whole(range);
    }
}

#[test]
fn a_range_of_head_is_ignored() {
    let blob = Blob::of(3_000);
    blob.server
        .head(&blob.path)
        .header("range", "bytes=0-9")
        .send()
        .expect_one_of(&[200, 206])
        .expect_header("docker-content-digest", blob.path.rsplit('/').next().unwrap());
}

#[test]
fn s2_5_several_ranges_come_in_parts_in_the_order_asked_for() {
    let blob = Blob::of(100_000);
    assert_eq!(blob.parts("bytes=0-9,50000-59999,99990-"), [(0, 9), (50_000, 59_999), (99_990, 99_999)]);
    assert_eq!(blob.parts("bytes=50000-50001, 10-19"), [(50_000, 50_001), (10, 19)]);
    assert_eq!(blob.parts("bytes=0-0,-1"), [(0, 0), (99_999, 99_999)]);
}

#[test]
fn several_ranges_of_which_one_can_be_served_are_one_part() {
    let blob = Blob::of(3_000);
    let reply = blob.server.get(&blob.path).header("range", "bytes=5000-6000,10-19").send().expect(206);
    if reply.get("content-range").is_some() {
        reply.expect_header("content-range", "bytes 10-19/3000").expect_body(&blob.bytes[10..20]);
    } else {
        assert_eq!(blob.parts("bytes=5000-6000,10-19"), [(10, 19)]);
    }
    blob.is_unsatisfiable("bytes=5000-6000,7000-8000");
}

#[test]
fn s2_5_a_thousand_ranges_in_one_request() {
    let blob = Blob::of(1_000_000);
    let wanted: Vec<(usize, usize)> = (0..1_000).map(|n| (n * 1_000, n * 1_000 + n % 500)).collect();
    let ranges: Vec<String> = wanted.iter().map(|(first, last)| format!("{first}-{last}")).collect();
    assert_eq!(blob.parts(&format!("bytes={}", ranges.join(","))), wanted);
}

#[test]
fn s2_5_more_ranges_than_can_be_served_are_400_which_podman_answers_by_asking_for_fewer() {
    let blob = Blob::of(30_000);
    let ranges: Vec<String> = (0..10_000).map(|n| format!("{0}-{0}", n * 3)).collect();
    blob.server
        .get(&blob.path)
        .header("range", &format!("bytes={}", ranges.join(",")))
        .send()
        .expect_error(400, "RANGE_INVALID");
}

#[test]
fn overlapping_ranges_do_not_multiply_the_work_of_the_server() {
    let blob = Blob::of(1_000_000);
    let ranges = vec!["0-"; 1_000].join(",");
    let reply = blob.server.get(&blob.path).header("range", &format!("bytes={ranges}")).send();
    assert!(reply.body.len() <= 4_000_000, "{} bytes of answer for a blob of 1 MB", reply.body.len());
    reply.expect_one_of(&[200, 206, 416]);
}

#[test]
fn if_range_keeps_a_resumed_pull_in_one_piece() {
    let blob = Blob::of(3_000);
    let etag = format!("\"{}\"", blob.path.rsplit('/').next().unwrap());
    let resume = |condition: &str| {
        blob.server.get(&blob.path).header("range", "bytes=1000-").header("if-range", condition).send()
    };
    resume(&etag).expect(206).expect_body(&blob.bytes[1_000..]);
    resume("\"other\"").expect(200).expect_body(&blob.bytes);
}

#[test]
fn an_unchanged_blob_is_304_whatever_the_range() {
    let blob = Blob::of(3_000);
    let etag = format!("\"{}\"", blob.path.rsplit('/').next().unwrap());
    blob.server
        .get(&blob.path)
        .header("range", "bytes=0-9")
        .header("if-none-match", &etag)
        .send()
        .expect(304);
}

#[test]
fn s2_6_lazy_snapshotters_probe_with_two_bytes() {
    Blob::of(3_000).is_part("bytes=0-1", 0, 1);
}
