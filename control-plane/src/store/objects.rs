//! Objects, their versions and their history.

use super::{Store, StoreError, content, query};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ObjectKey {
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct ObjectRow {
    #[sqlx(flatten)]
    pub(crate) key: ObjectKey,
    pub(crate) text: String,
    /// Version in which it last changed, by whom and when.
    pub(crate) version: i64,
    pub(crate) author: String,
    pub(crate) at: i64,
}

impl<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow> for ObjectKey {
    fn from_row(row: &'r sqlx::sqlite::SqliteRow) -> Result<Self, sqlx::Error> {
        use sqlx::Row as _;
        Ok(Self {
            kind: row.try_get("kind")?,
            namespace: row.try_get("namespace")?,
            name: row.try_get("name")?,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Created,
    Updated,
    Deleted,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Created, Self::Updated, Self::Deleted].into_iter().find(|action| action.as_str() == text)
    }
}

/// One object's part in a new version.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) action: Action,
    pub(crate) key: ObjectKey,
    /// Empty for a deletion.
    pub(crate) text: String,
}

impl Store {
    /// Version in force and every object in it.
    pub(crate) async fn objects(&self) -> Result<(u64, Vec<ObjectRow>), StoreError> {
        let failed = || query("read the objects");
        let mut tx = self.readers.begin().await.map_err(failed())?;
        let version: i64 = sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM versions")
            .fetch_one(&mut *tx)
            .await
            .map_err(failed())?;
        let rows = sqlx::query_as(
            "SELECT o.kind, o.namespace, o.name, o.text, o.version, v.author, v.at \
             FROM objects o JOIN versions v USING (version) ORDER BY o.kind, o.namespace, o.name",
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(failed())?;
        let version = content(u64::try_from(version), || format!("version {version}"))?;
        Ok((version, rows))
    }
}

pub(super) async fn write_change(
    tx: &mut sqlx::SqliteConnection,
    version: i64,
    change: &Change,
) -> Result<(), sqlx::Error> {
    let Change { action, key, text } = change;
    let deleted = *action == Action::Deleted;
    sqlx::query(
        "INSERT INTO history (version, action, kind, namespace, name, text) VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(version)
    .bind(action.as_str())
    .bind(&key.kind)
    .bind(&key.namespace)
    .bind(&key.name)
    .bind((!deleted).then_some(text))
    .execute(&mut *tx)
    .await?;
    let statement = if deleted {
        sqlx::query("DELETE FROM objects WHERE kind = ? AND namespace = ? AND name = ?")
    } else {
        sqlx::query(
            "INSERT INTO objects (kind, namespace, name, text, version) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT DO UPDATE SET text = excluded.text, version = excluded.version",
        )
    };
    let statement = statement.bind(&key.kind).bind(&key.namespace).bind(&key.name);
    let statement = if deleted { statement } else { statement.bind(text).bind(version) };
    statement.execute(&mut *tx).await?;
    Ok(())
}
