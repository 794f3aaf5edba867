//! The content of a disk at one moment.

use super::operation::{Inode, Operation, Place, ROOT};
use std::collections::{BTreeMap, BTreeSet};

/// All files and directories; those without a name too, since an open file outlives its name.
#[derive(Debug, Clone)]
pub(super) struct Image {
    nodes: BTreeMap<Inode, Node>,
}

/// A file or a directory.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// A file's bytes.
    File(Vec<u8>),
    /// A directory's entries.
    Dir(BTreeMap<String, Inode>),
}

impl Image {
    /// A disk with nothing but its root directory.
    pub(super) fn empty() -> Image {
        Image { nodes: BTreeMap::from([(ROOT, Node::Dir(BTreeMap::new()))]) }
    }

    /// The node, if there is one.
    pub(super) fn node(&self, inode: Inode) -> Option<&Node> {
        self.nodes.get(&inode)
    }

    /// What a name stands for.
    pub(super) fn lookup(&self, place: &Place) -> Option<Inode> {
        self.entries(place.dir)?.get(&place.name).copied()
    }

    /// The entries of a directory; `None` if it isn't one.
    pub(super) fn entries(&self, dir: Inode) -> Option<&BTreeMap<String, Inode>> {
        match self.nodes.get(&dir) {
            Some(Node::Dir(entries)) => Some(entries),
            Some(Node::File(_)) | None => None,
        }
    }

    /// The bytes of a file; `None` if it isn't one.
    pub(super) fn bytes(&self, file: Inode) -> Option<&Vec<u8>> {
        match self.nodes.get(&file) {
            Some(Node::File(bytes)) => Some(bytes),
            Some(Node::Dir(_)) | None => None,
        }
    }

    /// The first inode number that has never been used.
    pub(super) fn next_inode(&self) -> Inode {
        self.nodes.last_key_value().map_or(ROOT, |(last, _)| *last) + 1
    }

    /// The bytes of all files that have a name.
    pub(super) fn used_bytes(&self) -> u64 {
        let mut named: Vec<Inode> = Vec::new();
        for node in self.nodes.values() {
            if let Node::Dir(entries) = node {
                named.extend(entries.values());
            }
        }
        named.sort_unstable();
        named.dedup();
        named.iter().filter_map(|inode| self.bytes(*inode)).map(|bytes| bytes.len() as u64).sum()
    }

    /// The blocks of all files, each with its file.
    pub(super) fn allocated_blocks(&self, block_len: u64) -> BTreeSet<(Inode, u64)> {
        let files = self.nodes.keys().filter_map(|inode| Some((*inode, self.bytes(*inode)?.len() as u64)));
        files.flat_map(|(inode, len)| (0..len.div_ceil(block_len)).map(move |block| (inode, block))).collect()
    }

    /// Does what the operation does.
    pub(super) fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::MakeDir { place, made } | Operation::Create { place, made } => {
                self.make_node(operation);
                self.link(place, *made);
            }
            Operation::Rename { from, to, moved } => {
                self.link(to, *moved);
                self.unlink(from, *moved);
            }
            Operation::Remove { place, removed } => self.unlink(place, *removed),
            Operation::Write { file, offset, bytes } => self.write(*file, *offset, bytes),
            Operation::SetLen { file, len } => self.set_len(*file, *len),
            Operation::SyncFile { .. }
            | Operation::SyncDir { .. }
            | Operation::FailedSync { .. }
            | Operation::Failed => {}
        }
    }

    /// Makes the node of a new file or directory without its name.
    pub(super) fn make_node(&mut self, operation: &Operation) {
        match operation {
            Operation::MakeDir { made, .. } => {
                self.nodes.entry(*made).or_insert_with(|| Node::Dir(BTreeMap::new()));
            }
            Operation::Create { made, .. } => {
                self.nodes.entry(*made).or_insert_with(|| Node::File(Vec::new()));
            }
            Operation::Rename { .. }
            | Operation::Remove { .. }
            | Operation::Write { .. }
            | Operation::SetLen { .. }
            | Operation::SyncFile { .. }
            | Operation::SyncDir { .. }
            | Operation::FailedSync { .. }
            | Operation::Failed => {}
        }
    }

    /// Lets a name stand for a node.
    pub(super) fn link(&mut self, place: &Place, inode: Inode) {
        if let Some(Node::Dir(entries)) = self.nodes.get_mut(&place.dir) {
            entries.insert(place.name.clone(), inode);
        }
    }

    /// Takes a name away, provided that it stands for this node.
    pub(super) fn unlink(&mut self, place: &Place, inode: Inode) {
        if let Some(Node::Dir(entries)) = self.nodes.get_mut(&place.dir)
            && entries.get(&place.name) == Some(&inode)
        {
            entries.remove(&place.name);
        }
    }

    /// Writes into a file.
    pub(super) fn write(&mut self, file: Inode, offset: u64, bytes: &[u8]) {
        if let Some(Node::File(content)) = self.nodes.get_mut(&file) {
            let start = to_index(offset);
            let end = start + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[start..end].copy_from_slice(bytes);
        }
    }

    /// Cuts a file off or extends it with zeros.
    pub(super) fn set_len(&mut self, file: Inode, len: u64) {
        if let Some(Node::File(content)) = self.nodes.get_mut(&file) {
            content.resize(to_index(len), 0);
        }
    }
}

/// An offset in a file that is held in memory.
pub(super) fn to_index(offset: u64) -> usize {
    usize::try_from(offset).expect("a simulated file fits into memory")
}
