//! Rules: who may do what where.

use std::fmt;
use std::str::FromStr;

use super::Identity;
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
}

impl Action {
    /// Every action.
    pub const ALL: [Action; 4] = [Action::Pull, Action::Push, Action::Delete, Action::List];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Action::Pull => "pull",
            Action::Push => "push",
            Action::Delete => "delete",
            Action::List => "list",
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
#[error("write actions: pull, push, delete or list")]
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
        let words: Vec<_> = Action::ALL.into_iter().filter(|action| self.contain(*action)).collect();
        words
            .iter()
            .enumerate()
            .try_for_each(|(at, action)| write!(f, "{}{action}", if at == 0 { "" } else { ", " }))
    }
}

/// Whom a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Everybody, also who hasn't said who they are.
    Anonymous,
    /// Everybody who has said who they are.
    Authenticated,
    /// One user.
    User(String),
}

/// A text that means nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write anonymous (everybody), authenticated (everybody with a password) or user:NAME")]
pub struct WhoError;

impl Who {
    fn is(&self, identity: &Identity) -> bool {
        match (self, identity) {
            (Who::Anonymous, _) | (Who::Authenticated, Identity::User(_)) => true,
            (Who::User(name), Identity::User(own)) => name == own,
            (Who::Authenticated | Who::User(_), Identity::Anonymous) => false,
        }
    }
}

impl FromStr for Who {
    type Err = WhoError;

    fn from_str(text: &str) -> Result<Who, WhoError> {
        match text.split_once(':') {
            None if text == "anonymous" => Ok(Who::Anonymous),
            None if text == "authenticated" => Ok(Who::Authenticated),
            Some(("user", name)) if !name.is_empty() => Ok(Who::User(name.to_owned())),
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
    /// The rule of this number, counted from 1, lets them.
    Rule(usize, &'r Rule),
    /// Nothing lets them.
    Denied,
}

impl Decision<'_> {
    /// Whether they may.
    pub fn is_allowed(&self) -> bool {
        !matches!(self, Decision::Denied)
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

    /// Whether somebody may do something with a repository; with any where none is named.
    pub fn decide(
        &self,
        identity: &Identity,
        action: Action,
        repository: Option<&RepositoryName>,
    ) -> Decision<'_> {
        if self.are_open() {
            return Decision::Open;
        }
        if self.rules.is_empty() {
            let may = matches!(action, Action::Pull | Action::Push | Action::List);
            return if may && !identity.is_anonymous() { Decision::User } else { Decision::Denied };
        }
        let lets = |rule: &Rule| {
            rule.actions.contain(action)
                && rule.who.iter().any(|who| who.is(identity))
                && repository.is_none_or(|name| rule.repositories.contains(name))
        };
        match self.rules.iter().position(lets) {
            Some(at) => Decision::Rule(at + 1, &self.rules[at]),
            None => Decision::Denied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let nobody = Identity::Anonymous;
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
            assert_eq!(open.decide(&Identity::Anonymous, action, Some(&name)), Decision::Open);
            assert_eq!(users.decide(&Identity::Anonymous, action, Some(&name)), Decision::Denied);
            let may = matches!(action, Action::Pull | Action::Push | Action::List);
            assert_eq!(
                users.decide(&Identity::user("anna"), action, Some(&name)).is_allowed(),
                may,
                "{action}"
            );
        }
    }

    #[test]
    fn rules_are_written_as_they_are_read() {
        for text in ["anonymous", "authenticated", "user:a:b"] {
            assert_eq!(text.parse::<Who>().unwrap().to_string(), text);
        }
        for text in ["", "anna", "user:", "group:a", "everybody", "token:ci"] {
            assert_eq!(text.parse::<Who>(), Err(WhoError), "{text}");
        }
        let shown = rule("team/**", "user:anna user:ci", &[Action::Push, Action::Pull]).to_string();
        assert_eq!(shown, "user:anna, user:ci may pull, push team/**");
        assert_eq!("read".parse::<Action>(), Err(ActionsError));
    }
}
