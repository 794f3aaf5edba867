//! Users and access tokens: whether each can be read, and is told from the others.

use std::collections::HashSet;

use super::VerifyReport;
use crate::metadata::{Error, Read, access_tokens, users};
use crate::registry;

/// Checks that every account can be read, and that no two tokens have the same name or the same secret.
pub(super) fn check(tx: &impl Read, report: &mut VerifyReport) -> Result<(), registry::Error> {
    users::each(tx, |name, record| match record {
        Err(error @ Error::Damaged { .. }) => {
            report.problem(format!("the user {name}: {error}; remove them and add them again"));
            Ok(())
        }
        record => record.map(drop),
    })?;
    let (mut names, mut hashes) = (HashSet::new(), HashSet::new());
    access_tokens::each(tx, |id, record| {
        let record = match record {
            Err(error @ Error::Damaged { .. }) => {
                report.problem(format!("the access token {id}: {error}"));
                return Ok(());
            }
            record => record?,
        };
        if !hashes.insert(record.hash) {
            report.problem(format!("the access token {} has the secret of another", record.name));
        }
        if !names.insert(record.name.clone()) {
            report.problem(format!("two access tokens are called {}; revoke them", record.name));
        }
        Ok(())
    })?;
    Ok(())
}
