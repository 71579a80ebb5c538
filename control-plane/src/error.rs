//! Why a control plane does not start, or stops by itself.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::ca::CaError;
use crate::data_dir::DataDirError;
use crate::policies::LoadError;
use crate::store::StoreError;

/// Shown to the operator who starts the control plane, with its sources.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the data directory cannot be used")]
    DataDir(#[from] DataDirError),
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    #[error("the certificate authority cannot be used")]
    Ca(#[from] CaError),
    #[error("the policy set cannot be put in force")]
    Policies(#[from] LoadError),
    #[error("the certificate life of {0:?} is out of range; --svid-ttl takes 5m to 24h")]
    SvidTtl(Duration),
    #[error("the admin listener {0} is not a loopback address; use --admin 127.0.0.1:PORT")]
    AdminNotLoopback(SocketAddr),
    #[error("cannot listen on {address}; is the port in use? Choose another with {option}")]
    Listen {
        address: SocketAddr,
        option: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the gRPC server ended: {0}")]
    Serve(String),
}
