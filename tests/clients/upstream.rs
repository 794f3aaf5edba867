//! Debian's `docker-registry` as the upstream of this program's own client, in each of its modes.

use std::time::Duration;

use orlop::client::registry::{Credentials, Error, Missing, Options, Upstream};
use orlop::oci::{Digest, MediaType, Reference};
use tempfile::TempDir;

use crate::Layout;
use crate::docker_registry::{DockerRegistry, PASSWORD, USER};
use crate::token_issuer::TokenIssuer;

/// The client of a registry.
fn upstream(registry: &DockerRegistry, password: Option<&str>) -> Upstream {
    let mut options = Options::new(registry.url().parse().expect("an address"));
    options.retries.first_pause = Duration::from_millis(1);
    options.credentials =
        password.map(|password| Credentials::new(USER, password).expect("sendable credentials"));
    Upstream::new(options).expect("a client can be made")
}

/// A store with `team/box:1` in it, and the image.
fn filled() -> (TempDir, Layout) {
    let layout = Layout::of("from docker-registry");
    let folder = DockerRegistry::store_with(&layout, "team/box:1");
    (folder, layout)
}

/// Pulls all of `team/box:1`, and compares every byte.
async fn pull(upstream: &Upstream, layout: &Layout) -> Result<(), Error> {
    let name = "team/box".parse().expect("a name");
    let tag: Reference = "1".parse().expect("a tag");
    let accept = [MediaType::OCI_IMAGE_MANIFEST, MediaType::OCI_IMAGE_INDEX];
    let head = upstream.head_manifest(&name, &tag, &accept).await?;
    assert_eq!(head.digest.map(|digest| digest.to_string()), Some(layout.digest()));
    let by_digest = Reference::from(head.digest.expect("it was compared"));
    let manifest = upstream.get_manifest(&name, &by_digest, &accept, 4 << 20).await?;
    assert_eq!(manifest.bytes, std::fs::read(layout.blob(&layout.digest())).expect("a blob of the layout"));
    let layer = layout.manifest()["layers"][0]["digest"].as_str().expect("a digest").to_owned();
    let bytes = std::fs::read(layout.blob(&layer)).expect("a blob of the layout");
    let layer: Digest = layer.parse().expect("a digest");
    let head = upstream.head_blob(&name, &layer).await?;
    assert_eq!((head.size, head.accepts_ranges), (bytes.len() as u64, true));
    for offset in [0, bytes.len() / 2] {
        let mut blob = upstream.get_blob(&name, &layer, offset as u64).await?;
        assert_eq!((blob.offset, blob.size), (offset as u64, Some(bytes.len() as u64)));
        let mut got = Vec::new();
        while let Some(more) = blob.next().await? {
            got.extend_from_slice(&more);
        }
        assert!(got == bytes[offset..], "the layer comes as it is");
    }
    let tags = upstream.list_tags(&name, None, 10).await?;
    assert_eq!((tags.tags.len(), tags.is_complete), (1, true));
    Ok(())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime can be made")
}

#[test]
fn an_open_docker_registry_is_pulled_from() {
    let (folder, layout) = filled();
    let registry = DockerRegistry::start_at(folder.path());
    let upstream = upstream(&registry, None);
    runtime().block_on(async {
        pull(&upstream, &layout).await.expect("all of it comes");
        let (name, tag) = ("team/box".parse().expect("a name"), "2".parse().expect("a tag"));
        let missing =
            upstream.get_manifest(&name, &tag, &[], 1 << 20).await.expect_err("there is no such tag");
        assert!(matches!(missing, Error::NotFound { what: Missing::Manifest, .. }), "{missing}");
        let other = "team/other".parse().expect("a name");
        let missing = upstream.list_tags(&other, None, 10).await.expect_err("there is no such name");
        assert!(matches!(missing, Error::NotFound { what: Missing::Repository, .. }), "{missing}");
        let subject = layout.digest().parse().expect("a digest");
        let missing =
            upstream.referrers(&name, &subject, None, None).await.expect_err("2.x has no referrers");
        assert!(matches!(missing, Error::NotFound { what: Missing::Referrers, .. }), "{missing}");
    });
}

#[test]
fn a_docker_registry_with_passwords_is_pulled_from() {
    let (folder, layout) = filled();
    let settings = DockerRegistry::with_passwords(folder.path());
    let registry = DockerRegistry::start_with(folder.path(), &settings);
    runtime().block_on(async {
        pull(&upstream(&registry, Some(PASSWORD)), &layout).await.expect("all of it comes");
        for password in [None, Some("wrong")] {
            let error = pull(&upstream(&registry, password), &layout).await.expect_err("nobody is let in");
            assert!(matches!(error, Error::Denied { .. }), "{error}");
        }
    });
}

#[test]
fn a_docker_registry_with_tokens_is_pulled_from() {
    let (folder, layout) = filled();
    let issuer = TokenIssuer::start();
    let registry = DockerRegistry::start_with(folder.path(), &issuer.settings());
    runtime().block_on(async {
        pull(&upstream(&registry, Some(PASSWORD)), &layout).await.expect("all of it comes");
        assert_eq!(issuer.asked(), 1, "one token for all of the image");
        let error =
            pull(&upstream(&registry, Some("wrong")), &layout).await.expect_err("the password is wrong");
        assert!(matches!(error, Error::Denied { .. }), "{error}");
        let error = pull(&upstream(&registry, None), &layout).await.expect_err("nobody is let in");
        assert!(matches!(error, Error::Denied { .. }), "{error}");
    });
}
