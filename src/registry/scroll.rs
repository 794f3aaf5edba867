//! Walking through a listing of any length.

use std::collections::VecDeque;

use super::{Error, Page};

/// Fetches the page behind an item.
type Fetch<T> = Box<dyn FnMut(Option<&T>) -> Result<Page<T>, Error> + Send>;

/// A cursor over a whole listing, in its order. It holds one page at a time and reads the next one when that is used up, so
/// it stays valid while others write: what is there throughout comes once, and what comes or goes meanwhile may.
///
/// After an error it ends.
pub struct Scroll<T> {
    page: VecDeque<T>,
    last: Option<T>,
    has_more: bool,
    fetch: Fetch<T>,
}

impl<T> Scroll<T> {
    pub(super) fn new(fetch: impl FnMut(Option<&T>) -> Result<Page<T>, Error> + Send + 'static) -> Scroll<T> {
        Scroll { page: VecDeque::new(), last: None, has_more: true, fetch: Box::new(fetch) }
    }
}

impl<T: Clone> Iterator for Scroll<T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Result<T, Error>> {
        if self.page.is_empty() && self.has_more {
            match (self.fetch)(self.last.as_ref()) {
                Ok(page) => {
                    self.has_more = page.more;
                    self.last = page.items.last().cloned();
                    self.page = page.items.into();
                }
                Err(error) => {
                    self.has_more = false;
                    return Some(Err(error));
                }
            }
        }
        self.page.pop_front().map(Ok)
    }
}

impl<T> std::fmt::Debug for Scroll<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scroll").field("held", &self.page.len()).finish_non_exhaustive()
    }
}
