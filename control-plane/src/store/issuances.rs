//! The audit of certificates, and the way from a certificate back to its instance.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::{Store, StoreError, query};
use crate::clock::to_seconds;

/// What a certificate was issued for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Attest,
    Renew,
    Operator,
    Server,
}

impl How {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Attest => "attest",
            Self::Renew => "renew",
            Self::Operator => "operator",
            Self::Server => "server",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Issuance {
    /// Upper-case hex.
    pub(crate) serial: String,
    pub(crate) spiffe_id: String,
    pub(crate) instance: Option<String>,
    pub(crate) how: How,
    /// Address of the caller; `local` for the control plane's own.
    pub(crate) peer: String,
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    pub(crate) at: i64,
}

/// The instance a certificate was issued to.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct RenewalRow {
    pub(crate) id: String,
    pub(crate) spiffe_id: String,
    pub(crate) labels: String,
    pub(crate) svid_ttl_seconds: Option<i64>,
    /// End of the certificate last issued to it.
    pub(crate) not_after: i64,
    pub(crate) evicted_reason: Option<String>,
}

pub(super) async fn insert(tx: &mut sqlx::SqliteConnection, row: &Issuance) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO issuances (serial, spiffe_id, instance, how, peer, not_before, not_after, at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&row.serial)
    .bind(&row.spiffe_id)
    .bind(&row.instance)
    .bind(row.how.as_str())
    .bind(&row.peer)
    .bind(row.not_before)
    .bind(row.not_after)
    .bind(row.at)
    .execute(tx)
    .await?;
    Ok(())
}

impl Store {
    /// Records a certificate of the control plane itself or of an operator.
    pub(crate) async fn record(&self, row: &Issuance) -> Result<(), StoreError> {
        let failed = || query("record a certificate");
        let mut connection = self.writer.acquire().await.map_err(failed())?;
        insert(&mut connection, row).await.map_err(failed())
    }

    /// The instance whose certificate has this serial; evicted ones too.
    pub(crate) async fn instance_of(&self, serial: &str) -> Result<Option<RenewalRow>, StoreError> {
        sqlx::query_as(
            "SELECT n.id, n.spiffe_id, n.labels, n.svid_ttl_seconds, n.not_after, n.evicted_reason \
             FROM issuances s JOIN instances n ON n.id = s.instance \
             WHERE s.serial = ? AND s.how IN ('attest', 'renew')",
        )
        .bind(serial)
        .fetch_optional(&self.readers)
        .await
        .map_err(query("find a certificate's instance"))
    }

    /// Serials of the certificates of evicted instances that have not ended yet.
    pub(crate) async fn revoked_serials(&self, now: SystemTime) -> Result<BTreeSet<String>, StoreError> {
        let serials: Vec<String> = sqlx::query_scalar(
            "SELECT s.serial FROM issuances s JOIN instances n ON n.id = s.instance \
             WHERE s.not_after > ? AND n.evicted_at IS NOT NULL",
        )
        .bind(to_seconds(now))
        .fetch_all(&self.readers)
        .await
        .map_err(query("read the certificates of evicted instances"))?;
        Ok(serials.into_iter().collect())
    }

    /// Records a renewal. False: the instance was evicted meanwhile, and nothing is recorded.
    pub(crate) async fn renew(&self, instance: &str, row: &Issuance) -> Result<bool, StoreError> {
        let failed = || query("record a renewal");
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let updated = sqlx::query("UPDATE instances SET not_after = ? WHERE id = ? AND evicted_at IS NULL")
            .bind(row.not_after)
            .bind(instance)
            .execute(&mut *tx)
            .await
            .map_err(failed())?;
        if updated.rows_affected() != 1 {
            return Ok(false);
        }
        insert(&mut tx, row).await.map_err(failed())?;
        tx.commit().await.map_err(failed())?;
        Ok(true)
    }

    /// Removes audit rows of certificates that ended before `before`, and instances that have none left.
    pub(crate) async fn remove_old_issuances(&self, before: SystemTime) -> Result<u64, StoreError> {
        let failed = || query("remove old audit rows");
        let before = to_seconds(before);
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let removed = sqlx::query("DELETE FROM issuances WHERE not_after < ?")
            .bind(before)
            .execute(&mut *tx)
            .await
            .map_err(failed())?;
        sqlx::query(
            "DELETE FROM instances WHERE not_after < ? \
             AND NOT EXISTS (SELECT 1 FROM issuances s WHERE s.instance = instances.id)",
        )
        .bind(before)
        .execute(&mut *tx)
        .await
        .map_err(failed())?;
        tx.commit().await.map_err(failed())?;
        Ok(removed.rows_affected())
    }
}
