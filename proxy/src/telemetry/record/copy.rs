//! Records of copies for mirrors.

use http::StatusCode;

use super::Record;
use crate::error::ProxyError;
use crate::telemetry::trace::Trace;

impl Record {
    /// Makes this the record of a copy of another's request.
    pub(crate) fn copies(&mut self, original: &Self) {
        self.mirror_of = Some(original.id);
        self.trace = original.trace.as_deref().map(Trace::copy);
        self.policy_version = original.policy_version;
        self.source.clone_from(&original.source);
        self.request_principal.clone_from(&original.request_principal);
        self.client.clone_from(&original.client);
        self.method.clone_from(&original.method);
        self.version = original.version;
        self.authority.clone_from(&original.authority);
        self.path.clone_from(&original.path);
        self.route.clone_from(&original.route);
        self.user_agent.clone_from(&original.user_agent);
        self.grpc = original.grpc;
    }

    /// Whether its request is a copy of another's.
    pub(crate) fn is_copy(&self) -> bool {
        self.mirror_of.is_some()
    }

    /// Nobody waits for what became of a copy: it was not sent, or not answered, for this reason.
    pub(crate) fn copy_failed(&mut self, error: &ProxyError) {
        self.failed(&error.consequence(), StatusCode::OK, false);
        self.status = 0;
        self.ended = true;
    }
}
