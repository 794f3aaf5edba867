//! Byte ranges of blobs (RFC 9110, section 14).

use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;

/// The most ranges that one request may ask for. Clients of `zstd:chunked` layers ask for up to a thousand, and halve
/// their list when they are answered 400.
pub(super) const MAX_RANGES: usize = 2_000;

/// A part of a blob, never empty: `start` is inside, `end` is the first byte after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteRange {
    /// The first byte.
    pub(super) start: u64,
    /// The first byte that no longer belongs to it.
    pub(super) end: u64,
}

impl ByteRange {
    /// The number of bytes.
    pub(super) fn len(self) -> u64 {
        self.end - self.start
    }

    /// The value of a `Content-Range` header for this part of `size` bytes.
    pub(super) fn content_range(self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.start, self.end - 1)
    }
}

/// What a request selects of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selection {
    /// All of it: no range was asked for, or one of a unit that isn't bytes.
    Whole,
    /// One part.
    One(ByteRange),
    /// Two parts or more, disjoint, so that together they are never longer than the blob.
    Many(Vec<ByteRange>),
}

/// Why a request's ranges can't be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RangeError {
    /// None of them lies inside the blob, or one is malformed.
    Unsatisfiable,
    /// There are more than [`MAX_RANGES`].
    TooMany,
}

/// What the value of a `Range` header selects of a blob of `size` bytes.
///
/// Disjoint ranges keep the order in which they were asked for, and aren't joined where they touch, since clients
/// match parts to what they asked. Overlapping ones are sorted and joined, so that no request costs more than the blob.
/// Of an empty blob any range selects the whole, since clients probe every blob with one.
pub(super) fn select(header: &str, size: u64) -> Result<Selection, RangeError> {
    let Some((unit, list)) = header.split_once('=') else { return Ok(Selection::Whole) };
    if !unit.trim().eq_ignore_ascii_case("bytes") || size == 0 {
        return Ok(Selection::Whole);
    }
    let mut ranges = Vec::new();
    for (index, spec) in list.split(',').enumerate() {
        if index == MAX_RANGES {
            return Err(RangeError::TooMany);
        }
        let spec = spec.trim_matches([' ', '\t']);
        if !spec.is_empty() {
            ranges.extend(resolve(spec, size)?);
        }
    }
    let ranges = disjoint(ranges);
    match *ranges.as_slice() {
        [] => Err(RangeError::Unsatisfiable),
        [only] => Ok(Selection::One(only)),
        _ => Ok(Selection::Many(ranges)),
    }
}

/// The part that one range-spec means: `None` when it lies outside of the blob, an error when it means nothing.
fn resolve(spec: &str, size: u64) -> Result<Option<ByteRange>, RangeError> {
    let (first, last) = spec.split_once('-').ok_or(RangeError::Unsatisfiable)?;
    match (position(first)?, position(last)?) {
        (None, None) => Err(RangeError::Unsatisfiable),
        (None, Some(suffix)) => {
            Ok((suffix > 0).then(|| ByteRange { start: size.saturating_sub(suffix), end: size }))
        }
        (Some(first), Some(last)) if last < first => Err(RangeError::Unsatisfiable),
        (Some(first), last) => {
            let end = last.map_or(size, |last| last.saturating_add(1).min(size));
            Ok((first < size).then_some(ByteRange { start: first, end }))
        }
    }
}

/// A position in a range-spec; one beyond all integers is beyond all blobs too.
fn position(digits: &str) -> Result<Option<u64>, RangeError> {
    if digits.is_empty() {
        return Ok(None);
    }
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(RangeError::Unsatisfiable);
    }
    Ok(Some(digits.parse().unwrap_or(u64::MAX)))
}

/// `ranges` as they are when no two share a byte, else sorted and joined.
fn disjoint(ranges: Vec<ByteRange>) -> Vec<ByteRange> {
    let mut sorted = ranges.clone();
    sorted.sort_unstable_by_key(|range| range.start);
    if sorted.windows(2).all(|pair| pair[0].end <= pair[1].start) {
        return ranges;
    }
    let mut joined: Vec<ByteRange> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match joined.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// The frame of a `multipart/byteranges` body (RFC 9110, section 14.6): the text before each part and at the end.
#[derive(Debug)]
pub(super) struct Multipart {
    boundary: String,
    preambles: Vec<Bytes>,
    ending: Bytes,
    text_len: u64,
}

impl Multipart {
    /// The frame for `ranges` of a blob of `size` bytes, with a boundary that the blob's author could not foresee.
    pub(super) fn new(ranges: &[ByteRange], size: u64) -> Self {
        let keys = RandomState::new();
        let boundary = format!("{:016x}{:016x}", keys.hash_one(size), keys.hash_one(ranges.len()));
        let mut text = String::with_capacity((ranges.len() + 1) * 128);
        let mut ends = Vec::with_capacity(ranges.len());
        for (index, range) in ranges.iter().enumerate() {
            text.push_str(if index == 0 { "--" } else { "\r\n--" });
            text.push_str(&boundary);
            text.push_str("\r\nContent-Type: application/octet-stream\r\nContent-Range: ");
            text.push_str(&range.content_range(size));
            text.push_str("\r\n\r\n");
            ends.push(text.len());
        }
        text.push_str("\r\n--");
        text.push_str(&boundary);
        text.push_str("--\r\n");

        let mut text = Bytes::from(text);
        let text_len = text.len() as u64;
        let mut cut = 0;
        let preambles = ends
            .into_iter()
            .map(|end| {
                let preamble = text.split_to(end - cut);
                cut = end;
                preamble
            })
            .collect();
        Self { boundary, preambles, ending: text, text_len }
    }

    /// The value of the `Content-Type` header.
    pub(super) fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// The length of all text, which is what the body has besides the ranges' bytes.
    pub(super) fn text_len(&self) -> u64 {
        self.text_len
    }

    /// The text before each part, in order, and the one after the last.
    pub(super) fn into_texts(self) -> (Vec<Bytes>, Bytes) {
        (self.preambles, self.ending)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "what `select` returns")]
    fn one(start: u64, end: u64) -> Result<Selection, RangeError> {
        Ok(Selection::One(ByteRange { start, end }))
    }

    #[expect(clippy::unnecessary_wraps, reason = "what `select` returns")]
    fn many(ranges: &[(u64, u64)]) -> Result<Selection, RangeError> {
        Ok(Selection::Many(ranges.iter().map(|&(start, end)| ByteRange { start, end }).collect()))
    }

    #[test]
    fn the_ranges_on_which_registries_fail_are_answered_as_the_specification_says() {
        assert_eq!(select("bytes=500-1499", 3000), one(500, 1500));
        assert_eq!(select("bytes=500-", 3000), one(500, 3000));
        assert_eq!(select("bytes=-500", 3000), one(2500, 3000));
        assert_eq!(select("bytes=2000-5000", 3000), one(2000, 3000));
        assert_eq!(select("bytes=500-0", 3000), Err(RangeError::Unsatisfiable));
        assert_eq!(select("bytes=5000-10000", 3000), Err(RangeError::Unsatisfiable));
        assert_eq!(select("bytes=0-0", 3000), one(0, 1));
        assert_eq!(select("bytes=-5000", 3000), one(0, 3000));
        assert_eq!(select("bytes=-0", 3000), Err(RangeError::Unsatisfiable));
        assert_eq!(select("bytes=3000-", 3000), Err(RangeError::Unsatisfiable));
        assert_eq!(select("bytes=2999-", 3000), one(2999, 3000));
    }

    #[test]
    fn another_unit_than_bytes_selects_the_whole() {
        assert_eq!(select("items=0-1", 10), Ok(Selection::Whole));
        assert_eq!(select("garbage", 10), Ok(Selection::Whole));
        assert_eq!(select("BYTES=0-1", 10), one(0, 2));
    }

    #[test]
    fn any_range_of_an_empty_blob_selects_the_whole() {
        assert_eq!(select("bytes=0-1", 0), Ok(Selection::Whole));
    }

    #[test]
    fn malformed_ranges_are_unsatisfiable() {
        for header in
            ["bytes=", "bytes=-", "bytes=a-b", "bytes=1", "bytes=1-2-3", "bytes=0-1,x", "bytes= 1 - 2"]
        {
            assert_eq!(select(header, 10), Err(RangeError::Unsatisfiable), "{header}");
        }
    }

    #[test]
    fn positions_beyond_all_integers_are_clamped() {
        assert_eq!(select("bytes=1-99999999999999999999999", 10), one(1, 10));
        assert_eq!(select("bytes=-99999999999999999999999", 10), one(0, 10));
        assert_eq!(select("bytes=99999999999999999999999-", 10), Err(RangeError::Unsatisfiable));
        assert_eq!(select("bytes=0-18446744073709551615", u64::MAX), one(0, u64::MAX));
    }

    #[test]
    fn disjoint_ranges_keep_their_order_and_are_not_joined_where_they_touch() {
        assert_eq!(select("bytes=50-59, 0-9 ,,\t10-19", 100), many(&[(50, 60), (0, 10), (10, 20)]));
        assert_eq!(select("bytes=0-9,200-300", 100), one(0, 10));
    }

    #[test]
    fn overlapping_ranges_are_joined_so_that_no_request_costs_more_than_the_blob() {
        assert_eq!(select("bytes=50-,40-59,0-9", 100), many(&[(0, 10), (40, 100)]));
        let header = format!("bytes={}", vec!["0-"; MAX_RANGES].join(","));
        assert_eq!(select(&header, 1 << 40), one(0, 1 << 40));
    }

    #[test]
    fn too_many_ranges_are_refused() {
        let list =
            |count: u64| (0..count).map(|at| format!("{}-{}", at * 2, at * 2)).collect::<Vec<_>>().join(",");
        let most = MAX_RANGES as u64;
        assert!(matches!(select(&format!("bytes={}", list(most)), 1 << 20), Ok(Selection::Many(_))));
        assert_eq!(select(&format!("bytes={}", list(most + 1)), 1 << 20), Err(RangeError::TooMany));
        assert_eq!(select(&format!("bytes={}", ",".repeat(MAX_RANGES)), 10), Err(RangeError::TooMany));
    }

    #[test]
    fn the_text_of_a_multipart_body_is_as_long_as_it_says() {
        let ranges = [ByteRange { start: 0, end: 1 }, ByteRange { start: 5, end: 10 }];
        let frame = Multipart::new(&ranges, 10);
        let (content_type, text_len) = (frame.content_type(), frame.text_len());
        let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").expect("the type");
        let (preambles, ending) = frame.into_texts();
        assert_eq!(
            preambles.iter().map(|text| text.len() as u64).sum::<u64>() + ending.len() as u64,
            text_len
        );
        let second = format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 5-9/10\r\n\r\n"
        );
        assert_eq!(preambles[0], second.replace("5-9", "0-0").trim_start().to_owned().as_bytes()[..]);
        assert_eq!(preambles[1], second.as_bytes());
        assert_eq!(ending, format!("\r\n--{boundary}--\r\n").as_bytes());
    }

    proptest! {
        #[test]
        fn selected_parts_are_not_empty_lie_inside_and_do_not_overlap(header in "bytes=([0-9]{0,3}-[0-9]{0,3},?){1,6}",
                                                                      size in 0u64..1000) {
            let mut parts = match select(&header, size) {
                Ok(Selection::One(only)) => vec![only],
                Ok(Selection::Many(parts)) => { prop_assert!(parts.len() > 1); parts }
                Ok(Selection::Whole) | Err(_) => vec![],
            };
            parts.sort_by_key(|part| part.start);
            for part in &parts {
                prop_assert!(part.start < part.end && part.end <= size);
            }
            prop_assert!(parts.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }

        #[test]
        fn nothing_that_a_client_sends_makes_the_parser_panic(header in any::<String>(), size in any::<u64>()) {
            let _ = select(&header, size);
            let _ = select(&format!("bytes={header}"), size);
        }
    }
}
