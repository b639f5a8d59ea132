//! What a search has come to so far, as the file that it goes on from. Facts only: what to do next, and what it all
//! means, is derived from it ([`super::decide`]).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use protocol::event::Script;
use serde::{Deserialize, Serialize};
use vm_images::kernel::overlay;
use vm_images::spec::debian::DebianSpec;

use super::decide::{Finding, Observation, Place, Rules, Sums};
use super::graph::Graph;
use super::verdict::{Target, Trial};
use crate::error::usage;

/// Of the file. One of another is refused.
pub const FORMAT: u32 = 3;
/// Its name, in the search's folder.
pub(crate) const FILE: &str = "state.json";

/// A search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Version of the file's format.
    pub format: u32,
    /// The question that is searched.
    pub question: Question,
    /// What lies between the ends.
    /// What lies between the ends. Called `history` in state.json.
    #[serde(rename = "history")]
    pub graph: Graph,
    /// In the order in which they were made.
    pub trials: Vec<Recorded>,
    /// What the new end came to without its culprit, if that was tried.
    pub reverted: Option<Reverted>,
}

/// What is searched for, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Where kernels come from.
    pub source: Source,
    /// The end without the change.
    pub old: End,
    /// The end with it.
    pub new: End,
    /// How sure an answer must be, and how often is tried.
    pub rules: Rules,
    /// Only what mentions this counts.
    pub words: Option<String>,
    /// How tests are run, as words of `cargo xtask test`.
    pub settings: Vec<String>,
    /// The user's own scripts, whose copies are in the search's folder; none in a state that recorded none.
    #[serde(default)]
    pub scripts: Vec<Script>,
}

/// Where kernels come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Commits of a repository.
    Commits {
        /// Its top folder.
        tree: PathBuf,
        /// The kernel of Debian's whose md is replaced by a commit's.
        overlay: Option<DebianSpec>,
        /// Only commits that touch these count.
        paths: Vec<String>,
    },
    /// Builds that Debian has published.
    Published,
}

/// One of the two ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// As the user named it.
    pub name: String,
    /// A commit's full id, or a release.
    pub id: String,
    /// The first line of its message, or a version.
    pub title: String,
}

/// A trial that was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// The subject that was tested.
    pub place: Place,
    /// The result.
    pub trial: Trial,
    /// How long it took, with the build.
    pub(crate) seconds: f64,
}

/// What the new end came to with the culprit taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reverted {
    /// It cannot be taken back on its own.
    DoesNotApply {
        /// In a line.
        why: String,
    },
    /// It was built and tested, until it did not pass.
    Tried(Vec<Trial>),
}

impl State {
    /// Reads what [`State::write`] wrote into `dir`.
    pub fn read(dir: &Path) -> Result<State> {
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

    /// Writes it into `dir`, whole or not at all.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let failed = || format!("failed to write {FILE} in `{}`", dir.display());
        let text = serde_json::to_string_pretty(self).with_context(failed)?;
        reports::write_whole(&dir.join(FILE), &text).with_context(failed)
    }

    /// The failure that is searched for, as soon as one was seen.
    pub fn target(&self) -> Option<Target> {
        let (failing, passing) = self.question.rules.ends(&self.graph);
        let at = |place| -> Vec<&Trial> {
            let trials = self.trials.iter().filter(|recorded| recorded.place == place);
            trials.map(|recorded| &recorded.trial).collect()
        };
        Target::from_trials(self.question.words.as_deref(), &at(failing), &at(passing))
    }

    /// Says of trials what they mean, be they of this search or of what is tried after it.
    pub fn observer(&self) -> impl Fn(&Trial) -> Observation + use<> {
        let target = self.target();
        move |trial| match &target {
            Some(target) => target.observe(trial),
            None => trial.observe_unlocked(),
        }
    }

    /// What each trial means, in order.
    pub fn observations(&self) -> Vec<(Place, Observation)> {
        let observe = self.observer();
        self.trials.iter().map(|recorded| (recorded.place, observe(&recorded.trial))).collect()
    }

    /// All trials, summed up.
    pub fn sums(&self) -> Sums {
        let observations = self.observations();
        let is_signed = self.target().is_some_and(|target| target.is_signed());
        Sums::of(&self.graph, is_signed, observations.iter().map(|(place, seen)| (*place, seen)))
    }

    /// A commit's id or a release, and its title.
    pub(crate) fn named(&self, place: Place) -> (&str, &str) {
        match place {
            Place::OldEnd => (&self.question.old.id, &self.question.old.title),
            Place::Subject(idx) => {
                let subject = self.graph.subject(idx);
                (&subject.id, &subject.title)
            }
        }
    }

    /// As people write it: `0123456789ab ("md: fix it")`, or a release.
    pub fn shown(&self, place: Place) -> String {
        let (id, title) = self.named(place);
        match self.question.source {
            Source::Commits { .. } => format!("{} (\"{title}\")", short(id)),
            Source::Published => id.to_owned(),
        }
    }

    /// What subjects are called.
    pub(crate) fn noun(&self) -> &'static str {
        match self.question.source {
            Source::Commits { .. } => "commit",
            Source::Published => "kernel",
        }
    }

    /// What the two kinds of subjects are called, the old and the new one, as for `git bisect`.
    pub fn terms(&self) -> (&'static str, &'static str) {
        if self.question.rules.find_fix { ("old", "new") } else { ("good", "bad") }
    }

    /// The same terms for what fails, and for what passes.
    pub(crate) fn terms_of_outcomes(&self) -> (&'static str, &'static str) {
        let (old, new) = self.terms();
        if self.question.rules.find_fix { (old, new) } else { (new, old) }
    }

    /// How long a trial takes, seconds; nothing before there was one.
    pub(crate) fn seconds_per_trial(&self) -> Option<f64> {
        let n = u32::try_from(self.trials.len()).ok().filter(|n| *n > 0)?;
        Some(self.trials.iter().map(|recorded| recorded.seconds).sum::<f64>() / f64::from(n))
    }

    /// What `git bisect log` would say, for `git bisect replay`.
    pub fn git_log(&self, finding: Option<&Finding>) -> String {
        let Source::Commits { paths, .. } = &self.question.source else { return String::new() };
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
            let Place::Subject(idx) = recorded.place else { continue };
            if std::mem::replace(&mut said[idx], true) {
                continue;
            }
            let is_new = posterior.is_new(&self.graph, idx);
            let (id, title) = self.named(recorded.place);
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
        if let Some(&[culprit]) = finding.map(|finding| &finding.first_new[..]) {
            let (id, title) = self.named(Place::Subject(culprit));
            lines.push(format!("# first {new} commit: [{id}] {title}"));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

/// A search's limits; those that go with an overlay in words.
pub(crate) fn shown_paths(paths: &[String]) -> String {
    if paths == overlay::SOURCES { "md, its levels or dm-raid".to_owned() } else { paths.join(", ") }
}

/// The first 12 digits, as the kernel's own people write it.
pub fn short(id: &str) -> &str {
    let is_commit = id.len() >= 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_commit { &id[..12] } else { id }
}
