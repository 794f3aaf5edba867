//! One question to an upstream: authorization, redirections, and what is tried again.

use std::sync::PoisonError;

use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::challenge::Challenge;
use super::refusal::refusal;
use super::tokens::{Grant, Token, TokenKey};
use super::upstream::Inner;
use super::{Error, Missing, Outage};
use crate::client::{Answer, Url};
use crate::clock::monotonic;
use crate::oci::RepositoryName;

/// The most redirections that are followed for one answer.
const MAX_REDIRECTIONS: usize = 5;

/// The longest answer of a token service.
const MAX_TOKEN_ANSWER: usize = 1 << 20;

/// The most requests of one attempt that may end in 401: without authorization, with a token that was kept, with a fresh one.
const MAX_CHALLENGES: usize = 3;

/// The scope of a token that lets all repositories be listed.
const CATALOG_SCOPE: &str = "registry:catalog:*";

/// What is asked of an upstream.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) method: Method,
    /// The repository; none where it is about the list of them.
    pub(super) name: Option<&'a RepositoryName>,
    /// What follows the repository's name in the path.
    pub(super) rest: String,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
    /// What is missing where the answer is 404 and says no more.
    pub(super) missing: Missing,
}

/// An answer with success, and who gave it.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) host: String,
    pub(super) answer: Answer,
}

/// What a request brought to be let in.
enum Authorization {
    None,
    Basic(HeaderValue),
    Token { key: TokenKey, token: Token, is_kept: bool },
}

impl Authorization {
    fn value(&self) -> Option<&HeaderValue> {
        match self {
            Authorization::None => None,
            Authorization::Basic(value) => Some(value),
            Authorization::Token { token, .. } => Some(&token.authorization),
        }
    }
}

impl Inner {
    /// Asks until there is an answer with success, as often as the retries allow.
    pub(super) async fn ask(&self, question: &Question<'_>) -> Result<Reply, Error> {
        let began = monotonic();
        let mut attempts = 1;
        loop {
            let error = match self.attempt(question).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let Some(pause) = self.retries.pause(attempts, began.elapsed(), &error) else {
                return Err(error);
            };
            tracing::debug!(%error, ?pause, "an upstream is asked again");
            tokio::time::sleep(pause).await;
            attempts += 1;
        }
    }

    async fn attempt(&self, question: &Question<'_>) -> Result<Reply, Error> {
        let query = question.query.as_deref();
        let url = match question.name {
            Some(name) => self.address.url(name, &question.rest, query),
            None => self.address.catalog_url(query),
        };
        let known = self.challenge.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut brought = match &known {
            Some(challenge) => self.meet(question, challenge, &Authorization::None).await?,
            None => None,
        }
        .unwrap_or(Authorization::None);
        for _ in 0..MAX_CHALLENGES {
            let answer = self.send(&question.method, &url, &question.headers, brought.value()).await?;
            if answer.status() != StatusCode::UNAUTHORIZED {
                return self.follow(question, url, answer).await;
            }
            let next = match Challenge::of(answer.headers()) {
                Some(challenge) => {
                    let next = self.meet(question, &challenge, &brought).await?;
                    *self.challenge.lock().unwrap_or_else(PoisonError::into_inner) = Some(challenge);
                    next
                }
                None => None,
            };
            let Some(next) = next else { return Err(self.refused(&url, question, answer).await) };
            brought = next;
        }
        Err(Error::invalid(&url.host(), "it asks for authorization again and again"))
    }

    /// Returns what a challenge asks for, or none where there is nothing that `brought` hasn't tried.
    async fn meet(
        &self,
        question: &Question<'_>,
        challenge: &Challenge,
        brought: &Authorization,
    ) -> Result<Option<Authorization>, Error> {
        let (realm, service) = match challenge {
            Challenge::Bearer { realm, service } => (realm.clone(), service.clone()),
            Challenge::Basic => {
                let is_tried = matches!(brought, Authorization::Basic(_));
                let credentials = self.credentials().filter(|_| !is_tried);
                return Ok(credentials.map(|credentials| Authorization::Basic(credentials.basic())));
            }
        };
        let scope = match question.name {
            Some(name) => self.address.pull_scope(name),
            None => CATALOG_SCOPE.to_owned(),
        };
        let key = TokenKey { realm, service, scope };
        let refused = match brought {
            Authorization::Token { key: own, is_kept: false, .. } if *own == key => return Ok(None),
            Authorization::Token { key: own, token, is_kept: true } if *own == key => Some(token),
            _ => None,
        };
        let fetch = || self.fetch_token(&key);
        let (token, is_kept) = self.tokens.get(&key, refused, &*self.clock, fetch).await?;
        Ok(Some(Authorization::Token { key, token, is_kept }))
    }

    /// Asks a token service, with the credentials where there are some.
    async fn fetch_token(&self, key: &TokenKey) -> Result<Grant, Error> {
        let own = self.address.host();
        let realm: Url =
            key.realm.parse().map_err(|_| Error::invalid(&own, "its token service is no URL"))?;
        if realm.has_credentials() {
            return Err(Error::invalid(&own, "its token service's URL names a user"));
        }
        let host = realm.host();
        if self.address.is_secure() && !realm.is_secure() {
            let reason =
                format!("its token service {host} speaks plain http, which is worse than its own https");
            return Err(Error::invalid(&own, reason));
        }
        let credentials = self.credentials();
        let credentials = credentials.as_deref();
        if credentials.is_some() && !self.address.trusts_token_host(&host) {
            let reason = format!("its token service {host} is not the known one, and gets no credentials");
            return Err(Error::invalid(&own, reason));
        }
        let service = key.service.as_deref().map(|service| ("service", service));
        let pairs: Vec<(&str, &str)> = service.into_iter().chain([("scope", key.scope.as_str())]).collect();
        let basic = credentials.map(super::Credentials::basic);
        let url = realm.with_query(&pairs);
        let mut answer = self.send(&Method::GET, &url, &HeaderMap::new(), basic.as_ref()).await?;
        if !answer.status().is_success() {
            return Err(refusal(&host, answer, Missing::Repository, credentials, &*self.clock).await);
        }
        let body = answer.read(MAX_TOKEN_ANSWER, self.timeouts.small_answer).await;
        let body = body.map_err(|error| Error::of_client(&host, &error, Outage::Interrupted))?;
        let body = body.ok_or_else(|| Error::invalid(&host, "a token is longer than 1 MiB"))?;
        Grant::parse(&body)
            .ok_or_else(|| Error::invalid(&host, "there is no token in what its token service says"))
    }

    /// Goes where redirections lead, without authorization.
    async fn follow(&self, question: &Question<'_>, url: Url, answer: Answer) -> Result<Reply, Error> {
        let (mut url, mut answer) = (url, answer);
        for _ in 0..MAX_REDIRECTIONS {
            if !is_redirection(answer.status()) {
                break;
            }
            let host = url.host();
            let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            url = next.ok_or_else(|| Error::invalid(&host, "it redirects to nowhere"))?;
            if self.address.is_secure() && !url.is_secure() {
                return Err(Error::invalid(&host, format!("it redirects to plain http at {}", url.host())));
            }
            answer = self.send(&question.method, &url, &question.headers, None).await?;
        }
        if is_redirection(answer.status()) {
            let reason = format!("it redirects more than {MAX_REDIRECTIONS} times");
            return Err(Error::invalid(&self.address.host(), reason));
        }
        self.accept(url, question, answer).await
    }

    async fn accept(&self, url: Url, question: &Question<'_>, answer: Answer) -> Result<Reply, Error> {
        if !answer.status().is_success() {
            return Err(self.refused(&url, question, answer).await);
        }
        let host = url.host();
        // Bytes that were encoded on the way are not those that a digest names.
        match answer.headers().get(CONTENT_ENCODING) {
            Some(coding) if coding != "identity" => {
                Err(Error::invalid(&host, "it compresses what was asked for as it is"))
            }
            _ => Ok(Reply { host, answer }),
        }
    }

    async fn refused(&self, url: &Url, question: &Question<'_>, answer: Answer) -> Error {
        refusal(&url.host(), answer, question.missing, self.credentials().as_deref(), &*self.clock).await
    }

    async fn send(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Error> {
        let mut headers = headers.clone();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let answer = self.client.ask(method.clone(), url, headers, self.timeouts.first_byte).await;
        answer.map_err(|error| Error::of_client(&url.host(), &error, Outage::Unreachable))
    }
}

fn is_redirection(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::registry::{Credentials, Options, Upstream};

    /// Asks for a token at a realm, as the upstream's challenge names it.
    async fn refusal_of(address: &str, realm: &str) -> String {
        let mut options = Options::new(address.parse().unwrap());
        options.credentials = Some(Credentials::new("anna", "sesame").unwrap());
        let upstream = Upstream::new(options).unwrap();
        let key = TokenKey { realm: realm.to_owned(), service: None, scope: String::new() };
        match upstream.0.fetch_token(&key).await {
            Err(Error::Invalid { reason, .. }) => reason,
            Err(other) => panic!("{realm} was asked: {other}"),
            Ok(_) => panic!("{realm} has granted something"),
        }
    }

    #[tokio::test]
    async fn credentials_go_to_no_token_service_that_could_be_anybodys() {
        let reason = refusal_of("docker.io", "https://auth.docker.example/token").await;
        assert!(reason.contains("is not the known one"), "{reason}");
        let reason = refusal_of("ghcr.io", "http://ghcr.io/token").await;
        assert!(reason.contains("plain http"), "{reason}");
        for realm in ["", "token", "file:///etc/passwd", "https://user:pass@ghcr.io/token"] {
            let reason = refusal_of("ghcr.io", realm).await;
            assert!(reason.starts_with("its token service"), "{reason}");
        }
    }
}
