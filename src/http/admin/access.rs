//! Why somebody may do something, or may not.

use serde::{Deserialize, Serialize};

use super::call::{Answer, Call, invalid, json};
use crate::auth::{Access, Action, Decision, Identity, Principal, PrincipalKind, Who};
use crate::oci::RepositoryName;
use crate::proxy::{Place, Purpose};

/// The query of `GET access/explain`: whoever is asked about, what they do, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explain {
    /// As rules name them, several words joined by commas: `user:anna`, `claim:sub=a,group:ops`; `anna` is `user:anna`.
    pub who: String,
    /// What they do.
    pub action: Action,
    /// Where, as clients name it; none for `list` and `admin`.
    pub repository: Option<RepositoryName>,
}

/// The answer to `GET access/explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// Who was asked about.
    pub who: String,
    /// The groups that they are in.
    pub groups: Vec<String>,
    /// Whether there is somebody of that name.
    pub is_known: bool,
    /// What they do.
    pub action: String,
    /// Where, by the name that the registry has.
    pub repository: Option<RepositoryName>,
    /// Whether they may.
    pub allowed: bool,
    /// Why, in a sentence.
    pub reason: String,
    /// The number of the rule that decided, counted from 1.
    pub rule: Option<usize>,
}

/// Says which rule lets somebody do something.
pub(super) fn explain(call: &Call) -> Answer {
    let query = call.query();
    let wanted = |key: &str| {
        let value = query.first(key).filter(|value| !value.is_empty());
        value.ok_or_else(|| invalid(format!("the parameter {key} is missing")))
    };
    let who = wanted("who")?.into_owned();
    let action: Action = wanted("action")?.parse().map_err(|error| invalid(format!("{error}")))?;
    let repository = query.first("repository").map(|name| name.parse::<RepositoryName>()).transpose();
    let repository = repository.map_err(|error| invalid(error.to_string()))?;
    if repository.is_none() && !matches!(action, Action::List | Action::Admin) {
        return Err(invalid(format!("name the repository in which they {action}")));
    }
    let access = call.access();
    let (identity, is_known) = identity(access, &who).map_err(invalid)?;
    let (canonical, is_private) = canonical(call, action, repository)?;
    let rules = access.rules();
    let decision = rules.decide(&identity, action, canonical.as_ref());
    let (mut reason, mut rule) = sentence(decision);
    let mut allowed = decision.is_allowed();
    if let (true, true, Some(name)) = (allowed, is_private, canonical.as_ref()) {
        let decision = rules.decide_private(&identity, name);
        allowed = decision.is_allowed();
        (reason, rule) = sentence(decision);
        let what = "what is there came with the registry's own credentials";
        reason = if allowed {
            format!("{what}, and {reason}")
        } else {
            format!("{what}, and no rule names them, otherwise than as anonymous")
        };
    }
    let groups = identity.principal().map(|principal| principal.groups.clone()).unwrap_or_default();
    json(&Explained {
        who,
        groups,
        is_known,
        action: action.to_string(),
        repository: canonical,
        allowed,
        reason,
        rule,
    })
}

/// Somebody, as rules name them; and whether all of the names are somebody's.
fn identity(access: &Access, text: &str) -> Result<(Identity, bool), String> {
    let mut principal: Option<Principal> = None;
    let mut is_known = true;
    for word in text.split(',').map(str::trim) {
        let is_whole = word.contains(':') || matches!(word, "anonymous" | "authenticated");
        let who = if is_whole { word.parse() } else { format!("user:{word}").parse() };
        match who.map_err(|error: crate::auth::WhoError| format!("{word}: {error}"))? {
            Who::Anonymous if text == word => return Ok((Identity::anonymous(), true)),
            Who::Anonymous | Who::Authenticated => {
                return Err(format!("{word} is nobody in particular; name a user, or anonymous alone"));
            }
            Who::User(name) => set(&mut principal, access, PrincipalKind::User, name, &mut is_known)?,
            Who::AccessToken(name) => {
                set(&mut principal, access, PrincipalKind::AccessToken, name, &mut is_known)?;
            }
            Who::Group(group) => {
                principal.get_or_insert_with(somebody).groups.push(group);
            }
            Who::Claim(name, value) => {
                principal.get_or_insert_with(somebody).claims.push((name, value));
            }
        }
    }
    Ok((principal.map_or_else(Identity::anonymous, Identity::of), is_known))
}

fn set(
    principal: &mut Option<Principal>,
    access: &Access,
    kind: PrincipalKind,
    name: String,
    is_known: &mut bool,
) -> Result<(), String> {
    if principal.as_ref().is_some_and(|principal| principal.kind != PrincipalKind::External) {
        return Err("name one user or token at a time".to_owned());
    }
    let known = access.find(kind, &name);
    *is_known &= known.is_some();
    let before = principal.take().unwrap_or_else(somebody);
    let found = known.map_or_else(|| Principal { kind, ..Principal::user(name) }, |known| (*known).clone());
    let groups = found.groups.iter().cloned().chain(before.groups).collect();
    *principal = Some(Principal { groups, claims: before.claims, ..found });
    Ok(())
}

/// Somebody whom an external issuer vouches for.
fn somebody() -> Principal {
    Principal { kind: PrincipalKind::External, ..Principal::user("somebody") }
}

/// The name that the registry has for what a client names, and whether what is there is private.
fn canonical(
    call: &Call,
    action: Action,
    requested: Option<RepositoryName>,
) -> Result<(Option<RepositoryName>, bool), crate::http::errors::ApiError> {
    let Some(requested) = requested else { return Ok((None, false)) };
    let purpose = match action {
        Action::Push => Purpose::Push,
        Action::Delete => Purpose::Delete,
        Action::Pull | Action::List | Action::Admin => Purpose::Keep,
    };
    let located = call.cache().map(|cache| cache.locate(&requested, None, purpose, &|_| false));
    let name = match located.transpose()? {
        Some(Place::Cached(cached)) if action == Action::Pull || !cached.is_by_default() => {
            cached.name().clone()
        }
        _ => requested,
    };
    let is_private =
        action == Action::Pull && call.registry().namespace().repository(&name).cached().is_private()?;
    Ok((Some(name), is_private))
}

fn sentence(decision: Decision<'_>) -> (String, Option<usize>) {
    match decision {
        Decision::Open => ("there are neither users nor rules, so everybody may".to_owned(), None),
        Decision::User => ("there are no rules, so every user pulls, pushes and lists".to_owned(), None),
        Decision::Scope => ("the scope of the token says so".to_owned(), None),
        Decision::Issuer => ("the issuer that vouches for them says so".to_owned(), None),
        Decision::Rule(number, rule) => (format!("rule {number} says so: {rule}"), Some(number)),
        Decision::OutOfScope => ("it is more than the scope of their token".to_owned(), None),
        Decision::Denied => ("no rule lets them".to_owned(), None),
    }
}
