//! The ways through, each readable on one screen.

mod copies;
pub(crate) mod edge;
pub(crate) mod exchange;
pub(crate) mod inbound;
pub(crate) mod outbound;
mod standing;
pub(crate) mod tcp;
pub(crate) mod terms;
