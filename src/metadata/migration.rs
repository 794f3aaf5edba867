//! Bringing a data directory to the schema of this binary.
//!
//! Each migration is one transaction that also records its number, so a crash leaves the schema before or after it. The
//! database file is copied aside first. A fresh file is filled under another name and renamed when it is complete.

use std::path::{Path, PathBuf};

use redb::{ReadableDatabase, TableDefinition, WriteTransaction};

use super::database::open_file;
use super::{Error, OpenError, Options};
use crate::fsio::{self, Access, Disk};

#[path = "../../migrations/0001_initial.rs"]
mod initial;

/// One step from a schema to the next.
struct Migration {
    /// The schema that it leads to.
    number: u32,
    apply: fn(&WriteTransaction) -> Result<(), redb::Error>,
}

/// Every migration, in order.
const MIGRATIONS: [Migration; 1] = [Migration { number: 1, apply: initial::apply }];

/// The schema that this binary reads and writes.
pub const SCHEMA: u32 = MIGRATIONS[MIGRATIONS.len() - 1].number;

/// The table and the key of the schema's number, which never change.
const META: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("meta");
const SCHEMA_KEY: &[u8] = b"schema";

/// Makes sure that a database of the present schema lies at `path`.
pub(super) fn prepare(disk: &dyn Disk, path: &Path, options: Options) -> Result<(), OpenError> {
    let fresh = with_suffix(path, ".new");
    // Left by a crash during the very first start.
    disk.remove(&fresh)?;
    if disk.len(path)?.is_none() {
        drop(disk.create(&fresh)?);
        migrate(disk, &fresh, options, 0)?;
        disk.rename(&fresh, path)?;
        sync_directory_of(disk, path)?;
        return Ok(());
    }
    let found = schema_of(disk, path, options)?;
    if found > SCHEMA {
        return Err(OpenError::NewerSchema { found, known: SCHEMA });
    }
    if found < SCHEMA {
        let aside = with_suffix(path, &format!(".schema-{found}"));
        tracing::info!(from = found, to = SCHEMA, copy = %aside.display(), "migrating the metadata");
        copy_aside(disk, path, &aside)?;
        migrate(disk, path, options, found)?;
    }
    Ok(())
}

/// The schema of the database at `path`; 0 where it records none.
fn schema_of(disk: &dyn Disk, path: &Path, options: Options) -> Result<u32, OpenError> {
    let database = open_file(disk, path, options)?;
    let transaction = database.begin_read().map_err(Error::from_redb)?;
    let table = match transaction.open_table(META) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(0),
        Err(error) => return Err(Error::from_redb(error).into()),
    };
    let Some(value) = table.get(SCHEMA_KEY).map_err(Error::from_redb)? else { return Ok(0) };
    let number = value.value().try_into().map_err(|_| Error::Damaged {
        table: "meta",
        reason: "the schema's number is not four bytes long".into(),
    })?;
    Ok(u32::from_be_bytes(number))
}

fn migrate(disk: &dyn Disk, path: &Path, options: Options, from: u32) -> Result<(), OpenError> {
    let database = open_file(disk, path, options)?;
    for migration in MIGRATIONS.iter().filter(|migration| migration.number > from) {
        let mut transaction = database.begin_write().map_err(Error::from_redb)?;
        transaction.set_quick_repair(options.quick_repair);
        (migration.apply)(&transaction).map_err(Error::from_redb)?;
        {
            let mut meta = transaction.open_table(META).map_err(Error::from_redb)?;
            meta.insert(SCHEMA_KEY, migration.number.to_be_bytes().as_slice()).map_err(Error::from_redb)?;
        }
        transaction.commit().map_err(Error::from_redb)?;
    }
    Ok(())
}

/// Copies the closed database file, durably.
fn copy_aside(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), OpenError> {
    let unfinished = with_suffix(to, ".new");
    disk.remove(&unfinished)?;
    let failed = |operation, source| fsio::FileError { operation, path: unfinished.clone(), source };
    if let Some(source) = disk.open(from, Access::Read)? {
        let copy = disk.create(&unfinished)?;
        let mut buffer = vec![0; 1 << 20];
        let mut offset = 0;
        loop {
            let read = source.read_at(&mut buffer, offset).map_err(|error| failed("read", error))?;
            if read == 0 {
                break;
            }
            copy.write_at(&buffer[..read], offset).map_err(|error| failed("write", error))?;
            offset += read as u64;
        }
        copy.sync().map_err(|error| failed("sync", error))?;
    }
    disk.rename(&unfinished, to)?;
    sync_directory_of(disk, to)
}

fn sync_directory_of(disk: &dyn Disk, path: &Path) -> Result<(), OpenError> {
    if let Some(directory) = path.parent() {
        disk.sync_dir(directory)?;
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
