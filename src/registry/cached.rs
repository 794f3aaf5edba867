//! Cached repositories: the freshness of tags is not kept yet, so that every one is asked for.
use super::Error;
use crate::clock::Timestamp;
use crate::oci::Tag;
/// See the storage of cached repositories, which is about to come.
#[derive(Debug)]
pub struct CachedService;
impl CachedService {
    /// See the storage of cached repositories, which is about to come.
    pub fn checked_at(&self, _tag: &Tag) -> Result<Option<Timestamp>, Error> {
        Ok(None)
    }
    /// See the storage of cached repositories, which is about to come.
    pub async fn set_checked(&self, _tag: &Tag, _at: Timestamp) -> Result<(), Error> {
        Ok(())
    }
    /// See the storage of cached repositories, which is about to come.
    pub fn came_privately(&self) -> Result<bool, Error> {
        Ok(false)
    }
    /// See the storage of cached repositories, which is about to come.
    pub async fn set_came_privately(&self) -> Result<(), Error> {
        Ok(())
    }
}
