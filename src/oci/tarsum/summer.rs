//! The computation of a `TarSum` from an archive as it streams by.

use std::collections::HashMap;

use super::error::TarSumError;
use super::header::{BLOCK, Header, Kind, text};
use super::pax::PaxRecords;
use super::sum::{TarSum, TarSumVersion};
use crate::oci::digest::{Digest, DigestAlgorithm};
use crate::oci::hasher::Hasher;

/// The longest name, link target or set of PAX records in bytes.
const MAX_EXTENDED: u64 = 1 << 20;

/// The most entries of an archive, for each of which 48 bytes are kept until the end.
const MAX_ENTRIES: usize = 1 << 18;

/// Computes the `TarSum` of an archive that comes in pieces of any size.
///
/// It keeps the extended header of one entry and the sums of all: at most some 30 MiB, and typically a few hundred KiB.
/// An error is final; what comes after it is meaningless.
#[derive(Debug, Clone)]
pub struct TarSummer {
    version: TarSumVersion,
    state: State,
    /// What the headers before an entry say of it.
    pending: Pending,
    /// The entries in the order of the archive.
    files: Vec<FileSum>,
    /// How many of them there may be.
    max_entries: usize,
}

#[derive(Debug, Clone)]
enum State {
    /// Collecting a header.
    Header(Vec<u8>),
    /// Collecting an extended header.
    Extended { kind: Kind, collected: Vec<u8>, content: u64 },
    /// Hashing the content of an entry.
    Content { hasher: Box<Hasher>, name: [u8; 16], content: u64, padding: u64 },
    /// Leaving out what fills up the last block of a content.
    Padding(u64),
    /// Collecting the second of the two blocks of zeros that end an archive.
    SecondZeros(usize),
    /// Behind the end, where archivers fill up with zeros.
    End,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Pending {
    pax: Option<PaxRecords>,
    long_name: Vec<u8>,
    long_link: Vec<u8>,
}

/// The sum of one entry, and the beginning of the digest of its name, by which entries of the same name are found.
#[derive(Debug, Clone, Copy)]
struct FileSum {
    sum: [u8; 32],
    name: [u8; 16],
}

impl TarSummer {
    /// Starts a sum.
    pub fn new(version: TarSumVersion) -> TarSummer {
        TarSummer {
            version,
            state: State::Header(Vec::with_capacity(BLOCK)),
            pending: Pending::default(),
            files: Vec::new(),
            max_entries: MAX_ENTRIES,
        }
    }

    /// Takes the next bytes of the archive.
    pub fn update(&mut self, mut input: &[u8]) -> Result<(), TarSumError> {
        while !input.is_empty() {
            let taken = self.step(input)?;
            input = &input[taken..];
        }
        Ok(())
    }

    /// Returns the sum of the archive, which has to end behind an entry; archives without an end are common.
    pub fn finish(self) -> Result<TarSum, TarSumError> {
        let is_whole = match &self.state {
            State::Header(block) => block.is_empty(),
            // What has all its content is in another state by now, and what fills up the last block isn't missed.
            State::Extended { .. } | State::Content { .. } => false,
            State::Padding(_) | State::End => true,
            State::SecondZeros(zeros) => *zeros == 0,
        };
        if !is_whole || self.pending != Pending::default() {
            return Err(TarSumError::Truncated);
        }
        let mut hasher = Hasher::new(DigestAlgorithm::Sha256);
        for file in sorted(self.files)? {
            hasher.update(Digest::sha256(&file.sum).hex().as_bytes());
        }
        Ok(TarSum::new(self.version, &hasher.finish()))
    }

    /// Takes at least one byte of the input, which isn't empty, and returns how many.
    fn step(&mut self, input: &[u8]) -> Result<usize, TarSumError> {
        match &mut self.state {
            State::Header(block) => {
                let taken = input.len().min(BLOCK - block.len());
                block.extend_from_slice(&input[..taken]);
                if let Some(block) = block.first_chunk::<BLOCK>() {
                    let block = *block;
                    self.start(&block)?;
                }
                Ok(taken)
            }
            State::Extended { collected, content, .. } => {
                let taken = up_to(input, *content - collected.len() as u64);
                collected.extend_from_slice(&input[..taken]);
                if collected.len() as u64 == *content {
                    self.end_extended()?;
                }
                Ok(taken)
            }
            State::Content { hasher, content, .. } => {
                let taken = up_to(input, *content);
                hasher.update(&input[..taken]);
                *content -= taken as u64;
                if *content == 0 {
                    self.end_content()?;
                }
                Ok(taken)
            }
            State::Padding(left) => {
                let taken = up_to(input, *left);
                *left -= taken as u64;
                if *left == 0 {
                    self.state = State::Header(Vec::with_capacity(BLOCK));
                }
                Ok(taken)
            }
            State::SecondZeros(zeros) => {
                let taken = input.len().min(BLOCK - *zeros);
                if input[..taken].iter().any(|byte| *byte != 0) {
                    return Err(TarSumError::NotTar("a block of zeros is followed by another"));
                }
                *zeros += taken;
                if *zeros == BLOCK {
                    self.state = State::End;
                }
                Ok(taken)
            }
            State::End if input.iter().any(|byte| *byte != 0) => {
                Err(TarSumError::Unsupported("content behind its end, which no tarsum covers"))
            }
            State::End => Ok(input.len()),
        }
    }

    /// Begins what a header is for.
    fn start(&mut self, block: &[u8; BLOCK]) -> Result<(), TarSumError> {
        if block.starts_with(&[0x1f, 0x8b]) {
            return Err(TarSumError::NotTar("it is compressed"));
        }
        if block.iter().all(|byte| *byte == 0) {
            self.state = State::SecondZeros(0);
            return Ok(());
        }
        let mut header = Header::read(block)?;
        let kind = header.kind()?;
        if kind == Kind::Entry {
            return self.start_entry(&mut header);
        }
        let content = header.content_len()?;
        if content > MAX_EXTENDED {
            return Err(TarSumError::HeaderTooLarge { size: content, limit: MAX_EXTENDED });
        }
        self.state = State::Extended { kind, collected: Vec::new(), content };
        if content == 0 {
            self.end_extended()?;
        }
        Ok(())
    }

    fn start_entry(&mut self, header: &mut Header) -> Result<(), TarSumError> {
        if self.files.len() >= self.max_entries {
            return Err(TarSumError::TooManyEntries { limit: self.max_entries });
        }
        let pending = std::mem::take(&mut self.pending);
        if let Some(pax) = &pending.pax {
            pax.apply(header)?;
        }
        if !pending.long_name.is_empty() {
            header.name = pending.long_name;
        }
        if !pending.long_link.is_empty() {
            header.link_name = pending.long_link;
        }
        let mut hasher = Hasher::new(DigestAlgorithm::Sha256);
        hash_header(&mut hasher, self.version, header);
        if let (TarSumVersion::V1, Some(pax)) = (self.version, &pending.pax) {
            for (name, value) in pax.xattrs() {
                hasher.update(name);
                hasher.update(value);
            }
        }
        let content = header.content_len()?;
        let name = name_key(&header.name);
        let hasher = Box::new(hasher);
        self.state = State::Content { hasher, name, content, padding: padding(content) };
        if content == 0 {
            self.end_content()?;
        }
        Ok(())
    }

    fn end_content(&mut self) -> Result<(), TarSumError> {
        let State::Content { hasher, name, padding, .. } = self.take_state() else {
            return Err(TarSumError::Truncated);
        };
        let sum = *hasher.finish().as_sha256().expect("the sum of an entry is computed by SHA-256");
        self.files.push(FileSum { sum, name });
        self.leave_out(padding);
        Ok(())
    }

    fn end_extended(&mut self) -> Result<(), TarSumError> {
        let State::Extended { kind, collected, content } = self.take_state() else {
            return Err(TarSumError::Truncated);
        };
        match kind {
            Kind::Pax => self.pending.pax = Some(PaxRecords::read(&collected)?),
            Kind::LongName => self.pending.long_name = text(&collected),
            Kind::LongLink => self.pending.long_link = text(&collected),
            Kind::Entry => {}
        }
        self.leave_out(padding(content));
        Ok(())
    }

    fn leave_out(&mut self, padding: u64) {
        if padding > 0 {
            self.state = State::Padding(padding);
        }
    }

    fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Header(Vec::with_capacity(BLOCK)))
    }
}

/// Returns how much of the input lies within the next `len` bytes.
fn up_to(input: &[u8], len: u64) -> usize {
    usize::try_from(len).map_or(input.len(), |len| len.min(input.len()))
}

/// Returns how many bytes fill up the last block of a content.
fn padding(content: u64) -> u64 {
    content.wrapping_neg() % BLOCK as u64
}

/// Hashes the fields of a header in the order of the specification, each as its name and its value.
fn hash_header(hasher: &mut Hasher, version: TarSumVersion, header: &Header) {
    let mut field = |name: &str, value: &[u8]| {
        hasher.update(name.as_bytes());
        hasher.update(value);
    };
    field("name", &header.name);
    field("mode", header.mode.to_string().as_bytes());
    field("uid", header.uid.to_string().as_bytes());
    field("gid", header.gid.to_string().as_bytes());
    field("size", header.size.to_string().as_bytes());
    if version == TarSumVersion::V0 {
        field("mtime", header.mtime.to_string().as_bytes());
    }
    field("typeflag", &[header.type_flag]);
    field("linkname", &header.link_name);
    field("uname", &header.user_name);
    field("gname", &header.group_name);
    field("devmajor", header.dev_major.to_string().as_bytes());
    field("devminor", header.dev_minor.to_string().as_bytes());
}

/// Returns what two entries of the same path have in common, `./` before and `/` behind it apart.
fn name_key(name: &[u8]) -> [u8; 16] {
    let name = name.strip_prefix(b"./").unwrap_or(name);
    let name = name.strip_suffix(b"/").unwrap_or(name);
    let digest = Digest::of(DigestAlgorithm::Sha256, name);
    *digest.as_bytes().first_chunk().expect("SHA-256 has 32 bytes, of which the first 16 are taken")
}

/// The most entries that every release of Go sorted by plain insertion, so that the outcome is known for any comparison.
const INSERTION: usize = 6;

/// Sorts by sum, and entries of the same path as they come.
///
/// Both at once is no order as soon as a later entry of a path has a smaller sum: what Docker's comparison made of it
/// depended on the sort of the Go release that it was built with, except in the shortest archives.
fn sorted(files: Vec<FileSum>) -> Result<Vec<FileSum>, TarSumError> {
    let mut last_of_name = HashMap::with_capacity(files.len());
    let is_ordered = files.iter().all(|file| match last_of_name.insert(file.name, file.sum) {
        Some(before) => before <= file.sum,
        None => true,
    });
    drop(last_of_name);
    let mut files = files;
    if is_ordered {
        files.sort_by_key(|file| file.sum);
        return Ok(files);
    }
    if files.len() > INSERTION {
        return Err(TarSumError::Unsupported("several entries of one path in an order that sums don't have"));
    }
    let mut placed: Vec<(usize, FileSum)> = files.into_iter().enumerate().collect();
    for end in 1..placed.len() {
        for at in (1..=end).rev() {
            let ((position, file), (before, other)) = (placed[at], placed[at - 1]);
            let is_less = if file.name == other.name { position < before } else { file.sum < other.sum };
            if !is_less {
                break;
            }
            placed.swap(at, at - 1);
        }
    }
    Ok(placed.into_iter().map(|(_, file)| file).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Archives by Python's tarfile, whose sums the script beside them computed too.
    const ARCHIVES: [(&str, &[u8]); 6] = [
        ("many", include_bytes!("../../../tests/vectors/tarsum/many.tar")),
        ("many-gnu", include_bytes!("../../../tests/vectors/tarsum/many-gnu.tar")),
        ("long-gnu", include_bytes!("../../../tests/vectors/tarsum/long-gnu.tar")),
        ("long-pax", include_bytes!("../../../tests/vectors/tarsum/long-pax.tar")),
        ("attributes", include_bytes!("../../../tests/vectors/tarsum/attributes.tar")),
        ("empty", include_bytes!("../../../tests/vectors/tarsum/empty.tar")),
    ];

    fn sum(version: TarSumVersion, archive: &[u8]) -> Result<TarSum, TarSumError> {
        let mut summer = TarSummer::new(version);
        summer.update(archive)?;
        summer.finish()
    }

    /// The parts of a header that the tests vary.
    #[derive(Clone)]
    struct Fields {
        name: &'static str,
        mode: &'static str,
        owner: (u32, &'static str),
        group: (u32, &'static str),
        size: usize,
        type_flag: u8,
    }

    const FILE: Fields =
        Fields { name: "file.txt", mode: "0", owner: (0, ""), group: (0, ""), size: 0, type_flag: b'0' };

    fn header(fields: &Fields) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, fields.name);
        put(100, &format!("{:0>7}", fields.mode));
        put(108, &format!("{:07o}", fields.owner.0));
        put(116, &format!("{:07o}", fields.group.0));
        put(124, &format!("{:011o}", fields.size));
        put(136, "00000000000");
        put(257, "ustar");
        put(263, "00");
        put(265, fields.owner.1);
        put(297, fields.group.1);
        block[156] = fields.type_flag;
        seal(&mut block);
        block
    }

    /// Writes the checksum.
    fn seal(block: &mut [u8]) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }

    fn entry(fields: &Fields, content: &[u8]) -> Vec<u8> {
        let mut bytes = header(&Fields { size: content.len(), ..fields.clone() });
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    #[test]
    fn sums_are_those_of_the_second_implementation() {
        let listing = include_str!("../../../tests/vectors/tarsum/sums.txt");
        let listed: Vec<Vec<&str>> = listing.lines().map(|line| line.split(' ').collect()).collect();
        assert_eq!(listed.len(), ARCHIVES.len());
        for ((name, archive), line) in ARCHIVES.iter().zip(listed) {
            for (version, wanted) in TarSumVersion::ALL.into_iter().zip(&line[1..]) {
                assert_eq!(sum(version, archive).unwrap().to_string(), *wanted, "{name}, {}", line[0]);
            }
        }
    }

    #[test]
    fn sums_are_the_published_ones() {
        // The values that Docker's own tests state for these files, the last two by a type of NUL as old releases of Go
        // wrote it and by `0` as new ones do.
        let user =
            Fields { name: "another.txt", owner: (1000, "slartibartfast"), group: (1000, "users"), ..FILE };
        let with_xattrs = |records: &[u8]| {
            let pax = entry(&Fields { name: "pax", type_flag: b'x', ..FILE }, records);
            [pax, entry(&Fields { name: "xattrs.txt", ..user.clone() }, b"test")].concat()
        };
        let megabyte = |type_flag| {
            entry(&Fields { name: "/testdata0", mode: "755", type_flag, ..FILE }, &vec![0; 1 << 20])
        };
        for (version, archive, hex) in [
            (
                TarSumVersion::V0,
                entry(&FILE, b""),
                "626c4a2e9a467d65c33ae81f7f3dedd4de8ccaee72af73223c4bc4718cbc7bbd",
            ),
            (
                TarSumVersion::V1,
                entry(&FILE, b""),
                "6ffd43a1573a9913325b4918e124ee982a99c0f3cba90fc032a65f5e20bdd465",
            ),
            (
                TarSumVersion::V1,
                entry(&user, b"test"),
                "b38166c059e11fb77bef30bf16fba7584446e80fcc156ff46d47e36c5305d8ef",
            ),
            (
                TarSumVersion::V1,
                with_xattrs(b"33 SCHILY.xattr.user.key1=value1\n33 SCHILY.xattr.user.key2=value2\n"),
                "4cc2e71ac5d31833ab2be9b4f7842a14ce595ec96a37af4ed08f87bc374228cd",
            ),
            (
                TarSumVersion::V1,
                with_xattrs(b"33 SCHILY.xattr.user.key2=value2\n33 SCHILY.xattr.user.KEY1=value1\n"),
                "65f4284fa32c0d4112dd93c3637697805866415b570587e4fd266af241503760",
            ),
            (
                TarSumVersion::V0,
                with_xattrs(b"36 SCHILY.xattr.user.NOT=CALCULATED\n"),
                "c12bb6f1303a9ddbf4576c52da74973c00d14c109bcfa76b708d5da1154a07fa",
            ),
            (
                TarSumVersion::V0,
                megabyte(0),
                "8bf12d7e67c51ee2e8306cba569398b1b9f419969521a12ffb9d8875e8836738",
            ),
            (
                TarSumVersion::V0,
                megabyte(b'0'),
                "75258b2c5dcd9adfe24ce71eeca5fc5019c7e669912f15703ede92b1a60cb11f",
            ),
            (
                TarSumVersion::V0,
                Vec::new(),
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            ),
        ] {
            assert_eq!(sum(version, &archive).unwrap().to_string(), format!("{}:{hex}", version.as_str()));
        }
    }

    #[test]
    fn order_does_not_matter_and_content_does() {
        let (one, two) = (entry(&FILE, b"one"), entry(&Fields { name: "two", ..FILE }, b"two"));
        let both = sum(TarSumVersion::V1, &[&one[..], &two].concat()).unwrap();
        assert_eq!(sum(TarSumVersion::V1, &[&two[..], &one].concat()).unwrap(), both);
        assert_ne!(sum(TarSumVersion::V1, &one).unwrap(), both);
        assert_ne!(sum(TarSumVersion::V1, &entry(&FILE, b"eno")), sum(TarSumVersion::V1, &one));
    }

    #[test]
    fn entries_of_one_path_keep_their_order() {
        let versions = [entry(&FILE, b"first"), entry(&FILE, b"second")];
        let [forth, back] = [[0, 1], [1, 0]].map(|[a, b]| [&versions[a][..], &versions[b]].concat());
        let [one, other] = [&forth, &back].map(|archive| sum(TarSumVersion::V1, archive).unwrap());
        assert_ne!(one, other, "the later one is what is unpacked");
        let more: Vec<u8> =
            ["a", "b", "c", "d", "e"].iter().flat_map(|name| entry(&Fields { name, ..FILE }, b"")).collect();
        let agreed =
            [&forth, &back].map(|archive| sum(TarSumVersion::V1, &[&archive[..], &more].concat()).is_ok());
        assert_eq!(agreed.iter().filter(|agreed| **agreed).count(), 1, "one order is that of the sums");
        // A slash or `./` makes no other path.
        let same =
            [entry(&FILE, b"first"), entry(&Fields { name: "./file.txt/", ..FILE }, b"second")].concat();
        let turned =
            [entry(&Fields { name: "./file.txt/", ..FILE }, b"second"), entry(&FILE, b"first")].concat();
        assert_ne!(sum(TarSumVersion::V1, &same), sum(TarSumVersion::V1, &turned));
    }

    #[test]
    fn extended_headers_are_bounded() {
        for type_flag in [b'x', b'L', b'K'] {
            let mut block = header(&Fields { type_flag, ..FILE });
            block[124..136].copy_from_slice(b"77777777777\0");
            seal(&mut block);
            let refused = sum(TarSumVersion::V1, &block);
            assert!(
                matches!(refused, Err(TarSumError::HeaderTooLarge { size, .. }) if size == 0o77_777_777_777)
            );
            block[124..136].copy_from_slice(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff");
            seal(&mut block);
            assert!(matches!(sum(TarSumVersion::V1, &block), Err(TarSumError::HeaderTooLarge { .. })));
            block[124..136].copy_from_slice(&[0xff; 12]);
            seal(&mut block);
            assert!(matches!(sum(TarSumVersion::V1, &block), Err(TarSumError::NotTar(_))));
        }
    }

    #[test]
    fn entries_are_counted() {
        let mut summer = TarSummer::new(TarSumVersion::V1);
        assert_eq!(summer.max_entries, MAX_ENTRIES);
        summer.max_entries = 100;
        let file = header(&FILE);
        for _ in 0..100 {
            summer.update(&file).unwrap();
        }
        assert_eq!(summer.clone().update(&file), Err(TarSumError::TooManyEntries { limit: 100 }));
        assert!(summer.finish().is_ok());
    }

    #[test]
    fn what_implementations_disagree_about_is_refused() {
        for type_flag in [b'g', b'S'] {
            let refused = sum(TarSumVersion::V1, &entry(&Fields { type_flag, ..FILE }, b""));
            assert!(matches!(refused, Err(TarSumError::Unsupported(_))), "{refused:?}");
        }
        let trailing = [&entry(&FILE, b"")[..], &[0; 1024], b"hidden"].concat();
        assert!(matches!(sum(TarSumVersion::V1, &trailing), Err(TarSumError::Unsupported(_))));
        let filled = [&entry(&FILE, b"")[..], &[0; 10_240]].concat();
        assert_eq!(sum(TarSumVersion::V1, &filled), sum(TarSumVersion::V1, &entry(&FILE, b"")));
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        let gzip = [&[0x1f, 0x8b, 8][..], &[0; 600]].concat();
        assert_eq!(sum(TarSumVersion::V1, &gzip), Err(TarSumError::NotTar("it is compressed")));
        assert!(matches!(sum(TarSumVersion::V1, &[b'x'; 512]), Err(TarSumError::NotTar(_))));
        let mut wrong = header(&FILE);
        wrong[0] ^= 1;
        assert!(matches!(sum(TarSumVersion::V1, &wrong), Err(TarSumError::NotTar(_))));
        let mixed = [&[0; 512][..], &entry(&FILE, b"")].concat();
        assert!(matches!(sum(TarSumVersion::V1, &mixed), Err(TarSumError::NotTar(_))));
    }

    #[test]
    fn an_archive_that_is_cut_short_is_refused() {
        let archive = ARCHIVES[2].1;
        let whole = sum(TarSumVersion::V1, archive).unwrap();
        for end in 0..archive.len() {
            if let Ok(cut) = sum(TarSumVersion::V1, &archive[..end]) {
                assert!(cut == whole || end < archive.len() - 1024);
            }
        }
        let file = entry(&FILE, &[7; 600]);
        for (end, is_whole) in
            [(1, false), (511, false), (512, false), (1111, false), (1112, true), (1536, true)]
        {
            assert_eq!(sum(TarSumVersion::V1, &file[..end]).is_ok(), is_whole, "{end}");
        }
        let name = entry(&Fields { type_flag: b'L', ..FILE }, b"a long name");
        assert_eq!(sum(TarSumVersion::V1, &name), Err(TarSumError::Truncated));
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_make_the_same_sum(sizes in proptest::collection::vec(1_usize..700, 1..20), which in 0_usize..6) {
            let mut rest = ARCHIVES[which].1;
            let mut summer = TarSummer::new(TarSumVersion::V1);
            for size in sizes.iter().cycle() {
                let (piece, left) = rest.split_at((*size).min(rest.len()));
                summer.update(piece).unwrap();
                rest = left;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(summer.finish(), sum(TarSumVersion::V1, ARCHIVES[which].1));
        }

        #[test]
        fn damaged_archives_never_panic(at in 0_usize..20_480, byte in any::<u8>(), which in 0_usize..6) {
            let mut archive = ARCHIVES[which].1.to_vec();
            let at = at % archive.len();
            archive[at] = byte;
            for block in archive.chunks_exact_mut(BLOCK).filter(|block| block[257..262] == *b"ustar") {
                seal(block);
            }
            let _ = sum(TarSumVersion::V0, &archive);
            let _ = sum(TarSumVersion::V1, &archive);
        }
    }
}
