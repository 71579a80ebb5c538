//! The meaning of policy: documents in, decisions out.
//!
//! Pure by rule: no runtime, no sockets, no TLS, no clock, no environment. Time is an argument. The only foreign
//! vocabulary is `http`'s header map, because a rule must see headers as they were received.
//!
//! ```text
//! YAML -> document -> kind::Spec -> set::PolicySet -> projection::Projection (one workload) -> compile::Snapshot
//!                                                                              request::RequestView -> Decision
//! ```

pub mod compile;
pub mod decision;
pub mod describe;
pub mod difference;
pub mod document;
pub mod experiment;
pub mod explain;
pub mod fault;
pub mod finding;
pub mod kind;
pub mod lint;
pub mod policy_test;
pub mod projection;
pub mod readiness;
pub mod record;
pub mod rehearsal;
pub mod request;
pub mod schema;
pub mod set;
pub mod suggest;
pub mod traffic;

pub use compile::Snapshot;
pub use decision::{Decision, Permit, Refusal};
pub use finding::{Finding, Findings, Severity};
pub use lint::posture;
pub use projection::{Endpoint, MeshService, Projection, ServicePort, Workload};
pub use request::RequestView;
pub use request::connection::ConnectionView;
pub use set::PolicySet;
