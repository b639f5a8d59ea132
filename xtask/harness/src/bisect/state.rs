//! A search so far, as the file from which it continues. Only facts are kept: the next step and the meaning
//! of trials are derived from them ([`super::decide`]).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use protocol::event::Script;
use serde::{Deserialize, Serialize};
use vm_images::kernel::overlay;
use vm_images::spec::debian::DebianSpec;

use super::decide::{Conclusion, Observation, Position, SearchRules, Sums};
use super::graph::Graph;
use super::observe::Trial;
use super::target::Target;
use crate::error::usage;

/// Version of the state file's format. A file of another version is refused.
pub const FORMAT: u32 = 3;
/// Name of the state file in the search's folder.
pub(crate) const FILE: &str = "state.json";

/// A search: its question, its graph and its trials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchState {
    /// Version of the file's format.
    pub format: u32,
    /// The question of the search.
    pub question: Question,
    /// The subjects between the ends. Called `history` in state.json.
    #[serde(rename = "history")]
    pub graph: Graph,
    /// All trials, in the order in which they were made.
    pub trials: Vec<RecordedTrial>,
    /// Result of testing the new end with the culprit reverted, if that was tried.
    pub reverted: Option<Reverted>,
}

/// The question of a search: ends, kernels, tests, and the user's choices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Where the kernels come from.
    pub source: KernelSource,
    /// The old end.
    pub old: SearchEnd,
    /// The new end.
    pub new: SearchEnd,
    /// Required confidence, number of repeats, direction.
    pub rules: SearchRules,
    /// If given, only failures count that mention these words.
    pub words: Option<String>,
    /// Arguments of `cargo xtask test` with which each trial is run.
    pub settings: Vec<String>,
    /// The user's own scripts, whose copies are in the search's folder. Empty in states written before
    /// scripts were recorded.
    #[serde(default)]
    pub scripts: Vec<Script>,
}

/// Where the kernels of a search come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelSource {
    /// Commits of a git repository.
    Commits {
        /// Top folder of the repository.
        tree: PathBuf,
        /// Spec of the Debian kernel whose md is replaced by each commit's; `None` builds whole kernels.
        overlay: Option<DebianSpec>,
        /// Only commits that touch these paths are subjects; empty for all.
        paths: Vec<String>,
    },
    /// Kernel builds that Debian has published.
    Published,
}

/// One of the two ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchEnd {
    /// Revision or version as the user wrote it.
    pub name: String,
    /// Full id of the commit, or release of the kernel.
    pub id: String,
    /// Subject line of the commit, or package version.
    pub title: String,
}

/// A trial that was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedTrial {
    /// Position that was tested. Called `place` in state.json.
    #[serde(rename = "place")]
    pub position: Position,
    /// Results of its tests.
    pub trial: Trial,
    /// Duration including the build, seconds.
    pub(crate) seconds: f64,
}

/// Result of testing the new end with the culprit reverted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reverted {
    /// The culprit cannot be reverted on its own.
    DoesNotApply {
        /// Reason in one line.
        why: String,
    },
    /// The reverted kernel was tested, until a trial did not pass.
    Tried(Vec<Trial>),
}

impl SearchState {
    /// Reads the state file in `dir`.
    pub fn read(dir: &Path) -> Result<SearchState> {
        let path = dir.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(usage(anyhow::anyhow!(
                    "`{}` is no folder of a bisection: it has no {FILE}",
                    dir.display()
                )));
            }
            Err(error) => return Err(error).with_context(|| format!("failed to read `{}`", path.display())),
        };
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let damaged = || format!("`{}` is damaged; begin anew without --resume", path.display());
        let head: Head = serde_json::from_slice(&text).with_context(damaged)?;
        ensure!(
            head.format == FORMAT,
            "`{}` is of format {}, and this md-regress writes format {FORMAT}: go on with the one that began it",
            path.display(),
            head.format
        );
        serde_json::from_slice(&text).with_context(damaged)
    }

    /// Writes the state file into `dir`, atomically.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let failed = || format!("failed to write {FILE} in `{}`", dir.display());
        let text = serde_json::to_string_pretty(self).with_context(failed)?;
        reports::write_whole(&dir.join(FILE), &text).with_context(failed)
    }

    /// The failure that is searched for, once a trial has shown one.
    pub fn target(&self) -> Option<Target> {
        let (failing, passing) = self.question.rules.ends(&self.graph);
        let at = |position| -> Vec<&Trial> {
            let trials = self.trials.iter().filter(|recorded| recorded.position == position);
            trials.map(|recorded| &recorded.trial).collect()
        };
        Target::from_trials(self.question.words.as_deref(), &at(failing), &at(passing))
    }

    /// A function that gives a trial's meaning, for trials of this search and for those made after it.
    pub fn observer(&self) -> impl Fn(&Trial) -> Observation + use<> {
        let target = self.target();
        move |trial| match &target {
            Some(target) => target.observe(trial),
            None => Target::Anything.observe(trial),
        }
    }

    /// The meaning of each trial, in order.
    pub fn observations(&self) -> Vec<(Position, Observation)> {
        let observe = self.observer();
        self.trials.iter().map(|recorded| (recorded.position, observe(&recorded.trial))).collect()
    }

    /// All trials, summed up.
    pub fn sums(&self) -> Sums {
        let observations = self.observations();
        let is_signed = self.target().is_some_and(|target| target.is_signed());
        Sums::of(&self.graph, is_signed, observations.iter().map(|(position, seen)| (*position, seen)))
    }

    /// Id and title of a commit, or release and version of a kernel.
    pub(crate) fn named(&self, position: Position) -> (&str, &str) {
        match position {
            Position::OldEnd => (&self.question.old.id, &self.question.old.title),
            Position::Subject(idx) => {
                let subject = self.graph.subject(idx);
                (&subject.id, &subject.title)
            }
        }
    }

    /// A position as people write it: `0123456789ab ("md: fix it")`, or a release.
    pub fn shown(&self, position: Position) -> String {
        let (id, title) = self.named(position);
        match self.question.source {
            KernelSource::Commits { .. } => format!("{} (\"{title}\")", short(id)),
            KernelSource::Published => id.to_owned(),
        }
    }

    /// The word for a subject: `commit` or `kernel`.
    pub(crate) fn noun(&self) -> &'static str {
        match self.question.source {
            KernelSource::Commits { .. } => "commit",
            KernelSource::Published => "kernel",
        }
    }

    /// The terms for subjects like the old end and like the new one, as in `git bisect`.
    pub fn terms(&self) -> (&'static str, &'static str) {
        if self.question.rules.find_fix { ("old", "new") } else { ("good", "bad") }
    }

    /// The terms for subjects that fail, and for those that pass.
    pub(crate) fn terms_of_outcomes(&self) -> (&'static str, &'static str) {
        let (old, new) = self.terms();
        if self.question.rules.find_fix { (old, new) } else { (new, old) }
    }

    /// Average duration of a trial, seconds; `None` before the first.
    pub(crate) fn seconds_per_trial(&self) -> Option<f64> {
        let n = u32::try_from(self.trials.len()).ok().filter(|n| *n > 0)?;
        Some(self.trials.iter().map(|recorded| recorded.seconds).sum::<f64>() / f64::from(n))
    }

    /// The search in the format of `git bisect log`, for `git bisect replay`.
    pub fn git_log(&self, conclusion: Option<&Conclusion>) -> String {
        let KernelSource::Commits { paths, .. } = &self.question.source else { return String::new() };
        let paths: String = paths.iter().map(|path| format!(" '{}'", path.replace('\'', r"'\''"))).collect();
        let paths = if paths.is_empty() { paths } else { format!(" '--'{paths}") };
        let mut lines = vec![format!("git bisect start{paths}")];
        let mut say = |term: &str, id: &str, title: &str| {
            lines.push(format!("# {term}: [{id}] {title}"));
            lines.push(format!("git bisect {term} {id}"));
        };
        let (old, new) = self.terms();
        say(new, &self.question.new.id, &self.question.new.title);
        say(old, &self.question.old.id, &self.question.old.title);
        let sums = self.sums();
        let posterior = sums.posterior(&self.graph, self.question.rules);
        let mut said = vec![false; self.graph.n_subjects()];
        said[self.graph.tip()] = self.graph.subject(self.graph.tip()).id == self.question.new.id;
        for recorded in &self.trials {
            let Position::Subject(idx) = recorded.position else { continue };
            if std::mem::replace(&mut said[idx], true) {
                continue;
            }
            let is_new = posterior.is_new(&self.graph, idx);
            let (id, title) = self.named(recorded.position);
            let doubt = 1.0 - self.question.rules.confidence;
            let counts = sums.counts[idx];
            let trusted = counts.failed == 0 || counts.passed == 0;
            if counts.n() == 0 {
                say("skip", id, title);
            } else if is_new >= 1.0 - doubt || trusted && is_new > 0.5 {
                say(new, id, title);
            } else if is_new <= doubt || trusted && is_new < 0.5 {
                say(old, id, title);
            }
        }
        if let Some(&[culprit]) = conclusion.map(|conclusion| &conclusion.first_new[..]) {
            let (id, title) = self.named(Position::Subject(culprit));
            lines.push(format!("# first {new} commit: [{id}] {title}"));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

/// The paths that limit a search, in words where they are an overlay's.
pub(crate) fn shown_paths(paths: &[String]) -> String {
    if paths == overlay::SOURCES { "md, its levels or dm-raid".to_owned() } else { paths.join(", ") }
}

/// The first 12 digits of a commit id, as kernel developers write it.
pub fn short(id: &str) -> &str {
    let is_commit = id.len() >= 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_commit { &id[..12] } else { id }
}
