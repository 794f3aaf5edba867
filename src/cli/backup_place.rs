//! Where a backup is, and what opens it.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;

use crate::fsio::RealDisk;
use crate::snapshots::{Backup, BackupOptions, Location, S3Options};

/// Where a backup is.
#[derive(Debug, Args)]
pub(super) struct PlaceArguments {
    /// The backup: a directory, or s3://bucket/prefix
    #[arg(value_name = "BACKUP")]
    at: Location,
    /// The URL of the store, for s3://; without it that of $`AWS_ENDPOINT_URL`, else AWS itself
    #[arg(long, value_name = "URL")]
    s3_endpoint: Option<String>,
    /// The region of the store; without it that of $`AWS_REGION`, else us-east-1
    #[arg(long, value_name = "REGION")]
    s3_region: Option<String>,
    /// A file with the keys, as AWS's own tools write it; without it those of $`AWS_ACCESS_KEY_ID` and $`AWS_SECRET_ACCESS_KEY`
    #[arg(long, value_name = "FILE")]
    s3_credentials: Option<PathBuf>,
    /// Name the bucket in the host of the URL and not in its path
    #[arg(long)]
    s3_virtual_host: bool,
}

/// What opens an encrypted backup.
#[derive(Debug, Args)]
pub(super) struct IdentityArguments {
    /// A file with an age identity that opens the backup, where it is encrypted; may be given more than once
    #[arg(long = "identity", value_name = "FILE")]
    identities: Vec<PathBuf>,
}

impl IdentityArguments {
    /// The files, for a process that may work in another directory.
    pub(super) fn absolute(&self) -> anyhow::Result<Vec<PathBuf>> {
        let paths: Result<_, _> = self.identities.iter().map(std::path::absolute).collect();
        paths.context("cannot tell where the file with the identity is")
    }
}

impl PlaceArguments {
    /// Opens what is there and isn't to be read in full.
    pub(super) fn open(&self) -> anyhow::Result<Backup> {
        self.open_by(BackupOptions::default())
    }

    /// Opens what is there.
    pub(super) fn open_with(&self, identity: &IdentityArguments) -> anyhow::Result<Backup> {
        self.open_by(BackupOptions { identities: identity.identities.clone(), ..BackupOptions::default() })
    }

    fn open_by(&self, options: BackupOptions) -> anyhow::Result<Backup> {
        let options = BackupOptions { s3: self.s3()?, ..options };
        Ok(Backup::open_at(Arc::new(RealDisk), &self.at, &options)?)
    }

    /// Where it is and how it is reached, for a process that may work in another directory.
    pub(super) fn absolute(&self) -> anyhow::Result<(Location, S3Options)> {
        let at = self.at.clone().absolute().context("cannot tell where the backup directory is")?;
        Ok((at, self.s3()?))
    }

    fn s3(&self) -> anyhow::Result<S3Options> {
        let credentials = self.s3_credentials.as_deref().map(std::path::absolute).transpose();
        Ok(S3Options {
            endpoint: self.s3_endpoint.clone(),
            region: self.s3_region.clone(),
            credentials: credentials.context("cannot tell where the file with the keys is")?,
            virtual_host: self.s3_virtual_host,
        })
    }
}
