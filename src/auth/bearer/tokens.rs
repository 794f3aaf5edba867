//! Issuing tokens, and taking them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Header, Validation};
use serde::Deserialize;

use super::claims::{Claims, Holder, TokenError, check_times};
use super::issuer::{Issuer, IssuerOptions, Vouched};
use super::keys::{Keys, TokenKeys};
use super::verified::{TokenHash, Verified, hash};
use super::{LEEWAY, MAX_LIFETIME, MAX_TOKEN, MIN_LIFETIME};
use crate::auth::{Access, Grant, Identity, PrincipalKind};
use crate::client::Client;
use crate::clock::{Clock, Timestamp};
use crate::registry::AccessTokenId;

/// Who has issued the registry's own tokens. No other issuer may be called so.
pub(super) const ISSUER: &str = "orlop";

/// The one algorithm of the registry's own tokens, whatever their headers say.
const ALGORITHM: Algorithm = Algorithm::ES256;

/// How tokens are issued and taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenOptions {
    /// How long a token of the registry's own lasts.
    pub lifetime: Duration,
    /// Whose tokens are taken beside these.
    pub issuers: Vec<IssuerOptions>,
}

impl Default for TokenOptions {
    fn default() -> TokenOptions {
        TokenOptions { lifetime: Duration::from_secs(300), issuers: Vec::new() }
    }
}

/// Issues tokens and takes them. Clones share what they know.
#[derive(Debug, Clone)]
pub struct Tokens(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    access: Access,
    keys: TokenKeys,
    lifetime: Duration,
    clock: Arc<dyn Clock>,
    verified: Verified<Own>,
    issuers: Vec<Arc<Issuer>>,
    vouched: Verified<Vouched>,
}

/// What a token says of its issuer.
#[derive(Deserialize)]
struct Said {
    iss: String,
}

/// A token of the registry's own whose signature is right.
#[derive(Debug)]
struct Own {
    /// The key that has signed it.
    key: String,
    claims: Claims,
    access: Arc<[Grant]>,
}

/// Who has come with a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// Who it is, restricted to what the token is for.
    pub identity: Identity,
    /// When their token expires, where an external issuer has issued it: what is issued for it doesn't last longer.
    pub until: Option<Timestamp>,
    /// Whether it is a token of the registry's own, for which no other one is issued.
    pub is_own: bool,
}

/// A token that was issued.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The token; a secret.
    pub token: String,
    /// Since when it is valid.
    pub at: Timestamp,
    /// For how long.
    pub lifetime: Duration,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issued({}, {:?})", self.at, self.lifetime)
    }
}

impl Tokens {
    /// Issues tokens that these keys sign, for those whom `access` lets in.
    /// The keys of external issuers are fetched by `client`.
    pub fn new(
        access: Access,
        keys: TokenKeys,
        options: &TokenOptions,
        client: Option<&Client>,
        clock: Arc<dyn Clock>,
    ) -> Tokens {
        let lifetime = options.lifetime.clamp(MIN_LIFETIME, MAX_LIFETIME);
        let issuers =
            options.issuers.iter().map(|issuer| Arc::new(Issuer::new(issuer.clone(), client.cloned())));
        Tokens(Arc::new(Shared {
            access,
            keys,
            lifetime,
            clock,
            verified: Verified::default(),
            issuers: issuers.collect(),
            vouched: Verified::default(),
        }))
    }

    /// The token endpoint that an external issuer has for this registry, and what it calls the registry.
    pub fn realm(&self) -> Option<(&str, &str)> {
        let mut issuers = self.0.issuers.iter().map(|issuer| &issuer.options);
        issuers.find_map(|issuer| Some((issuer.realm.as_deref()?, issuer.audience.as_str())))
    }

    /// Whether a text says of itself that it is a token of an external issuer.
    pub fn is_vouched(&self, text: &str) -> bool {
        self.issuer_of(text).is_some()
    }

    /// The issuer that a token says has signed it; nothing is verified.
    fn issuer_of(&self, token: &str) -> Option<(usize, &Arc<Issuer>)> {
        if self.0.issuers.is_empty() || token.len() > MAX_TOKEN {
            return None;
        }
        let (_, rest) = token.split_once('.')?;
        let (payload, signature) = rest.split_once('.')?;
        let payload = URL_SAFE_NO_PAD.decode(payload).ok().filter(|_| !signature.contains('.'))?;
        let said: Said = serde_json::from_slice(&payload).ok()?;
        self.0.issuers.iter().enumerate().find(|(_, issuer)| issuer.options.issuer == said.iss)
    }

    /// The keys that sign.
    pub fn keys(&self) -> &TokenKeys {
        &self.0.keys
    }

    /// Who comes with a token, to the registry that calls itself `service`.
    pub async fn identify(&self, token: &str, service: &str) -> Result<Bearer, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Invalid);
        }
        let inner = &self.0;
        let (now, hash) = (inner.clock.now(), hash(token));
        if let Some(vouched) = self.vouched(token, &hash, now).await? {
            let identity = vouched.identity.clone();
            return Ok(Bearer { identity, until: Some(seconds(vouched.exp)), is_own: false });
        }
        let keys = inner.keys.now();
        let own = match inner.verified.get(&hash) {
            Some(own) if keys.verifying(&own.key, now).is_some() => own,
            Some(_) | None => {
                let own = Arc::new(verify(&keys, token, now)?);
                let until = seconds(own.claims.exp).saturating_add(LEEWAY);
                inner.verified.insert(hash, own.clone(), until, now);
                own
            }
        };
        check_times(own.claims.exp, Some(own.claims.nbf), now)?;
        if own.claims.aud != service {
            return Err(TokenError::Audience);
        }
        let identity = self.holder(&own.claims)?.restricted_to(own.access.clone());
        Ok(Bearer { identity, until: None, is_own: true })
    }

    /// What an external issuer says by a token; none where the token isn't of one.
    async fn vouched(
        &self,
        token: &str,
        hash: &TokenHash,
        now: Timestamp,
    ) -> Result<Option<Arc<Vouched>>, TokenError> {
        let inner = &self.0;
        if inner.issuers.is_empty() {
            return Ok(None);
        }
        if let Some(vouched) = inner.vouched.get(hash)
            && let Some(issuer) = inner.issuers.get(vouched.issuer)
        {
            issuer.keep_fresh();
            // A key that has signed may be gone with the others.
            if issuer.generation() == vouched.generation {
                vouched.check_times(now)?;
                return Ok(Some(vouched));
            }
        }
        let Some((at, issuer)) = self.issuer_of(token) else { return Ok(None) };
        let vouched = Arc::new(issuer.verify(at, token, now).await?);
        let until = seconds(vouched.exp).saturating_add(LEEWAY);
        inner.vouched.insert(*hash, vouched.clone(), until, now);
        Ok(Some(vouched))
    }

    /// Whether an issuer vouches for this name, or did until a restart.
    fn is_vouched_for(&self, name: &str) -> bool {
        let issuer = name.split_once(':').map(|(issuer, _)| issuer);
        self.0.issuers.iter().any(|known| Some(known.options.name.as_str()) == issuer)
    }

    /// Whom a token was issued for, as they are now.
    fn holder(&self, claims: &Claims) -> Result<Identity, TokenError> {
        match &claims.orlop {
            Holder::Anonymous => Ok(Identity::anonymous()),
            Holder::User { access_token: None } => {
                let user = self.0.access.find(PrincipalKind::User, &claims.sub);
                Ok(Identity::of(user.ok_or(TokenError::Gone)?))
            }
            Holder::User { access_token: Some(id) } | Holder::AccessToken { access_token: id } => {
                let id: AccessTokenId = id.parse().map_err(|_| TokenError::Invalid)?;
                let principal = self.0.access.find_access_token(id);
                Ok(Identity::of(principal.ok_or(TokenError::Gone)?))
            }
            Holder::External { .. } => {
                let principal =
                    claims.orlop.external(&claims.sub).filter(|_| self.is_vouched_for(&claims.sub));
                Ok(Identity::of(principal.ok_or(TokenError::Gone)?))
            }
        }
    }

    /// Issues a token for somebody that is for `access` and nothing else, and not longer than `until`; none where that is past.
    pub fn issue(
        &self,
        identity: &Identity,
        until: Option<Timestamp>,
        service: &str,
        access: Vec<Grant>,
    ) -> Option<Issued> {
        let inner = &self.0;
        let now = inner.clock.now();
        let lifetime = until.map_or(inner.lifetime, |until| until.since(now).min(inner.lifetime));
        let issued = now.millis() / 1000;
        let rules = inner.access.rules();
        let principal = identity.principal().map(AsRef::as_ref);
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: principal.map_or_else(String::new, |principal| principal.name.clone()),
            aud: service.to_owned(),
            exp: issued + lifetime.as_secs(),
            nbf: issued,
            iat: issued,
            jti: uuid::Uuid::now_v7().to_string(),
            access,
            orlop: Holder::of(principal, |claim| rules.speak_of_claim(claim)),
        };
        let keys = inner.keys.now();
        let (id, key) = keys.signing();
        let header = Header { kid: Some(id.to_owned()), ..Header::new(ALGORITHM) };
        let token = jsonwebtoken::encode(&header, &claims, key).ok()?;
        (lifetime.as_secs() > 0).then_some(Issued { token, at: seconds(issued), lifetime })
    }
}

fn seconds(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds.saturating_mul(1000))
}

/// Reads a token that one of the keys has signed, whatever its time and its audience.
fn verify(keys: &Keys, token: &str, now: Timestamp) -> Result<Own, TokenError> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
    let id = header.kid.ok_or(TokenError::Invalid)?;
    let key = keys.verifying(&id, now).ok_or(TokenError::Invalid)?;
    let mut validation = Validation::new(ALGORITHM);
    validation.set_issuer(&[ISSUER]);
    validation.set_required_spec_claims(&["iss", "exp", "nbf", "sub", "aud"]);
    // The times and the audience are looked at each time, also of a token that is remembered.
    (validation.validate_exp, validation.validate_aud) = (false, false);
    let data = jsonwebtoken::decode::<Claims>(token, key, &validation).map_err(|_| TokenError::Invalid)?;
    let access = Arc::from(data.claims.access.clone());
    Ok(Own { key: id, claims: data.claims, access })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use aws_lc_rs::hmac;
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    use super::*;
    use crate::auth::{Action, Options};
    use crate::clock::ManualClock;
    use crate::fsio::SimulatedDisk;
    use crate::registry::{self, NewAccessToken, Registry, TokenHash};

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const SERVICE: &str = "reg.example";

    struct World {
        clock: Arc<ManualClock>,
        keys: TokenKeys,
        tokens: Tokens,
        _users: tempfile::TempDir,
        path: PathBuf,
        access: Access,
    }

    /// A registry that knows anna.
    fn world() -> World {
        let users = tempfile::tempdir().unwrap();
        let path = users.path().join("users");
        std::fs::write(&path, format!("anna:{}\n", bcrypt::hash("x", 4).unwrap())).unwrap();
        let access = Access::open(Options { htpasswd: Some(path.clone()), ..Options::default() }).unwrap();
        let clock = Arc::new(ManualClock::new(NOW));
        let keys = TokenKeys::in_memory(NOW);
        let tokens = Tokens::new(access.clone(), keys.clone(), &TokenOptions::default(), None, clock.clone());
        World { clock, keys, tokens, _users: users, path, access }
    }

    impl World {
        async fn identify(&self, token: &str) -> Result<Identity, TokenError> {
            self.tokens.identify(token, SERVICE).await.map(|bearer| bearer.identity)
        }

        fn issue(&self, identity: &Identity, access: Vec<Grant>) -> String {
            self.tokens.issue(identity, None, SERVICE, access).unwrap().token
        }

        /// A token for anna, with its header and its payload as they are wanted, signed by the registry's key.
        fn forge(&self, header: Value, payload: impl Fn(&mut Value)) -> String {
            let mut claims = part(&self.issue(&Identity::user("anna"), vec![grant("a", &["pull"])]), 1);
            payload(&mut claims);
            let message = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
            let keys = self.keys.now();
            let signature =
                jsonwebtoken::crypto::sign(message.as_bytes(), keys.signing().1, ALGORITHM).unwrap();
            format!("{message}.{signature}")
        }

        fn header(&self) -> Value {
            json!({ "typ": "JWT", "alg": "ES256", "kid": self.keys.now().signing().0 })
        }
    }

    fn grant(name: &str, actions: &[&str]) -> Grant {
        Grant {
            kind: "repository".to_owned(),
            name: name.to_owned(),
            actions: actions.iter().map(|&action| action.to_owned()).collect(),
        }
    }

    /// A part of a token, as JSON.
    fn part(token: &str, at: usize) -> Value {
        let text = token.split('.').nth(at).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
    }

    /// A point on P-256 as a public key in PEM.
    fn pem_of(point: &[u8]) -> String {
        let start = b"0Y0\x13\x06\x07*\x86H\xce=\x02\x01\x06\x08*\x86H\xce=\x03\x01\x07\x03B\0";
        let der = STANDARD.encode([&start[..], point].concat());
        format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
    }

    /// A token whose signature is replaced.
    fn signed_otherwise(token: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
        let (message, _) = token.rsplit_once('.').unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(sign(message.as_bytes())))
    }

    #[tokio::test]
    async fn a_token_says_who_has_it_and_restricts_them_to_what_it_is_for() {
        let world = world();
        let token = world.issue(&Identity::user("anna"), vec![grant("a", &["pull"])]);
        for _ in 0..2 {
            let bearer = world.tokens.identify(&token, SERVICE).await.unwrap();
            assert!(bearer.is_own && bearer.until.is_none());
            let identity = bearer.identity;
            assert_eq!(identity.principal().unwrap().name, "anna");
            let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
            assert!(identity.is_within_restriction(Action::Pull, Some(&a)));
            assert!(!identity.is_within_restriction(Action::Push, Some(&a)));
            assert!(!identity.is_within_restriction(Action::Pull, Some(&b)));
        }
        let nobody = world.identify(&world.issue(&Identity::anonymous(), Vec::new())).await.unwrap();
        assert!(nobody.is_anonymous() && nobody.is_restricted());
        let claims = part(&token, 1);
        assert_eq!(claims["iss"], "orlop");
        assert_eq!((&claims["sub"], &claims["aud"]), (&json!("anna"), &json!(SERVICE)));
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["nbf"].as_u64().unwrap(), 300);
        assert_eq!(claims["access"], json!([{"type": "repository", "name": "a", "actions": ["pull"]}]));
    }

    #[tokio::test]
    async fn a_token_is_taken_in_its_time_only_remembered_or_not() {
        let world = world();
        let token = world.issue(&Identity::user("anna"), Vec::new());
        let at = async |seconds: u64| {
            world.clock.set(NOW.saturating_add(Duration::from_secs(seconds)));
            world.identify(&token).await.map(|_| ())
        };
        for seconds in [0, 299, 329] {
            assert_eq!(at(seconds).await, Ok(()), "{seconds}");
        }
        assert_eq!(at(330).await, Err(TokenError::Expired));
        assert_eq!(at(100_000).await, Err(TokenError::Expired));
        world.clock.set(NOW.saturating_sub(Duration::from_secs(31)));
        assert_eq!(world.identify(&token).await, Err(TokenError::NotYet));
        let never_seen = world.forge(world.header(), |claims| claims["exp"] = json!(1_800_000_000 - 61));
        world.clock.set(NOW);
        assert_eq!(world.identify(&never_seen).await, Err(TokenError::Expired));
        let until = Some(NOW.saturating_add(Duration::from_secs(20)));
        let issued = world.tokens.issue(&Identity::user("anna"), until, SERVICE, Vec::new()).unwrap();
        assert_eq!(issued.lifetime, Duration::from_secs(20), "not longer than what it was issued for");
        assert_eq!(world.tokens.issue(&Identity::user("anna"), Some(NOW), SERVICE, Vec::new()), None);
    }

    #[tokio::test]
    async fn what_is_not_signed_so_by_one_of_the_keys_is_not_taken() {
        let world = world();
        let good = world.forge(world.header(), |_| {});
        assert!(world.identify(&good).await.is_ok(), "the forger can do it right");
        let with = |change: &dyn Fn(&mut Value)| world.forge(world.header(), change);
        let header = |change: &dyn Fn(&mut Value)| {
            let mut header = world.header();
            change(&mut header);
            world.forge(header, |_| {})
        };
        let keys = world.keys.now();
        let point = keys.public_point().to_vec();
        let pem = pem_of(&point);
        let by_secret = |secret: &[u8]| {
            let token = header(&|header| header["alg"] = json!("HS256"));
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            signed_otherwise(&token, |message| hmac::sign(&key, message).as_ref().to_vec())
        };
        let other = World { keys: TokenKeys::in_memory(NOW), ..self::world() };
        let parts: Vec<&str> = good.split('.').collect();
        let enlarged = {
            let mut claims = part(&good, 1);
            claims["access"][0]["actions"] = json!(["*"]);
            [parts[0], &URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2]].join(".")
        };
        for (what, token, error) in [
            ("alg none", header(&|header| header["alg"] = json!("none")), TokenError::Invalid),
            (
                "alg none, no signature",
                signed_otherwise(&header(&|header| header["alg"] = json!("none")), |_| Vec::new()),
                TokenError::Invalid,
            ),
            ("HS256 by the public point", by_secret(&point), TokenError::Invalid),
            ("HS256 by the public key as PEM", by_secret(pem.as_bytes()), TokenError::Invalid),
            ("HS256 by nothing", by_secret(b""), TokenError::Invalid),
            ("ES384", header(&|header| header["alg"] = json!("ES384")), TokenError::Invalid),
            ("an unknown kid", header(&|header| header["kid"] = json!("unknown")), TokenError::Invalid),
            (
                "no kid",
                header(&|header| drop(header.as_object_mut().unwrap().remove("kid"))),
                TokenError::Invalid,
            ),
            ("another key of the same kid", other.forge(world.header(), |_| {}), TokenError::Invalid),
            ("another issuer", with(&|claims| claims["iss"] = json!("other")), TokenError::Invalid),
            (
                "several issuers",
                with(&|claims| claims["iss"] = json!(["orlop", "other"])),
                TokenError::Invalid,
            ),
            (
                "another audience",
                with(&|claims| claims["aud"] = json!("other.example")),
                TokenError::Audience,
            ),
            (
                "several audiences",
                with(&|claims| claims["aud"] = json!([SERVICE, "other"])),
                TokenError::Invalid,
            ),
            ("no end", with(&|claims| claims["exp"] = Value::Null), TokenError::Invalid),
            (
                "an end that is no number",
                with(&|claims| claims["exp"] = json!("9999999999")),
                TokenError::Invalid,
            ),
            ("an end below zero", with(&|claims| claims["exp"] = json!(-1)), TokenError::Invalid),
            ("expired", with(&|claims| claims["exp"] = json!(1_800_000_000 - 31)), TokenError::Expired),
            ("not yet", with(&|claims| claims["nbf"] = json!(1_800_000_000 + 31)), TokenError::NotYet),
            ("a user who doesn't exist", with(&|claims| claims["sub"] = json!("bo")), TokenError::Gone),
            (
                "a holder of no kind",
                with(&|claims| claims["orlop"]["kind"] = json!("root")),
                TokenError::Invalid,
            ),
            ("more access than was signed", enlarged, TokenError::Invalid),
            ("no signature", [parts[0], parts[1], ""].join("."), TokenError::Invalid),
            ("a part less", [parts[0], parts[1]].join("."), TokenError::Invalid),
            ("a part more", format!("{good}."), TokenError::Invalid),
            ("cut off", good[..good.len() - 4].to_owned(), TokenError::Invalid),
            (
                "a huge payload",
                with(&|claims| claims["x"] = json!("x".repeat(MAX_TOKEN))),
                TokenError::Invalid,
            ),
            (
                "a deep payload",
                {
                    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
                    let message = [parts[0], &URL_SAFE_NO_PAD.encode(deep)].join(".");
                    signed_otherwise(&format!("{message}."), |_| vec![0; 64])
                },
                TokenError::Invalid,
            ),
            ("nothing", String::new(), TokenError::Invalid),
            ("dots", "..".to_owned(), TokenError::Invalid),
        ] {
            assert_eq!(world.identify(&token).await, Err(error), "{what}");
        }
        assert!(world.identify(&good).await.is_ok());
    }

    #[tokio::test]
    async fn whoever_is_removed_comes_in_no_more_by_a_token_that_they_have() {
        let world = world();
        let token = world.issue(&Identity::user("anna"), vec![grant("a", &["pull"])]);
        assert!(world.identify(&token).await.is_ok());
        std::fs::write(&world.path, "").unwrap();
        let options = Options { htpasswd: Some(world.path.clone()), ..Options::default() };
        world.access.reload(options).unwrap();
        assert_eq!(world.identify(&token).await, Err(TokenError::Gone));
    }

    #[tokio::test]
    async fn a_token_holds_when_the_key_is_replaced_unless_all_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let world = world();
        let keys = TokenKeys::open(dir.path(), NOW).unwrap();
        let tokens = Tokens::new(
            world.access.clone(),
            keys.clone(),
            &TokenOptions::default(),
            None,
            world.clock.clone(),
        );
        let anna = Identity::user("anna");
        let first = tokens.issue(&anna, None, SERVICE, Vec::new()).unwrap().token;
        keys.rotate(NOW, false).unwrap();
        let second = tokens.issue(&anna, None, SERVICE, Vec::new()).unwrap().token;
        assert_ne!(part(&first, 0)["kid"], part(&second, 0)["kid"]);
        for token in [&first, &second] {
            assert!(tokens.identify(token, SERVICE).await.is_ok());
        }
        keys.rotate(NOW, true).unwrap();
        for token in [&first, &second] {
            assert_eq!(tokens.identify(token, SERVICE).await, Err(TokenError::Invalid), "remembered or not");
        }
    }

    #[tokio::test]
    async fn what_is_issued_for_an_access_token_has_its_scope_and_ends_with_it() {
        let world = world();
        let options = registry::Options {
            disk: Arc::new(SimulatedDisk::new()),
            clock: world.clock.clone(),
            ..registry::Options::new("/data")
        };
        let registry = Registry::open(options).unwrap();
        world.access.attach(registry.accounts()).unwrap();
        let create = async |name: &str, owner: Option<&str>, hash: u8| {
            let token = NewAccessToken {
                name: name.parse().unwrap(),
                hash: TokenHash([hash; 32]),
                owner: owner.map(str::to_owned),
                is_owner_elsewhere: true,
                scope: Some(vec!["team/**:pull".to_owned()]),
                expires_at: None,
            };
            let id = registry.accounts().create_token(token).await.unwrap().id;
            world.access.refresh_accounts().unwrap();
            Identity::of(world.access.find_access_token(id).unwrap())
        };
        for (name, owner) in [("ci", None), ("laptop", Some("anna"))] {
            let identity = create(name, owner, 1).await;
            let issued = world.issue(&identity, Vec::new());
            let found = world.identify(&issued).await.unwrap();
            assert_eq!(found.principal(), identity.principal());
            assert!(found.principal().unwrap().scope.is_some());
            registry.accounts().revoke_token(&name.parse().unwrap()).await.unwrap();
            world.access.refresh_accounts().unwrap();
            assert_eq!(world.identify(&issued).await, Err(TokenError::Gone));
            create(name, owner, 2).await;
            assert_eq!(world.identify(&issued).await, Err(TokenError::Gone), "another of the same name");
        }
    }

    /// A key of an issuer: its signer, and its set of keys as it is published.
    fn issuer_key() -> (jsonwebtoken::EncodingKey, String) {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = pair.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        let set = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "one", "x": x, "y": y}]});
        let signer = jsonwebtoken::EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref());
        (signer, set.to_string())
    }

    #[tokio::test]
    async fn a_key_that_its_issuer_has_withdrawn_opens_nothing_any_more_and_no_keys_change_nothing() {
        let mut world = world();
        let path = world.path.with_extension("jwks");
        let options = IssuerOptions {
            name: "ci".to_owned(),
            issuer: "https://ci.example".to_owned(),
            audience: "us".to_owned(),
            keys: crate::auth::KeySource::File(path.clone()),
            algorithms: vec!["ES256".parse().unwrap()],
            user_claim: "sub".to_owned(),
            groups_claim: None,
            grants_access: false,
            realm: None,
        };
        let mut issuer = Issuer::new(options, None);
        (issuer.believed, issuer.pause) = (Duration::ZERO, Duration::ZERO);
        Arc::get_mut(&mut world.tokens.0).unwrap().issuers = vec![Arc::new(issuer)];
        let sign = |key: &jsonwebtoken::EncodingKey| {
            let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::ES256) };
            let claims =
                json!({"iss": "https://ci.example", "aud": "us", "sub": "job", "exp": 1_800_000_100_u64});
            jsonwebtoken::encode(&header, &claims, key).unwrap()
        };
        let ((first, first_set), (second, second_set)) = (issuer_key(), issuer_key());
        let (first, second) = (sign(&first), sign(&second));
        assert_eq!(world.identify(&first).await, Err(TokenError::Unavailable));
        std::fs::write(&path, first_set).unwrap();
        let until = async |token: &str, is_in: bool| {
            for _ in 0..10_000 {
                if world.identify(token).await.is_ok() == is_in {
                    return true;
                }
                tokio::task::yield_now().await;
            }
            false
        };
        assert!(until(&first, true).await && world.identify(&second).await.is_err());
        assert_eq!(world.identify(&first).await.unwrap().principal().unwrap().name, "ci:job");
        std::fs::write(&path, second_set).unwrap();
        assert!(until(&first, false).await, "it was remembered");
        assert!(until(&second, true).await);
        std::fs::write(&path, "nothing").unwrap();
        assert!(!until(&second, false).await, "the former keys stay");
    }
}
