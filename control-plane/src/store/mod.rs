//! The store: SQLite, one file in the data directory.
//!
//! One writing connection, so that writes are serialized without lock errors, and a few reading ones (WAL lets them
//! read beside a write). A store that is damaged, lost or exchanged is an error at start, never an empty policy set.

mod history;
mod instances;
mod issuances;
mod objects;
mod tokens;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _};

pub(crate) use history::{Authorship, Kept, VersionRow};
pub(crate) use instances::{InstanceRow, NewInstance};
pub(crate) use issuances::{How, Issuance};
pub(crate) use objects::{Action, Change, ObjectKey, ObjectRow};
pub(crate) use tokens::{Redeem, TokenRow};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

const READERS_MAX: u32 = 4;
/// Waiting for a connection means that the disk hangs; callers have deadlines of their own.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Another process (a backup by `sqlite3`) may hold the lock for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the store does not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the store {path} is damaged ({problem}); nothing was changed. Restore the data directory from a backup"
    )]
    Damaged { path: PathBuf, problem: String },
    #[error("the store {path} was written by a newer palisade; run that version")]
    Newer { path: PathBuf },
    #[error("the store {path} cannot be opened")]
    Open {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error("the store {path} cannot be brought to this version's format")]
    Migrate {
        path: PathBuf,
        #[source]
        source: MigrateError,
    },
    #[error("the store cannot {action}")]
    Query {
        action: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("the store holds {what} that this version cannot read")]
    Content { what: String },
}

#[derive(Clone, Debug)]
pub(crate) struct Store {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Store {
    /// Fills a new, empty store file. Also finishes what an interrupted first start began.
    pub(crate) async fn create(path: &Path, store_id: &str) -> Result<Self, StoreError> {
        let store = Self::connect(path).await?;
        sqlx::query("INSERT INTO meta (key, value) VALUES ('store_id', ?) ON CONFLICT DO UPDATE SET value = excluded.value")
            .bind(store_id)
            .execute(&store.writer)
            .await
            .map_err(query("write its id"))?;
        Ok(store)
    }

    /// Opens the store that the manifest names. Looked at read-only first: a damaged file stays as it is.
    pub(crate) async fn open(path: &Path, store_id: &str) -> Result<Self, StoreError> {
        if let Err(e) = inspect(path, store_id).await {
            return Err(e.for_store(path));
        }
        Self::connect(path).await
    }

    async fn connect(path: &Path) -> Result<Self, StoreError> {
        let options = options(path);
        let failed = |source| StoreError::Open { path: path.to_owned(), source };
        let pool = |max: u32| SqlitePoolOptions::new().max_connections(max).acquire_timeout(ACQUIRE_TIMEOUT);
        let writer = pool(1).connect_with(options.clone()).await.map_err(failed)?;
        MIGRATIONS.run(&writer).await.map_err(|source| match source {
            MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => {
                StoreError::Newer { path: path.to_owned() }
            }
            source => StoreError::Migrate { path: path.to_owned(), source },
        })?;
        let readers = pool(READERS_MAX).connect_with(options.read_only(true)).await.map_err(failed)?;
        Ok(Self { writer, readers })
    }

    /// Writes the log back into the file and lets go of it.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        // FULL: an answered apply or a used-up token must survive a power cut (NORMAL may lose the last ones).
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
}

fn query(action: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Query { action, source }
}

enum Inspection {
    Problem(String),
    Failed(sqlx::Error),
}

impl From<sqlx::Error> for Inspection {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error)
    }
}

impl Inspection {
    fn for_store(self, path: &Path) -> StoreError {
        let path = path.to_owned();
        match self {
            Self::Problem(problem) => StoreError::Damaged { path, problem },
            Self::Failed(source) => match source.as_database_error() {
                Some(e) if is_damage(e.code().as_deref()) => {
                    StoreError::Damaged { path, problem: e.message().to_owned() }
                }
                _ => StoreError::Open { path, source },
            },
        }
    }
}

/// SQLITE_ERROR (a table is missing), SQLITE_CORRUPT and SQLITE_NOTADB, with their extended codes
/// (<https://www.sqlite.org/rescode.html>: the low byte is the primary code).
fn is_damage(code: Option<&str>) -> bool {
    let Some(code) = code.and_then(|c| c.parse::<u32>().ok()) else { return false };
    matches!(code & 0xff, 1 | 11 | 26)
}

async fn inspect(path: &Path, store_id: &str) -> Result<(), Inspection> {
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
        .connect()
        .await?;
    let verdicts: Vec<String> =
        sqlx::query_scalar("PRAGMA quick_check(3)").fetch_all(&mut connection).await?;
    if verdicts != ["ok"] {
        return Err(Inspection::Problem(verdicts.join("; ").replace('\n', " ")));
    }
    let found: Option<String> = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'store_id'")
        .fetch_optional(&mut connection)
        .await?;
    if found.as_deref() != Some(store_id) {
        return Err(Inspection::Problem("it is not the one that belongs to this data directory".into()));
    }
    connection.close().await?;
    Ok(())
}

/// Rejects the result of a conversion that only a foreign hand in the store can make fail.
fn content<T, E>(result: Result<T, E>, what: impl FnOnce() -> String) -> Result<T, StoreError> {
    result.map_err(|_| StoreError::Content { what: what() })
}

#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod tests;
