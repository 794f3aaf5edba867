//! The limit of open files.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the number of files that the process may have open as far as the system lets it, and returns the new
/// number, or none where there is no limit.
///
/// The usual 1024 is less than the default number of connections needs, since every pull holds a file too.
pub fn raise_descriptor_limit() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    if limit.current != before && setrlimit(Resource::Nofile, limit).is_err() {
        return before;
    }
    limit.current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_highest_that_is_allowed() {
        let raised = raise_descriptor_limit();
        assert_eq!(raised, getrlimit(Resource::Nofile).maximum);
        assert_eq!(raised, raise_descriptor_limit());
    }
}
