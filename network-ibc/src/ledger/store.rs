//! Where a ledger keeps what must outlast it.

use bytes::Bytes;

use super::error::LedgerError;

/// The two spaces of a ledger, and what it keeps of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    Provable,
    Private,
    Own,
}

/// Changes that are stored together or not at all.
pub(super) type Batch<'a> = Vec<(Space, &'a [u8], Option<&'a [u8]>)>;

/// What was stored: a space, a key, a value.
pub(super) type Stored = (Space, Vec<u8>, Bytes);

/// A store of keys and values.
pub(super) trait Store: Send + Sync + std::fmt::Debug {
    /// All that it holds, each space in the order of its keys.
    fn load(&self, take: &mut dyn FnMut(Stored)) -> Result<(), LedgerError>;

    /// Whether it keeps anything: then it is told of all changes, and takes its time.
    fn keeps(&self) -> bool {
        true
    }

    /// Stores a batch. Once this has succeeded, it is there also after a crash.
    fn write(&self, batch: &Batch<'_>) -> Result<(), LedgerError>;
}

/// Keeps nothing: a ledger that ends with its process.
#[derive(Debug)]
pub(super) struct Memory;

impl Store for Memory {
    fn load(&self, _take: &mut dyn FnMut(Stored)) -> Result<(), LedgerError> {
        Ok(())
    }

    fn keeps(&self) -> bool {
        false
    }

    fn write(&self, _batch: &Batch<'_>) -> Result<(), LedgerError> {
        Ok(())
    }
}

/// Keeps nothing either, and does with each batch what a test wants.
#[cfg(test)]
pub(super) struct Scripted(pub(super) Box<dyn Fn() -> Result<(), LedgerError> + Send + Sync>);

#[cfg(test)]
impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripted")
    }
}

#[cfg(test)]
impl Store for Scripted {
    fn load(&self, _take: &mut dyn FnMut(Stored)) -> Result<(), LedgerError> {
        Ok(())
    }

    fn write(&self, _batch: &Batch<'_>) -> Result<(), LedgerError> {
        (self.0)()
    }
}

#[cfg(feature = "durable")]
pub(super) use disk::Disk;

#[cfg(feature = "durable")]
mod disk {
    use std::{fs, path::Path};

    use bytes::Bytes;
    use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

    use super::{Batch, LedgerError, Space, Store, Stored};

    /// A folder, with an embedded database in it.
    pub(in crate::ledger) struct Disk {
        database: Database,
        spaces: [(Space, Keyspace); 3],
    }

    impl Disk {
        pub(in crate::ledger) fn open(path: &Path) -> Result<Self, LedgerError> {
            fs::create_dir_all(path)
                .map_err(|source| LedgerError::Folder { path: path.to_owned(), source })?;
            // It locks the folder, until the process ends however that ends.
            let database = Database::builder(path).open().map_err(|error| match error {
                fjall::Error::Locked => LedgerError::Locked { path: path.to_owned() },
                error => failed(error),
            })?;
            let space = |space, name| {
                let keyspace = database.keyspace(name, KeyspaceCreateOptions::default);
                Ok((space, keyspace.map_err(failed)?))
            };
            let spaces = [
                space(Space::Provable, "provable")?,
                space(Space::Private, "private")?,
                space(Space::Own, "own")?,
            ];
            Ok(Self { spaces, database })
        }
    }

    impl Store for Disk {
        fn load(&self, take: &mut dyn FnMut(Stored)) -> Result<(), LedgerError> {
            for (space, keyspace) in &self.spaces {
                for entry in keyspace.iter() {
                    let (key, value) = entry.into_inner().map_err(failed)?;
                    take((*space, key.to_vec(), Bytes::copy_from_slice(&value)));
                }
            }
            Ok(())
        }

        fn write(&self, batch: &Batch<'_>) -> Result<(), LedgerError> {
            // What `commit` stores is on the disk when it returns.
            let mut writes = self.database.batch().durability(Some(PersistMode::SyncData));
            for (space, key, value) in batch {
                let Some((_, keyspace)) = self.spaces.iter().find(|(one, _)| one == space) else {
                    continue;
                };
                match value {
                    Some(value) => writes.insert(keyspace, *key, *value),
                    None => writes.remove(keyspace, *key),
                }
            }
            writes.commit().map_err(failed)
        }
    }

    impl std::fmt::Debug for Disk {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Disk")
        }
    }

    fn failed(error: impl std::fmt::Display) -> LedgerError {
        LedgerError::Store { reason: error.to_string() }
    }
}
