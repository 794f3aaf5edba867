//! Who has signed a schema 1 manifest.

use std::time::Duration;

use super::repository::Scope;
use super::{Actor, Error, events, eviction, signatures};
use crate::clock::Timestamp;
use crate::metadata::blobs;
use crate::metadata::events::{Action, EventTarget};
use crate::metadata::manifests::{self, ManifestRecord};
use crate::oci::schema1::{MergeReport, Signature, SignedManifestError};
use crate::oci::{Digest, Manifest, ManifestKind, MediaType};

/// Against what a signature was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// Against the key that it names, whoever that belongs to.
    ByKey,
    /// Also against a configured root, to which the certificates of its key lead at present.
    ByChain,
    /// Not at all: the registry only lists it.
    NotChecked,
}

impl Verified {
    /// The word for it in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verified::ByKey => "key",
            Verified::ByChain => "chain",
            Verified::NotChecked => "not checked",
        }
    }
}

/// A signature of a schema 1 manifest, verified when it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestSignature {
    /// The signature with its key and algorithm.
    pub signature: Signature,
    /// When it came.
    pub created_at: Timestamp,
    /// Who brought it.
    pub actor: String,
    /// By key or by chain.
    pub verified: Verified,
}

/// The signature service of one repository.
#[derive(Debug, Clone)]
pub struct SignatureService {
    scope: Scope,
}

impl SignatureService {
    pub(super) fn new(scope: Scope) -> SignatureService {
        SignatureService { scope }
    }

    /// The signatures of a schema 1 manifest, which may be named by any of its digests, in the order of their keys; at most
    /// a thousand, and none of any other manifest. `None` where the repository doesn't have it.
    pub fn get(&self, digest: &Digest) -> Result<Option<Vec<ManifestSignature>>, Error> {
        let stored = self.scope.read(|tx, id| {
            let Some(canonical) = blobs::canonical(tx, digest)? else { return Ok(None) };
            if !manifests::exists(tx, id, &canonical)? {
                return Ok(None);
            }
            signatures::stored(tx, id, &canonical).map(Some)
        })?;
        let inner = &self.scope.inner;
        let now = Duration::from_millis(inner.clock.now().millis());
        let describe = |stored: signatures::StoredSignature| {
            let by_chain = !inner.trust_roots.is_empty()
                && stored.signature.has_chain()
                && stored.signature.verify_chain(&inner.trust_roots, now).is_ok();
            ManifestSignature {
                verified: if by_chain { Verified::ByChain } else { Verified::ByKey },
                signature: stored.signature,
                created_at: Timestamp::from_millis(stored.record.created_at),
                actor: stored.record.actor,
            }
        };
        Ok(stored.flatten().map(|stored| stored.into_iter().map(describe).collect()))
    }

    /// Adds signatures to a schema 1 manifest that the repository has, as if it had been pushed with them: all are verified,
    /// one is kept for each key and algorithm, the newest, and refused are those that can't be served with the others. Where
    /// any is kept, events tell of a push of the manifest by this digest.
    pub async fn put(
        &self,
        digest: &Digest,
        incoming: Vec<Signature>,
        actor: &Actor,
    ) -> Result<MergeReport, Error> {
        self.scope.require_served()?;
        eviction::make_space(&self.scope.inner, 0).await?;
        let found = self.scope.read(|tx, id| {
            let Some(canonical) = blobs::canonical(tx, digest)? else { return Ok(None) };
            let record = manifests::get(tx, id, &canonical)?;
            let payload = manifests::payload_bytes(tx, &canonical)?;
            Ok(record.zip(payload).map(|(record, payload)| (canonical, record, payload)))
        })?;
        let (canonical, record, payload) = found.flatten().ok_or(Error::ManifestUnknown)?;
        require_schema1(&record)?;
        let (incoming, payload) = signatures::verifying(&self.scope.inner, move || {
            incoming.iter().try_for_each(|signature| signature.verify(&payload))?;
            Ok((incoming, payload))
        })
        .await?;
        let media_type = MediaType::DOCKER_MANIFEST_SCHEMA1_SIGNED;
        let target = self.pushed(*digest, &media_type, &payload);
        let (scope, now, actor) = (self.scope.by(actor), self.scope.inner.clock.now(), actor.clone());
        let limit = scope.inner.policy.max_manifest_bytes;
        self.scope
            .write(move |tx| {
                let id = scope.id(tx)?;
                let record = manifests::get(tx, id, &canonical)?.ok_or(Error::ManifestUnknown)?;
                // The same bytes may have been pushed as something else meanwhile.
                require_schema1(&record)?;
                let merge = signatures::merge(tx, Some(id), &canonical, &payload, &incoming, limit)?;
                if merge.report.is_unchanged() {
                    return Ok(merge.report);
                }
                if record.media_type != media_type {
                    let record = ManifestRecord { media_type: media_type.clone(), ..record };
                    manifests::insert(tx, id, &canonical, &record, &payload)?;
                }
                merge.write(tx, id, &canonical, now.millis(), actor.as_str())?;
                scope.tell(tx, id, now, Action::Push, target.clone())?;
                Ok::<_, Error>(merge.report)
            })
            .await
    }

    /// What the event is about, the same as where the manifest itself is pushed.
    fn pushed(&self, digest: Digest, media_type: &MediaType, payload: &[u8]) -> EventTarget {
        let target = events::manifest(&self.scope.name, digest, media_type, payload.len() as u64, None);
        let references = if self.scope.inner.events.options.references {
            Manifest::parse(media_type, payload).map_or_else(|_| Vec::new(), |it| events::references(&it))
        } else {
            Vec::new()
        };
        EventTarget { references, ..target }
    }
}

/// Refuses what carries no signatures of its own.
fn require_schema1(record: &ManifestRecord) -> Result<(), Error> {
    if ManifestKind::of(&record.media_type) == ManifestKind::Schema1 {
        return Ok(());
    }
    let reason = "only manifests of schema 1 carry their signatures; push others as referrers";
    Err(SignedManifestError::Invalid(reason.to_owned()).into())
}
