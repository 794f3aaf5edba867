//! What an upstream wants before it answers: `WWW-Authenticate`, RFC 9110 section 11.6.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// A way to authenticate that an upstream has named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With a token from the service at `realm`.
    Bearer { realm: String, service: Option<String> },
    /// With the credentials themselves.
    Basic,
}

impl Challenge {
    /// The best challenge of an answer that can be met: a token before the credentials themselves.
    pub(super) fn of(headers: &HeaderMap) -> Option<Challenge> {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let all: Vec<Challenge> = texts.flat_map(parse).collect();
        let is_bearer = |challenge: &&Challenge| matches!(challenge, Challenge::Bearer { .. });
        all.iter().find(is_bearer).or(all.first()).cloned()
    }
}

/// A scheme and its parameters.
struct Scheme {
    name: String,
    parameters: Vec<(String, String)>,
}

impl Scheme {
    fn parameter(&self, name: &str) -> Option<String> {
        let found = self.parameters.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone())
    }
}

/// Returns the challenges in a header's text that this client can meet.
fn parse(text: &str) -> Vec<Challenge> {
    let challenge = |scheme: Scheme| {
        if scheme.name.eq_ignore_ascii_case("bearer") {
            Some(Challenge::Bearer {
                realm: scheme.parameter("realm")?,
                service: scheme.parameter("service"),
            })
        } else {
            scheme.name.eq_ignore_ascii_case("basic").then_some(Challenge::Basic)
        }
    };
    schemes(text).into_iter().filter_map(challenge).collect()
}

/// Splits a header's text. A word that `=` follows is a parameter of the scheme before it, any other one a scheme.
fn schemes(text: &str) -> Vec<Scheme> {
    let mut found: Vec<Scheme> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let after = after.trim_start_matches([' ', '\t']);
        if let Some(value) = after.strip_prefix('=') {
            let (value, after) = value_of(value.trim_start_matches([' ', '\t']));
            if let Some(scheme) = found.last_mut() {
                scheme.parameters.push((word.to_owned(), value));
            }
            rest = after;
        } else if word.is_empty() {
            return found;
        } else {
            found.push(Scheme { name: word.to_owned(), parameters: Vec::new() });
            rest = after;
        }
    }
}

/// Reads a quoted or bare value, and returns it with what follows.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[place + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) }
    }

    #[test]
    fn challenges_of_the_registries_are_read() {
        for (text, challenge) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull,push""#,
                bearer("https://auth.docker.io/token", Some("registry.docker.io")),
            ),
            ("bearer REALM=https://a.example/t", bearer("https://a.example/t", None)),
            (r#"Bearer error="invalid_token", realm="x\"y" , service = "z""#, bearer("x\"y", Some("z"))),
            (r#"Basic realm="a, Bearer realm=b""#, Challenge::Basic),
            ("Basic", Challenge::Basic),
            (r#"Negotiate YII==, Basic realm="x", Bearer realm="y""#, bearer("y", None)),
        ] {
            let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, HeaderValue::from_static(text))]);
            assert_eq!(Challenge::of(&headers), Some(challenge), "{text}");
        }
    }

    #[test]
    fn what_can_not_be_met_is_no_challenge() {
        for text in ["", "Digest realm=\"x\"", "Bearer service=\"x\"", "= , =", "realm=\"x\""] {
            let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, HeaderValue::from_static(text))]);
            assert_eq!(Challenge::of(&headers), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_ends(text in "[ ,=\"\\\\aB\t]{0,60}") {
            let _ = parse(&text);
        }
    }
}
