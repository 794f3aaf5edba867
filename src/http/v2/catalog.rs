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
    let (mut found, mut after) = (Vec::new(), page.after.clone());
    let more = loop {
        let names = call.app.registry.namespace().repositories(after.as_deref(), page.length)?;
        after = names.items.last().map(|name| name.as_str().to_owned());
        found.extend(names.items.into_iter().filter(|name| call.may_pull(name)));
        // The page ends with one that may be seen, since the next page is asked for behind it.
        if !names.more || found.len() >= page.length {
            break names.more || found.len() > page.length;
        }
    };
    found.truncate(page.length);
    let next = found.last().filter(|_| more).map(RepositoryName::as_str);
    page.answer(call, "/v2/_catalog", &RepositoryList { repositories: &found }, next)
}
