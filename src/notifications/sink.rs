//! Where envelopes go.

use bytes::Bytes;

use super::Endpoint;
use crate::client::{self, Client};

/// Takes envelopes.
pub(super) trait Sink: Send + Sync + 'static {
    /// Hands an envelope over; an error says why it was not accepted.
    fn send(&self, envelope: Bytes) -> impl Future<Output = Result<(), SendError>> + Send;
}

/// Why an envelope was not accepted.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// There was no answer.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// The answer was not one of success.
    #[error("the endpoint answered {0}")]
    Refused(http::StatusCode),
}

/// An endpoint over HTTP. A status from 200 to 299 means that it has taken the envelope.
#[derive(Debug)]
pub(super) struct HttpSink {
    pub(super) client: Client,
    pub(super) endpoint: Endpoint,
}

impl Sink for HttpSink {
    async fn send(&self, envelope: Bytes) -> Result<(), SendError> {
        let Endpoint { url, headers, timeout, version, .. } = &self.endpoint;
        let status = self.client.post(url, version.media_type(), headers, envelope, *timeout).await?;
        if status.is_success() { Ok(()) } else { Err(SendError::Refused(status)) }
    }
}
