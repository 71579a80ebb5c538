//! Whether a request brings the token that JwtPolicies ask for.

use palisade_policy::Snapshot;
use palisade_policy::kind::request_match::MatchView;

use super::authenticate::{Believed, TokenError};
use crate::error::ProxyError;
use crate::telemetry::record::Record;

/// Asks every JwtPolicy. Comes after `authenticate`, so that a bad token is refused on public paths too, and before
/// authorization, which says what the user may do.
pub(crate) fn demand(
    snapshot: &Snapshot,
    view: &MatchView<'_>,
    believed: Option<&Believed>,
    record: &mut Record,
) -> Result<(), ProxyError> {
    let token = believed.map(|believed| &*believed.token);
    snapshot.authentication().demand(view, token).map_err(|unmet| {
        record.refused_by(unmet.rule.clone());
        ProxyError::Token(TokenError::Unmet(unmet))
    })
}
