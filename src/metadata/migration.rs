//! Bringing a data directory to the schema of this binary.
//!
//! Each migration is one transaction that also records its number, so a crash leaves the schema before or after it. The
//! database file is copied aside first. A fresh file is filled under another name and renamed when it is complete.

use std::path::{Path, PathBuf};

use redb::{ReadableDatabase, TableDefinition, WriteTransaction};

use super::database::open_file;
use super::{Error, OpenError, Options};
use crate::clock::{Clock, SystemClock};
use crate::fsio::{Disk, copy_durable};

#[path = "../../migrations/0004_accounts.rs"]
mod accounts;
#[path = "../../migrations/0003_collection.rs"]
mod collection;
#[path = "../../migrations/0001_initial.rs"]
mod initial;
#[path = "../../migrations/0002_signatures_and_events.rs"]
mod signatures_and_events;

/// One step from a schema to the next.
struct Migration {
    /// The schema that it leads to.
    number: u32,
    /// Takes the time of the migration, in milliseconds since 1970.
    apply: fn(&WriteTransaction, u64) -> Result<(), redb::Error>,
}

/// Every migration, in order.
const MIGRATIONS: [Migration; 4] = [
    Migration { number: 1, apply: |transaction, _| initial::apply(transaction) },
    Migration { number: 2, apply: |transaction, _| signatures_and_events::apply(transaction) },
    Migration { number: 3, apply: collection::apply },
    Migration { number: 4, apply: |transaction, _| accounts::apply(transaction) },
];

/// The schema that this binary reads and writes.
pub const SCHEMA: u32 = MIGRATIONS[MIGRATIONS.len() - 1].number;

/// The table and the key of the schema's number, which never change.
const META: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("meta");
const SCHEMA_KEY: &[u8] = b"schema";

/// Makes sure that a database of the present schema lies at `path`.
pub(super) fn prepare(disk: &dyn Disk, path: &Path, options: Options) -> Result<(), OpenError> {
    bring_to(&MIGRATIONS, disk, path, options)
}

fn bring_to(
    migrations: &[Migration],
    disk: &dyn Disk,
    path: &Path,
    options: Options,
) -> Result<(), OpenError> {
    let newest = migrations.last().map_or(0, |migration| migration.number);
    let fresh = fresh_path(path);
    // Left by a crash during the very first start, or during a compaction.
    disk.remove(&fresh)?;
    if disk.len(path)?.is_none() {
        drop(disk.create(&fresh)?);
        migrate(migrations, disk, &fresh, options, 0)?;
        disk.rename(&fresh, path)?;
        sync_directory_of(disk, path)?;
        return Ok(());
    }
    let found = schema_of(disk, path, options)?;
    if found > newest {
        return Err(OpenError::NewerSchema { found, known: newest });
    }
    if found < newest {
        let aside = with_suffix(path, &format!(".schema-{found}"));
        tracing::info!(from = found, to = newest, copy = %aside.display(), "migrating the metadata");
        copy_durable(disk, path, &aside)?;
        migrate(migrations, disk, path, options, found)?;
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

fn migrate(
    migrations: &[Migration],
    disk: &dyn Disk,
    path: &Path,
    options: Options,
    from: u32,
) -> Result<(), OpenError> {
    let database = open_file(disk, path, options)?;
    for migration in migrations.iter().filter(|migration| migration.number > from) {
        let mut transaction = database.begin_write().map_err(Error::from_redb)?;
        transaction.set_quick_repair(options.quick_repair);
        (migration.apply)(&transaction, SystemClock.now().millis()).map_err(Error::from_redb)?;
        {
            let mut meta = transaction.open_table(META).map_err(Error::from_redb)?;
            meta.insert(SCHEMA_KEY, migration.number.to_be_bytes().as_slice()).map_err(Error::from_redb)?;
        }
        transaction.commit().map_err(Error::from_redb)?;
    }
    Ok(())
}

fn sync_directory_of(disk: &dyn Disk, path: &Path) -> Result<(), OpenError> {
    if let Some(directory) = path.parent() {
        disk.sync_dir(directory)?;
    }
    Ok(())
}

/// Where a database is filled before it gets its name.
pub(super) fn fresh_path(path: &Path) -> PathBuf {
    with_suffix(path, ".new")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use redb::TableHandle;

    use super::*;
    use crate::fsio::SimulatedDisk;

    const PATH: &str = "/data/metadata.redb";

    /// One more step than this binary has, as a later release would have it.
    fn later(apply: fn(&WriteTransaction, u64) -> Result<(), redb::Error>) -> Vec<Migration> {
        let steps = MIGRATIONS.iter().map(|step| Migration { number: step.number, apply: step.apply });
        steps.chain([Migration { number: SCHEMA + 1, apply }]).collect()
    }

    fn one_more_table(transaction: &WriteTransaction, _: u64) -> Result<(), redb::Error> {
        transaction.open_table(TableDefinition::<&[u8], &[u8]>::new("later"))?;
        Ok(())
    }

    /// A step that fails after it has written.
    fn failing(transaction: &WriteTransaction, now: u64) -> Result<(), redb::Error> {
        one_more_table(transaction, now)?;
        Err(redb::Error::Corrupted("on purpose".into()))
    }

    fn disk() -> SimulatedDisk {
        let disk = SimulatedDisk::new();
        disk.create_dir("/data".as_ref()).unwrap();
        disk
    }

    fn schema(disk: &SimulatedDisk, path: &str) -> u32 {
        schema_of(disk, path.as_ref(), Options::default()).unwrap()
    }

    fn tables(disk: &SimulatedDisk) -> Vec<String> {
        let database = open_file(disk, PATH.as_ref(), Options::default()).unwrap();
        let transaction = database.begin_read().unwrap();
        let mut names: Vec<_> =
            transaction.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_fresh_database_has_every_table_and_the_present_schema() {
        let disk = disk();
        prepare(&disk, PATH.as_ref(), Options::default()).unwrap();
        assert_eq!(schema(&disk, PATH), SCHEMA);
        let mut expected: Vec<_> =
            super::super::Table::ALL.iter().map(|table| table.name().to_owned()).collect();
        expected.sort_unstable();
        assert_eq!(tables(&disk), expected);
    }

    #[test]
    fn a_newer_schema_is_refused_and_left_alone() {
        let disk = disk();
        bring_to(&later(one_more_table), &disk, PATH.as_ref(), Options::default()).unwrap();
        let error = prepare(&disk, PATH.as_ref(), Options::default()).unwrap_err();
        assert!(
            matches!(error, OpenError::NewerSchema { found, known } if found == SCHEMA + 1 && known == SCHEMA),
            "{error}"
        );
        assert!(error.to_string().contains("newer Orlop"));
        assert_eq!(schema(&disk, PATH), SCHEMA + 1);
    }

    #[test]
    fn a_migration_records_its_number_and_puts_the_former_file_aside() {
        let disk = disk();
        prepare(&disk, PATH.as_ref(), Options::default()).unwrap();
        bring_to(&later(one_more_table), &disk, PATH.as_ref(), Options::default()).unwrap();
        let aside = format!("{PATH}.schema-{SCHEMA}");
        assert_eq!((schema(&disk, PATH), schema(&disk, &aside)), (SCHEMA + 1, SCHEMA));
    }

    #[test]
    fn a_migration_that_fails_leaves_the_former_schema() {
        let disk = disk();
        prepare(&disk, PATH.as_ref(), Options::default()).unwrap();
        bring_to(&later(failing), &disk, PATH.as_ref(), Options::default()).unwrap_err();
        assert_eq!(schema(&disk, PATH), SCHEMA);
        assert!(!tables(&disk).contains(&"later".to_owned()));
    }

    #[test]
    fn a_first_start_that_lost_power_at_any_point_can_be_repeated() {
        let whole = disk();
        prepare(&whole, PATH.as_ref(), Options::default()).unwrap();
        for operation in 0..whole.operations() {
            let disk = disk();
            disk.cut_power_at(operation);
            let _ = prepare(&disk, PATH.as_ref(), Options::default());
            for seed in 0..4 {
                let disk = disk.reboot(seed);
                disk.create_dir("/data".as_ref()).unwrap();
                prepare(&disk, PATH.as_ref(), Options::default()).unwrap();
                assert_eq!(schema(&disk, PATH), SCHEMA);
            }
        }
    }
}
