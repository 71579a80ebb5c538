//! HTTP as a proxy must handle it: codec limits, one spelling for requests, bodies that carry their record.

mod authority;
pub(crate) mod body;
pub(crate) mod calm;
pub(crate) mod coalesce;
pub(crate) mod codec;
pub mod copy;
pub(crate) mod exec;
mod frames;
pub(crate) mod framing;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub(crate) mod headers;
pub(crate) mod layer;
pub(crate) mod ledger;
pub(crate) mod lent;
pub mod normalize;
pub(crate) mod pace;
pub mod patience;
pub(crate) mod refusal;
pub(crate) mod replay;
pub(crate) mod shape;
pub(crate) mod silence;
pub(crate) mod transport;
