//! What the policy set was in earlier versions, and who made it so.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::objects::{Action, Change, ObjectKey, ObjectRow, write_change};
use super::{Store, StoreError, content, query};
use crate::clock::to_seconds;

/// Who makes a version, when and why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Authorship<'a> {
    pub(crate) author: &'a str,
    pub(crate) now: SystemTime,
    /// In the author's words; may be empty.
    pub(crate) message: &'a str,
    /// The version that is brought back by this one.
    pub(crate) rollback_of: Option<u64>,
}

/// A version and what it changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VersionRow {
    pub(crate) version: u64,
    pub(crate) author: String,
    pub(crate) at: i64,
    pub(crate) message: String,
    pub(crate) rollback_of: Option<u64>,
    pub(crate) changes: Vec<(Action, ObjectKey)>,
}

#[derive(sqlx::FromRow)]
struct Head {
    version: i64,
    author: String,
    at: i64,
    message: String,
    rollback_of: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct Part {
    version: i64,
    action: String,
    #[sqlx(flatten)]
    key: ObjectKey,
}

/// How much of the history is kept: that many versions, and no more bytes of documents than that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    pub(crate) versions: u64,
    pub(crate) bytes: u64,
}

impl Store {
    /// Makes a new version of these changes, all or none; returns its number.
    pub(crate) async fn commit(
        &self,
        changes: &[Change],
        authorship: Authorship<'_>,
    ) -> Result<u64, StoreError> {
        let failed = || query("write the objects");
        let Authorship { author, now, message, rollback_of } = authorship;
        let rollback_of = rollback_of.map(signed).transpose()?;
        let bytes: usize = changes.iter().map(|change| change.text.len()).sum();
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let version: i64 = sqlx::query_scalar(
            "INSERT INTO versions (author, at, message, rollback_of, bytes) VALUES (?, ?, ?, ?, ?) RETURNING version",
        )
        .bind(author)
        .bind(to_seconds(now))
        .bind(message)
        .bind(rollback_of)
        .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
        .fetch_one(&mut *tx)
        .await
        .map_err(failed())?;
        for change in changes {
            write_change(&mut tx, version, change).await.map_err(failed())?;
        }
        tx.commit().await.map_err(failed())?;
        unsigned(version)
    }

    /// Versions below `before`, the newest first, at most `limit`.
    pub(crate) async fn versions(
        &self,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<VersionRow>, StoreError> {
        let failed = || query("read the history");
        let before = before.map_or(Ok(i64::MAX), signed)?;
        let mut tx = self.readers.begin().await.map_err(failed())?;
        let from = history_from(&mut tx).await?;
        let heads: Vec<Head> = sqlx::query_as(
            "SELECT version, author, at, message, rollback_of FROM versions \
             WHERE version >= ? AND version < ? ORDER BY version DESC LIMIT ?",
        )
        .bind(from)
        .bind(before)
        .bind(limit)
        .fetch_all(&mut *tx)
        .await
        .map_err(failed())?;
        let (Some(newest), Some(oldest)) = (heads.first(), heads.last()) else { return Ok(Vec::new()) };
        let parts: Vec<Part> = sqlx::query_as(
            "SELECT version, action, kind, namespace, name FROM history WHERE version BETWEEN ? AND ? \
             ORDER BY version, kind, namespace, name",
        )
        .bind(oldest.version)
        .bind(newest.version)
        .fetch_all(&mut *tx)
        .await
        .map_err(failed())?;
        let mut changes: BTreeMap<i64, Vec<_>> = BTreeMap::new();
        for Part { version, action, key } in parts {
            let action = Action::parse(&action).ok_or(()).map_err(|()| StoreError::Content {
                what: format!("the action {action:?} in version {version}"),
            })?;
            changes.entry(version).or_default().push((action, key));
        }
        let row = |head: Head| {
            Ok(VersionRow {
                changes: changes.remove(&head.version).unwrap_or_default(),
                version: unsigned(head.version)?,
                author: head.author,
                at: head.at,
                message: head.message,
                rollback_of: head.rollback_of.map(unsigned).transpose()?,
            })
        };
        heads.into_iter().map(row).collect()
    }

    /// Every object as it was in a version. None: there is no such version, or it is not kept any more.
    pub(crate) async fn objects_at(&self, version: u64) -> Result<Option<Vec<ObjectRow>>, StoreError> {
        let failed = || query("read the history");
        let version = signed(version)?;
        let mut tx = self.readers.begin().await.map_err(failed())?;
        let from = history_from(&mut tx).await?;
        let known: i64 =
            sqlx::query_scalar("SELECT count(*) FROM versions WHERE version = ? AND version >= ?")
                .bind(version)
                .bind(from)
                .fetch_one(&mut *tx)
                .await
                .map_err(failed())?;
        if known == 0 {
            return Ok(None);
        }
        let rows = sqlx::query_as(
            "SELECT h.kind, h.namespace, h.name, h.text, h.version, v.author, v.at \
             FROM history h JOIN versions v USING (version) \
             WHERE h.text IS NOT NULL AND h.version = (SELECT max(x.version) FROM history x \
                 WHERE x.kind = h.kind AND x.namespace = h.namespace AND x.name = h.name AND x.version <= ?) \
             ORDER BY h.kind, h.namespace, h.name",
        )
        .bind(version)
        .fetch_all(&mut *tx)
        .await
        .map_err(failed())?;
        Ok(Some(rows))
    }

    /// Forgets the versions that are too old, or too large together, to be kept; returns how many. What objects were in
    /// the oldest version that stays is kept, and so is the version in force.
    pub(crate) async fn shorten_history(&self, kept: Kept) -> Result<u64, StoreError> {
        let failed = || query("shorten the history");
        let (versions, bytes) = (signed(kept.versions)?, signed(kept.bytes)?);
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let old = history_from(&mut tx).await?;
        let from: Option<i64> = sqlx::query_scalar(
            "SELECT min(version) FROM ( \
                SELECT version, row_number() OVER newest AS place, sum(bytes) OVER newest AS total \
                FROM versions WHERE version >= ? WINDOW newest AS (ORDER BY version DESC) \
             ) WHERE place = 1 OR (place <= ? AND total <= ?)",
        )
        .bind(old)
        .bind(versions)
        .bind(bytes)
        .fetch_one(&mut *tx)
        .await
        .map_err(failed())?;
        let Some(from) = from.filter(|from| *from > old) else { return Ok(0) };
        // First what is followed by something kept, then what is only said to be gone: the other way round, what was
        // deleted would be back.
        for statement in [
            "DELETE FROM history WHERE version < ?1 AND EXISTS (SELECT 1 FROM history x \
             WHERE x.kind = history.kind AND x.namespace = history.namespace AND x.name = history.name \
             AND x.version > history.version AND x.version <= ?1)",
            "DELETE FROM history WHERE version < ?1 AND text IS NULL",
        ] {
            sqlx::query(statement).bind(from).execute(&mut *tx).await.map_err(failed())?;
        }
        sqlx::query("UPDATE meta SET value = ? WHERE key = 'history_from'")
            .bind(from.to_string())
            .execute(&mut *tx)
            .await
            .map_err(failed())?;
        // Of others the author is still named beside an object that they changed last.
        sqlx::query(
            "DELETE FROM versions WHERE version < ? AND version NOT IN (SELECT version FROM history) \
             AND version NOT IN (SELECT version FROM objects)",
        )
        .bind(from)
        .execute(&mut *tx)
        .await
        .map_err(failed())?;
        tx.commit().await.map_err(failed())?;
        unsigned(from - old)
    }
}

/// The oldest version of which the whole state is kept.
async fn history_from(connection: &mut sqlx::SqliteConnection) -> Result<i64, StoreError> {
    let text: String = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'history_from'")
        .fetch_one(connection)
        .await
        .map_err(query("read the history"))?;
    content(text.parse(), || format!("history_from {text:?}"))
}

fn signed(version: u64) -> Result<i64, StoreError> {
    content(i64::try_from(version), || format!("version {version}"))
}

fn unsigned(version: i64) -> Result<u64, StoreError> {
    content(u64::try_from(version), || format!("version {version}"))
}
