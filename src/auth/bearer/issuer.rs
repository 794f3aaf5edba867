//! External issuers: whoever else signs tokens that are taken here, such as a CI system or another token service.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, StatusCode};
use jsonwebtoken::{Algorithm, Validation};
use serde_json::{Map, Value};

use super::claims::{TokenError, check_times};
use super::jwks::{KeySet, SigningAlgorithm};
use crate::auth::{Grant, Identity, Principal, PrincipalKind};
use crate::client::{Client, Url};
use crate::clock::{Timestamp, monotonic};

/// How long an issuer's keys are believed before they are fetched again, and those in a file.
const BELIEVED: Duration = Duration::from_secs(60 * 60);
const FILE_BELIEVED: Duration = Duration::from_secs(10);

/// The time between two tries to fetch them, whatever tokens come.
const PAUSE: Duration = Duration::from_secs(10);

/// How long a try may take.
const FETCH_TIME: Duration = Duration::from_secs(10);

/// The longest set of keys, in bytes.
const MAX_KEYS: usize = 512 << 10;

/// What of a token's claims is looked at.
const MAX_CLAIMS: usize = 128;
const MAX_CLAIM: usize = 1024;
const MAX_NAME: usize = 256;
const MAX_GRANTS: usize = 64;

/// One external issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerOptions {
    /// How it is called here, without a colon; unique.
    pub name: String,
    /// What it calls itself: the claim `iss`.
    pub issuer: String,
    /// Whom its tokens have to be for: the claim `aud`.
    pub audience: String,
    /// Where its keys are.
    pub keys: KeySource,
    /// By which algorithms it may sign.
    pub algorithms: Vec<SigningAlgorithm>,
    /// The claim that names whoever has a token.
    pub user_claim: String,
    /// The claim with the names of groups, if these are believed.
    pub groups_claim: Option<String>,
    /// Whether the claim `access` lets its holder do what it names.
    pub grants_access: bool,
    /// The token endpoint that challenges name in place of the registry's own.
    pub realm: Option<String>,
}

/// Where keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In a file.
    File(PathBuf),
    /// At a URL.
    Url(Url),
}

/// An issuer, and what is known of its keys.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) options: IssuerOptions,
    client: Option<Client>,
    keys: RwLock<Arc<KeySet>>,
    /// How often the keys have changed.
    generation: AtomicU64,
    /// How long the keys are believed before they are fetched again, and the time between two tries.
    pub(super) believed: Duration,
    pub(super) pause: Duration,
    tried: Mutex<Tried>,
    /// Held by who fetches them.
    fetching: tokio::sync::Mutex<()>,
}

/// When the keys were fetched, and when that was tried.
#[derive(Debug, Clone, Copy, Default)]
struct Tried {
    came: Option<Instant>,
    tried: Option<Instant>,
}

/// What a token of an issuer says, once it is verified.
#[derive(Debug)]
pub(super) struct Vouched {
    /// Which of the issuers.
    pub(super) issuer: usize,
    /// By which state of its keys.
    pub(super) generation: u64,
    pub(super) identity: Identity,
    pub(super) exp: u64,
    pub(super) nbf: Option<u64>,
}

impl Vouched {
    /// Whether it is in its time.
    pub(super) fn check_times(&self, now: Timestamp) -> Result<(), TokenError> {
        check_times(self.exp, self.nbf, now)
    }
}

impl Issuer {
    pub(super) fn new(options: IssuerOptions, client: Option<Client>) -> Issuer {
        let believed = match options.keys {
            KeySource::File(_) => FILE_BELIEVED,
            KeySource::Url(_) => BELIEVED,
        };
        Issuer {
            options,
            believed,
            pause: PAUSE,
            client,
            keys: RwLock::default(),
            generation: AtomicU64::new(0),
            tried: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        }
    }

    /// How often its keys have changed.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Fetches the keys again, beside whoever asks, where they are no longer believed.
    pub(super) fn keep_fresh(self: &Arc<Self>) {
        if self.is_due() {
            let issuer = self.clone();
            tokio::spawn(async move { issuer.fetch().await });
        }
    }

    /// Reads a token that says of itself that the issuer has signed it.
    pub(super) async fn verify(
        self: &Arc<Self>,
        at: usize,
        token: &str,
        now: Timestamp,
    ) -> Result<Vouched, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        let algorithm = header.alg;
        // From our side, never from the token's: what isn't configured isn't tried.
        if !self.options.algorithms.contains(&SigningAlgorithm(algorithm)) {
            return Err(TokenError::Invalid);
        }
        let id = header.kid.as_deref();
        let is_known = |keys: &KeySet| !keys.candidates(id, algorithm).is_empty();
        if is_known(&self.keys()) {
            self.keep_fresh();
        } else {
            self.fetch().await;
        }
        let (keys, generation) = (self.keys(), self.generation());
        if !is_known(&keys) {
            let has_come = self.tried.lock().unwrap_or_else(PoisonError::into_inner).came.is_some();
            return Err(if has_come { TokenError::Invalid } else { TokenError::Unavailable });
        }
        let claims = self.read(token, &keys, id, algorithm)?;
        let seconds = |name: &str| claims.get(name).and_then(seconds);
        let exp = seconds("exp").ok_or(TokenError::Invalid)?;
        let nbf = match claims.get("nbf") {
            Some(value) if !value.is_null() => Some(self::seconds(value).ok_or(TokenError::Invalid)?),
            Some(_) | None => None,
        };
        check_times(exp, nbf, now)?;
        let identity = self.identity(&claims)?;
        Ok(Vouched { issuer: at, generation, identity, exp, nbf })
    }

    fn read(
        &self,
        token: &str,
        keys: &KeySet,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Map<String, Value>, TokenError> {
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&[&self.options.issuer]);
        validation.set_required_spec_claims(&["iss", "exp"]);
        // Our own clock tells the time, and the audience has an answer of its own.
        (validation.validate_exp, validation.validate_aud) = (false, false);
        let candidates = keys.candidates(id, algorithm);
        let read = candidates.into_iter().find_map(|key| {
            jsonwebtoken::decode::<Map<String, Value>>(token, key, &validation).ok().map(|data| data.claims)
        });
        let claims = read.ok_or(TokenError::Invalid)?;
        let is_ours = |value: &Value| value.as_str() == Some(self.options.audience.as_str());
        match claims.get("aud") {
            Some(Value::Array(all)) if all.iter().any(is_ours) => Ok(claims),
            Some(one) if is_ours(one) => Ok(claims),
            Some(_) | None => Err(TokenError::Audience),
        }
    }

    /// Whom a token vouches for.
    fn identity(&self, claims: &Map<String, Value>) -> Result<Identity, TokenError> {
        let options = &self.options;
        let user = claims.get(&options.user_claim).and_then(Value::as_str).ok_or(TokenError::Invalid)?;
        if user.is_empty() || user.len() > MAX_NAME || user.chars().any(char::is_control) {
            return Err(TokenError::Invalid);
        }
        let groups =
            options.groups_claim.as_ref().and_then(|claim| claims.get(claim)).map_or_else(Vec::new, texts);
        let access = claims.get("access").filter(|_| options.grants_access).map(grants);
        let principal = Principal {
            kind: PrincipalKind::External,
            name: format!("{}:{user}", options.name),
            groups,
            claims: told(claims),
            access_token: None,
            scope: None,
            grants: Arc::from(access.clone().unwrap_or_default()),
        };
        let identity = Identity::of(principal);
        // What it is for is all that it is for.
        Ok(match access {
            Some(access) => identity.restricted_to(access),
            None => identity,
        })
    }

    fn keys(&self) -> Arc<KeySet> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_due(&self) -> bool {
        let now = monotonic();
        let Tried { came, tried } = *self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let is_past =
            |at: Option<Instant>, time| at.is_none_or(|at| now.saturating_duration_since(at) >= time);
        is_past(came, self.believed) && is_past(tried, self.pause)
    }

    /// Fetches the keys, unless that was tried just now. Where they can't be had the former ones stay.
    async fn fetch(&self) {
        let _fetching = self.fetching.lock().await;
        let may_try = {
            let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
            let now = monotonic();
            let may = tried.tried.is_none_or(|at| now.saturating_duration_since(at) >= self.pause);
            if may {
                tried.tried = Some(now);
            }
            may
        };
        if !may_try {
            return;
        }
        match self.download().await {
            Ok(keys) => {
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
                self.generation.fetch_add(1, Ordering::SeqCst);
                self.tried.lock().unwrap_or_else(PoisonError::into_inner).came = Some(monotonic());
            }
            Err(error) => {
                let issuer = &self.options.name;
                tracing::warn!(
                    issuer,
                    error,
                    "the keys of the issuer can't be fetched; the former ones stay"
                );
            }
        }
    }

    async fn download(&self) -> Result<KeySet, String> {
        let bytes = match &self.options.keys {
            KeySource::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
                read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?
            }
            KeySource::Url(url) => {
                let client = self.client.as_ref().ok_or("nobody can be called")?;
                let answer = client.ask(Method::GET, url, HeaderMap::new(), FETCH_TIME).await;
                let mut answer = answer.map_err(|error| error.to_string())?;
                if answer.status() != StatusCode::OK {
                    return Err(format!("the answer is {}", answer.status()));
                }
                let read = answer.read(MAX_KEYS, FETCH_TIME).await.map_err(|error| error.to_string())?;
                read.ok_or("it is too long")?.to_vec()
            }
        };
        KeySet::parse(&bytes).ok_or_else(|| "there is no public key in it that can be used".to_owned())
    }
}

/// A time in seconds since 1970, which may have a fraction.
fn seconds(value: &Value) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in between")]
    let rounded = |seconds: f64| (0.0..1e15).contains(&seconds).then_some(seconds as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(rounded))
}

/// What rules can be about: texts, numbers, switches, and lists of them, as far as they are of a decent length.
fn told(claims: &Map<String, Value>) -> Vec<(String, String)> {
    let about_the_token = ["iss", "aud", "exp", "nbf", "iat", "jti", "access"];
    let own =
        claims.iter().filter(|(name, _)| !about_the_token.contains(&name.as_str()) && name.len() <= MAX_NAME);
    own.flat_map(|(name, value)| texts(value).into_iter().map(|value| (name.clone(), value)))
        .take(MAX_CLAIMS)
        .collect()
}

/// The texts of a value, or of a list of values.
fn texts(value: &Value) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(on) => Some(on.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    let is_fit = |text: &String| text.len() <= MAX_CLAIM && !text.chars().any(char::is_control);
    match value {
        Value::Array(all) => all.iter().filter_map(text).filter(is_fit).take(MAX_CLAIMS).collect(),
        one => text(one).filter(is_fit).into_iter().collect(),
    }
}

/// The entries of the claim `access` that can be understood. Nobody else appoints those who command the registry.
fn grants(access: &Value) -> Vec<Grant> {
    let all = access.as_array().into_iter().flatten();
    let grants = all.filter_map(|grant| serde_json::from_value::<Grant>(grant.clone()).ok());
    let is_fit =
        |grant: &Grant| grant.kind == "repository" || (grant.kind == "registry" && grant.name == "catalog");
    grants.filter(is_fit).take(MAX_GRANTS).collect()
}
