//! What each class of kernel report makes of the test during which it came: the one table.
//!
//! Pure. A test's exit status says what its script looked at; it does not know that the kernel ran over freed
//! memory meanwhile. Here is also the order in which reports say what went wrong: of several, the most
//! telling one names a failure. Deliberately not here: which reports a test causes on purpose
//! ([`crate::judge::expectations`]), and how a report is found (the harness' console).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use protocol::evidence::{KernelReport, ReportKind};
use protocol::frames::{is_storage_frame, is_storage_function};

/// How bad a report is for a test; the worst comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The kernel is broken from here on: whatever the test says later means little.
    Crash,
    /// Data is not what was written.
    Corruption,
    /// The kernel found a fault of its own in md or dm, and went on.
    Failure,
    /// It is shown, and fails nothing.
    Complaint,
}

/// The word for a test that met it, `crashed`.
impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Crash => "crashed",
            Severity::Corruption => "corrupted",
            Severity::Failure => "failed",
            Severity::Complaint => "complained",
        })
    }
}

/// How much a kind of report says about what went wrong, the most telling first. Not how bad it is: a panic
/// is worse than the oops before it, and says less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Telling {
    /// The kernel names the function that did wrong.
    Fault,
    /// A panic by itself: what comes before it names it.
    Panic,
    /// Data is not what was written; why is not said.
    Data,
    /// Something waits or spins; what it waits for may be elsewhere.
    Stall,
    /// The kernel found something odd, and went on.
    Oddity,
    /// A device or a member failed: most tests cause that.
    Storage,
}

/// A class of what speaks against a test, by the name that `--fail-on` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultClass {
    /// A report of the kernel's of this kind.
    Report(ReportKind),
    /// Changed data that dm-integrity, dm-crypt or dm-verity found and refused: whoever reads gets an error,
    /// and a mirror above reads elsewhere. Mostly a test's own damage; if it is not, what reads the error
    /// says so.
    Refused,
    /// A leak that kmemleak suspects: it guesses, and is wrong now and then.
    MemoryLeak,
    /// Messages of the kernel that are lost, a taint that no message explains.
    KernelLog,
    /// The test passed, and warned.
    TestWarning,
}

/// All kinds of reports, the gravest first: the order in which classes are listed.
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

/// A row of the table: all that is said of one class.
struct Row {
    name: &'static str,
    /// Severity by itself.
    alone: Severity,
    /// Severity if md or dm is in it.
    with_storage: Severity,
    telling: Telling,
    /// In a line, for users.
    about: &'static str,
}

impl Row {
    const fn new(
        name: &'static str,
        alone: Severity,
        with_storage: Severity,
        telling: Telling,
        about: &'static str,
    ) -> Row {
        Row { name, alone, with_storage, telling, about }
    }
}

/// The table, by kind of report.
#[rustfmt::skip]
fn row_of(kind: ReportKind) -> Row {
    use ReportKind as K;
    use Severity::{Complaint, Corruption, Crash, Failure};
    use Telling as T;
    match kind {
        K::Panic => Row::new("panic", Crash, Crash, T::Panic, "the kernel panicked"),
        K::Oops => Row::new("oops", Crash, Crash, T::Fault,
            "NULL dereference, page fault, general protection fault, kernel BUG at"),
        K::Bug => Row::new("bug", Crash, Crash, T::Fault,
            "any other BUG; lists, pages, slabs, counts of references in disorder"),
        K::MemoryError => Row::new("memory-error", Crash, Crash, T::Fault, "KASAN, KFENCE, KMSAN"),
        K::Lockup => Row::new("lockup", Crash, Crash, T::Stall, "soft or hard lockup"),
        K::Corruption => Row::new("corruption", Corruption, Corruption, T::Data,
            "data or metadata is not what was written"),
        K::Warning => Row::new("warning", Complaint, Failure, T::Oddity, "WARNING, a name that sysfs has already"),
        K::Lockdep => Row::new("lockdep", Complaint, Failure, T::Oddity, "lockdep, suspicious RCU usage"),
        K::DataRace => Row::new("data-race", Complaint, Failure, T::Oddity, "KCSAN"),
        K::Undefined => Row::new("undefined", Complaint, Failure, T::Oddity, "UBSAN"),
        K::RcuStall => Row::new("rcu-stall", Complaint, Failure, T::Stall, "RCU stall"),
        K::WorkqueueStall => Row::new("workqueue-stall", Complaint, Failure, T::Stall,
            "workqueue lockup, work that hogs a CPU"),
        // Mostly the task got on: one that stands is a hang, by other signs.
        K::HungTask => Row::new("hung-task", Complaint, Complaint, T::Stall,
            "the kernel's hung-task detector spoke, and the test got on"),
        // Members that fail, errors of devices: most tests cause them.
        K::StorageError => Row::new("storage-error", Complaint, Complaint, T::Storage,
            "failed members, IO errors, lost redundancy"),
    }
}

impl FaultClass {
    /// All classes, the gravest first.
    pub fn all() -> impl Iterator<Item = FaultClass> {
        KINDS.into_iter().map(FaultClass::Report).chain([
            FaultClass::Refused,
            FaultClass::MemoryLeak,
            FaultClass::KernelLog,
            FaultClass::TestWarning,
        ])
    }

    /// The class of a report.
    pub fn of(report: &KernelReport) -> FaultClass {
        // These titles are ours from the first word on (the harness' console).
        let begins = |starts: &[&str]| starts.iter().any(|start| report.title.starts_with(start));
        match report.kind {
            ReportKind::Bug if begins(&["memory leak found by kmemleak"]) => FaultClass::MemoryLeak,
            ReportKind::Corruption if begins(&["dm-integrity: ", "dm-crypt: ", "dm-verity: "]) => {
                FaultClass::Refused
            }
            kind => FaultClass::Report(kind),
        }
    }

    /// The class's name, `memory-error`.
    pub fn name(self) -> &'static str {
        match self {
            FaultClass::Report(kind) => row_of(kind).name,
            FaultClass::Refused => "refused-data",
            FaultClass::MemoryLeak => "memory-leak",
            FaultClass::KernelLog => "kernel-log",
            FaultClass::TestWarning => "test-warning",
        }
    }

    /// A line that says what falls into the class.
    pub fn about(self) -> &'static str {
        match self {
            FaultClass::Report(kind) => row_of(kind).about,
            FaultClass::Refused => "changed data that dm-integrity, dm-crypt or dm-verity found and refused",
            FaultClass::MemoryLeak => "kmemleak suspects a leak",
            FaultClass::KernelLog => "messages of the kernel are lost, or a taint that none of them explains",
            FaultClass::TestWarning => "the test passed, and warned",
        }
    }

    /// The severity by itself, and the severity if md or dm is in it.
    fn severities(self) -> (Severity, Severity) {
        match self {
            FaultClass::Report(kind) => {
                let row = row_of(kind);
                (row.alone, row.with_storage)
            }
            FaultClass::Refused
            | FaultClass::MemoryLeak
            | FaultClass::KernelLog
            | FaultClass::TestWarning => (Severity::Complaint, Severity::Complaint),
        }
    }
}

/// How much reports of this kind say about what went wrong.
pub(crate) fn telling_of(kind: ReportKind) -> Telling {
    row_of(kind).telling
}

/// The report that says most about what went wrong: of the most telling kind, rather one whose text is whole,
/// and of several such the first.
pub(crate) fn most_telling<'a>(reports: impl Iterator<Item = &'a KernelReport>) -> Option<&'a KernelReport> {
    reports.min_by_key(|report| (telling_of(report.kind), report.corrupted))
}

impl fmt::Display for FaultClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// True if md or dm is in a report: in its stack, in that of the cause that the kernel names, or, where the
/// stack is cut, in its title.
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
enum FailOnWord {
    /// `complaints`: every class fails the run.
    Everything,
    /// `warning`, `no-warning`: this one does, or does not.
    One(FaultClass, bool),
}

impl FromStr for FailOnWord {
    type Err = String;

    fn from_str(text: &str) -> Result<FailOnWord, String> {
        if text == "complaints" {
            return Ok(FailOnWord::Everything);
        }
        if text == "no-complaints" {
            return Err("`no-complaints` is what holds without --fail-on; name the classes to let pass, as no-lockdep".to_owned());
        }
        let (name, fails) = text.strip_prefix("no-").map_or((text, true), |name| (name, false));
        match FaultClass::all().find(|class| class.name() == name) {
            Some(class) => Ok(FailOnWord::One(class, fails)),
            None => {
                let names: Vec<_> = FaultClass::all().map(FaultClass::name).collect();
                Err(format!(
                    "there is no class `{name}`; there are complaints (all of them), {}; no- before a name lets it pass",
                    names.join(", ")
                ))
            }
        }
    }
}

/// Rules of judging that differ from the default. They are recorded with the run, so that it is judged again
/// in the same way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Words of `--fail-on`, as they were given.
    words: Vec<String>,
    everything: bool,
    moved: BTreeMap<FaultClass, bool>,
    /// True if a test that failed, and passed when it was tried again, fails the run all the same.
    pub flaky_fails: bool,
}

impl Policy {
    /// The policy of a command line's `--fail-on` and `--flaky`; a later word counts more than an earlier
    /// one.
    ///
    /// # Errors
    ///
    /// A word that is no class, with those that there are.
    pub fn of(fail_on: &[String], flaky_fails: bool) -> Result<Policy, String> {
        let mut policy = Policy { words: fail_on.to_vec(), flaky_fails, ..Policy::default() };
        for word in fail_on {
            match word.parse()? {
                FailOnWord::Everything => {
                    policy.everything = true;
                    policy.moved.clear();
                }
                FailOnWord::One(class, fails) => {
                    policy.moved.insert(class, fails);
                }
            }
        }
        Ok(policy)
    }

    /// Words of `--fail-on` that give this policy again.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// How bad a report is for a test.
    pub fn severity_of(&self, report: &KernelReport) -> Severity {
        // Who is not let run stalls, and the kernel can't tell.
        let (alone, with_storage) = if report.starved {
            (Severity::Complaint, Severity::Complaint)
        } else {
            FaultClass::of(report).severities()
        };
        let by_default = if is_of_storage(report) { with_storage } else { alone };
        self.moved(FaultClass::of(report), by_default)
    }

    /// How bad a class is for a test; `of_storage` if md or dm is in it.
    pub fn severity_of_class(&self, class: FaultClass, of_storage: bool) -> Severity {
        let (alone, with_storage) = class.severities();
        self.moved(class, if of_storage { with_storage } else { alone })
    }

    fn moved(&self, class: FaultClass, by_default: Severity) -> Severity {
        match self.moved.get(&class) {
            Some(false) => Severity::Complaint,
            // Never less than it is by itself.
            Some(true) => by_default.min(Severity::Failure),
            None if self.everything => by_default.min(Severity::Failure),
            None => by_default,
        }
    }
}

#[cfg(test)]
#[path = "faults_tests.rs"]
mod tests;
