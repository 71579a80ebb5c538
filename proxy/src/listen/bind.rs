//! Binding: every socket of the data plane, or an error that names the one that failed.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::run::RunError;
use crate::settings::Settings;
use crate::worker::Via;

/// Connections that the kernel keeps for us. 1024: the usual `somaxconn` of older kernels, a burst of one.
const BACKLOG: i32 = 1024;

/// Listening sockets with the addresses they really have (port 0 resolved).
#[derive(Debug)]
pub struct Bound {
    pub(super) sockets: Vec<(Via, TcpListener)>,
    addresses: Addresses,
}

/// Where the data plane listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Service port to the address that takes mutual TLS for it.
    pub inbound: BTreeMap<u16, SocketAddr>,
    pub outbound_proxy: Option<SocketAddr>,
    /// `host:port` of the destination to the local address.
    pub outbound_ports: BTreeMap<String, SocketAddr>,
    /// Port of Gateways to the address that clients connect to.
    pub edge: BTreeMap<u16, SocketAddr>,
}

impl Bound {
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }
}

/// Binds every listener of `settings`. Exclusive: a port in use is an error, never shared.
pub fn bind(settings: &Settings) -> Result<Bound, RunError> {
    let mut bound = Bound { sockets: Vec::new(), addresses: Addresses::default() };
    for (index, serve) in settings.serves.iter().enumerate() {
        let address = bound.add(Via::Inbound(index), "the inbound listener", serve.listen)?;
        bound.addresses.inbound.insert(serve.port, address);
    }
    if let Some(proxy) = settings.outbound_proxy {
        let address = bound.add(Via::OutboundProxy, "the outbound proxy", proxy)?;
        bound.addresses.outbound_proxy = Some(address);
    }
    for (index, port) in settings.outbound_ports.iter().enumerate() {
        let address = bound.add(Via::OutboundPort(index), "an outbound port", port.listen)?;
        bound.addresses.outbound_ports.insert(format!("{}:{}", port.host, port.port), address);
    }
    let listens = settings.edge.iter().flat_map(|edge| &edge.listens);
    for (index, listen) in listens.enumerate() {
        let address = bound.add(Via::Edge(index), "the edge", listen.bind)?;
        bound.addresses.edge.insert(listen.port, address);
    }
    Ok(bound)
}

impl Bound {
    fn add(&mut self, via: Via, what: &'static str, address: SocketAddr) -> Result<SocketAddr, RunError> {
        let listener = listen(address).map_err(|error| RunError::Listen { what, address, error })?;
        let real = listener.local_addr().map_err(|error| RunError::Listen { what, address, error })?;
        self.sockets.push((via, listener));
        Ok(real)
    }
}

/// SO_REUSEADDR only: it lets a restart pass connections in TIME_WAIT, and still refuses a port that another socket
/// listens on (socket(7)).
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
