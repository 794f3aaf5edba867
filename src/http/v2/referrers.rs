//! The manifests that refer to a subject.

use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LINK};

use crate::oci::{Digest, RepositoryName};
use crate::registry::{self, ReferrerPage};

use super::super::headers::FILTERS_APPLIED;
use super::super::percent;
use super::{Answer, Call};

const INDEX: HeaderValue = HeaderValue::from_static("application/vnd.oci.image.index.v1+json");
const ARTIFACT_TYPE: HeaderValue = HeaderValue::from_static("artifactType");
/// The parameter that leads to the next page; clients find it in `Link` only, and its value means nothing to them.
const CURSOR: &str = "after";

/// Answers with an index of the manifests whose subject is `subject`, one page of it. What nobody refers to has an empty
/// one, in repositories that don't exist too: a client that is answered 404 takes the end-point to be missing.
pub(super) async fn list_referrers(
    call: &Call<'_>,
    name: &RepositoryName,
    subject: Option<&Digest>,
) -> Answer {
    let query = call.query();
    let artifact_type = query.first("artifactType");
    let cursor = query.first(CURSOR);
    let nothing = ReferrerPage { descriptors: Vec::new(), next: None };
    let page = match (subject, &call.cached) {
        (Some(subject), Some(cached)) => {
            let (artifact_type, cursor) = (artifact_type.as_deref(), cursor.as_deref());
            let (page, outcome) = cached.referrers(subject, artifact_type, cursor).await?;
            call.note(outcome);
            page
        }
        (Some(subject), None) => {
            match call.repository(name).referrers().list(subject, artifact_type.as_deref(), cursor.as_deref())
            {
                Err(registry::Error::RepositoryUnknown) => nothing,
                page => page?,
            }
        }
        (None, _) => nothing,
    };

    let body = index(&page.descriptors);
    let len = body.len();
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, INDEX);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
    if artifact_type.is_some() {
        headers.insert(FILTERS_APPLIED.clone(), ARTIFACT_TYPE);
    }
    if let (Some(next), Some(subject)) = (page.next, subject) {
        let mut link = format!("/v2/{name}/referrers/{subject}?{CURSOR}=");
        percent::encode_into(&mut link, &next);
        if let Some(artifact_type) = &artifact_type {
            link.push_str("&artifactType=");
            percent::encode_into(&mut link, artifact_type);
        }
        headers.insert(LINK, call.app.next_link(&link));
    }
    Ok(response)
}

/// An image index of `descriptors`, each of which is JSON already.
fn index(descriptors: &[Vec<u8>]) -> Vec<u8> {
    const HEAD: &[u8] =
        br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":["#;
    let len = descriptors.iter().map(|descriptor| descriptor.len() + 1).sum::<usize>();
    let mut body = Vec::with_capacity(HEAD.len() + len + 2);
    body.extend_from_slice(HEAD);
    for (at, descriptor) in descriptors.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(descriptor);
    }
    body.extend_from_slice(b"]}");
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_valid_json_with_no_one_and_many_descriptors() {
        for count in 0..3 {
            let body = index(&vec![br#"{"size":1}"#.to_vec(); count]);
            let json: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(json["schemaVersion"], 2);
            assert_eq!(json["manifests"].as_array().map(Vec::len), Some(count));
        }
    }
}
