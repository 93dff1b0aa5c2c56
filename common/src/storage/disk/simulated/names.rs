//! The names on a disk: as programs see them, as they are durable, and the changes in between.

use std::collections::BTreeMap;

use super::super::parent;
use crate::env::Rng;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    File(u64),
    Dir,
}

/// One change of names that waits for a sync of a folder.
#[derive(Clone, Debug)]
enum Change {
    Link(String, Entry),
    Unlink(String),
    Rename(String, String, Entry),
}

impl Change {
    fn is_in(&self, dir: &str) -> bool {
        match self {
            Self::Link(path, _) | Self::Unlink(path) => parent(path) == dir,
            Self::Rename(from, to, _) => parent(from) == dir || parent(to) == dir,
        }
    }

    fn apply(self, names: &mut BTreeMap<String, Entry>) {
        match self {
            Self::Link(path, entry) => {
                names.insert(path, entry);
            }
            Self::Unlink(path) => unlink(names, &path),
            Self::Rename(from, to, entry) => {
                names.remove(&from);
                names.insert(to, entry);
            }
        }
    }
}

/// A name, and when it is a folder, all in it.
fn unlink(names: &mut BTreeMap<String, Entry>, path: &str) {
    names.remove(path);
    let prefix = format!("{path}/");
    names.retain(|name, _| !name.starts_with(&prefix));
}

#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    now: BTreeMap<String, Entry>,
    durable: BTreeMap<String, Entry>,
    waiting: Vec<Change>,
}

impl Names {
    pub(super) fn get(&self, path: &str) -> Option<Entry> {
        self.now.get(path).copied()
    }

    pub(super) fn is_dir(&self, path: &str) -> bool {
        path.is_empty() || self.get(path) == Some(Entry::Dir)
    }

    pub(super) fn link(&mut self, path: &str, entry: Entry) {
        self.change(Change::Link(path.to_owned(), entry));
    }

    pub(super) fn unlink(&mut self, path: &str) {
        self.change(Change::Unlink(path.to_owned()));
    }

    pub(super) fn rename(&mut self, from: &str, to: &str, entry: Entry) {
        self.change(Change::Rename(from.to_owned(), to.to_owned(), entry));
    }

    fn change(&mut self, change: Change) {
        change.clone().apply(&mut self.now);
        self.waiting.push(change);
    }

    pub(super) fn list(&self, dir: &str) -> Vec<String> {
        let inside = self.now.iter().filter(|(path, _)| parent(path) == dir);
        inside
            .map(|(path, entry)| {
                let name = path.rsplit('/').next().unwrap_or_default();
                if *entry == Entry::Dir { format!("{name}/") } else { name.to_owned() }
            })
            .collect()
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.now.iter().filter_map(|(path, entry)| match entry {
            Entry::File(id) => Some((path.as_str(), *id)),
            Entry::Dir => None,
        })
    }

    pub(super) fn sync(&mut self, dir: &str) {
        let (now, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|change| change.is_in(dir));
        self.waiting = later;
        for change in now {
            change.apply(&mut self.durable);
        }
    }

    /// A sync that failed: the changes are seen, and will never be durable.
    pub(super) fn fail(&mut self, dir: &str) {
        self.waiting.retain(|change| !change.is_in(dir));
    }

    /// The machine loses its power: each change that waits for a sync is kept or lost.
    pub(super) fn lose_power(&mut self, rng: &dyn Rng) {
        for change in std::mem::take(&mut self.waiting) {
            if rng.below(2) == 0 {
                change.apply(&mut self.durable);
            }
        }
        self.forget();
    }

    /// What is durable, as names of another disk.
    pub(super) fn durable_copy(&self) -> Self {
        let mut copy = Self { durable: self.durable.clone(), ..Self::default() };
        copy.forget();
        copy
    }

    /// Shows what is durable only. What is in a folder whose own name is lost is lost with it.
    fn forget(&mut self) {
        let all = std::mem::take(&mut self.durable);
        for (path, entry) in all {
            let above = parent(&path);
            // Sorted order has a folder before what is in it.
            if above.is_empty() || self.durable.get(above) == Some(&Entry::Dir) {
                self.durable.insert(path, entry);
            }
        }
        self.waiting.clear();
        self.now.clone_from(&self.durable);
    }
}
