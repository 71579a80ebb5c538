//! What a RetryPolicy says, in words.

use serde::Serialize;

use super::experiments::request;
use crate::document::duration;
use crate::kind::RetryPolicySpec;
use crate::kind::retry_policy::{Because, Duplicates, OnDuplicate, Repeats};

/// Which requests may be repeated though their method does not say so, and what is made of one that comes twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DescribedRepeats {
    /// The first that fits a request is enough.
    pub rules: Vec<String>,
    /// `None`: nobody watches.
    pub duplicates: Option<DescribedDuplicates>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DescribedDuplicates {
    pub window: String,
    /// Of one instance.
    pub max_keys: usize,
    pub on_duplicate: &'static str,
}

pub(super) fn describe(spec: &RetryPolicySpec, repeats: &Repeats) -> DescribedRepeats {
    let rules = spec.rules.iter().map(|rule| {
        let items: Vec<String> = rule.matches.iter().map(request).collect();
        let which = if items.is_empty() { "all".to_owned() } else { items.join(" or ") };
        match &rule.because {
            Because::Key(header) => format!("{which} with {header}"),
            Because::Idempotent => format!("{which}, idempotent"),
        }
    });
    DescribedRepeats { rules: rules.collect(), duplicates: repeats.duplicates.map(duplicates) }
}

fn duplicates(duplicates: Duplicates) -> DescribedDuplicates {
    DescribedDuplicates {
        window: duration::write(duplicates.window),
        max_keys: duplicates.max_keys,
        on_duplicate: match duplicates.on_duplicate {
            OnDuplicate::Record => "Record",
            OnDuplicate::Refuse => "Refuse",
        },
    }
}
