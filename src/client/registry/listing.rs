//! Lists of an upstream: tags and referrers, page by page.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, LINK};
use http::{HeaderMap, HeaderValue, Method};
use serde::Deserialize;

use super::exchange::{Question, Reply};
use super::{Error, Missing, Outage, Upstream};
use crate::client::Answer;
use crate::oci::{Digest, RepositoryName, Tag};

/// The media type of a list of referrers.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The longest page of a list in bytes, and the longest query of a link to the next one.
const MAX_PAGE: usize = 4 << 20;
const MAX_QUERY: usize = 8 << 10;

/// How many tags a page is asked for.
const PAGE: usize = 1000;

/// Where a list goes on: the query of the link that the upstream gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextPage(String);

/// A page of referrers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrers {
    /// The image index that lists them, verbatim.
    pub index: Bytes,
    /// Whether the upstream has left out other artifact types than the one that was asked for.
    pub is_filtered: bool,
    /// Where the list goes on.
    pub next: Option<NextPage>,
}

/// Tags of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagList {
    /// The tags in the upstream's order; what is no tag is left out.
    pub tags: Vec<Tag>,
    /// Whether there are no more after them.
    pub is_complete: bool,
}

/// A page of the repositories of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// Their names as the upstream writes them, which may be none that a repository may have here.
    pub names: Vec<String>,
    /// Where the list goes on.
    pub next: Option<NextPage>,
}

/// The body of a page of repositories.
#[derive(Debug, Deserialize)]
struct CatalogPage {
    repositories: Option<Vec<String>>,
}

/// The body of a page of tags.
#[derive(Debug, Deserialize)]
struct TagPage {
    tags: Option<Vec<String>>,
}

impl Upstream {
    /// Lists a page of what refers to a digest; the first one, or the one that another page has named as next. An upstream
    /// without the API is [`Missing::Referrers`].
    pub async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: Option<&NextPage>,
    ) -> Result<Referrers, Error> {
        let query = match (page, artifact_type) {
            (Some(page), _) => Some(page.0.clone()),
            (None, Some(kind)) => Some(format!("artifactType={}", escaped(kind))),
            (None, None) => None,
        };
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(INDEX))]);
        let rest = format!("referrers/{subject}");
        let missing = Missing::Referrers;
        let question = Question { method: Method::GET, name: Some(name), rest, query, headers, missing };
        let Reply { host, mut answer } = self.0.ask(&question).await?;
        let media_type = answer.header(CONTENT_TYPE.as_str()).unwrap_or_default();
        if media_type.split(';').next().unwrap_or_default().trim() != INDEX {
            // A page for people, of a registry that knows nothing of referrers.
            let reason = format!("it answers with {:?}", media_type.chars().take(80).collect::<String>());
            return Err(Error::NotFound { host, what: missing, reason });
        }
        let filters = answer.header("oci-filters-applied").unwrap_or_default();
        let is_filtered = filters.split(',').any(|filter| filter.trim() == "artifactType");
        let next = next_page(answer.headers());
        let index = self.page(&host, &mut answer).await?;
        Ok(Referrers { index, is_filtered, next })
    }

    /// Lists up to `n` tags after `last`, from as many pages as the upstream needs for them.
    pub async fn list_tags(
        &self,
        name: &RepositoryName,
        last: Option<&Tag>,
        n: usize,
    ) -> Result<TagList, Error> {
        let mut tags: Vec<Tag> = Vec::new();
        let after = last.map(|tag| format!("&last={tag}")).unwrap_or_default();
        let mut query = format!("n={}{after}", n.clamp(1, PAGE));
        loop {
            let question = Question {
                method: Method::GET,
                name: Some(name),
                rest: "tags/list".to_owned(),
                query: Some(query.clone()),
                headers: HeaderMap::new(),
                missing: Missing::Repository,
            };
            let Reply { host, mut answer } = self.0.ask(&question).await?;
            let next = next_page(answer.headers());
            let body = self.page(&host, &mut answer).await?;
            let page: TagPage = serde_json::from_slice(&body)
                .map_err(|_| Error::invalid(&host, "its list of tags is no list of tags"))?;
            let page = page.tags.unwrap_or_default();
            let is_empty = page.is_empty();
            tags.extend(page.iter().filter_map(|tag| tag.parse::<Tag>().ok()));
            let Some(NextPage(next)) = next else {
                let is_complete = tags.len() <= n;
                tags.truncate(n);
                return Ok(TagList { tags, is_complete });
            };
            if tags.len() >= n {
                tags.truncate(n);
                return Ok(TagList { tags, is_complete: false });
            }
            if is_empty || next == query {
                return Err(Error::invalid(&host, "its list of tags does not go on where it says so"));
            }
            query = next;
        }
    }

    /// Lists a page of the repositories; the first one, or the one that another page has named as next.
    pub async fn catalog(&self, page: Option<&NextPage>) -> Result<Catalog, Error> {
        let query = Some(page.map_or_else(|| format!("n={PAGE}"), |page| page.0.clone()));
        let question = Question {
            method: Method::GET,
            name: None,
            rest: String::new(),
            query,
            headers: HeaderMap::new(),
            missing: Missing::Catalog,
        };
        let Reply { host, mut answer } = self.0.ask(&question).await?;
        let next = next_page(answer.headers()).filter(|next| Some(next) != page);
        let body = self.page(&host, &mut answer).await?;
        let listed: CatalogPage = serde_json::from_slice(&body)
            .map_err(|_| Error::invalid(&host, "its list of repositories is no list of repositories"))?;
        let names = listed.repositories.unwrap_or_default();
        let next = next.filter(|_| !names.is_empty());
        let names =
            names.iter().filter_map(|name| self.0.address.name_below(name)).map(str::to_owned).collect();
        Ok(Catalog { names, next })
    }

    async fn page(&self, host: &str, answer: &mut Answer) -> Result<Bytes, Error> {
        let body = answer.read(MAX_PAGE, self.0.timeouts.small_answer).await;
        let body = body.map_err(|error| Error::of_client(host, &error, Outage::Interrupted))?;
        body.ok_or_else(|| Error::invalid(host, format!("a page of a list is larger than {MAX_PAGE} bytes")))
    }
}

/// Reads the query of `Link: <…>; rel="next"`. The rest of the link is not needed, and often names a host that only the
/// upstream's own proxy knows.
fn next_page(headers: &HeaderMap) -> Option<NextPage> {
    let texts = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let links = texts.flat_map(|text| text.split('<').skip(1));
    let mut next = links.filter_map(|link| {
        let (target, parameters) = link.split_once('>')?;
        let is_next = parameters.split([';', ',']).any(|parameter| {
            let parameter: String = parameter.split_whitespace().collect();
            matches!(parameter.as_str(), "rel=next" | "rel=\"next\"")
        });
        let (_, query) = target.split_once('?')?;
        (is_next && query.len() <= MAX_QUERY).then(|| NextPage(query.to_owned()))
    });
    next.next()
}

/// Escapes what a query gives a meaning to.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'/' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_read_from_any_link() {
        let next = |text| next_page(&HeaderMap::from_iter([(LINK, HeaderValue::from_static(text))]));
        for (text, query) in [
            (r#"</v2/a/tags/list?n=2&last=b>; rel="next""#, Some("n=2&last=b")),
            ("<http://inside:80/v2/a/tags/list?last=b&n=2>;rel=next", Some("last=b&n=2")),
            (r#"</a?x>; rel="prev", </a?y>; rel="next""#, Some("y")),
            (r#"</a?x>; rel="prev""#, None),
            (r#"</a>; rel="next""#, None),
            ("nonsense", None),
        ] {
            assert_eq!(next(text), query.map(|query| NextPage(query.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_filter_can_not_add_to_the_query() {
        assert_eq!(escaped("application/x+y&z=1#"), "application/x%2By%26z%3D1%23");
    }
}
