//! The way to the other services: the HTTP_PROXY of the own sidecar.

use std::net::SocketAddr;

use anyhow::Result;
use http::Method;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::{Call, HttpProxy};
use crate::client::{self, Answer};
use crate::ready_file;

#[derive(Debug)]
pub(super) struct Outbound {
    known: HttpProxy,
    proxy: OnceCell<SocketAddr>,
}

impl Outbound {
    pub(super) fn new(known: HttpProxy) -> Self {
        Self { known, proxy: OnceCell::new() }
    }

    /// `cause` is the request that makes this one necessary: its id goes along, so that the records of all hops can
    /// be found by it.
    pub(super) async fn call(&self, cause: &Call, method: Method, url: &str, body: &Value) -> Result<Answer> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let id = cause.header(client::REQUEST_ID);
        client::through(&self.proxy().await?.into(), method, url, &body, id).await
    }

    async fn proxy(&self) -> Result<SocketAddr> {
        let find = || async {
            match &self.known {
                HttpProxy::At(address) => Ok(*address),
                HttpProxy::In(file) => ready_file::read(file)?.outbound_proxy(),
            }
        };
        self.proxy.get_or_try_init(find).await.copied()
    }
}
