//! How the authority is spoken to: by this program's own client.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

use crate::client::{Client, Url};

/// The time that one answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes that it may have.
const MAX_ANSWER: usize = 1024 * 1024;

/// This program's client, as the protocol wants it.
pub(super) struct Transport(pub(super) Client);

impl HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body =
                body.collect().await.map_or_else(|never| match never {}, http_body_util::Collected::to_bytes);
            let url: Url = head.uri.to_string().parse().map_err(other)?;
            let asked = client.send(head.method, &url, head.headers, body, TIMEOUT).await;
            let mut answer = asked.map_err(other)?;
            let body = answer.read(MAX_ANSWER, TIMEOUT).await.map_err(other)?;
            let body = body.ok_or_else(|| Error::Str("the answer is too long"))?;
            let mut response = Response::new(Full::new(body));
            *response.status_mut() = answer.status();
            *response.headers_mut() = answer.headers().clone();
            Ok(BytesResponse::from(response))
        })
    }
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Other(Box::new(error))
}
