//! Schema 1: the first tables.
//!
//! A released migration never changes and names its tables itself, so that it still writes this schema when the code
//! around it has moved on.

use redb::{TableDefinition, WriteTransaction};

/// The tables that schema 1 has.
const TABLES: [&str; 17] = [
    "meta",
    "repositories_by_name",
    "repositories_by_id",
    "blobs",
    "digest_aliases",
    "aliases_by_digest",
    "blob_links",
    "links_by_blob",
    "manifests",
    "repositories_by_manifest",
    "manifest_payloads",
    "references_by_child",
    "tags",
    "tags_by_manifest",
    "tag_history",
    "referrers_by_subject",
    "uploads",
];

/// Creates the tables, empty.
pub(super) fn apply(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    for name in TABLES {
        transaction.open_table(TableDefinition::<&[u8], &[u8]>::new(name))?;
    }
    Ok(())
}
