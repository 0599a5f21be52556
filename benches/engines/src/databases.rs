//! The candidates behind one small trait. All caches are 32 MB, all commits durable.

use std::path::Path;

use crate::Outcome;

pub(crate) const NAMES: [&str; 3] = ["redb", "fjall", "heed"];
const CACHE: usize = 32 << 20;

#[derive(Clone, Copy)]
pub(crate) enum Table {
    Rows,
    Heads,
}

/// A record written, or (none) removed.
pub(crate) struct Change {
    pub(crate) table: Table,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
}

pub(crate) trait Database {
    /// Makes all changes durable at once.
    fn commit(&mut self, changes: Vec<Change>) -> Outcome<()>;
    /// The number of the newest row.
    fn last_row(&mut self) -> Outcome<Option<u64>>;
}

/// Opens or makes one.
pub(crate) fn open(name: &str, dir: &Path) -> Outcome<Box<dyn Database>> {
    std::fs::create_dir_all(dir)?;
    Ok(match name {
        "redb" => Box::new(Redb::open(dir)?),
        "fjall" => Box::new(Fjall::open(dir)?),
        _ => Box::new(Heed::open(dir)?),
    })
}

fn number(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

struct Redb(redb::Database);

const ROWS: redb::TableDefinition<&[u8], &[u8]> = redb::TableDefinition::new("rows");
const HEADS: redb::TableDefinition<&[u8], &[u8]> = redb::TableDefinition::new("heads");

impl Redb {
    fn open(dir: &Path) -> Outcome<Self> {
        let db = redb::Database::builder().set_cache_size(CACHE).create(dir.join("db"))?;
        let txn = db.begin_write()?;
        txn.open_table(ROWS)?;
        txn.open_table(HEADS)?;
        txn.commit()?;
        Ok(Self(db))
    }
}

impl Database for Redb {
    fn commit(&mut self, changes: Vec<Change>) -> Outcome<()> {
        let txn = self.0.begin_write()?;
        {
            let (mut rows, mut heads) = (txn.open_table(ROWS)?, txn.open_table(HEADS)?);
            for Change { table, key, value } in changes {
                let table = match table {
                    Table::Rows => &mut rows,
                    Table::Heads => &mut heads,
                };
                match value {
                    Some(value) => table.insert(key.as_slice(), value.as_slice())?,
                    None => table.remove(key.as_slice())?,
                };
            }
        }
        Ok(txn.commit()?)
    }

    fn last_row(&mut self) -> Outcome<Option<u64>> {
        use redb::{ReadableDatabase, ReadableTable};
        let rows = self.0.begin_read()?.open_table(ROWS)?;
        Ok(rows.last()?.and_then(|(key, _)| number(key.value())))
    }
}

struct Fjall {
    db: fjall::Database,
    rows: fjall::Keyspace,
    heads: fjall::Keyspace,
}

impl Fjall {
    fn open(dir: &Path) -> Outcome<Self> {
        let db = fjall::Database::builder(dir.join("db")).cache_size(CACHE as u64).open()?;
        let keyspace = |name| db.keyspace(name, fjall::KeyspaceCreateOptions::default);
        let (rows, heads) = (keyspace("rows")?, keyspace("heads")?);
        Ok(Self { db, rows, heads })
    }
}

impl Database for Fjall {
    fn commit(&mut self, changes: Vec<Change>) -> Outcome<()> {
        let mut batch = self.db.batch().durability(Some(fjall::PersistMode::SyncData));
        for Change { table, key, value } in changes {
            let keyspace = match table {
                Table::Rows => &self.rows,
                Table::Heads => &self.heads,
            };
            match value {
                Some(value) => batch.insert(keyspace, key, value),
                None => batch.remove(keyspace, key),
            }
        }
        Ok(batch.commit()?)
    }

    fn last_row(&mut self) -> Outcome<Option<u64>> {
        let Some(last) = self.rows.last_key_value() else { return Ok(None) };
        Ok(number(&last.key()?))
    }
}

type Records = heed::Database<heed::types::Bytes, heed::types::Bytes>;

struct Heed {
    env: heed::Env,
    rows: Records,
    heads: Records,
}

impl Heed {
    fn open(dir: &Path) -> Outcome<Self> {
        // SAFETY: nobody else changes the file while it is mapped; the directory is this program's own.
        let env = unsafe { heed::EnvOpenOptions::new().map_size(8 << 30).max_dbs(2).open(dir)? };
        let mut txn = env.write_txn()?;
        let rows = env.create_database(&mut txn, Some("rows"))?;
        let heads = env.create_database(&mut txn, Some("heads"))?;
        txn.commit()?;
        Ok(Self { env, rows, heads })
    }
}

impl Database for Heed {
    fn commit(&mut self, changes: Vec<Change>) -> Outcome<()> {
        let mut txn = self.env.write_txn()?;
        for Change { table, key, value } in changes {
            let table = match table {
                Table::Rows => &self.rows,
                Table::Heads => &self.heads,
            };
            match value {
                Some(value) => table.put(&mut txn, &key, &value)?,
                None => drop(table.delete(&mut txn, &key)?),
            }
        }
        Ok(txn.commit()?)
    }

    fn last_row(&mut self) -> Outcome<Option<u64>> {
        let txn = self.env.read_txn()?;
        Ok(self.rows.last(&txn)?.and_then(|(key, _)| number(key)))
    }
}
