//! The client.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};
use reqwest::redirect::Policy;

use super::error::text_of;
use super::{Answer, Error, Header, Url};

/// The longest time that a connection may take to come about, within the time of its request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How outbound requests are made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// A PEM file of root certificates that are trusted beside the system's.
    pub root_certificates: Option<PathBuf>,
    /// The longest time that a connection may take to come about; 10 seconds where it isn't said.
    pub connect_timeout: Option<Duration>,
}

/// Sends requests; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client(reqwest::Client);

impl Client {
    /// Reads the root certificates. Blocks.
    pub fn new(options: &Options) -> Result<Client, Error> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("orlop/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .connect_timeout(options.connect_timeout.unwrap_or(CONNECT_TIMEOUT));
        if let Some(path) = &options.root_certificates {
            let failed = |reason: String| Error::Roots { path: path.clone(), reason };
            let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
            let roots =
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| failed(text_of(error)))?;
            if roots.is_empty() {
                return Err(failed("there is no certificate in it".to_owned()));
            }
            builder = builder.tls_certs_merge(roots);
        }
        builder.build().map(Client).map_err(|error| Error::Setup(text_of(error)))
    }

    /// Sends a POST and returns the status of the answer, whose body is not read. `timeout` bounds all of it.
    pub async fn post(
        &self,
        url: &Url,
        content_type: &str,
        headers: &[Header],
        body: Bytes,
        timeout: Duration,
    ) -> Result<StatusCode, Error> {
        let mut request =
            self.0.post(url.0.clone()).timeout(timeout).header(CONTENT_TYPE, content_type).body(body);
        for header in headers {
            request = request.header(header.name.clone(), header.value.clone());
        }
        Ok(request.send().await.map_err(Error::of_request)?.status())
    }

    /// Sends a request with a body, and returns as [`ask`](Self::ask) does.
    pub async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Answer, Error> {
        let request = self.0.request(method, url.0.clone()).headers(headers).body(body);
        let answer = tokio::time::timeout(timeout, request.send()).await.map_err(|_| Error::TimedOut)?;
        answer.map(Answer::new).map_err(Error::of_request)
    }

    /// Sends a request without a body and returns as soon as the head of the answer is here, which `timeout` bounds,
    /// connecting included. The body is read through the [`Answer`], or given up when that is dropped.
    pub async fn ask(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        timeout: Duration,
    ) -> Result<Answer, Error> {
        let request = self.0.request(method, url.0.clone()).headers(headers);
        let answer = tokio::time::timeout(timeout, request.send()).await.map_err(|_| Error::TimedOut)?;
        answer.map(Answer::new).map_err(Error::of_request)
    }
}
