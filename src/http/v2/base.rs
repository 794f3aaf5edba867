//! `/v2/`: the question whether this is a registry.

use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};

use super::super::headers::APPLICATION_JSON;

/// Answers that it is one.
pub(super) fn get_base() -> Response {
    let mut response = Response::new(Body::from("{}"));
    response.headers_mut().insert(CONTENT_TYPE, APPLICATION_JSON);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("2"));
    response
}
