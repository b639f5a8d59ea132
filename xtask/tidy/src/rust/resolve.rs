//! Follows a path to the files that define what it names.

use std::collections::BTreeSet;

use super::{Binding, Mention, Package};

/// The item that a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    /// A module.
    Scope(usize),
    /// Something that this file defines.
    Item(usize),
}

/// Names that are being looked up, so that names that import each other come to an end.
type Seen = BTreeSet<(usize, String)>;

impl Package {
    /// The files that a mention leads to: none for what other crates define.
    pub(super) fn files_of(&self, mention: &Mention) -> Vec<usize> {
        let mut seen = Seen::new();
        let targets = self.resolve(mention.scope, &mention.path, &mut seen);
        let mut files: Vec<usize> = targets.into_iter().map(|target| self.file_of(target)).collect();
        files.sort_unstable();
        files.dedup();
        files
    }

    fn file_of(&self, target: Target) -> usize {
        match target {
            Target::Scope(scope) => self.scopes[scope].file,
            Target::Item(file) => file,
        }
    }

    fn resolve(&self, scope: usize, path: &[String], seen: &mut Seen) -> Vec<Target> {
        let Some((first, mut rest)) = path.split_first() else { return Vec::new() };
        let mut targets = match first.as_str() {
            "crate" => vec![Target::Scope(self.scopes[scope].root)],
            "self" => vec![Target::Scope(scope)],
            "super" => {
                let mut at = self.scopes[scope].parent;
                while let Some((next, further)) = rest.split_first()
                    && next == "super"
                {
                    at = at.and_then(|scope| self.scopes[scope].parent);
                    rest = further;
                }
                at.into_iter().map(Target::Scope).collect()
            }
            name => {
                let found = self.look_up(scope, name, seen);
                match &self.library {
                    Some((root, library))
                        if found.is_empty() && library == name && self.scopes[scope].root != *root =>
                    {
                        vec![Target::Scope(*root)]
                    }
                    _ => found,
                }
            }
        };
        for name in rest {
            let mut next = BTreeSet::new();
            for target in targets {
                match target {
                    Target::Item(_) => {
                        next.insert(target);
                    }
                    Target::Scope(scope) => {
                        let found = self.look_up(scope, name, seen);
                        if found.is_empty() {
                            next.insert(Target::Item(self.scopes[scope].file));
                        }
                        next.extend(found);
                    }
                }
            }
            targets = next.into_iter().collect();
        }
        targets
    }

    fn look_up(&self, scope: usize, name: &str, seen: &mut Seen) -> Vec<Target> {
        if !seen.insert((scope, name.to_owned())) {
            return Vec::new();
        }
        let mut found = BTreeSet::new();
        for binding in self.scopes[scope].names.get(name).into_iter().flatten() {
            match binding {
                Binding::Item => {
                    found.insert(Target::Item(self.scopes[scope].file));
                }
                Binding::Module(module) => {
                    found.insert(Target::Scope(*module));
                }
                Binding::Use(path) => found.extend(self.resolve(scope, path, seen)),
            }
        }
        if found.is_empty() {
            for glob in &self.scopes[scope].globs {
                for target in self.resolve(scope, glob, seen) {
                    if let Target::Scope(module) = target {
                        found.extend(self.look_up(module, name, seen));
                    }
                }
            }
        }
        seen.remove(&(scope, name.to_owned()));
        found.into_iter().collect()
    }
}
