//! The list of external issuers.

use std::path::PathBuf;

use super::lists::{ListTable, TableError};
use super::value::{label, switch, url, words};
use super::{Config, Key};
use crate::auth::{AlgorithmError, IssuerOptions, KeySource, SigningAlgorithm};

/// A table `[[issuer]]` on its way to [`IssuerOptions`].
#[derive(Debug)]
pub(super) struct IssuerTable {
    name: String,
    issuer: String,
    audience: String,
    jwks: Option<KeySource>,
    algorithms: Vec<SigningAlgorithm>,
    user_claim: String,
    groups_claim: String,
    access: bool,
    realm: Option<String>,
}

/// A text that a token is compared with: visible ASCII without quotes, since challenges repeat some of them.
fn word(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\".contains(&byte);
    if !text.is_empty() && text.len() <= 256 && text.bytes().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err("write up to 256 visible characters without spaces, as the tokens have it".to_owned())
}

impl ListTable for IssuerTable {
    const NAME: &'static str = "issuer";
    const KEYS: &'static [Key<IssuerTable>] = &[
        Key::text(
            "issuer.name",
            "",
            |table, value| label(value).map(|name| table.name = name),
            "How the issuer is called here; unique. Whoever it vouches for is called NAME:USER in the history and in the log.",
        ),
        Key::text(
            "issuer.issuer",
            "",
            |table, value| {
                let issuer = word(value)?;
                if issuer == "orlop" {
                    return Err(
                        "write the issuer of other tokens; those of orlop are the registry's own".to_owned()
                    );
                }
                table.issuer = issuer;
                Ok(())
            },
            "What stands in the claim iss of its tokens, to the letter; unique.",
        ),
        Key::text(
            "issuer.audience",
            "",
            |table, value| word(value).map(|audience| table.audience = audience),
            "What has to stand in their claim aud, alone or in a list.",
        ),
        Key::text(
            "issuer.jwks",
            "",
            |table, value| {
                let is_url = value.starts_with("http://") || value.starts_with("https://");
                table.jwks = Some(match value.parse() {
                    Ok(url) => KeySource::Url(url),
                    Err(_) if !is_url && value.starts_with('/') => KeySource::File(PathBuf::from(value)),
                    Err(_) => return Err("write a URL, or the absolute path of a file".to_owned()),
                });
                Ok(())
            },
            "The issuer's public keys as a JSON Web Key Set: a URL, or the path of a file. They are fetched again each hour (a file: \
             every ten seconds, where tokens come) and where a token names a key that isn't among them, at most every ten \
             seconds. Where that fails the former keys stay.",
        ),
        Key::words(
            "issuer.algorithms",
            "RS256,ES256,EdDSA",
            |table, value| {
                let parsed = words(value)
                    .map(|word| word.parse().map_err(|error: AlgorithmError| format!("{word}: {error}")));
                table.algorithms = parsed.collect::<Result<_, _>>()?;
                Ok(())
            },
            "By which algorithms the tokens may be signed: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA.",
        ),
        Key::text(
            "issuer.user_claim",
            "sub",
            |table, value| word(value).map(|claim| table.user_claim = claim),
            "The claim that names whoever has a token.",
        ),
        Key::text(
            "issuer.groups_claim",
            "",
            |table, value| {
                table.groups_claim = if value.is_empty() { String::new() } else { word(value)? };
                Ok(())
            },
            "The claim whose values are groups for rules with group:NAME, for example \"groups\". Empty: the issuer puts nobody \
             into a group; rules with claim:NAME=VALUE work all the same.",
        ),
        Key::bare(
            "issuer.access",
            "false",
            |table, value| switch(value).map(|on| table.access = on),
            "Whether the claim access, as Docker's token specification has it, lets the holder of a token do what it names, and \
             nothing else, whatever the rules say. Names are those that repositories have here.",
        ),
        Key::text(
            "issuer.realm",
            "",
            |table, value| {
                let realm = url(value)?;
                if realm.as_deref().is_some_and(|realm| realm.contains([',', '%'])) {
                    return Err("write a URL without commas and percent signs".to_owned());
                }
                table.realm = realm;
                Ok(())
            },
            "The issuer's own token endpoint, which clients are sent to in place of the registry's; at most one issuer has it. \
             The service that they ask it for is the audience.",
        ),
    ];

    fn blank() -> IssuerTable {
        IssuerTable {
            name: String::new(),
            issuer: String::new(),
            audience: String::new(),
            jwks: None,
            algorithms: Vec::new(),
            user_claim: String::new(),
            groups_claim: String::new(),
            access: false,
            realm: None,
        }
    }

    fn finish(self, config: &mut Config) -> Result<(), TableError> {
        for (value, key) in [(&self.name, "name"), (&self.issuer, "issuer"), (&self.audience, "audience")] {
            if value.is_empty() {
                return Err(TableError::Missing(key));
            }
        }
        let keys = self.jwks.ok_or(TableError::Missing("jwks"))?;
        if self.algorithms.is_empty() {
            return Err(TableError::Missing("algorithms"));
        }
        let issuers = &mut config.tokens.issuers;
        let taken = |key, value: &str, advice: &str| {
            Err(TableError::Value { key, value: value.to_owned(), advice: advice.to_owned() })
        };
        if issuers.iter().any(|other| other.name == self.name) {
            return taken("name", &self.name, "write another name; there is an issuer of this name already");
        }
        if issuers.iter().any(|other| other.issuer == self.issuer) {
            return taken("issuer", &self.issuer, "write it once; there is a table for this issuer already");
        }
        if let Some(realm) = self.realm.as_ref().filter(|_| issuers.iter().any(|other| other.realm.is_some()))
        {
            return taken("realm", realm, "write it for one issuer only; clients are sent to one place");
        }
        config.access.has_issuers = true;
        issuers.push(IssuerOptions {
            name: self.name,
            issuer: self.issuer,
            audience: self.audience,
            keys,
            algorithms: self.algorithms,
            user_claim: self.user_claim,
            groups_claim: (!self.groups_claim.is_empty()).then_some(self.groups_claim),
            grants_access: self.access,
            realm: self.realm,
        });
        Ok(())
    }

    fn example(name: &str) -> Option<&'static str> {
        match name {
            "name" => Some("\"ci\""),
            "issuer" => Some("\"https://token.actions.example.com\""),
            "audience" => Some("\"https://registry.example.org\""),
            "jwks" => Some("\"https://token.actions.example.com/.well-known/jwks\""),
            _ => None,
        }
    }
}
