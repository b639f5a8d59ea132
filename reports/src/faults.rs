//! What each kind of report in the kernel's log makes of the test during which it came: the one table.
//!
//! Pure. A test's exit status says what its script looked at; that the kernel ran over freed memory meanwhile it does not
//! know. README.md shows the same table to people. Deliberately not here: which reports a test causes on purpose
//! (`expectations.rs`), and how a report is found (xtask's `console`).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use protocol::evidence::{KernelReport, ReportKind};
use protocol::frames::{is_storage_frame, is_storage_function};

/// What a report makes of a test; the worst comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weight {
    /// The kernel is broken from here on: whatever the test says later means little.
    Crash,
    /// Data is not what was written.
    Corruption,
    /// The kernel found a fault of its own in md or dm, and went on.
    Failure,
    /// It is shown, and fails nothing.
    Complaint,
}

/// What becomes of the test, `crashed`.
impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Weight::Crash => "crashed",
            Weight::Corruption => "corrupted",
            Weight::Failure => "failed",
            Weight::Complaint => "complained",
        })
    }
}

/// A class of what speaks against a test, by the name that `--fail-on` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A report of the kernel's of this kind.
    Report(ReportKind),
    /// Changed data that dm-integrity, dm-crypt or dm-verity found and refused: whoever reads gets an error, and a mirror
    /// above reads elsewhere. Mostly a test's own damage; if it is not, what reads the error says so.
    Refused,
    /// A leak that kmemleak suspects: it guesses, and is wrong now and then.
    MemoryLeak,
    /// Messages of the kernel that are lost, a taint that no message explains.
    KernelLog,
    /// The test passed, and warned.
    TestWarning,
}

/// All kinds of reports, the gravest first.
const KINDS: [ReportKind; 14] = [
    ReportKind::Panic,
    ReportKind::Oops,
    ReportKind::Bug,
    ReportKind::MemoryError,
    ReportKind::Lockup,
    ReportKind::Corruption,
    ReportKind::Warning,
    ReportKind::Lockdep,
    ReportKind::DataRace,
    ReportKind::Undefined,
    ReportKind::RcuStall,
    ReportKind::WorkqueueStall,
    ReportKind::HungTask,
    ReportKind::StorageError,
];

impl Class {
    /// All classes, the gravest first.
    pub fn all() -> impl Iterator<Item = Class> {
        KINDS.into_iter().map(Class::Report).chain([
            Class::Refused,
            Class::MemoryLeak,
            Class::KernelLog,
            Class::TestWarning,
        ])
    }

    /// The class of a report.
    pub fn of(report: &KernelReport) -> Class {
        // These titles are ours from the first word on (xtask's `console`).
        let begins = |starts: &[&str]| starts.iter().any(|start| report.title.starts_with(start));
        match report.kind {
            ReportKind::Bug if begins(&["memory leak found by kmemleak"]) => Class::MemoryLeak,
            ReportKind::Corruption if begins(&["dm-integrity: ", "dm-crypt: ", "dm-verity: "]) => {
                Class::Refused
            }
            kind => Class::Report(kind),
        }
    }

    /// Its name, `memory-error`.
    pub fn name(self) -> &'static str {
        match self {
            Class::Report(ReportKind::Panic) => "panic",
            Class::Report(ReportKind::Oops) => "oops",
            Class::Report(ReportKind::Bug) => "bug",
            Class::Report(ReportKind::MemoryError) => "memory-error",
            Class::Report(ReportKind::Lockup) => "lockup",
            Class::Report(ReportKind::Corruption) => "corruption",
            Class::Report(ReportKind::Warning) => "warning",
            Class::Report(ReportKind::Lockdep) => "lockdep",
            Class::Report(ReportKind::DataRace) => "data-race",
            Class::Report(ReportKind::Undefined) => "undefined",
            Class::Report(ReportKind::RcuStall) => "rcu-stall",
            Class::Report(ReportKind::WorkqueueStall) => "workqueue-stall",
            Class::Report(ReportKind::HungTask) => "hung-task",
            Class::Report(ReportKind::StorageError) => "storage-error",
            Class::Refused => "refused-data",
            Class::MemoryLeak => "memory-leak",
            Class::KernelLog => "kernel-log",
            Class::TestWarning => "test-warning",
        }
    }

    /// What it is, in a line.
    pub fn about(self) -> &'static str {
        match self {
            Class::Report(ReportKind::Panic) => "the kernel panicked",
            Class::Report(ReportKind::Oops) => {
                "NULL dereference, page fault, general protection fault, kernel BUG at"
            }
            Class::Report(ReportKind::Bug) => {
                "any other BUG; lists, pages, slabs, counts of references in disorder"
            }
            Class::Report(ReportKind::MemoryError) => "KASAN, KFENCE, KMSAN",
            Class::Report(ReportKind::Lockup) => "soft or hard lockup",
            Class::Report(ReportKind::Corruption) => "data or metadata is not what was written",
            Class::Report(ReportKind::Warning) => "WARNING, a name that sysfs has already",
            Class::Report(ReportKind::Lockdep) => "lockdep, suspicious RCU usage",
            Class::Report(ReportKind::DataRace) => "KCSAN",
            Class::Report(ReportKind::Undefined) => "UBSAN",
            Class::Report(ReportKind::RcuStall) => "RCU stall",
            Class::Report(ReportKind::WorkqueueStall) => "workqueue lockup, work that hogs a CPU",
            Class::Report(ReportKind::HungTask) => {
                "the kernel's hung-task detector spoke, and the test got on"
            }
            Class::Report(ReportKind::StorageError) => "failed members, IO errors, lost redundancy",
            Class::Refused => "changed data that dm-integrity, dm-crypt or dm-verity found and refused",
            Class::MemoryLeak => "kmemleak suspects a leak",
            Class::KernelLog => "messages of the kernel are lost, or a taint that none of them explains",
            Class::TestWarning => "the test passed, and warned",
        }
    }

    /// What it makes of a test by itself, and what if md or dm is in it.
    fn weights(self) -> (Weight, Weight) {
        use ReportKind as K;
        use Weight::{Complaint, Corruption, Crash, Failure};
        match self {
            Class::Report(K::Panic | K::Oops | K::Bug | K::MemoryError | K::Lockup) => (Crash, Crash),
            Class::Report(K::Corruption) => (Corruption, Corruption),
            Class::Report(
                K::Warning | K::Lockdep | K::DataRace | K::Undefined | K::RcuStall | K::WorkqueueStall,
            ) => (Complaint, Failure),
            // Mostly it got on: one that stands is a hang, by other signs.
            Class::Report(K::HungTask) => (Complaint, Complaint),
            // Members that fail, errors of devices: most tests cause them.
            Class::Report(K::StorageError) => (Complaint, Complaint),
            Class::Refused | Class::MemoryLeak | Class::KernelLog | Class::TestWarning => {
                (Complaint, Complaint)
            }
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// True if md or dm is in a report: in its stack, in that of the cause that the kernel names, or, where the stack is cut,
/// in its title.
pub fn is_of_storage(report: &KernelReport) -> bool {
    let causes = report.causes.iter().flat_map(|cause| &cause.frames);
    report.frames.iter().chain(causes).any(|frame| is_storage_frame(frame))
        || report
            .title
            .rsplit_once(" in ")
            .is_some_and(|(_, function)| function.split(" / ").any(is_storage_function))
}

/// One word of `--fail-on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// `complaints`: every class fails the run.
    Everything,
    /// `warning`, `no-warning`: this one does, or does not.
    One(Class, bool),
}

impl FromStr for Word {
    type Err = String;

    fn from_str(text: &str) -> Result<Word, String> {
        if text == "complaints" {
            return Ok(Word::Everything);
        }
        if text == "no-complaints" {
            return Err("`no-complaints` is what holds without --fail-on; name the classes to let pass, as no-lockdep".to_owned());
        }
        let (name, fails) = text.strip_prefix("no-").map_or((text, true), |name| (name, false));
        match Class::all().find(|class| class.name() == name) {
            Some(class) => Ok(Word::One(class, fails)),
            None => {
                let names: Vec<_> = Class::all().map(Class::name).collect();
                Err(format!(
                    "there is no class `{name}`; there are complaints (all of them), {}; no- before a name lets it pass",
                    names.join(", ")
                ))
            }
        }
    }
}

/// What a run is told to judge otherwise than by default. It is recorded with the run, so that it is judged again in the
/// same way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Words of `--fail-on`, as they were given.
    words: Vec<String>,
    everything: bool,
    moved: BTreeMap<Class, bool>,
    /// What failed, and passed when it was tried again, fails the run all the same.
    pub flaky_fails: bool,
}

impl Policy {
    /// As a command line says it; a later word counts more than an earlier one.
    ///
    /// # Errors
    ///
    /// A word that is no class, with those that there are.
    pub fn of(fail_on: &[String], flaky_fails: bool) -> Result<Policy, String> {
        let mut policy = Policy { words: fail_on.to_vec(), flaky_fails, ..Policy::default() };
        for word in fail_on {
            match word.parse()? {
                Word::Everything => {
                    policy.everything = true;
                    policy.moved.clear();
                }
                Word::One(class, fails) => {
                    policy.moved.insert(class, fails);
                }
            }
        }
        Ok(policy)
    }

    /// Words of `--fail-on` that mean the same.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// What a report makes of a test.
    pub fn weigh(&self, report: &KernelReport) -> Weight {
        // Who is not let run stalls, and the kernel can't tell.
        let (alone, with_storage) =
            if report.starved { (Weight::Complaint, Weight::Complaint) } else { Class::of(report).weights() };
        let by_default = if is_of_storage(report) { with_storage } else { alone };
        self.moved(Class::of(report), by_default)
    }

    /// What a class makes of a test; `of_storage` if md or dm is in it.
    pub fn weigh_class(&self, class: Class, of_storage: bool) -> Weight {
        let (alone, with_storage) = class.weights();
        self.moved(class, if of_storage { with_storage } else { alone })
    }

    fn moved(&self, class: Class, by_default: Weight) -> Weight {
        match self.moved.get(&class) {
            Some(false) => Weight::Complaint,
            // Never less than it is by itself.
            Some(true) => by_default.min(Weight::Failure),
            None if self.everything => by_default.min(Weight::Failure),
            None => by_default,
        }
    }
}

#[cfg(test)]
#[path = "faults_tests.rs"]
mod tests;
