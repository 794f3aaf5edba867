//! The list of a repository's tags.

use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LINK};
use serde::Serialize;

use crate::oci::{RepositoryName, Tag};
use crate::registry;

use super::super::errors::ApiError;
use super::super::headers::APPLICATION_JSON;
use super::super::percent;
use super::{Answer, Call};

#[derive(Serialize)]
struct TagList<'a> {
    name: &'a RepositoryName,
    tags: &'a [Tag],
}

/// Answers with a page of tags in lexical order, and where the next one is.
pub(super) async fn list_tags(call: &Call<'_>, name: &RepositoryName) -> Answer {
    let page = Page::asked(call)?;
    let tags = if let Some(cached) = &call.cached {
        let (tags, outcome) = cached.tags(page.after.as_deref(), page.length).await?;
        call.note(outcome);
        tags
    } else {
        let repository = call.repository(name);
        if !repository.exists()? {
            return Err(registry::Error::RepositoryUnknown.into());
        }
        repository.tags().list(page.after.as_deref(), page.length)?
    };
    let next = tags.items.last().filter(|_| tags.more).map(Tag::as_str);
    page.answer(call, &format!("/v2/{name}/tags/list"), &TagList { name, tags: &tags.items }, next)
}

/// The part of a listing that a request asks for; also the catalog's.
pub(super) struct Page {
    /// The item before the first of the page, which need not exist.
    pub(super) after: Option<String>,
    /// The most items of the page.
    pub(super) length: usize,
}

impl Page {
    /// Reads the parameters `n` and `last`.
    pub(super) fn asked(call: &Call<'_>) -> Result<Self, ApiError> {
        let query = call.query();
        let length = query.page_length()?;
        Ok(Self { after: query.first("last").map(std::borrow::Cow::into_owned), length })
    }

    /// The answer with `list`; `next` is the last item when more follow. A page of no items leads nowhere.
    pub(super) fn answer(
        &self,
        call: &Call<'_>,
        path: &str,
        list: &impl Serialize,
        next: Option<&str>,
    ) -> Answer {
        let body = serde_json::to_vec(list).map_err(ApiError::failure)?;
        let len = body.len();
        let mut response = Response::new(Body::from(body));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, APPLICATION_JSON);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
        if let Some(last) = next {
            let mut link = format!("{path}?n={}&last=", self.length);
            percent::encode_into(&mut link, last);
            headers.insert(LINK, call.app.next_link(&link));
        }
        Ok(response)
    }
}
