//! Rules: who may do what where.

use std::fmt;
use std::str::FromStr;

use super::identity::{Identity, PrincipalKind};
use crate::oci::RepositoryName;
use crate::registry::NameScope;

/// What somebody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Reads from a repository.
    Pull,
    /// Adds to a repository.
    Push,
    /// Takes from a repository.
    Delete,
    /// Sees which repositories there are, as far as they may be pulled from.
    List,
    /// Commands the registry, as its operator does.
    Admin,
}

impl Action {
    /// Every action.
    pub const ALL: [Action; 5] = [Action::Pull, Action::Push, Action::Delete, Action::List, Action::Admin];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Action::Pull => "pull",
            Action::Push => "push",
            Action::Delete => "delete",
            Action::List => "list",
            Action::Admin => "admin",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Some actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Actions(u8);

/// A word that is no action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write actions: pull, push, delete, list or admin")]
pub struct ActionsError;

impl Actions {
    /// These.
    pub fn of(actions: &[Action]) -> Actions {
        Actions(actions.iter().fold(0, |all, action| all | action.bit()))
    }

    /// Whether the action is among them.
    pub fn contain(self, action: Action) -> bool {
        self.0 & action.bit() != 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL.into_iter().filter(move |action| self.contain(*action))
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromStr for Action {
    type Err = ActionsError;

    fn from_str(text: &str) -> Result<Action, ActionsError> {
        Action::ALL.into_iter().find(|action| action.as_str() == text).ok_or(ActionsError)
    }
}

impl fmt::Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut actions = self.iter().enumerate();
        actions.try_for_each(|(at, action)| write!(f, "{}{action}", if at == 0 { "" } else { ", " }))
    }
}

/// Whom a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Everybody, also who hasn't said who they are.
    Anonymous,
    /// Everybody who has logged in with a password or an access token of this registry.
    Authenticated,
    /// One user.
    User(String),
    /// Everybody in a group.
    Group(String),
    /// One robot account.
    AccessToken(String),
    /// Everybody of whom an external issuer says this: the claim's name, and a pattern of its value, in which `*` stands for
    /// anything.
    Claim(String, String),
}

/// A text that means nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write anonymous (everybody), authenticated (everybody who has logged in), user:NAME, group:NAME, token:NAME or \
     claim:NAME=VALUE"
)]
pub struct WhoError;

impl Who {
    fn is(&self, identity: &Identity) -> bool {
        let Some(principal) = identity.principal() else { return matches!(self, Who::Anonymous) };
        match self {
            Who::Anonymous => true,
            // Anybody can have an account with those who vouch for others.
            Who::Authenticated => principal.kind != PrincipalKind::External,
            Who::User(name) => principal.kind == PrincipalKind::User && *name == principal.name,
            Who::AccessToken(name) => principal.kind == PrincipalKind::AccessToken && *name == principal.name,
            Who::Group(group) => principal.groups.contains(group),
            Who::Claim(name, pattern) => {
                principal.claims.iter().any(|(own, value)| own == name && matches(pattern, value))
            }
        }
    }
}

/// Whether a text is what a pattern describes, in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(end)
}

impl FromStr for Who {
    type Err = WhoError;

    fn from_str(text: &str) -> Result<Who, WhoError> {
        match text.split_once(':') {
            None if text == "anonymous" => Ok(Who::Anonymous),
            None if text == "authenticated" => Ok(Who::Authenticated),
            Some(("user", name)) if !name.is_empty() => Ok(Who::User(name.to_owned())),
            Some(("group", name)) if !name.is_empty() => Ok(Who::Group(name.to_owned())),
            Some(("token", name)) if !name.is_empty() => Ok(Who::AccessToken(name.to_owned())),
            Some(("claim", claim)) => match claim.split_once('=') {
                Some((name, value)) if !name.is_empty() => Ok(Who::Claim(name.to_owned(), value.to_owned())),
                Some(_) | None => Err(WhoError),
            },
            None | Some(_) => Err(WhoError),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Anonymous => f.write_str("anonymous"),
            Who::Authenticated => f.write_str("authenticated"),
            Who::User(name) => write!(f, "user:{name}"),
            Who::Group(name) => write!(f, "group:{name}"),
            Who::AccessToken(name) => write!(f, "token:{name}"),
            Who::Claim(name, value) => write!(f, "claim:{name}={value}"),
        }
    }
}

/// Lets somebody do something somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where.
    pub repositories: NameScope,
    /// Whom.
    pub who: Vec<Who>,
    /// What.
    pub actions: Actions,
}

impl Rule {
    /// Whether it lets one of those do something with a repository; with any where none is named.
    fn lets(&self, is: impl Fn(&Who) -> bool, action: Action, repository: Option<&RepositoryName>) -> bool {
        self.actions.contain(action)
            && self.who.iter().any(is)
            && repository.is_none_or(|name| self.repositories.contains(name))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who: Vec<String> = self.who.iter().map(ToString::to_string).collect();
        write!(f, "{} may {} {}", who.join(", "), self.actions, self.repositories)
    }
}

/// Why somebody may do something, or may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'r> {
    /// There are neither users nor rules.
    Open,
    /// There are no rules, and users pull, push and list.
    User,
    /// The scope of the robot account lets them.
    Scope,
    /// The external issuer that vouches for them lets them.
    Issuer,
    /// The rule of this number, counted from 1, lets them.
    Rule(usize, &'r Rule),
    /// It is more than their access token is for.
    OutOfScope,
    /// Nothing lets them.
    Denied,
}

impl Decision<'_> {
    /// Whether they may.
    pub fn is_allowed(&self) -> bool {
        !matches!(self, Decision::Denied | Decision::OutOfScope)
    }
}

/// All rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// In their order. What one lets somebody do no other takes away.
    pub rules: Vec<Rule>,
    /// Whether there are users. Without rules these pull, push and list, and nobody else does anything.
    pub has_users: bool,
}

impl Rules {
    /// Whether everybody may do everything.
    pub fn are_open(&self) -> bool {
        self.rules.is_empty() && !self.has_users
    }

    /// Whether any rule is about those of whom an external issuer makes this claim.
    pub fn speak_of_claim(&self, claim: &str) -> bool {
        let is_about = |who: &Who| matches!(who, Who::Claim(name, _) if name == claim);
        self.rules.iter().any(|rule| rule.who.iter().any(is_about))
    }

    /// Whether somebody may do something with a repository; with any where none is named.
    pub fn decide(
        &self,
        identity: &Identity,
        action: Action,
        repository: Option<&RepositoryName>,
    ) -> Decision<'_> {
        if self.are_open() {
            // Everybody, and so nobody is the operator.
            return if action == Action::Admin { Decision::Denied } else { Decision::Open };
        }
        if let Some(principal) = identity.principal() {
            if let Some(scope) = &principal.scope {
                if !scope.iter().any(|scope| scope.covers(action, repository)) {
                    return Decision::OutOfScope;
                }
                if principal.kind == PrincipalKind::AccessToken {
                    return Decision::Scope;
                }
            }
            if principal.grants.iter().any(|grant| grant.covers(action, repository)) {
                return Decision::Issuer;
            }
        }
        if self.rules.is_empty() {
            let may = matches!(action, Action::Pull | Action::Push | Action::List);
            let is_user = identity.principal().is_some_and(|principal| principal.kind == PrincipalKind::User);
            return if may && is_user { Decision::User } else { Decision::Denied };
        }
        self.first(|rule| rule.lets(|who| who.is(identity), action, repository))
    }

    /// Whether somebody may read what came to a repository with the credentials of the registry itself: those may whom a rule
    /// names, otherwise than as everybody, and those whose scope or issuer does.
    pub fn decide_private(&self, identity: &Identity, repository: &RepositoryName) -> Decision<'_> {
        let is_named = |who: &Who| *who != Who::Anonymous && who.is(identity);
        match self.decide(identity, Action::Pull, Some(repository)) {
            Decision::Open | Decision::User => Decision::Denied,
            Decision::Rule(..) => self.first(|rule| rule.lets(is_named, Action::Pull, Some(repository))),
            decision => decision,
        }
    }

    fn first(&self, lets: impl Fn(&Rule) -> bool) -> Decision<'_> {
        match self.rules.iter().position(lets) {
            Some(at) => Decision::Rule(at + 1, &self.rules[at]),
            None => Decision::Denied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Principal;

    fn rule(repositories: &str, who: &str, actions: &[Action]) -> Rule {
        let repositories = NameScope::new(vec![repositories.parse().unwrap()]);
        let who = who.split(' ').map(|who| who.parse().unwrap()).collect();
        Rule { repositories, who, actions: Actions::of(actions) }
    }

    #[test]
    fn what_no_rule_allows_is_denied() {
        let rules = Rules {
            rules: vec![
                rule("public/**", "anonymous", &[Action::Pull]),
                rule("team/**", "user:anna user:ci", &[Action::Pull, Action::Push]),
                rule("**", "user:root", &Action::ALL),
            ],
            has_users: true,
        };
        let (anna, ci, root) = (Identity::user("anna"), Identity::user("ci"), Identity::user("root"));
        let nobody = Identity::anonymous();
        for (identity, action, repository, by) in [
            (&nobody, Action::Pull, "public/a", Some(1)),
            (&anna, Action::Pull, "public/a", Some(1)),
            (&nobody, Action::Push, "public/a", None),
            (&nobody, Action::Pull, "team/a", None),
            (&anna, Action::Push, "team/a", Some(2)),
            (&ci, Action::Push, "team/a", Some(2)),
            (&anna, Action::Delete, "team/a", None),
            (&anna, Action::Pull, "other", None),
            (&root, Action::Delete, "other", Some(3)),
            (&Identity::user("user:anna"), Action::Push, "team/a", None),
        ] {
            let decision = rules.decide(identity, action, Some(&repository.parse().unwrap()));
            let number = match decision {
                Decision::Rule(number, _) => Some(number),
                _ => None,
            };
            assert_eq!(
                (number, decision.is_allowed()),
                (by, by.is_some()),
                "{identity:?} {action} {repository}"
            );
        }
        assert!(rules.decide(&anna, Action::List, None) == Decision::Denied);
        assert!(rules.decide(&root, Action::List, None).is_allowed());
    }

    #[test]
    fn without_rules_users_pull_and_push_and_without_users_everybody_does_everything() {
        let name = "team/a".parse().unwrap();
        let open = Rules::default();
        let users = Rules { rules: Vec::new(), has_users: true };
        for action in Action::ALL {
            let of_open = if action == Action::Admin { Decision::Denied } else { Decision::Open };
            assert_eq!(open.decide(&Identity::anonymous(), action, Some(&name)), of_open);
            assert_eq!(users.decide(&Identity::anonymous(), action, Some(&name)), Decision::Denied);
            let may = matches!(action, Action::Pull | Action::Push | Action::List);
            assert_eq!(
                users.decide(&Identity::user("anna"), action, Some(&name)).is_allowed(),
                may,
                "{action}"
            );
        }
    }

    #[test]
    fn whom_an_issuer_vouches_for_is_let_in_by_what_it_says_and_not_for_having_logged_in() {
        let external = Principal {
            kind: PrincipalKind::External,
            claims: vec![("sub".to_owned(), "repo:team/app:ref:main".to_owned())],
            groups: vec!["ops".to_owned()],
            ..Principal::user("anna")
        };
        let external = Identity::of(external);
        let name = "team/a".parse().unwrap();
        for (who, may) in [
            ("authenticated", false),
            ("user:anna", false),
            ("token:anna", false),
            ("group:ops", true),
            ("group:anna", false),
            ("claim:sub=repo:team/*", true),
            ("claim:sub=repo:*:ref:main", true),
            ("claim:sub=repo:team", false),
            ("claim:sub=repo:*:ref:mai", false),
            ("claim:sub=repo:team/app:ref:main*main", false),
            ("claim:other=repo:team/*", false),
        ] {
            let rules = Rules { rules: vec![rule("**", who, &[Action::Pull])], has_users: true };
            assert_eq!(rules.decide(&external, Action::Pull, Some(&name)).is_allowed(), may, "{who}");
        }
        let users = Rules { rules: Vec::new(), has_users: true };
        assert!(!users.decide(&external, Action::Pull, Some(&name)).is_allowed());
    }

    #[test]
    fn what_came_with_credentials_is_for_those_whom_a_rule_names_otherwise_than_as_everybody() {
        let rules = Rules {
            rules: vec![
                rule("**", "anonymous", &[Action::Pull]),
                rule("hub/a", "user:anna", &[Action::Pull]),
                rule("hub/b", "user:anna", &[Action::Push]),
            ],
            has_users: true,
        };
        let (anna, bo) = (Identity::user("anna"), Identity::user("bo"));
        let may = |identity: &Identity, name: &str| {
            rules.decide_private(identity, &name.parse().unwrap()).is_allowed()
        };
        assert!(may(&anna, "hub/a") && !may(&anna, "hub/b"));
        assert!(!may(&bo, "hub/a") && !may(&Identity::anonymous(), "hub/a"));
        let robot = Principal {
            kind: PrincipalKind::AccessToken,
            scope: Some(vec!["hub/**:pull".parse().unwrap()].into()),
            ..Principal::user("ci")
        };
        assert!(may(&Identity::of(robot), "hub/b"));
        let open = Rules::default();
        assert!(!open.decide_private(&Identity::anonymous(), &"hub/a".parse().unwrap()).is_allowed());
        let users = Rules { rules: Vec::new(), has_users: true };
        assert!(!users.decide_private(&anna, &"hub/a".parse().unwrap()).is_allowed());
    }

    #[test]
    fn rules_are_written_as_they_are_read() {
        for text in ["anonymous", "authenticated", "user:a:b", "group:ops", "token:ci", "claim:sub=repo:a/*"]
        {
            assert_eq!(text.parse::<Who>().unwrap().to_string(), text);
        }
        for text in ["", "anna", "user:", "group:", "everybody", "token", "claim:sub", "claim:=a"] {
            assert_eq!(text.parse::<Who>(), Err(WhoError), "{text}");
        }
        let shown = rule("team/**", "user:anna user:ci", &[Action::Push, Action::Pull]).to_string();
        assert_eq!(shown, "user:anna, user:ci may pull, push team/**");
        assert_eq!("read".parse::<Action>(), Err(ActionsError));
    }
}
