//! The end-points under `/v2/`: one file per noun, one function per operation.

mod base;
mod blobs;
mod catalog;
mod manifests;
mod own;
mod referrers;
mod signatures;
mod tags;
mod uploads;

use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use crate::auth::{Action, Identity};
use crate::oci::RepositoryName;
use crate::proxy::{CachedRepository, Outcome};
use crate::registry::{Actor, Force, Repository};

use super::app::App;
use super::audit::note_route;
use super::authorization::{authorize, identify, may_pull, may_read_private};
use super::cached::{describe, locate};
use super::challenge::Wanted;
use super::errors::ApiError;
use super::headers::{API_VERSION, REGISTRY_2};
use super::incoming::Incoming;
use super::observe::set_route;
use super::origin::origin;
use super::query::Query;
use super::routes::{Access, Route};
use super::token;

/// What a handler gets besides what the path names.
struct Call<'a> {
    app: &'a App,
    parts: &'a Parts,
    /// Who asks.
    identity: Identity,
    /// The upstream's repository that the request is about, if it isn't about one's own.
    cached: Option<CachedRepository>,
    /// What the cache says of the answer.
    outcome: OnceLock<Outcome>,
}

impl<'a> Call<'a> {
    fn repository(&self, name: &RepositoryName) -> Repository {
        let repository = self.app.registry.namespace().repository(name);
        if !self.app.registry.has_listeners() {
            return repository;
        }
        repository.on_behalf_of(origin(self.app, self.parts, self.actor()))
    }

    /// Notes what the cache says of the answer.
    fn note(&self, outcome: Outcome) {
        // There is one answer, and one thing to say of it.
        let _ = self.outcome.set(outcome);
    }

    fn headers(&self) -> &'a HeaderMap {
        &self.parts.headers
    }

    fn query(&self) -> Query<'a> {
        Query::of(&self.parts.uri)
    }

    /// Whoever asks, as it is recorded beside what they change.
    fn actor(&self) -> Actor {
        self.identity.actor()
    }

    /// Whether whoever asks may pull from a repository.
    fn may_pull(&self, name: &RepositoryName) -> bool {
        may_pull(self.app, &self.identity, name)
    }

    /// Whether whoever asks may read what came to a repository with the registry's own credentials.
    fn may_read_private(&self, name: &RepositoryName) -> bool {
        may_read_private(self.app, &self.identity, name)
    }

    /// Whether whoever asks may pull from a repository, and their Bearer token, if they have come with one, is for that; it is
    /// for the name that the request has for it.
    fn may_pull_as(&self, requested: &RepositoryName, name: &RepositoryName) -> bool {
        self.may_pull(name) && self.identity.is_within_restriction(Action::Pull, Some(requested))
    }

    /// Whether what is deleted goes although something live names it: `?force=true`.
    fn force(&self) -> Force {
        let asked = Query::of(&self.parts.uri).first("force");
        if asked.is_some_and(|asked| asked == "true") { Force::Yes } else { Force::No }
    }
}

type Answer = Result<Response, ApiError>;

/// Answers any request that isn't about the process itself.
pub(super) async fn dispatch(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(&app, request).await
}

/// Answers a request. What it takes apart lies in the future once, which is copied as a whole before it begins.
pub(super) fn answer(app: &App, request: Request) -> impl Future<Output = Response> + Send {
    let (parts, body) = request.into_parts();
    let mut body = Incoming::new(&parts.headers, body);
    async move {
        let mut response = match Route::parse(&parts.method, parts.uri.path()) {
            Ok(route) => {
                set_route(&parts.extensions, route.operation().row().name);
                respond(app, &parts, route, &mut body).await
            }
            Err(error) => error.into_response(),
        };
        body.discard();
        response.headers_mut().insert(API_VERSION.clone(), REGISTRY_2);
        response
    }
}

async fn respond(app: &App, parts: &Parts, mut route: Route, body: &mut Incoming) -> Response {
    let operation = route.operation();
    if operation.row().access == Access::Credentials {
        note_route(&parts.extensions, &mut route, &Query::of(&parts.uri));
        let answer = Box::pin(token::answer(app, parts, body)).await;
        return answer.unwrap_or_else(IntoResponse::into_response);
    }
    let (identity, cached) = match admit(app, parts, &mut route).await {
        Ok(admitted) => admitted,
        Err(error) => return error.into_response(),
    };
    let call = Call { app, parts, identity, cached, outcome: OnceLock::new() };
    let mut response = handle(&call, route, body).await.unwrap_or_else(IntoResponse::into_response);
    if let Some(cached) = &call.cached {
        describe(parts, &mut response, operation, cached, call.outcome.get());
    }
    response
}

/// Finds out who asks, what they ask about, and whether they may.
async fn admit(
    app: &App,
    parts: &Parts,
    route: &mut Route,
) -> Result<(Identity, Option<CachedRepository>), ApiError> {
    let requested = route.name_mut().cloned();
    let wanted = Wanted::of(route.operation(), requested.as_ref());
    let identified = identify(app, parts, wanted).await;
    let located = identified.as_ref().map(|identity| locate(app, parts, identity, wanted, route));
    // By what the name means here, where that is found out.
    note_route(&parts.extensions, route, &Query::of(&parts.uri));
    let located = located.unwrap_or(Ok(None));
    let identity = identified?;
    // Who may do nothing here isn't told what is wrong with the name, either.
    let canonical = route.name_mut().map(|name| &*name);
    authorize(app, parts, &identity, wanted, canonical)?;
    requested.iter().try_for_each(|name| app.guard.require_name(name))?;
    Ok((identity, located?))
}

/// Hands the request to its handler. The futures of those that aren't asked for all the time lie in boxes: what a small answer needs
/// shouldn't be as large as what the largest does.
async fn handle(call: &Call<'_>, route: Route, body: &mut Incoming) -> Answer {
    match route {
        Route::GetBase => Ok(base::get_base()),
        Route::GetToken | Route::CreateToken => Box::pin(token::answer(call.app, call.parts, body)).await,
        Route::ListRepositories => catalog::list_repositories(call),
        Route::GetBlob { name, digest } => match &call.cached {
            Some(cached) => Box::pin(blobs::get_cached_blob(call, cached, &name, &digest)).await,
            None => blobs::get_blob(call, &name, &digest),
        },
        Route::HeadBlob { name, digest } => match &call.cached {
            Some(cached) => Box::pin(blobs::head_cached_blob(call, cached, &digest)).await,
            None => Box::pin(blobs::head_blob(call, &name, &digest)).await,
        },
        Route::DeleteBlob { name, digest } => Box::pin(blobs::delete_blob(call, &name, &digest)).await,
        Route::CreateUpload { name } => Box::pin(uploads::create_upload(call, &name, body)).await,
        Route::GetUpload { name, id } => Box::pin(uploads::get_upload(call, &name, &id)).await,
        Route::WriteUpload { name, id } => Box::pin(uploads::write_upload(call, &name, &id, body)).await,
        Route::CommitUpload { name, id } => Box::pin(uploads::commit_upload(call, &name, &id, body)).await,
        Route::CancelUpload { name, id } => Box::pin(uploads::cancel_upload(call, &name, &id)).await,
        Route::GetManifest { name, reference } => manifests::get_manifest(call, &name, &reference).await,
        Route::HeadManifest { name, reference } => manifests::head_manifest(call, &name, &reference).await,
        Route::PutManifest { name, reference } => {
            Box::pin(manifests::put_manifest(call, &name, reference, body)).await
        }
        Route::DeleteManifest { name, reference } => {
            Box::pin(manifests::delete_manifest(call, &name, &reference)).await
        }
        Route::ListTags { name } => Box::pin(tags::list_tags(call, &name)).await,
        Route::DeleteRepository { name } => Box::pin(own::delete_repository(call, &name)).await,
        Route::SetTag { name, tag } => Box::pin(own::set_tag(call, &name, &tag, body)).await,
        Route::ListTagHistory { name, tag } => own::list_tag_history(call, &name, &tag),
        Route::ListManifests { name } => own::list_manifests(call, &name),
        Route::ListManifestTags { name, digest } => own::list_manifest_tags(call, &name, &digest),
        Route::ListSignatures { name, digest } => {
            Box::pin(signatures::list_signatures(call, &name, &digest)).await
        }
        Route::ListReferrers { name, subject } => {
            Box::pin(referrers::list_referrers(call, &name, subject.as_ref())).await
        }
    }
}

/// An answer without a body, whose headers are still to be set.
fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
