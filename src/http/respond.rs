//! What a connection hands its requests to.

use std::convert::Infallible;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::Request;
use bytes::Bytes;
use http::Response;
use tower_service::Service as _;

/// Answers the requests of any number of connections, each by a clone. It is what a tower service is, whose future has to lie in a
/// box of its own for each request.
pub trait Respond: Clone + Send + Sync + 'static {
    /// The bodies of its answers.
    type Body: HttpBody<Data = Bytes, Error = axum::Error> + Send + Unpin + 'static;

    /// Answers a request, which has the other end of its connection among its extensions, as axum's `ConnectInfo`.
    fn respond(self, request: Request) -> impl Future<Output = Response<Self::Body>> + Send + 'static;
}

impl Respond for Router {
    type Body = Body;

    async fn respond(mut self, request: Request) -> Response<Body> {
        // A router is always ready.
        let answered: Result<_, Infallible> = self.call(request).await;
        match answered {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}
