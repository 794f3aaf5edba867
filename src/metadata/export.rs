//! All of the metadata as of one instant, for a copy of it.
//!
//! A copy has the rows as they are, whatever their schema, so that a later binary migrates them as it migrates a file. Without
//! it go what belongs to the machine alone (uploads, fetches, what is in quarantine) and the log of events; manifests' payloads
//! are told apart from the rows, since they are content, and lie beside the blobs.

use super::blobs::{damaged_key, digest_of, repository_of};
use super::key::{Key, Parts};
use super::repositories::{RepositoryId, name_of};
use super::transaction::Rows;
use super::{Error, Metadata, Read, ReadTx, Scan, Table, blobs, codec, manifests, tags};
use crate::oci::{Digest, MediaType, RepositoryName, Tag};

/// Who takes an export: first the payloads, then what tags point to and what is absent, then every table with its rows.
pub trait Export {
    /// Why it can't take any more.
    type Error: From<Error>;

    /// Forgets what came, since all of it comes again.
    fn restart(&mut self) -> Result<(), Self::Error>;

    /// A manifest's bytes.
    fn payload(&mut self, digest: &Digest, bytes: &[u8]) -> Result<(), Self::Error>;

    /// What a tag points to.
    fn tag(&mut self, tag: ExportedTag<'_>) -> Result<(), Self::Error>;

    /// Content that a manifest names and its repository hasn't got.
    fn absent(
        &mut self,
        repository: &RepositoryName,
        parent: &Digest,
        child: &Digest,
    ) -> Result<(), Self::Error>;

    /// The rows of this table come next.
    fn table(&mut self, table: Table) -> Result<(), Self::Error>;

    /// A row of the table.
    fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), Self::Error>;
}

/// What a tag points to.
#[derive(Debug, Clone, Copy)]
pub struct ExportedTag<'a> {
    /// The repository.
    pub repository: &'a RepositoryName,
    /// The tag.
    pub tag: &'a Tag,
    /// The digest that it was set with.
    pub digest: &'a Digest,
    /// The manifest's media type.
    pub media_type: &'a MediaType,
    /// The manifest's length in bytes.
    pub size: u64,
}

/// Content that a row says to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A blob, or a manifest's payload, of this length.
    Canonical(Digest, u64),
    /// Another digest of such content: this one, of the canonical one.
    Alias(Digest, Digest),
}

impl Metadata {
    /// Hands everything to `export`, as of one instant. What is cached of upstreams stays out unless `with_cached`. Blocks; the file grows
    /// by what is written meanwhile, so that nothing in here may take long: each table is read in its order, and others beside it.
    pub fn export<E: Export>(&self, with_cached: bool, export: &mut E) -> Result<(), E::Error> {
        let mut failed = None;
        let read = self.read(|tx| {
            failed = None;
            let exporting = Exporting { tx, with_cached };
            match export.restart().and_then(|()| exporting.run(export)) {
                Ok(()) => Ok(()),
                Err(error) => {
                    failed = Some(error);
                    Ok(())
                }
            }
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(read?),
        }
    }
}

struct Exporting<'t> {
    tx: &'t ReadTx,
    with_cached: bool,
}

impl Exporting<'_> {
    fn run<E: Export>(&self, export: &mut E) -> Result<(), E::Error> {
        self.each_row(Table::ManifestPayloads, |key, value| {
            let digest = digest_of(Table::ManifestPayloads, &mut Parts(key))?;
            export.payload(&digest, value)
        })?;
        let mut named = None;
        self.each_row(Table::Tags, |key, value| self.tag(key, value, &mut named, export))?;
        let mut here = [self.tx.rows(Table::BlobLinks)?, self.tx.rows(Table::Manifests)?];
        self.each_row(Table::ReferencesByChild, |key, _| self.reference(key, &mut here, export))?;
        for table in Table::ALL {
            export.table(table)?;
            if !is_of_this_machine(table) && table != Table::ManifestPayloads {
                self.each_row(table, |key, value| export.row(key, value))?;
            }
        }
        Ok(())
    }

    /// Hands the rows of a table that are to be exported to `row`.
    fn each_row<X: From<Error>>(
        &self,
        table: Table,
        mut row: impl FnMut(&[u8], &[u8]) -> Result<(), X>,
    ) -> Result<(), X> {
        let mut failed = None;
        let mut owners = None;
        if !self.with_cached && is_sorted_by_content(table) {
            owners = Some(Owners::beside(table, self.tx)?);
        }
        self.tx.scan(table, b"", None, |key, value| {
            let is_exported = match &mut owners {
                Some(owners) => owners.is_own(key)?,
                None => self.is_exported(table, key, value)?,
            };
            if !is_exported {
                return Ok(Scan::Continue);
            }
            match row(key, value) {
                Ok(()) => Ok(Scan::Continue),
                Err(error) => {
                    failed = Some(error);
                    Ok(Scan::Stop)
                }
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// Tells of a tag; `named` is the repository of the one before.
    fn tag<E: Export>(
        &self,
        key: &[u8],
        value: &[u8],
        named: &mut Option<(RepositoryId, Option<RepositoryName>)>,
        export: &mut E,
    ) -> Result<(), E::Error> {
        let mut parts = Parts(key);
        let repository = repository_of(Table::Tags, &mut parts)?;
        if named.as_ref().is_none_or(|(before, _)| *before != repository) {
            *named = Some((repository, name_of(self.tx, repository)?));
        }
        let Some((_, Some(name))) = named else { return Ok(()) };
        let tag = parts.text().and_then(|tag| tag.parse::<Tag>().ok());
        let tag = tag.ok_or_else(|| damaged_key(Table::Tags, "tag"))?;
        let record: tags::TagRecord = codec::decode(value)?;
        let manifest = manifests::get(self.tx, repository, &record.digest)?;
        let manifest = manifest.ok_or_else(|| damaged_key(Table::Tags, "tag"))?;
        export.tag(ExportedTag {
            repository: name,
            tag: &tag,
            digest: &record.named,
            media_type: &manifest.media_type,
            size: manifest.size,
        })
    }

    /// Tells of a reference to what isn't there; `here` is where the blobs and manifests of repositories are, in the order of the
    /// references.
    fn reference<E: Export>(&self, key: &[u8], here: &mut [Rows; 2], export: &mut E) -> Result<(), E::Error> {
        let mut parts = Parts(key);
        let repository = repository_of(Table::ReferencesByChild, &mut parts)?;
        let child = digest_of(Table::ReferencesByChild, &mut parts)?;
        let place = &key[..key.len() - parts.0.len()];
        for rows in here {
            if rows.seek(place)? == Some(place) {
                return Ok(());
            }
        }
        let parent = digest_of(Table::ReferencesByChild, &mut parts)?;
        if let Some(canonical) = blobs::canonical(self.tx, &child)?
            && (blobs::link(self.tx, repository, &canonical)?.is_some()
                || manifests::exists(self.tx, repository, &canonical)?)
        {
            return Ok(());
        }
        match name_of(self.tx, repository)? {
            Some(name) => export.absent(&name, &parent, &child),
            // What was deleted.
            None => Ok(()),
        }
    }

    /// Whether a row is among those that are exported.
    fn is_exported(&self, table: Table, key: &[u8], value: &[u8]) -> Result<bool, Error> {
        if self.with_cached {
            return Ok(true);
        }
        let cached = |id: Option<u64>| id.map(RepositoryId::from_number).is_some_and(RepositoryId::is_cached);
        let mut parts = Parts(key);
        Ok(match table {
            Table::RepositoriesByName => !codec::decode::<RepositoryId>(value)?.is_cached(),
            Table::RepositoriesById
            | Table::BlobLinks
            | Table::Manifests
            | Table::ReferencesByChild
            | Table::Tags
            | Table::TagsByManifest
            | Table::TagHistory
            | Table::ReferrersBySubject
            | Table::Signatures
            | Table::Untagged
            | Table::Usage
            | Table::HeldByHistory
            | Table::RepositorySizes
            | Table::Freshness => !cached(parts.number()),
            Table::LinksByBlob | Table::RepositoriesByManifest => {
                parts.digest();
                !cached(parts.number())
            }
            Table::Candidates => {
                let (_, _, repository) = (parts.number(), parts.byte(), parts.number());
                match repository {
                    Some(0) => parts.digest().map_or(Ok(true), |digest| self.is_own(&digest))?,
                    repository => !cached(repository),
                }
            }
            Table::DigestAliases => self.is_own(&codec::decode(value)?)?,
            _ => true,
        })
    }

    /// Whether content is something else than cached: somebody's own, or nobody's.
    fn is_own(&self, canonical: &Digest) -> Result<bool, Error> {
        let (mut is_named, mut is_own) = (false, false);
        for table in [Table::LinksByBlob, Table::RepositoriesByManifest] {
            self.tx.scan(table, Key::new().digest(canonical).as_ref(), None, |key, _| {
                is_named = true;
                is_own |=
                    !Parts(key).number().map(RepositoryId::from_number).is_some_and(RepositoryId::is_cached);
                Ok(if is_own { Scan::Stop } else { Scan::Continue })
            })?;
        }
        Ok(is_own || !is_named)
    }
}

/// Whether a table's keys begin with the digest of content.
fn is_sorted_by_content(table: Table) -> bool {
    matches!(table, Table::Blobs | Table::AliasesByDigest | Table::ManifestPayloads)
}

/// Whose content is, told in the order of digests: beside a table that has the same order this takes no look-ups.
struct Owners {
    table: Table,
    repositories: [Rows; 2],
    /// The last digest, as it is in keys, and what was said of it: it may come again.
    last: (Vec<u8>, bool),
}

impl Owners {
    fn beside(table: Table, tx: &ReadTx) -> Result<Owners, Error> {
        let repositories = [tx.rows(Table::LinksByBlob)?, tx.rows(Table::RepositoriesByManifest)?];
        Ok(Owners { table, repositories, last: (Vec::new(), true) })
    }

    /// Whether the content whose digest the key begins with is something else than cached: somebody's own, or nobody's.
    fn is_own(&mut self, key: &[u8]) -> Result<bool, Error> {
        let mut parts = Parts(key);
        digest_of(self.table, &mut parts)?;
        let digest = &key[..key.len() - parts.0.len()];
        if self.last.0 == digest {
            return Ok(self.last.1);
        }
        let (mut is_named, mut is_own) = (false, false);
        for rows in &mut self.repositories {
            while let Some(repository) = rows.seek(digest)?.and_then(|key| key.strip_prefix(digest)) {
                is_named = true;
                let repository = Parts(repository).number().map(RepositoryId::from_number);
                is_own |= !repository.is_some_and(RepositoryId::is_cached);
                if is_own {
                    break;
                }
                rows.advance()?;
            }
        }
        self.last.0.clear();
        self.last.0.extend_from_slice(digest);
        self.last.1 = is_own || !is_named;
        Ok(self.last.1)
    }
}

/// Whether a table says nothing of use to another machine, or to this one at another time.
fn is_of_this_machine(table: Table) -> bool {
    matches!(table, Table::Uploads | Table::Fetches | Table::Events | Table::EventCursors | Table::Damaged)
}

/// The content that a row of an export says to be there, if it says so.
pub fn content(table: &str, key: &[u8], value: &[u8]) -> Result<Option<Content>, Error> {
    let mut parts = Parts(key);
    Ok(match table {
        name if name == Table::Blobs.name() => {
            let digest = digest_of(Table::Blobs, &mut parts)?;
            Some(Content::Canonical(digest, codec::decode::<blobs::BlobRecord>(value)?.size))
        }
        name if name == Table::Manifests.name() => {
            repository_of(Table::Manifests, &mut parts)?;
            let digest = digest_of(Table::Manifests, &mut parts)?;
            Some(Content::Canonical(digest, codec::decode::<manifests::ManifestRecord>(value)?.size))
        }
        name if name == Table::DigestAliases.name() => match parts.digest() {
            Some(alias) if parts.0.is_empty() => Some(Content::Alias(alias, codec::decode(value)?)),
            // A tarsum.
            Some(_) | None => None,
        },
        _ => None,
    })
}

/// Whether the content is a manifest's payload, which a copy of the metadata has as a row again.
pub fn is_manifest(table: &str) -> bool {
    table == Table::Manifests.name()
}

/// Whether the row of a manifest, of the present schema, is of one that is put together with its signatures when it is read.
pub fn is_signed(value: &[u8]) -> Result<bool, Error> {
    let record = codec::decode::<manifests::ManifestRecord>(value)?;
    Ok(record.media_type == MediaType::DOCKER_MANIFEST_SCHEMA1_SIGNED)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Timestamp;
    use crate::fsio::{Disk, SimulatedDisk};
    use crate::metadata::repositories::ensure;
    use crate::metadata::{Options, WriteTx};
    use crate::oci::DigestAlgorithm;
    use crate::telemetry::StorageMetrics;
    use blobs::{Alias, BlobRecord, LinkRecord};

    /// Notes the rows of one table.
    struct Noting {
        of: Table,
        table: Table,
        keys: Vec<Vec<u8>>,
    }

    impl Export for Noting {
        type Error = Error;

        fn restart(&mut self) -> Result<(), Error> {
            self.keys.clear();
            Ok(())
        }

        fn payload(&mut self, _: &Digest, _: &[u8]) -> Result<(), Error> {
            Ok(())
        }

        fn tag(&mut self, _: ExportedTag<'_>) -> Result<(), Error> {
            Ok(())
        }

        fn absent(&mut self, _: &RepositoryName, _: &Digest, _: &Digest) -> Result<(), Error> {
            Ok(())
        }

        fn table(&mut self, table: Table) -> Result<(), Error> {
            self.table = table;
            Ok(())
        }

        fn row(&mut self, key: &[u8], _: &[u8]) -> Result<(), Error> {
            if self.table == self.of {
                self.keys.push(key.to_vec());
            }
            Ok(())
        }
    }

    /// Content of the repository `name`, by three names besides its digest.
    fn push(tx: &WriteTx<'_>, name: &str, upstream: Option<&str>) -> Result<(), Error> {
        let content = Digest::of(DigestAlgorithm::Sha256, name.as_bytes());
        let id = ensure(tx, &name.parse().unwrap(), Timestamp::from_millis(7), "", upstream)?;
        blobs::insert(tx, &content, &BlobRecord { size: 1, created_at: 7 })?;
        let media_type = "application/octet-stream".parse().unwrap();
        let link = LinkRecord { media_type, created_at: 7, actor: String::new(), due_at: None };
        blobs::insert_link(tx, id, &content, &link)?;
        blobs::insert_alias(
            tx,
            Alias::Digest(Digest::of(DigestAlgorithm::Sha512, name.as_bytes())),
            &content,
        )?;
        for version in ["tarsum+sha256", "tarsum.v1+sha256"] {
            let sum = format!("{version}:{}", content.hex());
            blobs::insert_alias(tx, Alias::TarSum(sum.parse().unwrap(), id), &content)?;
        }
        Ok(())
    }

    #[test]
    fn content_of_ones_own_is_exported_with_each_of_its_names_and_cached_content_with_none() {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new());
        disk.create_dir("/data".as_ref()).unwrap();
        let metadata = Metadata::open(&disk, "/data", Options::default(), StorageMetrics::default()).unwrap();
        let pushed = metadata.write_blocking::<_, Error, _>(|tx| {
            for name in ["one", "other", "third"] {
                push(tx, name, None)?;
                push(tx, &format!("docker.io/{name}"), Some("docker.io"))?;
            }
            Ok(())
        });
        pushed.unwrap();
        for (of, own, all) in [(Table::AliasesByDigest, 9, 18), (Table::Blobs, 3, 6)] {
            for (with_cached, expected) in [(false, own), (true, all)] {
                let mut noting = Noting { of, table: Table::Meta, keys: Vec::new() };
                metadata.export(with_cached, &mut noting).unwrap();
                assert_eq!(noting.keys.len(), expected, "{of:?}, cached: {with_cached}");
            }
        }
    }
}
