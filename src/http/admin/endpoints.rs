//! The end-points of the admin API, on one page.
//!
//! Their paths are fixed: what a request is about stands in its query or in its JSON body, so that names of any shape
//! need no escaping.

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use http::Method;
use http::header::ALLOW;

use super::call::{Answer, Call};
use super::imports::Archive;
use super::{
    PREFIX, access, access_tokens, backup, cache, collection, compact, deletions, exports, images, imports,
    inspect, listings, policies, repositories, signing_key, status, users, verify,
};
use crate::http::errors::{ApiError, ErrorCode};

/// One row of the table of end-points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The operation's name in logs and metrics.
    pub name: &'static str,
    /// The method.
    pub method: &'static str,
    /// The path behind [`PREFIX`](super::PREFIX).
    pub path: &'static str,
}

/// A row, and what answers it.
pub(super) struct Endpoint {
    pub(super) row: Row,
    pub(super) answer: fn(Call) -> BoxFuture<'static, Answer>,
}

const fn endpoint(
    name: &'static str,
    method: &'static str,
    path: &'static str,
    answer: fn(Call) -> BoxFuture<'static, Answer>,
) -> Endpoint {
    Endpoint { row: Row { name, method, path }, answer }
}

/// Every end-point.
#[rustfmt::skip]
const ENDPOINTS: &[Endpoint] = &[
    endpoint("admin_get_status", "GET",  "status", |call| status::get_status(call).boxed()),
    endpoint("admin_get_cache",  "GET",  "cache", |call| ready(cache::get_cache(&call)).boxed()),
    endpoint("admin_explain_access", "GET", "access/explain", |call| ready(access::explain(&call)).boxed()),
    endpoint("admin_rotate_key", "POST", "access/rotate-key", |call| signing_key::rotate_key(call).boxed()),
    endpoint("admin_create_backup", "POST", "backup/create", |call| backup::create_backup(call).boxed()),
    endpoint("admin_restore_backup", "POST", "backup/restore", |call| backup::restore_backup(call).boxed()),
    endpoint("admin_list_repositories", "GET", "repositories", |call| listings::list_repositories(call).boxed()),
    endpoint("admin_list_tags",         "GET", "tags",         |call| listings::list_tags(call).boxed()),
    endpoint("admin_inspect_image",     "GET", "image",        |call| inspect::inspect(call).boxed()),
    endpoint("admin_delete",            "POST", "delete",      |call| deletions::delete(call).boxed()),
    endpoint("admin_list_users",   "GET",  "users",        |call| ready(users::list_users(&call)).boxed()),
    endpoint("admin_add_user",     "POST", "users/add",    |call| users::add_user(call).boxed()),
    endpoint("admin_set_user",     "POST", "users/set",    |call| users::set_user(call).boxed()),
    endpoint("admin_remove_user",  "POST", "users/remove", |call| users::remove_user(call).boxed()),
    endpoint("admin_list_tokens",  "GET",  "tokens",        |call| ready(access_tokens::list_tokens(&call)).boxed()),
    endpoint("admin_create_token", "POST", "tokens/create", |call| access_tokens::create_token(call).boxed()),
    endpoint("admin_revoke_token", "POST", "tokens/revoke", |call| access_tokens::revoke_token(call).boxed()),
    endpoint("admin_compact",    "POST", "compact", |call| compact::compact(call).boxed()),
    endpoint("admin_verify",     "POST", "verify", |call| verify::verify(call).boxed()),
    endpoint("admin_list_policies", "GET", "policies", |call| ready(policies::list_policies(&call)).boxed()),
    endpoint("admin_run_policies", "POST", "policies/run", |call| policies::run_policies(call).boxed()),
    endpoint("admin_pull_images",       "POST", "cache/pull",          |call| images::pull_images(call).boxed()),
    endpoint("admin_import_distribution", "POST", "import/distribution", |call| imports::import_distribution(call).boxed()),
    endpoint("admin_import_oci",        "POST", "import/oci",          |call| imports::import_archive(call, Archive::Oci).boxed()),
    endpoint("admin_import_docker",     "POST", "import/docker",       |call| imports::import_archive(call, Archive::Docker).boxed()),
    endpoint("admin_import_registry",   "POST", "import/registry",     |call| imports::import_registry(call).boxed()),
    endpoint("admin_plan_export",       "POST", "export/plan",         |call| exports::plan_export(call).boxed()),
    endpoint("admin_export_archive",    "POST", "export/archive",      |call| exports::export_archive(call).boxed()),
    endpoint("admin_gc",                "POST", "gc",                  |call| collection::gc(call).boxed()),
    endpoint("admin_list_deletions",    "GET",  "deletions",           |call| ready(deletions::list_deletions(&call)).boxed()),
    endpoint("admin_undelete",          "POST", "undelete",            |call| deletions::undelete(call).boxed()),
    endpoint("admin_purge",             "POST", "purge",               |call| deletions::purge(call).boxed()),
    endpoint("admin_rename_repository", "POST", "repositories/rename", |call| repositories::rename(call).boxed()),
    endpoint("admin_delete_repository", "POST", "repositories/delete", |call| repositories::delete(call).boxed()),
    endpoint("admin_get_sizes",         "GET",  "sizes",               |call| repositories::sizes(call).boxed()),
    endpoint("admin_get_tag_history",   "GET",  "tags/history",        |call| ready(repositories::tag_history(&call)).boxed()),
    endpoint("admin_rollback_tag",      "POST", "tags/rollback",       |call| repositories::rollback(call).boxed()),
];

/// Every row of the table.
pub fn rows() -> impl Iterator<Item = Row> {
    ENDPOINTS.iter().map(|endpoint| endpoint.row)
}

/// The end-point of a method and a path, which is decoded and stands behind the prefix.
pub(super) fn find(method: &Method, path: &str) -> Result<&'static Endpoint, ApiError> {
    let here = || ENDPOINTS.iter().filter(|endpoint| endpoint.row.path == path);
    if let Some(endpoint) = here().find(|endpoint| endpoint.row.method == method.as_str()) {
        return Ok(endpoint);
    }
    let allowed: Vec<&str> = here().map(|endpoint| endpoint.row.method).collect();
    if allowed.is_empty() {
        return Err(no_endpoint());
    }
    let allowed = allowed.join(", ");
    let value = http::HeaderValue::try_from(&allowed).map_err(ApiError::failure)?;
    let message = format!("this end-point answers {allowed} only");
    Err(ApiError::new(ErrorCode::Unsupported, message).with_header(ALLOW, value))
}

/// That no end-point has the path.
pub(super) fn no_endpoint() -> ApiError {
    let message = format!(
        "no end-point of the admin API has this path; they begin with {PREFIX}. A server of another version?"
    );
    ApiError::new(ErrorCode::EndpointUnknown, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_its_own_name_and_its_own_method_and_path() {
        let all: Vec<Row> = rows().collect();
        for (at, row) in all.iter().enumerate() {
            assert!(row.name.starts_with("admin_"), "{}", row.name);
            for other in &all[at + 1..] {
                assert_ne!(row.name, other.name);
                assert_ne!((row.method, row.path), (other.method, other.path));
            }
        }
    }

    #[test]
    fn a_path_with_another_method_names_the_right_one() {
        assert!(find(&Method::GET, "status").is_ok_and(|found| found.row.name == "admin_get_status"));
        let code = |method, path| find(method, path).map(|found| found.row).map_err(|error| error.code());
        assert_eq!(code(&Method::DELETE, "status"), Err(ErrorCode::Unsupported));
        assert_eq!(code(&Method::GET, "stat"), Err(ErrorCode::EndpointUnknown));
        assert_eq!(code(&Method::GET, "status/"), Err(ErrorCode::EndpointUnknown));
    }
}
