//! Tar archives that are read in any order: where each file lies in one.
//!
//! Nothing is unpacked, so that no name and no link in an archive leads anywhere on the disk. Memory holds the names; how many
//! and how long they may be is bounded.

use std::collections::HashMap;
use std::sync::Arc;

use super::Skipped;
use super::report::unreadable;
use crate::fsio::SourceFile;

/// The unit of an archive.
const BLOCK: u64 = 512;

/// The most files that an archive may have, the longest name, and all names together, in bytes.
const MOST_FILES: usize = 200_000;
const NAME_BYTES: u64 = 4 << 10;
const NAMES_BYTES: usize = 32 << 20;

/// The longest extended header that is read.
const HEADER_BYTES: u64 = 256 << 10;

/// The most faults of one archive that are told of.
const MOST_FAULTS: usize = 100;

/// An archive, and where the files in it lie.
#[derive(Debug)]
pub(super) struct TarFile {
    pub(super) file: Arc<SourceFile>,
    entries: HashMap<String, Entry>,
    /// What is wrong with it as a whole.
    pub(super) faults: Vec<Skipped>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    /// So many bytes from an offset on.
    File { begin: u64, len: u64 },
    /// Another name for a file of the archive.
    Link(String),
}

/// What one header says of the next one, in the two ways in which archives do.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    len: Option<u64>,
}

impl TarFile {
    /// Reads the headers of an archive up to its end, or to where it is damaged. Blocks.
    pub(super) fn open(file: Arc<SourceFile>) -> TarFile {
        let mut tar = TarFile { file, entries: HashMap::new(), faults: Vec::new() };
        if let Err(fault) = tar.scan() {
            tar.faults.push(fault);
        }
        tar
    }

    /// Where a file's bytes lie: its offset and its length. `None` if there is none.
    pub(super) fn find(&self, name: &str) -> Option<(u64, u64)> {
        match self.entries.get(name)? {
            Entry::File { begin, len } => Some((*begin, *len)),
            // Docker writes a layer that several images have once, and links to it. A link to a link isn't written.
            Entry::Link(target) => match self.entries.get(target)? {
                Entry::File { begin, len } => Some((*begin, *len)),
                Entry::Link(_) => None,
            },
        }
    }

    /// How messages name a file in it.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}: {name}", self.file.path().display())
    }

    fn fault(&self, reason: impl Into<String>) -> Skipped {
        Skipped::new(self.file.path(), reason)
    }

    fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>, Skipped> {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], offset + filled as u64).map_err(unreadable)? {
                0 => break,
                read => filled += read,
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn scan(&mut self) -> Result<(), Skipped> {
        let mut offset = 0;
        let mut names = 0;
        let mut extended = Extended::default();
        loop {
            let block = self.read(offset, BLOCK)?;
            if block.is_empty() && offset > 0 {
                // Some writers leave the closing blocks out.
                return Ok(());
            }
            if block.iter().all(|byte| *byte == 0) && block.len() as u64 == BLOCK {
                return Ok(());
            }
            let header = self.header(&block, offset)?;
            let kind = header.entry_type();
            let own = header
                .entry_size()
                .map_err(|_| self.fault(format!("its header at byte {offset} has no length")))?;
            let is_content = !matches!(
                kind,
                tar::EntryType::XHeader
                    | tar::EntryType::XGlobalHeader
                    | tar::EntryType::GNULongName
                    | tar::EntryType::GNULongLink
            );
            let len = if is_content { extended.len.unwrap_or(own) } else { own };
            let begin = offset + BLOCK;
            let end = begin.checked_add(len).filter(|end| *end <= self.file.len());
            if !is_content {
                let end = end.ok_or_else(|| self.fault("it ends in the middle of a name"))?;
                self.extend(&mut extended, kind, begin, len)?;
                offset = end.next_multiple_of(BLOCK);
                continue;
            }
            let said = std::mem::take(&mut extended);
            let name = said.name.unwrap_or_else(|| header.path_bytes().into_owned());
            let text = plain(&name);
            let Some(end) = end else {
                let name = String::from_utf8_lossy(&name);
                return Err(self.fault(format!("it ends in the middle of {name}; get the whole archive")));
            };
            if kind.is_dir() {
            } else if let Some(name) = text {
                names += name.len();
                if self.entries.len() >= MOST_FILES || names > NAMES_BYTES {
                    return Err(self.fault(format!(
                        "it has more than {MOST_FILES} files; what is behind them is left out"
                    )));
                }
                let link = || {
                    said.link.clone().or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
                };
                let entry = if kind.is_file() {
                    Some(Entry::File { begin, len })
                } else if kind.is_hard_link() {
                    link().as_deref().and_then(plain).map(Entry::Link)
                } else if kind.is_symlink() {
                    link().and_then(|link| beside(&name, &link)).map(Entry::Link)
                } else {
                    None
                };
                match entry {
                    // As in unpacking, the last one of a name counts.
                    Some(entry) => drop(self.entries.insert(name, entry)),
                    None => self.leave_out(&name, "it is no file and no link to one in the archive"),
                }
            } else {
                let name = String::from_utf8_lossy(&name).into_owned();
                self.leave_out(&name, "its name leads out of the archive, or is no text");
            }
            offset = end.next_multiple_of(BLOCK);
        }
    }

    fn leave_out(&mut self, name: &str, reason: &str) {
        if self.faults.len() < MOST_FAULTS {
            let path = self.path(name);
            self.faults.push(Skipped::new(path, reason));
        }
    }

    fn header(&self, block: &[u8], offset: u64) -> Result<tar::Header, Skipped> {
        if (block.len() as u64) < BLOCK {
            return Err(self.fault(if offset == 0 {
                "it is no tar archive"
            } else {
                "it ends in the middle of a header"
            }));
        }
        let header = tar::Header::from_byte_slice(block).clone();
        // The sum of its bytes, with blanks in place of the sum itself.
        let sum: u32 =
            block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        if header.cksum().is_ok_and(|written| written == sum) {
            return Ok(header);
        }
        Err(match (offset, compression(block)) {
            (0, Some(way)) => self.fault(format!("it is compressed; uncompress it first: {way}")),
            (0, None) => self.fault("it is no tar archive"),
            (offset, _) => {
                self.fault(format!("it is damaged at byte {offset}; what is behind that is left out"))
            }
        })
    }

    fn extend(
        &self,
        extended: &mut Extended,
        kind: tar::EntryType,
        begin: u64,
        len: u64,
    ) -> Result<(), Skipped> {
        match kind {
            tar::EntryType::GNULongName | tar::EntryType::GNULongLink => {
                if len > NAME_BYTES {
                    return Err(
                        self.fault(format!("it has a name of {len} bytes; what is behind that is left out"))
                    );
                }
                let mut name = self.read(begin, len)?;
                name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
                let place =
                    if kind == tar::EntryType::GNULongName { &mut extended.name } else { &mut extended.link };
                *place = Some(name);
            }
            tar::EntryType::XHeader => {
                if len > HEADER_BYTES {
                    return Err(self
                        .fault(format!("it has a header of {len} bytes; what is behind that is left out")));
                }
                let bytes = self.read(begin, len)?;
                for record in tar::PaxExtensions::new(&bytes) {
                    let Ok(record) = record else { return Err(self.fault("it has a damaged header")) };
                    match record.key_bytes() {
                        b"path" => extended.name = Some(record.value_bytes().to_vec()),
                        b"linkpath" => extended.link = Some(record.value_bytes().to_vec()),
                        b"size" => {
                            let size = record.value().ok().and_then(|text| text.parse().ok());
                            extended.len = Some(size.ok_or_else(|| self.fault("it has a damaged header"))?);
                        }
                        _ => {}
                    }
                }
            }
            // What holds for all files is of no interest.
            _ => {}
        }
        Ok(())
    }
}

/// How a compressed file is uncompressed, by its first bytes.
fn compression(block: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 4] = [
        (b"\x1f\x8b", "gunzip -c FILE | orlop import … -"),
        (b"\x28\xb5\x2f\xfd", "zstd -dc FILE | orlop import … -"),
        (b"BZh", "bunzip2 -c FILE | orlop import … -"),
        (b"\xfd7zXZ", "xz -dc FILE | orlop import … -"),
    ];
    known.into_iter().find(|(magic, _)| block.starts_with(magic)).map(|(_, way)| way)
}

/// A name without what means nothing in it; `None` for one that could lead out of the archive.
fn plain(name: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(name).ok()?;
    let parts = text.split('/').filter(|part| !matches!(*part, "" | "."));
    let is_inside = !text.starts_with('/') && !text.split('/').any(|part| part == "..");
    let plain = parts.collect::<Vec<_>>().join("/");
    (is_inside && !plain.is_empty() && plain.len() as u64 <= NAME_BYTES).then_some(plain)
}

/// The name that a link beside `name` leads to, within the archive.
fn beside(name: &str, link: &[u8]) -> Option<String> {
    let link = std::str::from_utf8(link).ok().filter(|link| !link.starts_with('/'))?;
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    plain(parts.join("/").as_bytes())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fsio::Spool;

    fn open(bytes: &[u8]) -> TarFile {
        let mut spool = Spool::in_dir(Path::new("/tmp")).unwrap();
        spool.write(bytes).unwrap();
        TarFile::open(Arc::new(spool.into_source("a.tar").unwrap()))
    }

    /// An archive as the crate writes it, with whatever names.
    fn archive(entries: &[(tar::EntryType, &str, &str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (kind, name, link, bytes) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(bytes.len() as u64);
            let raw = header.as_old_mut();
            raw.name[..name.len()].copy_from_slice(name.as_bytes());
            raw.linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_cksum();
            builder.append(&header, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn reasons(tar: &TarFile) -> String {
        let lines: Vec<String> =
            tar.faults.iter().map(|fault| format!("{}: {}", fault.path, fault.reason)).collect();
        lines.join("\n")
    }

    #[test]
    fn files_are_found_by_their_names_and_through_links_within_the_archive() {
        use tar::EntryType::{Link, Regular, Symlink};
        let tar = open(&archive(&[
            (Regular, "./a/one", "", b"1"),
            (Symlink, "b/two", "../a/one", b""),
            (Link, "b/three", "a/one", b""),
            (Symlink, "b/four", "two", b""),
        ]));
        let bytes = |name: &str| tar.find(name).map(|(begin, len)| tar.read(begin, len).unwrap());
        for name in ["a/one", "b/two", "b/three"] {
            assert_eq!(bytes(name).as_deref(), Some(&b"1"[..]), "{name}");
        }
        assert!(bytes("b/four").is_none(), "links to links are not followed");
        assert_eq!(reasons(&tar), "");
    }

    #[test]
    fn nothing_leads_out_of_the_archive() {
        use tar::EntryType::{Char, Regular, Symlink};
        let tar = open(&archive(&[
            (Regular, "../up", "", b"1"),
            (Regular, "/etc/passwd", "", b"1"),
            (Symlink, "a/link", "../../etc/passwd", b""),
            (Symlink, "a/abs", "/etc/passwd", b""),
            (Char, "a/device", "", b""),
            (Regular, "last", "", b"1"),
        ]));
        assert!(tar.find("last").is_some(), "what follows is read");
        assert_eq!(tar.entries.len(), 1);
        assert_eq!(tar.faults.len(), 5, "{}", reasons(&tar));
    }

    #[test]
    fn long_names_and_extended_headers_are_read_up_to_a_bound() {
        let long = format!("blobs/sha512/{}", "a".repeat(128));
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        builder.append_data(&mut header, &long, &b"1"[..]).unwrap();
        builder.append_pax_extensions([("path", &b"by/pax"[..])]).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(1);
        builder.append_data(&mut header, "short", &b"2"[..]).unwrap();
        let tar = open(&builder.into_inner().unwrap());
        assert!(tar.find(&long).is_some() && tar.find("by/pax").is_some(), "{}", reasons(&tar));
        let huge = vec![b'a'; 1 << 20];
        for kind in [tar::EntryType::GNULongName, tar::EntryType::XHeader] {
            let tar = open(&archive(&[(kind, "x", "", &huge), (tar::EntryType::Regular, "a", "", b"")]));
            assert!(reasons(&tar).contains("1048576 bytes"), "{}", reasons(&tar));
        }
    }

    #[test]
    fn damage_is_told_of_and_what_is_before_it_is_there() {
        let whole = archive(&[
            (tar::EntryType::Regular, "a", "", b"1"),
            (tar::EntryType::Regular, "b", "", &[1; 700]),
        ]);
        let cut = open(&whole[..1024 + 512 + 100]);
        assert!(cut.find("a").is_some() && cut.find("b").is_none());
        assert!(reasons(&cut).contains("ends in the middle of b"), "{}", reasons(&cut));
        let mut bent = whole.clone();
        bent[1024] = b'z';
        let bent = open(&bent);
        assert!(
            bent.find("a").is_some() && reasons(&bent).contains("damaged at byte 1024"),
            "{}",
            reasons(&bent)
        );
        for (bytes, reason) in [
            (&b""[..], "no tar archive"),
            (b"short", "no tar archive"),
            (&[b'x'; 600], "no tar archive"),
            (&[&b"\x1f\x8b"[..], &[0; 600]].concat(), "gunzip"),
        ] {
            assert!(reasons(&open(bytes)).contains(reason), "{}", reasons(&open(bytes)));
        }
        // A length behind the end of everything.
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::MAX - 5);
        header.set_cksum();
        assert!(reasons(&open(header.as_bytes())).contains("ends in the middle"));
    }
}
