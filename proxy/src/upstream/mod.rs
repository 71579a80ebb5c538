//! The other end: endpoints, connections, pools.

pub(crate) mod balance;
pub mod cluster;
pub mod connect;
pub mod ejection;
pub mod endpoint;
pub mod experiments;
pub(crate) mod members;
pub(crate) mod pool;
pub(crate) mod resolve;
pub(crate) mod roots;
pub(crate) mod tls;
