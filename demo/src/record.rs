//! Decision records, as a sidecar writes them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::mesh::until;

/// The file that one sidecar writes its records to.
#[derive(Clone, Debug)]
pub(crate) struct Records(PathBuf);

/// A place in the file: what comes after it is new.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(usize);

/// One line.
#[derive(Clone, Debug)]
pub(crate) struct Record(Value);

impl Records {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn mark(&self) -> Result<Mark> {
        Ok(Mark(self.read()?.len()))
    }

    /// The first record after the mark that is wanted. Waits for it: records are written in batches.
    pub(crate) async fn find(&self, mark: Mark, wanted: impl Fn(&Record) -> bool) -> Result<Record> {
        until("a decision record", async || {
            let text = self.read()?;
            let lines = after(&text, mark).split_inclusive('\n');
            // A last line without an end is still being written.
            let records =
                lines.filter(|line| line.ends_with('\n')).map(serde_json::from_str).map(|r| r.map(Record));
            for record in records {
                let record = record.with_context(|| format!("{} is not JSON lines", self.0.display()))?;
                if wanted(&record) {
                    return Ok(Some(record));
                }
            }
            Ok(None)
        })
        .await
        .with_context(|| format!("in {}", self.0.display()))
    }

    fn read(&self) -> Result<String> {
        match std::fs::read_to_string(&self.0) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            other => other.with_context(|| format!("cannot read {}", self.0.display())),
        }
    }
}

/// What was begun after the mark. A line that was half written when the mark was set is of an earlier request.
fn after(text: &str, mark: Mark) -> &str {
    let (before, after) = text.split_at_checked(mark.0).unwrap_or((text, ""));
    if before.is_empty() || before.ends_with('\n') {
        after
    } else {
        after.split_once('\n').map_or("", |(_rest_of_line, new)| new)
    }
}

impl Record {
    /// A field as text; empty where it is absent.
    pub(crate) fn field(&self, name: &str) -> String {
        match self.0.get(name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }

    /// Which policy decided, or why none could.
    pub(crate) fn why(&self) -> String {
        let (decision, policy, rule) = (self.field("decision"), self.field("policy"), self.field("rule"));
        let details = self.field("response_code_details");
        let limit = self.field("limit");
        if !limit.is_empty() {
            // The record names the policy that let it pass until then, too.
            format!("{decision}: {details}, limit {limit}")
        } else if !policy.is_empty() {
            let reason =
                if decision == "allowed" { String::new() } else { format!(": {}", self.field("reason")) };
            format!("{decision} by policy {policy}, rule {rule}{reason}")
        } else if details.starts_with("rbac_access_denied") {
            format!("{decision}, no policy matched: {details}")
        } else {
            format!("{decision}: {details}")
        }
    }

    /// Why a connection was refused before it had a request.
    pub(crate) fn connection(&self) -> String {
        format!(
            "{}: {} ({})",
            self.field("decision"),
            self.field("reason"),
            self.field("response_code_details")
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn finds_what_was_written_after_the_mark() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path().join("r.jsonl"));
        let before = records.mark().unwrap();
        std::fs::write(records.path(), "{\"n\":1}\n").unwrap();
        let after = records.mark().unwrap();
        std::fs::write(records.path(), "{\"n\":1}\n{\"n\":2}\n{\"n\":").unwrap();
        assert_eq!(records.find(before, |_| true).await.unwrap().field("n"), "1");
        assert_eq!(records.find(after, |_| true).await.unwrap().field("n"), "2");
    }

    #[test]
    fn a_line_that_was_half_written_at_the_mark_is_old() {
        assert_eq!(after("{1}\n{2}\n", Mark(0)), "{1}\n{2}\n");
        assert_eq!(after("{1}\n{2}\n", Mark(4)), "{2}\n");
        assert_eq!(after("{1}\n{2}\n", Mark(2)), "{2}\n");
        assert_eq!(after("{1}\n", Mark(9)), "");
    }

    #[test]
    fn says_which_policy_decided() {
        let allowed = json!({ "decision": "allowed", "policy": "fintech/a", "rule": 0 });
        assert_eq!(Record(allowed).why(), "allowed by policy fintech/a, rule 0");
        let denied =
            json!({ "decision": "denied", "policy": "fintech/a", "rule": 2, "reason": "token_scope" });
        assert_eq!(Record(denied).why(), "denied by policy fintech/a, rule 2: token_scope");
        let details = "rbac_access_denied_matched_policy[none]";
        let denied = json!({ "decision": "denied", "response_code_details": details });
        assert_eq!(Record(denied).why(), format!("denied, no policy matched: {details}"));
        let mut limited = json!({ "decision": "denied", "response_code_details": "rate_limited" });
        assert_eq!(Record(limited.clone()).why(), "denied: rate_limited");
        limited["policy"] = json!("fintech/a");
        limited["limit"] = json!("fintech/b/c");
        assert_eq!(Record(limited).why(), "denied: rate_limited, limit fintech/b/c");
    }
}
