//! Taking apart a repository that can't come back, or a deletion, in steps that a writer can wait for.

use super::key::Key;
use super::repositories::RepositoryId;
use super::{Error, Read, Scan, Table, WriteTx, blobs, manifests, repositories, sizes, tags};

/// The tables whose rows mean nothing without the ones that are removed after them. Tags, manifests and links are
/// removed by their own functions, which keep the indexes and the counters.
const PLAIN: [Table; 7] = [
    Table::TagHistory,
    Table::HeldByHistory,
    Table::Usage,
    Table::Freshness,
    Table::Signatures,
    Table::ReferrersBySubject,
    Table::ReferencesByChild,
];

/// Removes up to `rows` rows of what the repository holds, each with what it entails. Returns how many more it could have
/// removed where the repository holds nothing any more, and is forgotten; `None` where there is more to do. Nobody may find
/// the repository by a name.
pub fn step(tx: &WriteTx<'_>, repository: RepositoryId, rows: usize) -> Result<Option<usize>, Error> {
    let mut left = rows;
    let listed = tags::list(tx, repository, None, left)?;
    left -= listed.len();
    for tag in &listed {
        tags::remove(tx, repository, tag)?;
    }
    for table in PLAIN {
        left -= remove_rows(tx, table, repository, left)?;
    }
    let revisions = manifests::list(tx, repository, None, left)?;
    left -= revisions.len();
    for (digest, _) in &revisions {
        manifests::remove(tx, repository, digest)?;
    }
    let links = blobs::list_links(tx, repository, None, left)?;
    left -= links.len();
    for (digest, _) in &links {
        blobs::remove_link(tx, repository, digest)?;
    }
    if left == 0 {
        return Ok(None);
    }
    sizes::forget(tx, repository)?;
    repositories::forget(tx, repository)?;
    Ok(Some(left))
}

/// Removes up to `limit` rows of a repository; returns how many there were.
fn remove_rows(
    tx: &WriteTx<'_>,
    table: Table,
    repository: RepositoryId,
    limit: usize,
) -> Result<usize, Error> {
    let prefix = Key::new().number(repository.number());
    let mut keys = Vec::new();
    tx.scan(table, prefix.as_ref(), None, |key, _| {
        if keys.len() == limit {
            return Ok(Scan::Stop);
        }
        keys.push(key.to_vec());
        Ok(Scan::Continue)
    })?;
    for key in &keys {
        tx.remove(table, prefix.clone().bytes(key))?;
    }
    Ok(keys.len())
}
