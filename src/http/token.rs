//! The token endpoint, as Docker's token specification has it, by GET and by POST.
//!
//! Whoever says who they are by a password, an access token or the token of an external issuer gets a token that is for what
//! they have asked for, as far as they may do it; who says nothing gets one for nobody in particular.

use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method};
use serde::Serialize;

use crate::auth::{Action, Bearer, Grant, Identity, Issued, Tokens};
use crate::clock::Timestamp;
use crate::oci::RepositoryName;

use super::app::App;
use super::audit::{note_token, note_unidentified};
use super::authorization::{refused, signed_token};
use super::base_url::base_url;
use super::challenge::{BASIC, service_of};
use super::errors::{ApiError, ErrorCode};
use super::headers::APPLICATION_JSON;
use super::incoming::Incoming;
use super::peer::address;
use super::percent;

/// The longest body of a request: an identity token, and the names of some repositories.
const BODY_BYTES: usize = 64 << 10;

/// How many scopes one token may have.
const MAX_SCOPES: usize = 64;

/// Parameters of a request, in their order.
type Parameters = Vec<(String, String)>;

/// The answer, for clients of both specifications.
#[derive(Serialize)]
struct Granted<'a> {
    token: &'a str,
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
    issued_at: String,
    /// What was granted; who asks by POST has to be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

/// Issues a token.
pub(super) async fn answer(app: &App, parts: &Parts, body: &mut Incoming) -> Result<Response, ApiError> {
    let Some(tokens) = &app.tokens else {
        let message = "this registry issues no tokens; send Basic";
        return Err(ApiError::new(ErrorCode::EndpointUnknown, message));
    };
    let base = base_url(app, parts);
    let service = service_of(&base);
    let is_post = parts.method == Method::POST;
    let parameters = if is_post {
        form(&read(body).await?)
    } else {
        form(parts.uri.query().unwrap_or_default().as_bytes())
    };
    let parameters =
        parameters.ok_or_else(|| invalid("the parameters have broken percent escapes, or aren't UTF-8"))?;
    let caller = if is_post {
        posted(app, tokens, parts, &parameters, service).await
    } else {
        let authorization = parts.headers.get(AUTHORIZATION).map(|value| value.to_str());
        match authorization.transpose() {
            Ok(authorization) => caller(app, tokens, parts, authorization, service).await,
            Err(_) => Err(unreadable()),
        }
    };
    if caller.is_err() {
        note_unidentified(&parts.extensions);
    }
    let caller = caller?;
    caller.identity.principal().map_or(Ok(()), |principal| app.guard.count(principal))?;
    let access = granted(app, &caller.identity, &scopes(&parameters)?);
    let scope = access.iter().map(words).collect::<Vec<_>>().join(" ");
    note_token(&parts.extensions, &caller.identity, &scope);
    let scope = is_post.then_some(scope);
    let issued = tokens.issue(&caller.identity, caller.until, service, access);
    let issued = issued.ok_or_else(|| unauthorized("the token that you have come with expires just now"))?;
    Ok(response(&issued, scope))
}

/// Who asks by the header `Authorization`. One of the registry's own tokens gets no other one, or it would last for ever.
async fn caller(
    app: &App,
    tokens: &Tokens,
    parts: &Parts,
    authorization: Option<&str>,
    service: &str,
) -> Result<Bearer, ApiError> {
    let pair = authorization.and_then(password_of);
    if let Some(token) = pair.as_deref().filter(|password| tokens.is_vouched(password)) {
        return by_token(tokens, token, service).await;
    }
    let by_password = |identity| Bearer { identity, until: None, is_own: false };
    if let Some(token) = authorization.and_then(signed_token) {
        return by_token(tokens, token, service).await;
    }
    let identified = app.access.identify(authorization, address(parts)).await;
    identified.map(by_password).map_err(|error| refused(error, BASIC))
}

/// The password of `Basic …`, which is where Docker puts a token that somebody logs in with.
fn password_of(authorization: &str) -> Option<String> {
    let (scheme, encoded) = authorization.split_once(' ')?;
    let encoded = scheme.eq_ignore_ascii_case("basic").then_some(encoded.trim())?;
    let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    decoded.split_once(':').map(|(_, password)| password.to_owned())
}

async fn by_token(tokens: &Tokens, token: &str, service: &str) -> Result<Bearer, ApiError> {
    match tokens.identify(token, service).await {
        Ok(bearer) if !bearer.is_own => Ok(bearer),
        Ok(_) => Err(unauthorized(
            "come with a password or an access token; a token that was issued here gets no other one",
        )),
        Err(error) => Err(unauthorized(error.to_string())),
    }
}

/// Who asks by POST: by a password or a token in the form, else by the header.
async fn posted(
    app: &App,
    tokens: &Tokens,
    parts: &Parts,
    parameters: &Parameters,
    service: &str,
) -> Result<Bearer, ApiError> {
    let parameter = |name: &str| first(parameters, name).filter(|value| !value.is_empty());
    let authorization = match parameter("grant_type") {
        Some("refresh_token") => {
            let token =
                parameter("refresh_token").ok_or_else(|| invalid("send the parameter refresh_token"))?;
            Some(format!("Bearer {token}"))
        }
        Some("password") => match (parameter("username"), parameter("password")) {
            (None, None) => None,
            (user, _) if user.is_some_and(|user| user.contains(':')) => {
                return Err(unauthorized("no user's name has a colon in it"));
            }
            (user, password) => {
                let pair = format!("{}:{}", user.unwrap_or_default(), password.unwrap_or_default());
                Some(format!("Basic {}", STANDARD.encode(pair)))
            }
        },
        Some(_) | None => return Err(invalid("send grant_type=password or grant_type=refresh_token")),
    };
    let header = parts.headers.get(AUTHORIZATION).map(|value| value.to_str());
    let header = header.transpose().map_err(|_| unreadable())?;
    caller(app, tokens, parts, authorization.as_deref().or(header), service).await
}

/// What somebody may do of what they ask for; the rest is silently left out.
///
/// A request may mean another registry's repository by the same name, which is found out, and decided, when it comes: the
/// token is for the name, and so it is granted where one of the repositories that it could mean may be used.
fn granted(app: &App, identity: &Identity, scopes: &[&str]) -> Vec<Grant> {
    let mut granted: Vec<Grant> = Vec::new();
    for (kind, name, actions) in scopes.iter().filter_map(|scope| parse(scope)) {
        let actions: Vec<String> = match kind {
            "repository" => match name.parse() {
                Ok(requested) => of_repository(app, identity, requested, &actions),
                Err(_) => continue,
            },
            "registry" if actions.contains(&"*") => {
                let action = match name {
                    "catalog" => Action::List,
                    "admin" => Action::Admin,
                    _ => continue,
                };
                let is_within = identity.is_within_restriction(action, None);
                let may = is_within && app.access.rules().decide(identity, action, None).is_allowed();
                may.then(|| "*".to_owned()).into_iter().collect()
            }
            _ => continue,
        };
        if actions.is_empty() {
            continue;
        }
        match granted.iter_mut().find(|grant| grant.kind == kind && grant.name == name) {
            Some(grant) => {
                let more = actions.into_iter().filter(|action| !grant.actions.contains(action));
                let more: Vec<String> = more.collect();
                grant.actions.extend(more);
            }
            None => granted.push(Grant { kind: kind.to_owned(), name: name.to_owned(), actions }),
        }
    }
    granted
}

/// What somebody may do with a repository of what they ask for. By a token one gets no more than that is for.
fn of_repository(app: &App, identity: &Identity, requested: RepositoryName, asked: &[&str]) -> Vec<String> {
    let within = [Action::Pull, Action::Push, Action::Delete]
        .into_iter()
        .filter(|action| asked.iter().any(|word| *word == "*" || *word == action.as_str()))
        .filter(|action| identity.is_within_restriction(*action, Some(&requested)));
    let within: Vec<Action> = within.collect();
    let (rules, names) = (app.access.rules(), meanings(app, requested));
    let may =
        |action: &Action| names.iter().any(|name| rules.decide(identity, *action, Some(name)).is_allowed());
    within.into_iter().filter(may).map(|action| action.as_str().to_owned()).collect()
}

/// The repositories that a request for `name` could mean.
fn meanings(app: &App, name: RepositoryName) -> Vec<RepositoryName> {
    let mut names = app.cache.as_ref().map_or_else(Vec::new, |cache| cache.meanings(&name));
    names.push(name);
    names
}

/// The parts of a scope: `repository:team/app:pull,push`. Names have no colon but that of a port, in front.
fn parse(scope: &str) -> Option<(&str, &str, Vec<&str>)> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    // A class, as in `repository(plugin)`, changes nothing.
    let kind = kind.split_once('(').map_or(kind, |(kind, _)| kind);
    Some((kind, name, actions.split(',').collect()))
}

fn words(grant: &Grant) -> String {
    format!("{}:{}:{}", grant.kind, grant.name, grant.actions.join(","))
}

/// All scopes of a request: of several parameters, and several in one.
fn scopes(parameters: &Parameters) -> Result<Vec<&str>, ApiError> {
    let all = parameters.iter().filter(|(name, _)| name == "scope");
    let mut scopes: Vec<&str> = Vec::new();
    for scope in all.flat_map(|(_, value)| value.split_ascii_whitespace()) {
        if scopes.len() >= MAX_SCOPES {
            return Err(invalid(format!("a token may have {MAX_SCOPES} scopes at most")));
        }
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    Ok(scopes)
}

fn first<'p>(parameters: &'p Parameters, name: &str) -> Option<&'p str> {
    parameters.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
}

/// Reads `application/x-www-form-urlencoded`, in which a plus is a space.
fn form(bytes: &[u8]) -> Option<Parameters> {
    let text = std::str::from_utf8(bytes).ok()?;
    let decode = |text: &str| Some(percent::decode(&text.replace('+', " "))?.into_owned());
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        })
        .collect()
}

async fn read(body: &mut Incoming) -> Result<BytesMut, ApiError> {
    let mut bytes = BytesMut::new();
    while let Some(piece) = body.next().await? {
        if bytes.len() + piece.len() > BODY_BYTES {
            return Err(invalid(format!("the body may have {BODY_BYTES} bytes at most")));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

fn response(issued: &Issued, scope: Option<String>) -> Response {
    let granted = Granted {
        token: &issued.token,
        access_token: &issued.token,
        token_type: "Bearer",
        expires_in: issued.lifetime.as_secs(),
        issued_at: seconds(issued.at),
        scope,
    };
    let body = serde_json::to_vec(&granted).expect("texts and numbers can be written as JSON");
    let len = body.len();
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, APPLICATION_JSON);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A whole second, as RFC 3339 has it.
fn seconds(at: Timestamp) -> String {
    at.to_rfc3339()
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::new(ErrorCode::RequestInvalid, message)
}

fn unreadable() -> ApiError {
    unauthorized("the Authorization header is malformed")
}

fn unauthorized(message: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::new(ErrorCode::Unauthorized, message).with_header(http::header::WWW_AUTHENTICATE, BASIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_from_both_ends() {
        assert_eq!(parse("repository:a/b:pull,push"), Some(("repository", "a/b", vec!["pull", "push"])));
        assert_eq!(parse("repository(plugin):a:*"), Some(("repository", "a", vec!["*"])));
        let with_port = parse("repository:reg.example:5000/a:pull");
        assert_eq!(with_port, Some(("repository", "reg.example:5000/a", vec!["pull"])));
        assert_eq!(parse("registry:catalog:*"), Some(("registry", "catalog", vec!["*"])));
        for text in ["", "repository", "repository:a", ":"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn scopes_are_taken_from_all_parameters_once_each() {
        let parameters = form(b"service=x&scope=a%3Ab:c+d:e:f&scope=a:b:c&scope=&account=o%2Bp").unwrap();
        assert_eq!(scopes(&parameters).ok(), Some(vec!["a:b:c", "d:e:f"]));
        assert_eq!(first(&parameters, "account"), Some("o+p"));
        assert_eq!(form(b"a=%zz"), None);
        let many: Parameters = (0..=MAX_SCOPES).map(|at| ("scope".to_owned(), at.to_string())).collect();
        assert!(scopes(&many).is_err());
    }
}
