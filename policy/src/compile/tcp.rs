//! Judging connections of which nothing is read.

use super::{Snapshot, TracedRule};
use crate::decision::{Decision, Observations};
use crate::request::connection::ConnectionView;

impl Snapshot {
    /// Judges an inbound TCP connection: PeerAuthentication, then DENY, then ALLOW. What DENY rules say of HTTP is left
    /// out, so that they catch more; ALLOW rules that say anything of HTTP never match, as in Istio.
    pub fn authorize_tcp(&self, connection: &ConnectionView<'_>) -> Decision {
        connection.as_request(|view| self.judge(&self.tcp_authorization, view))
    }

    /// What AUDIT and dry-run policies have to say about a TCP connection. They decide nothing.
    pub fn observe_tcp(&self, connection: &ConnectionView<'_>) -> Observations {
        connection.as_request(|view| self.tcp_authorization.observe(view))
    }

    /// Every rule of every AuthorizationPolicy of this workload, and what it asks of a TCP connection. Makes no decision.
    pub fn trace_tcp(&self, connection: &ConnectionView<'_>) -> Vec<TracedRule> {
        connection.as_request(|view| self.tcp_authorization.trace(view))
    }
}
