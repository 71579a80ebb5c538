//! Join tokens. Their secrets are kept as SHA-256 only.

use std::time::SystemTime;

use super::{Issuance, NewInstance, Store, StoreError, instances, issuances, query};
use crate::clock::to_seconds;

#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct TokenRow {
    pub(crate) id: String,
    pub(crate) secret_sha256: Vec<u8>,
    pub(crate) namespace: String,
    pub(crate) service_account: String,
    /// JSON object.
    pub(crate) labels: String,
    pub(crate) svid_ttl_seconds: Option<i64>,
    pub(crate) uses: i64,
    pub(crate) uses_left: i64,
    pub(crate) created_by: String,
    pub(crate) created_at: i64,
    pub(crate) expires_at: i64,
    pub(crate) revoked: bool,
}

/// How the use of a token ended.
#[derive(Debug)]
pub(crate) enum Redeem<T, E> {
    Done(T),
    /// No use left, expired or revoked at the moment of the write.
    Spent,
    /// The use was given back: what it was for did not come about.
    Failed(E),
}

impl Store {
    /// False: there are `tokens_max` of them already.
    pub(crate) async fn create_token(&self, token: &TokenRow, tokens_max: i64) -> Result<bool, StoreError> {
        let result = sqlx::query(
            "INSERT INTO join_tokens (id, secret_sha256, namespace, service_account, labels, svid_ttl_seconds, \
             uses, uses_left, created_by, created_at, expires_at) \
             SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? WHERE (SELECT count(*) FROM join_tokens) < ?",
        )
        .bind(&token.id)
        .bind(&token.secret_sha256)
        .bind(&token.namespace)
        .bind(&token.service_account)
        .bind(&token.labels)
        .bind(token.svid_ttl_seconds)
        .bind(token.uses)
        .bind(token.uses_left)
        .bind(&token.created_by)
        .bind(token.created_at)
        .bind(token.expires_at)
        .bind(tokens_max)
        .execute(&self.writer)
        .await
        .map_err(query("write a join token"))?;
        Ok(result.rows_affected() == 1)
    }

    pub(crate) async fn token(&self, id: &str) -> Result<Option<TokenRow>, StoreError> {
        sqlx::query_as("SELECT * FROM join_tokens WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.readers)
            .await
            .map_err(query("read a join token"))
    }

    pub(crate) async fn tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        sqlx::query_as("SELECT * FROM join_tokens ORDER BY created_at, id")
            .fetch_all(&self.readers)
            .await
            .map_err(query("read the join tokens"))
    }

    /// False: there is no such token.
    pub(crate) async fn revoke_token(&self, id: &str) -> Result<bool, StoreError> {
        let result = sqlx::query("UPDATE join_tokens SET revoked = 1 WHERE id = ?")
            .bind(id)
            .execute(&self.writer)
            .await
            .map_err(query("revoke a join token"))?;
        Ok(result.rows_affected() == 1)
    }

    /// Uses a token once and records what was issued for it, both or neither. One statement decides who gets the
    /// last use.
    pub(crate) async fn redeem<T, E>(
        &self,
        id: &str,
        now: SystemTime,
        issue: impl FnOnce() -> Result<(NewInstance, Issuance, T), E>,
    ) -> Result<Redeem<T, E>, StoreError> {
        let failed = || query("use a join token");
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let used = sqlx::query(
            "UPDATE join_tokens SET uses_left = uses_left - 1 \
             WHERE id = ? AND uses_left > 0 AND revoked = 0 AND expires_at > ?",
        )
        .bind(id)
        .bind(to_seconds(now))
        .execute(&mut *tx)
        .await
        .map_err(failed())?;
        if used.rows_affected() != 1 {
            return Ok(Redeem::Spent);
        }
        let (instance, issuance, made) = match issue() {
            Ok(parts) => parts,
            Err(e) => return Ok(Redeem::Failed(e)),
        };
        instances::insert(&mut tx, &instance).await.map_err(failed())?;
        issuances::insert(&mut tx, &issuance).await.map_err(failed())?;
        tx.commit().await.map_err(failed())?;
        Ok(Redeem::Done(made))
    }

    /// Removes tokens that nobody could use since `before`.
    pub(crate) async fn remove_spent_tokens(&self, before: SystemTime) -> Result<u64, StoreError> {
        let result = sqlx::query("DELETE FROM join_tokens WHERE expires_at < ?")
            .bind(to_seconds(before))
            .execute(&self.writer)
            .await
            .map_err(query("remove spent join tokens"))?;
        Ok(result.rows_affected())
    }
}
