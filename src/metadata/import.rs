//! A database made of an export of another one.

use std::path::Path;

use redb::{Database, Durability, TableDefinition, WriteTransaction};

use super::database::open_file;
use super::key::Key;
use super::migration::fresh_path;
use super::{Error, FILE_NAME, OpenError, Options, Table};
use crate::fsio::Disk;
use crate::oci::Digest;

/// So many rows are written in one transaction.
const ROWS: usize = 50_000;

/// What a database is made of again.
#[derive(Debug)]
pub enum Imported {
    /// The rows of this table come next.
    Table(String),
    /// A row of the table.
    Row(Vec<u8>, Vec<u8>),
    /// A manifest's payload.
    Payload(Digest, Vec<u8>),
}

/// Makes the database of the directory `data` of an export; whole or not at all. It is migrated when it is opened.
pub fn import<X: From<OpenError>>(
    disk: &dyn Disk,
    data: &Path,
    options: Options,
    mut next: impl FnMut() -> Result<Option<Imported>, X>,
) -> Result<u64, X> {
    let path = data.join(FILE_NAME);
    let fresh = fresh_path(&path);
    disk.remove(&fresh).map_err(OpenError::from)?;
    drop(disk.create(&fresh).map_err(OpenError::from)?);
    let database = open_file(disk, &fresh, options)?;
    let failed = |error: redb::Error| X::from(OpenError::from(Error::from_redb(error)));
    let (mut table, mut rows, mut waiting) = (None::<String>, 0, Vec::new());
    loop {
        let item = next()?;
        let is_over = item.is_none();
        match item {
            Some(Imported::Table(name)) => {
                write(&database, table.as_deref(), &mut waiting).map_err(failed)?;
                table = Some(name);
                // Also where it stays empty.
                write(&database, table.as_deref(), &mut waiting).map_err(failed)?;
            }
            Some(Imported::Row(key, value)) => waiting.push((None, key, value)),
            Some(Imported::Payload(digest, bytes)) => {
                let key = Key::new().digest(&digest).as_ref().to_vec();
                waiting.push((Some(Table::ManifestPayloads.name()), key, bytes));
            }
            None => {}
        }
        rows += 1;
        if is_over || waiting.len() >= ROWS {
            write(&database, table.as_deref(), &mut waiting).map_err(failed)?;
        }
        if is_over {
            break;
        }
    }
    let durable = || {
        let transaction = database.begin_write()?;
        transaction.commit()?;
        Ok::<_, redb::Error>(())
    };
    durable().map_err(failed)?;
    drop(database);
    disk.rename(&fresh, &path).map_err(OpenError::from)?;
    disk.sync_dir(data).map_err(OpenError::from)?;
    Ok(rows)
}

type Waiting = (Option<&'static str>, Vec<u8>, Vec<u8>);

fn write(database: &Database, table: Option<&str>, rows: &mut Vec<Waiting>) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::None)?;
    write_rows(&transaction, table, rows)?;
    transaction.commit()?;
    Ok(())
}

fn write_rows(
    transaction: &WriteTransaction,
    table: Option<&str>,
    rows: &mut Vec<Waiting>,
) -> Result<(), redb::Error> {
    let definition = |name| TableDefinition::<&[u8], &[u8]>::new(name);
    let mut payloads = transaction.open_table(definition(Table::ManifestPayloads.name()))?;
    for (own, key, value) in rows.iter().filter(|row| row.0.is_some()) {
        debug_assert!(own.is_some());
        payloads.insert(key.as_slice(), value.as_slice())?;
    }
    drop(payloads);
    if let Some(table) = table {
        let mut table = transaction.open_table(definition(table))?;
        for (_, key, value) in rows.iter().filter(|row| row.0.is_none()) {
            table.insert(key.as_slice(), value.as_slice())?;
        }
    }
    rows.clear();
    Ok(())
}
