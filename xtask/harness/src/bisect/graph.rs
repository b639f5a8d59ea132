//! The subjects of a search as a graph: the commits between two ends, with merges, or kernel builds in a row.
//! Pure: reads the text of `git rev-list`, computes ancestors.

use std::collections::BTreeMap;

use fixedbitset::FixedBitSet;
use serde::{Deserialize, Serialize};

/// One subject of a search: a commit, or a kernel build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Full id of a commit, or release of a kernel build.
    pub id: String,
    /// Subject line of a commit, or package version of a kernel build.
    pub title: String,
    /// Indices of those parents that are subjects; a commit without any comes right after the old end.
    pub parents: Vec<usize>,
}

/// All subjects: everything after the old end, up to the new one.
///
/// Invariant: parents stand before their children, and the last subject has all others among its ancestors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graph {
    subjects: Vec<Subject>,
}

/// Why a text does not describe a graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadGraph {
    /// A line that git would not write.
    #[error("git's list of commits makes no sense at `{0}`")]
    Line(String),
    /// No subject at all.
    #[error("no commit between the two ends{0}")]
    Empty(&'static str),
    /// More than one subject without children.
    #[error("`{0}` is no ancestor of the newest commit")]
    Loose(String),
}

impl Graph {
    /// A graph of subjects in a row, given oldest first.
    pub fn linear(subjects: impl IntoIterator<Item = (String, String)>) -> Result<Self, BadGraph> {
        let subjects = subjects.into_iter().enumerate().map(|(idx, (id, title))| Subject {
            id,
            title,
            parents: idx.checked_sub(1).into_iter().collect(),
        });
        Graph::new(subjects.collect())
    }

    /// Parses the output of `git rev-list --topo-order --reverse --parents --format=%s`.
    pub(crate) fn parse(text: &str) -> Result<Self, BadGraph> {
        let bad = |line: &str| BadGraph::Line(line.to_owned());
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        let mut subjects = Vec::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let mut ids = line.strip_prefix("commit ").ok_or_else(|| bad(line))?.split(' ');
            let id = ids.next().filter(|id| !id.is_empty()).ok_or_else(|| bad(line))?;
            // Parents that are not in the list are the old end, or older.
            let parents = ids.filter_map(|parent| places.get(parent).copied()).collect();
            let title = lines.next().ok_or_else(|| bad(line))?.to_owned();
            places.insert(id, subjects.len());
            subjects.push(Subject { id: id.to_owned(), title, parents });
        }
        Graph::new(subjects)
    }

    pub(crate) fn new(subjects: Vec<Subject>) -> Result<Self, BadGraph> {
        let Some(last) = subjects.len().checked_sub(1) else { return Err(BadGraph::Empty("")) };
        for (idx, subject) in subjects.iter().enumerate() {
            if subject.parents.iter().any(|&parent| parent >= idx) {
                return Err(BadGraph::Line(subject.id.clone()));
            }
        }
        let graph = Graph { subjects };
        let loose = graph.ancestors(last).zeroes().next();
        match loose {
            Some(idx) => Err(BadGraph::Loose(graph.subjects[idx].id.clone())),
            None => Ok(graph),
        }
    }

    /// Number of subjects.
    pub fn n_subjects(&self) -> usize {
        self.subjects.len()
    }

    /// Index of the last subject: the new end, or the last commit before it that touches the paths of the
    /// search.
    pub(crate) fn tip(&self) -> usize {
        self.subjects.len() - 1
    }

    /// The subject at `idx`.
    pub fn subject(&self, idx: usize) -> &Subject {
        &self.subjects[idx]
    }

    /// All subjects, parents before children.
    pub fn subjects(&self) -> &[Subject] {
        &self.subjects
    }

    /// Indices of `idx` itself and all its ancestors.
    pub(crate) fn ancestors(&self, idx: usize) -> FixedBitSet {
        let mut seen = FixedBitSet::with_capacity(self.n_subjects());
        let mut open = vec![idx];
        while let Some(idx) = open.pop() {
            if !seen.put(idx) {
                open.extend(&self.subjects[idx].parents);
            }
        }
        seen
    }

    /// Calls `see` with each subject's index and the indices of its ancestors and itself. Each set is dropped
    /// after its last child, so a long row takes no more memory than a short one.
    pub(crate) fn each(&self, mut see: impl FnMut(usize, &FixedBitSet)) {
        let mut n_children = vec![0_usize; self.n_subjects()];
        for subject in &self.subjects {
            subject.parents.iter().for_each(|&parent| n_children[parent] += 1);
        }
        let mut sets: BTreeMap<usize, FixedBitSet> = BTreeMap::new();
        for (idx, subject) in self.subjects.iter().enumerate() {
            let mut set = FixedBitSet::with_capacity(self.n_subjects());
            for &parent in &subject.parents {
                n_children[parent] -= 1;
                if n_children[parent] == 0 {
                    match sets.remove(&parent) {
                        Some(of_parent) if set.is_clear() => set = of_parent,
                        Some(of_parent) => set.union_with(&of_parent),
                        None => {}
                    }
                } else if let Some(of_parent) = sets.get(&parent) {
                    set.union_with(of_parent);
                }
            }
            set.insert(idx);
            see(idx, &set);
            if n_children[idx] > 0 {
                sets.insert(idx, set);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use proptest::prelude::*;

    /// Random graphs with merges: each subject has one or two parents among the last few; loose ends are
    /// joined by the last subject.
    pub(crate) fn graphs(max_len: usize) -> impl Strategy<Value = Graph> {
        proptest::collection::vec((0_usize..3, 0_usize..6, prop::bool::weighted(0.3)), 1..max_len).prop_map(
            |shape| {
                let mut subjects: Vec<Subject> = Vec::new();
                let mut is_parent = Vec::new();
                for (idx, (near, far, merges)) in shape.into_iter().enumerate() {
                    let back = |by: usize| idx.checked_sub(1 + by);
                    let mut parents: Vec<usize> = back(near).into_iter().collect();
                    parents.extend(back(far).filter(|parent| merges && !parents.contains(parent)));
                    for &parent in &parents {
                        is_parent[parent] = true;
                    }
                    is_parent.push(false);
                    subjects.push(Subject {
                        id: format!("{idx:040x}"),
                        title: format!("commit {idx}"),
                        parents,
                    });
                }
                let loose: Vec<usize> = (0..subjects.len()).filter(|&idx| !is_parent[idx]).collect();
                if loose.len() > 1 {
                    let idx = subjects.len();
                    subjects.push(Subject {
                        id: format!("{idx:040x}"),
                        title: "join".into(),
                        parents: loose,
                    });
                }
                Graph::new(subjects).unwrap()
            },
        )
    }

    /// A graph of `n` subjects in a row.
    pub(crate) fn row(n: usize) -> Graph {
        Graph::linear((0..n).map(|idx| (format!("{idx:040x}"), format!("commit {idx}")))).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn gits_list_is_read() {
        let text = "commit aa 00\nmd: one\ncommit bb aa\nmd: two\ncommit cc 00\n\ncommit dd bb cc\nMerge\n";
        let graph = Graph::parse(text).unwrap();
        let parents: Vec<_> = graph.subjects().iter().map(|subject| subject.parents.clone()).collect();
        assert_eq!(parents, [vec![], vec![0], vec![], vec![1, 2]]);
        assert_eq!(graph.subject(1).title, "md: two");
        assert_eq!(graph.ancestors(3).ones().collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn what_is_no_history_is_refused() {
        assert_eq!(Graph::parse(""), Err(BadGraph::Empty("")));
        assert_eq!(Graph::parse("aa bb\nx\n"), Err(BadGraph::Line("aa bb".into())));
        let loose = "commit aa 00\none\ncommit bb 00\ntwo\n";
        assert_eq!(Graph::parse(loose), Err(BadGraph::Loose("aa".into())));
    }

    proptest! {
        #[test]
        fn ancestors_are_the_same_either_way(graph in testing::graphs(40)) {
            let mut n_seen = 0;
            graph.each(|idx, set| {
                assert_eq!(*set, graph.ancestors(idx));
                n_seen += 1;
            });
            prop_assert_eq!(n_seen, graph.n_subjects());
        }
    }
}
