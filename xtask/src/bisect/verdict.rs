//! What a trial means for a search: only what fails as the failing end did counts. Pure.
//!
//! The host's and the harness's errors never come here: they end a search, which can be resumed, and say nothing of a
//! commit.

use protocol::Outcome;
use reports::signature::Signature;
use reports::{Judged, RunRecord, Verdict};
use serde::{Deserialize, Serialize};

use super::decide::Observation;

/// What came of testing one kernel: facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "came", rename_all = "kebab-case")]
pub(crate) enum Trial {
    /// There is no such kernel, by its source's doing.
    Unbuildable {
        /// In the compiler's words.
        error: String,
    },
    /// Tests ran.
    Ran {
        /// Folder of the run.
        run: String,
        /// Each test's, in the order of the plan.
        seen: Vec<Sighting>,
    },
}

/// What one test came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sighting {
    pub(crate) test: String,
    /// Folder of its logs, within the run's.
    pub(crate) dir: String,
    /// The command that tries it again.
    pub(crate) reproduce: Option<String>,
    pub(crate) came: Came,
}

/// What a test came to, as far as a search cares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "kebab-case")]
pub(crate) enum Came {
    /// It passed.
    Passed,
    /// It passed, and the kernel or the test complained of something: that is a pass, unless it is searched for.
    Complained(Wrong),
    /// It could not run on this kernel.
    Skipped { reason: String },
    /// The kernel never came so far as to run it.
    NoBoot { title: String },
    /// It went wrong.
    Wrong(Wrong),
}

impl Came {
    /// What went wrong, or was complained of.
    pub(crate) fn wrong(&self) -> Option<&Wrong> {
        match self {
            Came::Wrong(wrong) | Came::Complained(wrong) => Some(wrong),
            Came::Passed | Came::Skipped { .. } | Came::NoBoot { .. } => None,
        }
    }
}

/// How a test went wrong, or what it complained of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wrong {
    pub(crate) class: Class,
    /// In a line.
    pub(crate) detail: String,
    /// A line for each task, or the kernel's report; may be empty.
    pub(crate) signature: Vec<String>,
    /// Known issues that it looks like.
    pub(crate) known_issues: Vec<String>,
    /// What it printed last.
    pub(crate) last_lines: Vec<String>,
}

/// In which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Class {
    Hang,
    Crash,
    Corruption,
    Failure,
    Timeout,
    Complaint,
}

impl Class {
    /// `hung`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Class::Hang => "hung",
            Class::Crash => "crashed",
            Class::Corruption => "corrupted",
            Class::Failure => "failed",
            Class::Timeout => "timed out",
            Class::Complaint => "passed, with complaints",
        }
    }
}

impl Wrong {
    /// In a line, with what names it.
    pub(crate) fn in_short(&self) -> String {
        match self.signature.first() {
            Some(signature) => format!("{} ({signature})", self.class.word()),
            None if self.detail.is_empty() => self.class.word().to_owned(),
            None => format!("{} ({})", self.class.word(), self.detail),
        }
    }

    /// True if what names it holds these words.
    fn is_named_by(&self, words: &str) -> bool {
        self.signature.iter().chain(&self.known_issues).any(|text| text.contains(words))
    }

    fn mentions(&self, words: &str) -> bool {
        let texts = [&self.signature, &self.known_issues, &self.last_lines].into_iter().flatten();
        texts.chain([&self.detail]).any(|text| text.contains(words))
    }
}

impl Sighting {
    /// What an attempt came to; an error if that says nothing of the kernel.
    pub(crate) fn of(record: &RunRecord, judged: &Judged) -> Result<Sighting, NothingKnown> {
        let test = judged.test.to_string();
        let Some(attempt) = judged.attempt.and_then(|number| record.attempt(number)) else {
            let came = Came::Skipped { reason: judged.detail.clone() };
            return Ok(Sighting { test, dir: String::new(), reproduce: None, came });
        };
        let dir = attempt.dir.clone();
        let reproduce = reports::reproduce::command(record, attempt);
        let (outcome, facts) = attempt.finished().ok_or(NothingKnown::Interrupted)?;
        let what = |class| Wrong {
            class,
            detail: match class {
                Class::Complaint => judged.detail.clone(),
                _ => outcome.detail(),
            },
            signature: judged.signature.as_ref().map(Signature::lines).unwrap_or_default(),
            known_issues: judged.known_issues.iter().map(|known| known.about.id.clone()).collect(),
            last_lines: facts.last_lines.clone(),
        };
        let wrong = |class| Came::Wrong(what(class));
        let came = match outcome {
            Outcome::Pass | Outcome::Warn { .. } if judged.verdict == Verdict::PassedWithComplaints => {
                Came::Complained(what(Class::Complaint))
            }
            Outcome::Pass | Outcome::Warn { .. } => Came::Passed,
            Outcome::Skip { reason } => Came::Skipped { reason: reason.clone() },
            // The guest was never ready, or md or what the test needs did not load.
            Outcome::KernelCrash { title } if !attempt.started => Came::NoBoot { title: title.clone() },
            Outcome::Hang { .. } | Outcome::Timeout { .. } if !attempt.started => {
                Came::NoBoot { title: outcome.detail() }
            }
            Outcome::KernelCrash { .. } => wrong(Class::Crash),
            Outcome::Hang { .. } => wrong(Class::Hang),
            Outcome::Timeout { .. } => wrong(Class::Timeout),
            Outcome::DataCorruption { .. } => wrong(Class::Corruption),
            // Its output, or the kernel, said that data was not what was written.
            Outcome::Fail { .. } if judged.verdict == Verdict::Corrupted => wrong(Class::Corruption),
            Outcome::Fail { .. } => wrong(Class::Failure),
            Outcome::Interrupted => return Err(NothingKnown::Interrupted),
            Outcome::Infra { error } => return Err(NothingKnown::Infra(format!("{test}: {error}"))),
        };
        Ok(Sighting { test, dir, reproduce, came })
    }

    /// In a line.
    pub(crate) fn in_short(&self) -> String {
        match &self.came {
            Came::Passed => "passed".to_owned(),
            Came::Complained(wrong) => wrong.in_short(),
            Came::Skipped { reason } => format!("skipped: {reason}"),
            Came::NoBoot { title } => format!("does not boot: {title}"),
            Came::Wrong(wrong) => wrong.in_short(),
        }
    }
}

/// Why nothing is known of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NothingKnown {
    /// The user ended it.
    #[error("interrupted")]
    Interrupted,
    /// The harness or the host failed.
    #[error("{0}")]
    Infra(String),
}

/// The failure that is searched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// As it was seen at the failing end.
    Seen {
        /// Of this test.
        test: String,
        /// In this way.
        wrong: Wrong,
    },
    /// What mentions these words.
    Words {
        words: String,
        /// Of these tests, which showed it at the failing end; of any, where no end is known.
        tests: Vec<String>,
        /// True if it was the kernel's own report that mentions them, and not a test's.
        is_signed: bool,
    },
    /// Whatever goes wrong: for whoever knows what the tests do otherwise.
    Anything,
}

impl Lock {
    /// What mentions `words`, of any test.
    pub(crate) fn words(words: String) -> Lock {
        Lock::Words { words, tests: Vec::new(), is_signed: false }
    }

    /// The failure that is meant, from the trials of the failing end, in order. Without `words` it is the one that most of
    /// them show, lest a chance failure becomes the question; of two that are as frequent, the one that came first.
    /// What `passing`, the trials of the other end, show as well is meant only if there is nothing else.
    pub(crate) fn from_trials(words: Option<&str>, failing: &[&Trial], passing: &[&Trial]) -> Option<Lock> {
        if let Some(words) = words {
            let mentioning = failing.iter().flat_map(|trial| trial.seen()).filter_map(|sighting| {
                let wrong = sighting.came.wrong().filter(|wrong| wrong.mentions(words))?;
                Some((sighting.test.clone(), wrong))
            });
            let (mut tests, signed): (Vec<_>, Vec<_>) =
                mentioning.map(|(test, wrong)| (test, wrong.is_named_by(words))).unzip();
            tests.sort();
            tests.dedup();
            let is_signed = !signed.is_empty() && !signed.contains(&false);
            return Some(Lock::Words { words: words.to_owned(), tests, is_signed });
        }
        let failures = |trials: &[&'_ Trial]| -> Vec<(String, Wrong)> {
            let sightings = trials.iter().flat_map(|trial| trial.seen());
            let wrong = sightings.filter_map(|sighting| match &sighting.came {
                Came::Wrong(wrong) => Some((sighting.test.clone(), wrong.clone())),
                Came::Passed | Came::Complained(_) | Came::Skipped { .. } | Came::NoBoot { .. } => None,
            });
            wrong.collect()
        };
        let (seen, at_other) = (failures(failing), failures(passing));
        let n_like = |all: &[(String, Wrong)], (test, wrong): &(String, Wrong)| {
            all.iter().filter(|(other, of_other)| other == test && is_same(wrong, of_other)).count()
        };
        // The last of equals is taken, so from behind.
        let meant = seen.iter().rev().max_by_key(|one| (n_like(&at_other, one) == 0, n_like(&seen, one)))?;
        Some(Lock::Seen { test: meant.0.clone(), wrong: meant.1.clone() })
    }

    /// True if only a failure counts that bears the kernel's own mark, which another bug hardly has.
    pub(crate) fn is_signed(&self) -> bool {
        match self {
            Lock::Seen { wrong, .. } => match wrong.class {
                Class::Hang | Class::Timeout | Class::Crash | Class::Complaint => !wrong.signature.is_empty(),
                // What has none counts as the same.
                Class::Failure | Class::Corruption => false,
            },
            Lock::Words { is_signed, .. } => *is_signed,
            Lock::Anything => false,
        }
    }

    /// What a trial means.
    pub(crate) fn observe(&self, trial: &Trial) -> Observation {
        let seen = match trial {
            Trial::Unbuildable { error } => {
                return Observation::Untestable(format!("does not build: {}", first_error(error)));
            }
            Trial::Ran { seen, .. } => seen,
        };
        if self.met_by(trial).is_some() {
            return Observation::Failed;
        }
        let (mut other, mut untestable, mut passed) = (None, None, false);
        for sighting in seen.iter().filter(|sighting| self.counts(sighting)) {
            match &sighting.came {
                Came::Passed | Came::Complained(_) => passed = true,
                // It may boot the next time: on a host that starves, the best kernel takes too long.
                Came::Wrong(_) | Came::NoBoot { .. } => other = other.or(Some(sighting.in_short())),
                Came::Skipped { .. } => untestable = untestable.or(Some(sighting.in_short())),
            }
        }
        // What failed otherwise may have hidden what is searched for, and it may be the test that was skipped that shows it.
        match (other, untestable) {
            (Some(other), _) => Observation::Other(other),
            (None, Some(untestable)) => Observation::Untestable(untestable),
            (None, None) if passed => Observation::Passed,
            (None, None) => Observation::Untestable("no test ran".to_owned()),
        }
    }

    /// What shows in a trial that it failed in the way that is searched for.
    pub(crate) fn met_by<'t>(&self, trial: &'t Trial) -> Option<&'t Sighting> {
        trial.seen().iter().filter(|sighting| self.counts(sighting)).find(|sighting| {
            let wrong = sighting.came.wrong();
            wrong.is_some_and(|wrong| match self {
                Lock::Anything => wrong.class != Class::Complaint,
                Lock::Words { words, .. } => wrong.mentions(words),
                Lock::Seen { wrong: of_end, .. } => is_same(of_end, wrong),
            })
        })
    }

    /// True if what this test comes to matters.
    fn counts(&self, sighting: &Sighting) -> bool {
        match self {
            Lock::Seen { test, .. } => sighting.test == *test,
            Lock::Words { tests, .. } => tests.is_empty() || tests.contains(&sighting.test),
            Lock::Anything => true,
        }
    }

    /// In a line, for people.
    pub(crate) fn in_short(&self) -> String {
        match self {
            Lock::Anything => "anything that goes wrong".to_owned(),
            Lock::Words { words, .. } => format!("what mentions `{words}`"),
            Lock::Seen { test, wrong } => format!("{test} {}", wrong.in_short()),
        }
    }
}

impl Trial {
    /// What each test came to.
    pub(crate) fn seen(&self) -> &[Sighting] {
        match self {
            Trial::Unbuildable { .. } => &[],
            Trial::Ran { seen, .. } => seen,
        }
    }

    /// What it means before any failure was seen: of the failing end only.
    pub(crate) fn observe_unlocked(&self) -> Observation {
        Lock::Anything.observe(self)
    }
}

/// True if both are the same bug, as far as can be told.
fn is_same(a: &Wrong, b: &Wrong) -> bool {
    let stands_still: fn(Class) -> bool = |class| matches!(class, Class::Hang | Class::Timeout);
    // Whether a report ends the kernel is a setting's choice.
    let is_report: fn(Class) -> bool = |class| matches!(class, Class::Crash | Class::Complaint);
    let both = |is: fn(Class) -> bool| is(a.class) && is(b.class);
    let same_class = a.class == b.class || both(stands_still) || both(is_report);
    if !same_class {
        return false;
    }
    match a.class {
        // What is damaged, and who notices first, is a matter of luck.
        Class::Corruption => true,
        Class::Failure => a.signature.is_empty() || b.signature.is_empty() || same_signature(a, b),
        Class::Hang | Class::Timeout | Class::Crash | Class::Complaint => {
            a.signature.is_empty() && a.class == b.class && b.signature.is_empty() || same_signature(a, b)
        }
    }
}

/// The most telling line of one is among those of the other; which task it is does not matter. Or both look like the
/// same known issue.
fn same_signature(a: &Wrong, b: &Wrong) -> bool {
    let frames = |line: &str| line.split_once(": ").map_or(line, |(_, frames)| frames).to_owned();
    let has = |of: &Wrong, first: Option<&String>| {
        first.is_some_and(|first| of.signature.iter().any(|line| frames(line) == frames(first)))
    };
    has(b, a.signature.first())
        || has(a, b.signature.first())
        || a.known_issues.iter().any(|issue| b.known_issues.contains(issue))
}

/// The compiler's first complaint, or else the first words.
pub(crate) fn first_error(text: &str) -> &str {
    let lines = || text.lines().map(|line| line.trim_start_matches([' ', '|']).trim());
    let complaint = lines().find(|line| line.contains("error:"));
    complaint.or_else(|| lines().find(|line| !line.is_empty())).unwrap_or("without a word")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(class: Class, signature: &[&str]) -> Wrong {
        Wrong {
            class,
            detail: "no progress for 7 s".into(),
            signature: signature.iter().map(|&line| line.to_owned()).collect(),
            known_issues: vec![],
            last_lines: vec!["## DEBUG: device busy".into()],
        }
    }

    fn ran(came: Came) -> Trial {
        let sighting =
            |test: &str, came| Sighting { test: test.into(), dir: "d".into(), reproduce: None, came };
        let seen = vec![sighting("lvm2:shell/x.sh", came), sighting("lvm2:shell/other.sh", Came::Passed)];
        Trial::Ran { run: "r".into(), seen }
    }

    const STOP: &str = "lvm: stop_sync_thread ← md_stop ← raid_dtr";

    fn check(seen: Came, expect: &str) {
        let failing = ran(Came::Wrong(wrong(Class::Hang, &[STOP, "mdX_resync: md_do_sync"])));
        let lock = Lock::from_trials(None, &[&ran(Came::Passed), &failing], &[]).unwrap();
        let observed = match lock.observe(&ran(seen)) {
            Observation::Failed => "failed".to_owned(),
            Observation::Passed => "passed".to_owned(),
            Observation::Other(why) => format!("other: {why}"),
            Observation::Untestable(why) => format!("untestable: {why}"),
        };
        assert_eq!(observed, expect);
    }

    #[test]
    fn only_the_same_hang_counts() {
        check(Came::Wrong(wrong(Class::Hang, &[STOP])), "failed");
        let by_another_task = "dmsetup: stop_sync_thread ← md_stop ← raid_dtr";
        check(Came::Wrong(wrong(Class::Hang, &["jbd2: md_write_start", by_another_task])), "failed");
        check(Came::Wrong(wrong(Class::Timeout, &[STOP])), "failed");
        let other = "lvm: raise_barrier ← raid1_sync_request";
        check(Came::Wrong(wrong(Class::Hang, &[other])), &format!("other: hung ({other})"));
        check(Came::Wrong(wrong(Class::Hang, &[])), "other: hung (no progress for 7 s)");
        check(
            Came::Wrong(wrong(Class::Crash, &["page fault in md_run"])),
            "other: crashed (page fault in md_run)",
        );
    }

    #[test]
    fn a_known_issue_in_common_is_the_same_bug() {
        let of =
            |line| Wrong { known_issues: vec!["sync-without-done".into()], ..wrong(Class::Hang, &[line]) };
        let lock = Lock::from_trials(None, &[&ran(Came::Wrong(of(STOP)))], &[]).unwrap();
        assert_eq!(lock.observe(&ran(Came::Wrong(of("lvm: md_stop")))), Observation::Failed);
    }

    #[test]
    fn what_did_not_run_tells_nothing() {
        check(Came::Passed, "passed");
        check(Came::Skipped { reason: "too old".into() }, "untestable: skipped: too old");
        check(Came::NoBoot { title: "panic".into() }, "other: does not boot: panic");
        let lock = Lock::Anything;
        let error = "raid modules do not build\n  | md.c:1:2: error: x\n  | more".to_owned();
        let expect = Observation::Untestable("does not build: md.c:1:2: error: x".into());
        assert_eq!(lock.observe(&Trial::Unbuildable { error }), expect);
    }

    #[test]
    fn a_complaint_counts_only_if_it_is_searched_for() {
        let warning = "WARNING in md_run: md_run ← raid_ctr";
        let complained = || Came::Complained(wrong(Class::Complaint, &[warning]));
        check(complained(), "passed");
        let words = Lock::words("WARNING in md_run".to_owned());
        assert_eq!(words.observe(&ran(complained())), Observation::Failed);
        // The same report, where it ended the kernel.
        let lock =
            Lock::from_trials(None, &[&ran(Came::Wrong(wrong(Class::Crash, &[warning])))], &[]).unwrap();
        assert_eq!(lock.observe(&ran(complained())), Observation::Failed);
        assert_eq!(Lock::Anything.observe(&ran(complained())), Observation::Passed);
    }

    #[test]
    fn a_chance_failure_is_not_what_is_searched_for() {
        let hung = || ran(Came::Wrong(wrong(Class::Hang, &[STOP])));
        let chance = ran(Came::Wrong(wrong(Class::Failure, &[])));
        let lock = |trials: &[&Trial]| Lock::from_trials(None, trials, &[]).unwrap().in_short();
        let of_hang = format!("lvm2:shell/x.sh hung ({STOP})");
        assert_eq!(lock(&[&chance, &hung(), &hung()]), of_hang);
        assert_eq!(lock(&[&hung(), &chance]), of_hang);
        assert_eq!(lock(&[&chance, &hung()]), "lvm2:shell/x.sh failed (no progress for 7 s)");
    }

    fn two(first: Came, second: Came) -> Trial {
        let sighting =
            |test: &str, came| Sighting { test: test.into(), dir: "d".into(), reproduce: None, came };
        Trial::Ran { run: "r".into(), seen: vec![sighting("a", first), sighting("b", second)] }
    }

    #[test]
    fn what_the_passing_end_shows_too_is_not_meant() {
        let always = || Came::Wrong(wrong(Class::Failure, &[]));
        let hung = || Came::Wrong(wrong(Class::Hang, &[STOP]));
        let (failing, passing) = (two(always(), hung()), two(always(), Came::Passed));
        let lock = Lock::from_trials(None, &[&failing], &[&passing]).unwrap();
        assert_eq!(lock.in_short(), format!("b hung ({STOP})"));
        assert_eq!(lock.met_by(&failing).unwrap().test, "b");
        assert_eq!(lock.observe(&passing), Observation::Passed);
        let nothing_else = Lock::from_trials(None, &[&passing], &[&passing]).unwrap();
        assert_eq!(nothing_else.observe(&passing), Observation::Failed);
    }

    #[test]
    fn a_skip_beside_a_pass_is_no_pass() {
        let trial = two(Came::Skipped { reason: "too old".into() }, Came::Passed);
        let skipped = Observation::Untestable("skipped: too old".into());
        assert_eq!(Lock::Anything.observe(&trial), skipped);
        assert_eq!(Lock::words("stop".into()).observe(&trial), skipped);
        // Only the test that shows it matters, where that is known.
        let failing = two(Came::Passed, Came::Wrong(wrong(Class::Hang, &[STOP])));
        let lock = Lock::from_trials(Some("stop_sync"), &[&failing], &[]).unwrap();
        assert!(lock.is_signed());
        assert_eq!(lock.observe(&trial), Observation::Passed);
        let lock = Lock::from_trials(Some("device busy"), &[&failing], &[]).unwrap();
        assert!(!lock.is_signed(), "a test's own words are no mark");
    }

    #[test]
    fn any_corruption_is_the_same_corruption() {
        let lock = Lock::from_trials(
            None,
            &[&ran(Came::Wrong(wrong(Class::Corruption, &["fsck found errors"])))],
            &[],
        )
        .unwrap();
        let other = ran(Came::Wrong(wrong(Class::Corruption, &["checksums differ"])));
        assert_eq!(lock.observe(&other), Observation::Failed);
        let failure = ran(Came::Wrong(wrong(Class::Failure, &[])));
        assert_eq!(lock.observe(&failure), Observation::Other("failed (no progress for 7 s)".into()));
    }

    #[test]
    fn words_say_what_counts() {
        let lock = Lock::words("stop_sync_thread".to_owned());
        assert_eq!(lock.observe(&ran(Came::Wrong(wrong(Class::Hang, &[STOP])))), Observation::Failed);
        assert!(matches!(lock.observe(&ran(Came::Wrong(wrong(Class::Hang, &[])))), Observation::Other(_)));
    }
}
