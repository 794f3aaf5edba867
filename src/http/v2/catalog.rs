//! The list of all repositories.

use serde::Serialize;

use crate::oci::RepositoryName;

use super::tags::Page;
use super::{Answer, Call};

#[derive(Serialize)]
struct RepositoryList<'a> {
    repositories: &'a [RepositoryName],
}

/// Answers with a page of the names of repositories that whoever asks may pull from, in lexical order, and where the next one
/// is.
pub(super) fn list_repositories(call: &Call<'_>) -> Answer {
    let page = Page::asked(call)?;
    let is_shown = |name: &RepositoryName, is_private: bool| {
        call.may_pull(name) && (!is_private || call.may_read_private(name))
    };
    let namespace = call.app.registry.namespace();
    let names = namespace.repositories_for(page.after.as_deref(), page.length, is_shown)?;
    let next = names.items.last().filter(|_| names.more).map(RepositoryName::as_str);
    page.answer(call, "/v2/_catalog", &RepositoryList { repositories: &names.items }, next)
}
