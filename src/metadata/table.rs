//! The tables: one closed list, which creation, copy, verification and statistics share.

use redb::TableDefinition;

/// A table. Every key and every value is a string of bytes, so that copies and checks need no types; `docs/storage-format.md`
/// has the form of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Table {
    /// Schema number, identity of the store, next identifiers.
    Meta,
    /// Repository name → identifier.
    RepositoriesByName,
    /// Repository identifier → name, creation.
    RepositoriesById,
    /// Canonical digest → size, creation: what the blob directory holds.
    Blobs,
    /// Digest of another algorithm → canonical digest.
    DigestAliases,
    /// Canonical digest, digest of another algorithm → nothing.
    AliasesByDigest,
    /// Repository, canonical digest → media type, creation, actor: who may read the blob where.
    BlobLinks,
    /// Canonical digest, repository → nothing.
    LinksByBlob,
    /// Repository, canonical digest → the revision index.
    Manifests,
    /// Canonical digest, repository → nothing.
    RepositoriesByManifest,
    /// Canonical digest → the manifest's bytes, verbatim.
    ManifestPayloads,
    /// Repository, digest of the child, canonical digest of the parent → role.
    ReferencesByChild,
    /// Repository, tag → the manifest that it points to.
    Tags,
    /// Repository, canonical digest, tag → nothing.
    TagsByManifest,
    /// Repository, tag, number → every manifest that it has pointed to.
    TagHistory,
    /// Repository, digest of the subject, canonical digest of the referrer → descriptor.
    ReferrersBySubject,
    /// Upload → its repository, durable length and hash states.
    Uploads,
    /// Repository, manifest's canonical digest, key id, algorithm → signature.
    Signatures,
    /// Number → event: one log for all endpoints.
    Events,
    /// Endpoint → the last event that it has taken.
    EventCursors,
    /// Due time, kind, repository, digest → nothing: what nothing names any more.
    Candidates,
    /// Repository, canonical digest → since when nothing names the manifest.
    Untagged,
    /// Deletion → what was deleted, and until when it can come back.
    Deletions,
    /// Time, deletion → nothing.
    DeletionsByExpiry,
    /// Repository, deletion → nothing.
    DeletionsByRepository,
    /// Name, deletion of the repository that had it → nothing.
    DeletedNames,
    /// Repository, or 0 for the store → counters.
    RepositorySizes,
    /// Repository, canonical digest, tag or nothing → last pull, number of pulls.
    Usage,
    /// Name that a repository had before it was renamed → the repository, when.
    FormerNames,
    /// Repository, canonical digest, tag that has pointed to it → nothing.
    HeldByHistory,
    /// Canonical digest → the blob whose bytes are in quarantine.
    Damaged,
    /// Cached repository, tag → when its upstream was asked last.
    Freshness,
    /// Canonical digest → the upload that a fetch from an upstream writes to.
    Fetches,
    /// Name → the user's password, as a hash, and groups.
    Users,
    /// Access token → its name, the hash of its secret, and what it is for.
    AccessTokens,
}

impl Table {
    /// Every table.
    pub const ALL: [Table; 35] = [
        Table::Meta,
        Table::RepositoriesByName,
        Table::RepositoriesById,
        Table::Blobs,
        Table::DigestAliases,
        Table::AliasesByDigest,
        Table::BlobLinks,
        Table::LinksByBlob,
        Table::Manifests,
        Table::RepositoriesByManifest,
        Table::ManifestPayloads,
        Table::ReferencesByChild,
        Table::Tags,
        Table::TagsByManifest,
        Table::TagHistory,
        Table::ReferrersBySubject,
        Table::Uploads,
        Table::Signatures,
        Table::Events,
        Table::EventCursors,
        Table::Candidates,
        Table::Untagged,
        Table::Deletions,
        Table::DeletionsByExpiry,
        Table::DeletionsByRepository,
        Table::DeletedNames,
        Table::RepositorySizes,
        Table::Usage,
        Table::FormerNames,
        Table::HeldByHistory,
        Table::Damaged,
        Table::Freshness,
        Table::Fetches,
        Table::Users,
        Table::AccessTokens,
    ];

    /// The table's name in the database file.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::RepositoriesByName => "repositories_by_name",
            Table::RepositoriesById => "repositories_by_id",
            Table::Blobs => "blobs",
            Table::DigestAliases => "digest_aliases",
            Table::AliasesByDigest => "aliases_by_digest",
            Table::BlobLinks => "blob_links",
            Table::LinksByBlob => "links_by_blob",
            Table::Manifests => "manifests",
            Table::RepositoriesByManifest => "repositories_by_manifest",
            Table::ManifestPayloads => "manifest_payloads",
            Table::ReferencesByChild => "references_by_child",
            Table::Tags => "tags",
            Table::TagsByManifest => "tags_by_manifest",
            Table::TagHistory => "tag_history",
            Table::ReferrersBySubject => "referrers_by_subject",
            Table::Uploads => "uploads",
            Table::Signatures => "signatures",
            Table::Events => "events",
            Table::EventCursors => "event_cursors",
            Table::Candidates => "candidates",
            Table::Untagged => "untagged",
            Table::Deletions => "deletions",
            Table::DeletionsByExpiry => "deletions_by_expiry",
            Table::DeletionsByRepository => "deletions_by_repository",
            Table::DeletedNames => "deleted_names",
            Table::RepositorySizes => "repository_sizes",
            Table::Usage => "usage",
            Table::FormerNames => "former_names",
            Table::HeldByHistory => "held_by_history",
            Table::Damaged => "damaged",
            Table::Freshness => "freshness",
            Table::Fetches => "fetches",
            Table::Users => "users",
            Table::AccessTokens => "access_tokens",
        }
    }

    /// How redb knows the table.
    pub(super) const fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(self.name())
    }
}
