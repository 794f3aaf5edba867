//! The repositories of a tree, whose names nest.

use super::tree::{Directories, Tree};
use crate::oci::RepositoryName;
use crate::registry::NamePattern;
use crate::transfer::Skipped;

/// Every repository whose name one of some patterns matches, and what can't be one; all of them where there is no pattern.
pub(super) struct Repositories<'t> {
    tree: &'t Tree,
    patterns: &'t [NamePattern],
    /// The directories on the way to where the walk is, by their names below `repositories`.
    way: Vec<(String, Directories<'t>)>,
}

impl<'t> Repositories<'t> {
    pub(super) fn of(tree: &'t Tree, patterns: &'t [NamePattern]) -> Repositories<'t> {
        Repositories { tree, patterns, way: vec![(String::new(), tree.directories("repositories"))] }
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.patterns.is_empty() || self.patterns.iter().any(|pattern| pattern.matches(name))
    }

    /// Whether a directory is a repository; one with uploads only has nothing yet.
    fn is_repository(&self, below: &str) -> Result<bool, Skipped> {
        let has = |part: &str| self.tree.has_directory(&format!("{below}/{part}"));
        Ok(has("_manifests")? || has("_layers")?)
    }
}

impl Iterator for Repositories<'_> {
    type Item = Result<RepositoryName, Skipped>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (parent, directories) = self.way.last_mut()?;
            let Some(entry) = directories.next() else {
                self.way.pop();
                continue;
            };
            let component = match entry {
                Ok(component) => component,
                // Also of what is not wanted: nobody can say what is behind it.
                Err(skipped) => return Some(Err(skipped)),
            };
            if component.starts_with('_') {
                // What belongs to the repository that the directory is.
                continue;
            }
            let name = if parent.is_empty() { component } else { format!("{parent}/{component}") };
            let below = format!("repositories/{name}");
            let Ok(parsed) = name.parse::<RepositoryName>() else {
                if self.is_wanted(&name) {
                    let reason = "its name is not one that a repository may have; nothing in it is taken";
                    return Some(Err(self.tree.skip(&below, reason)));
                }
                continue;
            };
            self.way.push((name, self.tree.directories(&below)));
            if !self.is_wanted(parsed.as_str()) {
                continue;
            }
            match self.is_repository(&below) {
                Ok(true) => return Some(Ok(parsed)),
                Ok(false) => {}
                Err(skipped) => return Some(Err(skipped)),
            }
        }
    }
}
