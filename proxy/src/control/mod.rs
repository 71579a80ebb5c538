//! Identity and configuration from a control plane: attest, renew, hear policy, and live through its absence.

pub(crate) mod backoff;
mod calls;
mod channel;
mod issue;
mod keeper;
#[cfg(test)]
mod keeper_tests;
mod member;
mod source;
mod state_dir;
mod stream;

pub(crate) use calls::CallsTold;
pub(crate) use source::{ControlPlaneSettings, ControlPlaneSource};
pub(crate) use stream::Told;
