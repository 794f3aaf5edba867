//! Tags that stay what they are.

use super::{Error, NameScope, TagSelection};
use crate::oci::{Digest, RepositoryName, Tag};

/// The tags that nobody may point elsewhere or take away, once they are set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImmutableTags(Vec<ImmutableRule>);

/// Immutable tags of some repositories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImmutableRule {
    /// The repositories.
    pub repositories: NameScope,
    /// The tags.
    pub tags: TagSelection,
}

impl ImmutableTags {
    /// The tags that one of the rules is about.
    pub fn new(rules: Vec<ImmutableRule>) -> ImmutableTags {
        ImmutableTags(rules)
    }

    /// Adds the tags of one more rule.
    pub fn push(&mut self, rule: ImmutableRule) {
        self.0.push(rule);
    }

    /// The rules.
    pub fn rules(&self) -> &[ImmutableRule] {
        &self.0
    }

    /// Whether the tag is immutable in this repository.
    pub fn contains(&self, name: &RepositoryName, tag: &Tag) -> bool {
        self.0.iter().any(|rule| rule.tags.contains(tag) && rule.repositories.contains(name))
    }

    /// Refuses to let the tag go from the manifest that it points to, if any, to another one, or to none. The manifests
    /// are named by their canonical digests; pointing it where it points already is fine.
    pub fn require_mutable(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        former: Option<&Digest>,
        new: Option<&Digest>,
    ) -> Result<(), Error> {
        match former {
            Some(former) if new != Some(former) && self.contains(name, tag) => {
                Err(Error::TagImmutable { tag: tag.clone(), digest: *former })
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::DigestAlgorithm;

    fn tags(repositories: &str, patterns: &[&str], except: &[&str]) -> ImmutableTags {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let repositories = NameScope::new(vec![repositories.parse().unwrap()]);
        let tags = TagSelection { patterns: parse(patterns), except: parse(except) };
        ImmutableTags::new(vec![ImmutableRule { repositories, tags }])
    }

    #[test]
    fn a_set_tag_that_matches_neither_moves_nor_goes() {
        let immutable = tags("team/**", &["*"], &["latest"]);
        let [one, other] = [b"1", b"2"].map(|content| Digest::of(DigestAlgorithm::Sha256, content));
        let check = |name: &str, tag: &str, former: Option<&Digest>, new: Option<&Digest>| {
            immutable.require_mutable(&name.parse().unwrap(), &tag.parse().unwrap(), former, new).is_ok()
        };
        assert!(check("team/a", "v1", None, Some(&one)), "the first push");
        assert!(check("team/a", "v1", Some(&one), Some(&one)), "the same again");
        assert!(!check("team/a", "v1", Some(&one), Some(&other)), "another");
        assert!(!check("team/a", "v1", Some(&one), None), "a deletion");
        assert!(check("team/a", "latest", Some(&one), Some(&other)), "an exception");
        assert!(check("other/a", "v1", Some(&one), Some(&other)), "another repository");
        assert!(check("team/a", "v1", None, None));
    }

    #[test]
    fn signatures_can_be_added_to_immutable_images() {
        let immutable = tags("**", &["*"], &[]);
        let name = "team/a".parse().unwrap();
        let subject = Digest::of(DigestAlgorithm::Sha256, b"");
        for tag in [format!("sha256-{}.sig", subject.hex()), Tag::referrers_of(&subject).to_string()] {
            assert!(!immutable.contains(&name, &tag.parse().unwrap()), "{tag}");
        }
    }
}
