//! Between wire and model. To the wire nothing can go wrong; from the wire everything is checked, and one bad item
//! refuses the whole message: nothing is dropped, defaulted or clamped.

mod authorization_policy;
mod destination_rule;
mod destination_rule_parts;
mod fault_experiment;
mod finding;
mod gateway;
mod jwt_policy;
mod mesh_config;
mod peer_authentication;
mod projection;
mod rate_limit_policy;
mod request_authentication;
mod request_guard;
mod request_match;
mod resilience;
mod retry_policy;
mod scalar;
mod service_entry;
mod virtual_service;
mod virtual_service_parts;

/// Why a message from the other side does not become a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct WireError {
    /// Path of the field in the message.
    pub field: String,
    pub problem: String,
}

impl WireError {
    fn new(field: &str, problem: impl Into<String>) -> Self {
        Self { field: field.to_owned(), problem: problem.into() }
    }

    /// The same problem, seen from the message that holds the field.
    fn within(mut self, parent: &str) -> Self {
        self.field = format!("{parent}.{}", self.field);
        self
    }
}
