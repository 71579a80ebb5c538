//! The admin service, for operators. Who is none was turned away before a message was read.

mod policy;
mod proxies;
mod tokens;

use std::sync::Arc;

use palisade_identity::SpiffeId;
use palisade_proto::v1;
use tonic::{Request, Response, Status};

use crate::context::Context;
use crate::peer::Peer;

pub(crate) struct Service(pub(crate) Arc<Context>);

/// An operator's call: who, and what the answer needs. Clonable, so that work goes on when the caller leaves.
#[derive(Clone)]
struct Call {
    context: Arc<Context>,
    operator: SpiffeId,
}

impl Service {
    fn call<T>(&self, request: &Request<T>) -> Result<Call, Status> {
        let context = Arc::clone(&self.0);
        let peer = Peer::of(request.extensions())?;
        let operator = peer.operator(&context.trust_domain, context.clock.now())?.clone();
        Ok(Call { context, operator })
    }
}

#[tonic::async_trait]
impl v1::admin_server::Admin for Service {
    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyResponse>, Status> {
        let call = self.call(&request)?;
        policy::apply(call, request.into_inner()).await.map(Response::new)
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        let call = self.call(&request)?;
        policy::get(&call, request.into_inner()).await.map(Response::new)
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let call = self.call(&request)?;
        policy::delete(call, request.into_inner()).await.map(Response::new)
    }

    async fn history(
        &self,
        request: Request<v1::HistoryRequest>,
    ) -> Result<Response<v1::HistoryResponse>, Status> {
        let call = self.call(&request)?;
        policy::history(&call, request.into_inner()).await.map(Response::new)
    }

    async fn rollback(
        &self,
        request: Request<v1::RollbackRequest>,
    ) -> Result<Response<v1::ApplyResponse>, Status> {
        let call = self.call(&request)?;
        policy::rollback(call, request.into_inner()).await.map(Response::new)
    }

    async fn stop_faults(
        &self,
        request: Request<v1::StopFaultsRequest>,
    ) -> Result<Response<v1::ApplyResponse>, Status> {
        let call = self.call(&request)?;
        policy::stop_faults(call, request.into_inner()).await.map(Response::new)
    }

    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Result<Response<v1::CreateJoinTokenResponse>, Status> {
        let call = self.call(&request)?;
        tokens::create(&call, request.into_inner()).await.map(Response::new)
    }

    async fn list_join_tokens(
        &self,
        request: Request<v1::ListJoinTokensRequest>,
    ) -> Result<Response<v1::ListJoinTokensResponse>, Status> {
        let call = self.call(&request)?;
        tokens::list(&call).await.map(Response::new)
    }

    async fn revoke_join_token(
        &self,
        request: Request<v1::RevokeJoinTokenRequest>,
    ) -> Result<Response<v1::RevokeJoinTokenResponse>, Status> {
        let call = self.call(&request)?;
        tokens::revoke(&call, &request.into_inner().id).await.map(Response::new)
    }

    async fn list_proxies(
        &self,
        request: Request<v1::ListProxiesRequest>,
    ) -> Result<Response<v1::ListProxiesResponse>, Status> {
        let call = self.call(&request)?;
        Ok(Response::new(proxies::list(&call)))
    }

    async fn mtls_readiness(
        &self,
        request: Request<v1::MtlsReadinessRequest>,
    ) -> Result<Response<v1::MtlsReadinessResponse>, Status> {
        let call = self.call(&request)?;
        Ok(Response::new(proxies::readiness(&call)))
    }

    async fn evict_proxy(
        &self,
        request: Request<v1::EvictProxyRequest>,
    ) -> Result<Response<v1::EvictProxyResponse>, Status> {
        let call = self.call(&request)?;
        proxies::evict(call, request.into_inner()).await.map(Response::new)
    }
}
