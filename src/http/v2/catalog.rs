//! The list of all repositories.

use serde::Serialize;

use crate::oci::RepositoryName;

use super::tags::Page;
use super::{Answer, Call};

#[derive(Serialize)]
struct RepositoryList<'a> {
    repositories: &'a [RepositoryName],
}

/// Answers with a page of repository names in lexical order, and where the next one is.
pub(super) fn list_repositories(call: &Call<'_>) -> Answer {
    let page = Page::asked(call)?;
    let names = call.app.registry.namespace().repositories(page.after.as_deref(), page.length)?;
    let next = names.items.last().filter(|_| names.more).map(RepositoryName::as_str);
    page.answer(call, "/v2/_catalog", &RepositoryList { repositories: &names.items }, next)
}
