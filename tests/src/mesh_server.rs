//! A server of the mesh without a proxy: whoever holds a workload's key can be one, and need obey nobody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use palisade_certs::tls::{ClientAuth, server_config};
use palisade_certs::{Svid, TrustBundle};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::loopback::own_address;
use crate::wait::until;

/// Ends mutual TLS in front of a service in plaintext.
#[derive(Debug)]
pub struct MeshServer {
    address: SocketAddr,
    open: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl MeshServer {
    pub async fn start(svid: &Svid, bundle: &TrustBundle, alpn: &[&[u8]], app: SocketAddr) -> Self {
        let config = server_config(svid, bundle, ClientAuth::Required, alpn).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((own_address(), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::<AtomicUsize>::default();
        let count = open.clone();
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, count) = (acceptor.clone(), count.clone());
                tokio::spawn(async move {
                    let Ok(mut tls) = acceptor.accept(socket).await else { return };
                    count.fetch_add(1, Ordering::SeqCst);
                    let mut app = TcpStream::connect(app).await.unwrap();
                    let _ended = copy_bidirectional(&mut tls, &mut app).await;
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, open, task }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until so many connections are open.
    pub async fn until_open(&self, count: usize) {
        until("connections of a server", || async {
            let open = self.open.load(Ordering::SeqCst);
            if open == count { Ok(()) } else { Err(open) }
        })
        .await;
    }
}

impl Drop for MeshServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
