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
        // Its guest was never ready, or md did not load in it.
        let never_ran = attempt.ready_after_ms.is_none() || facts.test_ms.is_none();
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
            Outcome::KernelCrash { title } if never_ran => Came::NoBoot { title: title.clone() },
            Outcome::Hang { .. } if never_ran => Came::NoBoot { title: outcome.detail() },
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

    /// True if it went wrong.
    pub(crate) fn is_wrong(&self) -> bool {
        matches!(self.came, Came::Wrong(_))
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
    /// As it was first seen at the failing end.
    Seen {
        /// Of this test.
        test: String,
        /// In this way.
        wrong: Wrong,
    },
    /// What mentions these words, of any test.
    Words(String),
    /// Whatever goes wrong: for whoever knows what the tests do otherwise.
    Anything,
}

impl Lock {
    /// The failure that is meant, from the trials of the failing end, in order: the one that most of them show, lest a
    /// chance failure becomes the question; of two that are as frequent, the one that came first.
    pub(crate) fn from_trials<'t>(
        words: Option<&str>,
        trials: impl IntoIterator<Item = &'t Trial>,
    ) -> Option<Lock> {
        if let Some(words) = words {
            return Some(Lock::Words(words.to_owned()));
        }
        let sightings = trials.into_iter().flat_map(Trial::seen);
        let seen: Vec<(&str, &Wrong)> = sightings
            .filter_map(|sighting| match &sighting.came {
                Came::Wrong(wrong) => Some((sighting.test.as_str(), wrong)),
                Came::Passed | Came::Complained(_) | Came::Skipped { .. } | Came::NoBoot { .. } => None,
            })
            .collect();
        let n_like = |(test, wrong): (&str, &Wrong)| {
            seen.iter().filter(|(other, of_other)| *other == test && is_same(wrong, of_other)).count()
        };
        // The last of equals is taken, so from behind.
        let (test, wrong) = seen.iter().rev().copied().max_by_key(|failure| n_like(*failure))?;
        Some(Lock::Seen { test: test.to_owned(), wrong: wrong.clone() })
    }

    /// True if only a failure counts that bears the kernel's own mark, which another bug hardly has.
    pub(crate) fn is_signed(&self) -> bool {
        match self {
            Lock::Seen { wrong, .. } => !wrong.signature.is_empty(),
            Lock::Words(_) => true,
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
        let counts = |sighting: &&Sighting| match self {
            Lock::Seen { test, .. } => sighting.test == *test,
            Lock::Words(_) | Lock::Anything => true,
        };
        let (mut other, mut passed, mut nothing) = (None, false, None);
        for sighting in seen.iter().filter(counts) {
            match &sighting.came {
                Came::Passed => passed = true,
                Came::Complained(wrong) | Came::Wrong(wrong) if self.is_met_by(wrong) => {
                    return Observation::Failed;
                }
                Came::Complained(_) => passed = true,
                Came::Wrong(_) => other = other.or(Some(sighting.in_short())),
                Came::Skipped { .. } | Came::NoBoot { .. } => nothing = nothing.or(Some(sighting.in_short())),
            }
        }
        // What failed otherwise may have hidden what is searched for.
        match (other, nothing) {
            (Some(other), _) => Observation::Other(other),
            (None, Some(nothing)) if !passed => Observation::Untestable(nothing),
            (None, None) if !passed => Observation::Untestable("no test ran".to_owned()),
            (None, Some(_) | None) => Observation::Passed,
        }
    }

    fn is_met_by(&self, seen: &Wrong) -> bool {
        match self {
            Lock::Anything => seen.class != Class::Complaint,
            Lock::Words(words) => seen.mentions(words),
            Lock::Seen { wrong, .. } => is_same(wrong, seen),
        }
    }

    /// In a line, for people.
    pub(crate) fn in_short(&self) -> String {
        match self {
            Lock::Anything => "anything that goes wrong".to_owned(),
            Lock::Words(words) => format!("what mentions `{words}`"),
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
        let lock = Lock::from_trials(None, [&ran(Came::Passed), &failing]).unwrap();
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
        let lock = Lock::from_trials(None, [&ran(Came::Wrong(of(STOP)))]).unwrap();
        assert_eq!(lock.observe(&ran(Came::Wrong(of("lvm: md_stop")))), Observation::Failed);
    }

    #[test]
    fn what_did_not_run_tells_nothing() {
        check(Came::Passed, "passed");
        check(Came::Skipped { reason: "too old".into() }, "untestable: skipped: too old");
        check(Came::NoBoot { title: "panic".into() }, "untestable: does not boot: panic");
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
        let words = Lock::from_trials(Some("WARNING in md_run"), []).unwrap();
        assert_eq!(words.observe(&ran(complained())), Observation::Failed);
        // The same report, where it ended the kernel.
        let lock = Lock::from_trials(None, [&ran(Came::Wrong(wrong(Class::Crash, &[warning])))]).unwrap();
        assert_eq!(lock.observe(&ran(complained())), Observation::Failed);
        assert_eq!(Lock::Anything.observe(&ran(complained())), Observation::Passed);
    }

    #[test]
    fn a_chance_failure_is_not_what_is_searched_for() {
        let hung = || ran(Came::Wrong(wrong(Class::Hang, &[STOP])));
        let chance = ran(Came::Wrong(wrong(Class::Failure, &[])));
        let lock = |trials: &[&Trial]| Lock::from_trials(None, trials.iter().copied()).unwrap().in_short();
        let of_hang = format!("lvm2:shell/x.sh hung ({STOP})");
        assert_eq!(lock(&[&chance, &hung(), &hung()]), of_hang);
        assert_eq!(lock(&[&hung(), &chance]), of_hang);
        assert_eq!(lock(&[&chance, &hung()]), "lvm2:shell/x.sh failed (no progress for 7 s)");
    }

    #[test]
    fn any_corruption_is_the_same_corruption() {
        let lock =
            Lock::from_trials(None, [&ran(Came::Wrong(wrong(Class::Corruption, &["fsck found errors"])))])
                .unwrap();
        let other = ran(Came::Wrong(wrong(Class::Corruption, &["checksums differ"])));
        assert_eq!(lock.observe(&other), Observation::Failed);
        let failure = ran(Came::Wrong(wrong(Class::Failure, &[])));
        assert_eq!(lock.observe(&failure), Observation::Other("failed (no progress for 7 s)".into()));
    }

    #[test]
    fn words_say_what_counts() {
        let lock = Lock::from_trials(Some("stop_sync_thread"), []).unwrap();
        assert_eq!(lock.observe(&ran(Came::Wrong(wrong(Class::Hang, &[STOP])))), Observation::Failed);
        assert!(matches!(lock.observe(&ran(Came::Wrong(wrong(Class::Hang, &[])))), Observation::Other(_)));
    }
}
