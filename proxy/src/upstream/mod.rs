//! The other end: endpoints, connections, pools.

pub(crate) mod balance;
pub mod connect;
pub(crate) mod pool;
pub(crate) mod resolve;
pub(crate) mod roots;
pub(crate) mod tls;
