//! Steps that pipelines share.

pub(crate) mod again;
pub(crate) mod application;
mod attempt;
pub(crate) mod authenticate;
pub mod cors;
#[cfg(test)]
mod cors_tests;
pub(crate) mod deadline;
pub(crate) mod delivery;
pub(crate) mod demand;
mod experiment;
pub(crate) mod fault;
pub(crate) mod forward;
pub(crate) mod guard;
pub(crate) mod identify;
pub(crate) mod limit;
pub(crate) mod mirror;
pub(crate) mod open;
pub(crate) mod reach;
pub(crate) mod relay;
pub(crate) mod revoked;
pub mod route;
#[cfg(test)]
mod route_tests;
pub(crate) mod slot;
pub(crate) mod sticky;
pub(crate) mod tries;
pub(crate) mod tunnel;
pub(crate) mod wire;
