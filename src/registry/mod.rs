//! What a registry does: repositories, blobs, uploads, manifests, tags, referrers.
