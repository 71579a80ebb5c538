//! Identities and certificates: X.509-SVIDs, trust bundles, the CA, and the rustls configurations made of them.
//!
//! No network here. Time is an argument wherever a rule depends on it; rustls verifiers take it from rustls.

pub mod bundle;
pub mod ca;
pub mod csr;
mod key;
mod leaf;
pub mod limits;
mod path;
mod pem;
pub mod svid;
pub mod tls;

pub use bundle::{BundleError, TrustBundle};
pub use key::{KeyError, WeakKey};
pub use svid::{Svid, SvidError};
