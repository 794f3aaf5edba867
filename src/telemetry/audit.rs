//! The audit: one line for each thing that somebody did, or wasn't let do. This is the one place that writes them.

use std::fmt;

use super::logs::AUDIT;
use super::printable;

/// Something that a line may have to say. It is put into words only where the line is written.
#[derive(Clone, Copy)]
pub struct Said<'a>(pub &'a dyn fmt::Display);

impl fmt::Debug for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outcome {
    /// It is done.
    #[default]
    Done,
    /// It has begun, and goes on.
    Begun,
    /// They may not.
    Refused,
    /// They may, and it couldn't be done.
    Failed,
    /// They left before it was known.
    Unknown,
}

impl Outcome {
    /// As lines call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Begun => "begun",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
            Outcome::Unknown => "unknown",
        }
    }
}

/// One thing that somebody did. Its texts may be anybody's: they are written so that they can't look like anything else.
#[derive(Debug, Clone, Copy, Default)]
pub struct Deed<'a> {
    /// What, by the operation's name.
    pub action: &'a str,
    /// Whether it is a pull, which is told of only where that is wanted.
    pub is_pull: bool,
    /// What came of it.
    pub outcome: Outcome,
    /// Who.
    pub actor: &'a str,
    /// How they are known.
    pub actor_kind: &'static str,
    /// From where.
    pub remote: Option<Said<'a>>,
    /// By which request.
    pub request: Option<&'a str>,
    /// Where.
    pub repository: Option<&'a str>,
    /// To what: a tag or a digest.
    pub reference: Option<Said<'a>>,
    /// Which content that is.
    pub digest: Option<&'a str>,
    /// With what else.
    pub subject: Option<&'a str>,
    /// The status of the answer.
    pub status: Option<u16>,
    /// The code of the error in it.
    pub error: Option<&'static str>,
}

impl Deed<'_> {
    /// Writes the line.
    pub fn write(&self) {
        let text = |text: Option<&str>| text.map(|text| printable(text.as_bytes()));
        let said = |said: Option<Said<'_>>| said.map(|said| printable(said.0.to_string().as_bytes()));
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: AUDIT,
                    action = self.action,
                    result = self.outcome.as_str(),
                    actor = printable(self.actor.as_bytes()),
                    actor_kind = self.actor_kind,
                    remote = said(self.remote),
                    request = self.request,
                    repository = text(self.repository),
                    reference = said(self.reference),
                    digest = text(self.digest),
                    subject = text(self.subject),
                    status = self.status,
                    error = self.error,
                    "audit"
                )
            };
        }
        if self.is_pull {
            line!(debug);
        } else {
            line!(info);
        }
    }
}
