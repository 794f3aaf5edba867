//! Schema 4: users and access tokens. A store of schema 3 has neither.

use redb::{TableDefinition, WriteTransaction};

/// The tables that schema 4 adds.
const TABLES: [&str; 2] = ["users", "access_tokens"];

/// Creates the tables.
pub(super) fn apply(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    for name in TABLES {
        transaction.open_table(TableDefinition::<&[u8], &[u8]>::new(name))?;
    }
    Ok(())
}
