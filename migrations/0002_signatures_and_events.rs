//! Schema 2: signatures beside their manifests, and the log of events with a cursor for each endpoint.

use redb::{TableDefinition, WriteTransaction};

/// The tables that schema 2 adds.
const TABLES: [&str; 3] = ["signatures", "events", "event_cursors"];

/// Creates the tables, empty: a store of schema 1 has no signatures and has told nobody of anything.
pub(super) fn apply(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    for name in TABLES {
        transaction.open_table(TableDefinition::<&[u8], &[u8]>::new(name))?;
    }
    Ok(())
}
