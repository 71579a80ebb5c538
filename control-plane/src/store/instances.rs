//! Instances: one per attestation, kept over renewals and restarts.

use std::time::SystemTime;

use super::{Store, StoreError, query};
use crate::clock::to_seconds;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewInstance {
    pub(crate) id: String,
    pub(crate) spiffe_id: String,
    /// JSON object.
    pub(crate) labels: String,
    pub(crate) svid_ttl_seconds: Option<i64>,
    pub(crate) join_token: String,
    pub(crate) created_at: i64,
    pub(crate) not_after: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct InstanceRow {
    pub(crate) id: String,
    pub(crate) spiffe_id: String,
    pub(crate) labels: String,
    pub(crate) not_after: i64,
    /// JSON; absent where no endpoint is published.
    pub(crate) serves: Option<String>,
}

pub(super) async fn insert(tx: &mut sqlx::SqliteConnection, row: &NewInstance) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO instances (id, spiffe_id, labels, svid_ttl_seconds, join_token, created_at, not_after) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&row.id)
    .bind(&row.spiffe_id)
    .bind(&row.labels)
    .bind(row.svid_ttl_seconds)
    .bind(&row.join_token)
    .bind(row.created_at)
    .bind(row.not_after)
    .execute(tx)
    .await?;
    Ok(())
}

impl Store {
    /// Instances that may still have a valid certificate and are not evicted.
    pub(crate) async fn live_instances(&self, now: SystemTime) -> Result<Vec<InstanceRow>, StoreError> {
        sqlx::query_as(
            "SELECT id, spiffe_id, labels, not_after, serves FROM instances \
             WHERE not_after > ? AND evicted_at IS NULL ORDER BY id",
        )
        .bind(to_seconds(now))
        .fetch_all(&self.readers)
        .await
        .map_err(query("read the instances"))
    }

    /// Notes the endpoints that are published for an instance, or that none are.
    pub(crate) async fn set_serves(&self, id: &str, serves: Option<&str>) -> Result<(), StoreError> {
        sqlx::query("UPDATE instances SET serves = ? WHERE id = ? AND serves IS NOT ?")
            .bind(serves)
            .bind(id)
            .bind(serves)
            .execute(&self.writer)
            .await
            .map(drop)
            .map_err(query("note an instance's endpoints"))
    }

    /// False: there is no such instance. Evicting twice keeps the first reason.
    pub(crate) async fn evict(
        &self,
        id: &str,
        by: &str,
        reason: &str,
        now: SystemTime,
    ) -> Result<bool, StoreError> {
        let failed = || query("evict an instance");
        let result = sqlx::query(
            "UPDATE instances SET serves = NULL, evicted_at = coalesce(evicted_at, ?), \
             evicted_by = coalesce(evicted_by, ?), evicted_reason = coalesce(evicted_reason, ?) WHERE id = ?",
        )
        .bind(to_seconds(now))
        .bind(by)
        .bind(reason)
        .bind(id)
        .execute(&self.writer)
        .await
        .map_err(failed())?;
        Ok(result.rows_affected() == 1)
    }
}
