//! Tags by regular expression.

use std::fmt;
use std::str::FromStr;

use regex::bytes::{Regex, RegexBuilder};

use crate::oci::Tag;

/// The most memory that one compiled expression may take, in bytes.
const MAX_COMPILED: usize = 1 << 20;

/// A regular expression that is looked for anywhere in a tag; `^` and `$` stand for its ends. The time of a match is linear
/// in the tag's length whatever the expression.
#[derive(Debug, Clone)]
pub struct TagRegex(Regex);

/// A text that is no regular expression; says what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TagRegexError(String);

impl TagRegex {
    /// Whether the expression occurs in the tag.
    pub fn matches(&self, tag: &Tag) -> bool {
        self.0.is_match(tag.as_str().as_bytes())
    }
}

impl FromStr for TagRegex {
    type Err = TagRegexError;

    fn from_str(text: &str) -> Result<TagRegex, TagRegexError> {
        let compiled = RegexBuilder::new(text).unicode(false).size_limit(MAX_COMPILED).build();
        compiled.map(TagRegex).map_err(|error| {
            // The last line of a syntax error says what is wrong; those before it draw where.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            TagRegexError(reason.trim_start_matches("error: ").to_owned())
        })
    }
}

impl PartialEq for TagRegex {
    fn eq(&self, other: &TagRegex) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for TagRegex {}

impl fmt::Display for TagRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_looked_for_anywhere() {
        for (expression, tag, is_match) in [
            ("rel", "a-release", true),
            ("^rel", "a-release", false),
            (r"^v\d+\.\d+$", "v10.2", true),
            (r"^v\d+\.\d+$", "v10.2.3", false),
            ("^(main|next)$", "next", true),
            ("(?i)^RC", "rc1", true),
        ] {
            let compiled: TagRegex = expression.parse().unwrap();
            assert_eq!(compiled.matches(&tag.parse().unwrap()), is_match, "{expression} {tag}");
        }
    }

    #[test]
    fn what_is_no_expression_or_too_large_is_refused_in_a_line() {
        for (text, reason) in
            [("(", "unclosed group"), ("a{5000}{5000}", "exceeds"), (r"(?=x)", "look-around")]
        {
            let error = text.parse::<TagRegex>().unwrap_err().to_string();
            assert!(error.contains(reason) && !error.contains('\n'), "{error}");
        }
    }
}
