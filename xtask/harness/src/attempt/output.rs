//! Reads a test's result out of what it prints, by its suite's contract. Pure, bounded.

use std::collections::VecDeque;

use protocol::Outcome;
use protocol::program::Exit;

use crate::attempt::corruption::CorruptionScan;
use crate::attempt::trace::{Says, says};
use crate::console::Lines;
use crate::suite::Contract;

/// Last lines of output that are kept for the report.
const KEPT_LINES: usize = 20;

/// A test's output: how much of it has arrived, and what it says.
#[derive(Debug)]
pub(crate) struct TestOutput {
    scan: OutputScan,
    /// End of the output that has arrived, bytes from its beginning.
    end: u64,
    /// Bytes missing before that.
    n_missing: u64,
    /// Bytes that the agent has counted, sent or not.
    n_counted: u64,
}

impl TestOutput {
    /// Nothing was printed yet.
    pub(crate) fn new(contract: Contract) -> Self {
        TestOutput { scan: OutputScan::new(contract), end: 0, n_missing: 0, n_counted: 0 }
    }

    /// Takes a piece that begins at `offset`. False if it makes no sense: the guest is not trusted, and
    /// output never goes back, nor beyond what a counter can hold.
    pub(crate) fn take(&mut self, offset: u64, data: &[u8]) -> bool {
        let Some(end) = offset.checked_add(data.len() as u64).filter(|_| offset >= self.end) else {
            return false;
        };
        self.n_missing += offset - self.end;
        self.end = end;
        self.scan.push(data);
        true
    }

    /// The agent has counted so many bytes; true if that is more than before.
    pub(crate) fn count(&mut self, n_bytes: u64) -> bool {
        let is_more = n_bytes > self.n_counted;
        self.n_counted = self.n_counted.max(n_bytes);
        is_more
    }

    /// Bytes that the test printed, `told` by the guest, and those of them that are in no log: `dropped` is
    /// what the log left out of what arrived.
    pub(crate) fn amounts(&self, told: u64, dropped: u64) -> (u64, u64) {
        let n_bytes = told.max(self.end).max(self.n_counted);
        (n_bytes, n_bytes - self.end + self.n_missing + dropped)
    }

    /// Reads the test's result out of what has arrived.
    pub(crate) fn scan(&self) -> &OutputScan {
        &self.scan
    }
}

/// The part of a test's output on which its result depends.
#[derive(Debug)]
pub(crate) struct OutputScan {
    contract: Contract,
    lines: Lines,
    last: VecDeque<String>,
    /// The last lines as they were when the failure's epilogue began.
    before_epilogue: Option<Vec<String>>,
    skip_reason: Option<String>,
    bare_skip: Option<String>,
    warning: Option<String>,
    weakened: Vec<String>,
    known_to_fail: Option<String>,
    /// Looks for a line that says that data is not what was written.
    corruption: CorruptionScan,
    /// The script's own last words, and those before the last command that ended it with the status of a
    /// skip: what its clean-up prints after that is no reason.
    last_words: Option<String>,
    words_at_exit: Option<String>,
}

impl OutputScan {
    pub(crate) fn new(contract: Contract) -> Self {
        OutputScan {
            contract,
            lines: Lines::default(),
            last: VecDeque::new(),
            before_epilogue: None,
            skip_reason: None,
            bare_skip: None,
            warning: None,
            weakened: Vec::new(),
            known_to_fail: None,
            corruption: CorruptionScan::default(),
            last_words: None,
            words_at_exit: None,
        }
    }

    /// Takes the next piece of output.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.push(bytes, |line| self.line(line));
        self.lines = lines;
    }

    fn line(&mut self, line: &str) {
        let starts = |prefix: &Option<String>| prefix.as_ref().is_some_and(|prefix| line.starts_with(prefix));
        if starts(&self.contract.skip_line) {
            self.skip_reason.get_or_insert_with(|| line.to_owned());
        }
        if self.contract.bare_skip_lines.iter().any(|prefix| line.starts_with(prefix)) {
            self.bare_skip.get_or_insert_with(|| line.to_owned());
        }
        if starts(&self.contract.warn_line) {
            self.warning.get_or_insert_with(|| line.to_owned());
        }
        if self.weakened.len() < 10
            && self.contract.weakened_lines.iter().any(|prefix| line.starts_with(prefix))
        {
            self.weakened.push(line.to_owned());
        }
        if let Some(told) =
            self.contract.known_to_fail_line.as_ref().and_then(|begins| line.strip_prefix(begins))
        {
            self.known_to_fail.get_or_insert_with(|| told.trim().to_owned());
        }
        // In a trace the line is preceded by its place: `#utils:254+ set +vx; …`.
        if self.before_epilogue.is_none()
            && self.contract.fail_line.as_ref().is_some_and(|epilogue| line.ends_with(epilogue.as_str()))
        {
            self.before_epilogue = Some(self.last.iter().cloned().collect());
        }
        if self.before_epilogue.is_none() {
            self.corruption.look(line);
        }
        if let Some(code) = self.contract.skip_exit.filter(|_| self.contract.own_program) {
            match says(line, code) {
                Says::Words(words) => self.last_words = Some(words.to_owned()),
                Says::Exit(before) => {
                    let words = before.map(str::to_owned).or_else(|| self.last_words.clone());
                    self.words_at_exit = words.or(self.words_at_exit.take());
                }
                Says::Nothing => {}
            }
        }
        if self.last.len() == KEPT_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
    }

    /// The newest line, for the progress display.
    pub(crate) fn newest(&self) -> Option<&str> {
        self.last.iter().rev().map(String::as_str).find(|line| !line.trim().is_empty())
    }

    /// The outcome of a test that ended like this, by its suite's contract.
    pub(crate) fn outcome(&self, exit: Exit) -> Outcome {
        match exit {
            Exit::Code(0) => match &self.warning {
                Some(warning) => Outcome::Warn { warning: warning.clone() },
                None => Outcome::Pass,
            },
            Exit::Code(code) if self.contract.skip_exit == Some(code) => {
                let reason = self.skip_reason.as_ref().or(self.bare_skip.as_ref());
                Outcome::Skip {
                    reason: reason
                        .cloned()
                        .or_else(|| self.own_reason(code))
                        .unwrap_or_else(|| "it gave no reason".into()),
                }
            }
            Exit::Code(code) => self.failure(format!("exit status {code}")),
            Exit::Signal(signal) => self.failure(format!("killed by signal {signal}")),
            // ENOENT, ENOEXEC, EACCES: what was to be run names an interpreter that is not there, or is no
            // program.
            Exit::NotStarted(errno @ (2 | 8 | 13)) if self.contract.own_program => {
                let error = std::io::Error::from_raw_os_error(errno);
                Outcome::Fail { how: format!("could not be executed (its first line?): {error}") }
            }
            Exit::NotStarted(errno) => {
                let error = std::io::Error::from_raw_os_error(errno);
                Outcome::Infra { error: format!("the guest could not start the test: {error}") }
            }
        }
    }

    /// The last words of a script that knows nothing of lvm2's: never a command that `set -x` shows.
    fn own_reason(&self, code: i32) -> Option<String> {
        if !self.contract.own_program {
            return None;
        }
        let rest = self.lines.rest();
        let (last, at_exit) = match says(&rest, code) {
            Says::Words(words) => (Some(words), None),
            Says::Exit(before) => (None, before.or(self.last_words.as_deref())),
            Says::Nothing => (None, None),
        };
        at_exit.or(self.words_at_exit.as_deref()).or(last).or(self.last_words.as_deref()).map(str::to_owned)
    }

    /// The line by which the test said that data is not what was written, if one did.
    pub(crate) fn changed_data(&self) -> Option<&str> {
        self.corruption.found()
    }

    /// A failure, or worse: one that the output itself explains by data that changed.
    fn failure(&self, how: String) -> Outcome {
        match self.corruption.found() {
            Some(line) => Outcome::DataCorruption { title: line.to_owned() },
            None => Outcome::Fail { how },
        }
    }

    /// The lines that say most about `outcome`: of a failure those before its epilogue (what follows
    /// is the debug log and the script itself), else the last ones.
    pub(crate) fn telling_lines(&self, outcome: &Outcome) -> Vec<String> {
        match (&self.before_epilogue, outcome) {
            (Some(lines), Outcome::Fail { .. } | Outcome::DataCorruption { .. }) => lines.clone(),
            _ => {
                let rest = self.lines.rest();
                let all = self.last.iter().cloned().chain((!rest.is_empty()).then_some(rest));
                let all: Vec<_> = all.collect();
                all[all.len().saturating_sub(KEPT_LINES)..].to_vec()
            }
        }
    }

    /// Why the test's authors know it to fail, if it says so.
    pub(crate) fn known_to_fail(&self) -> Option<&str> {
        self.known_to_fail.as_deref()
    }

    /// Lines that say that a pass tested less than it could.
    pub(crate) fn weakened(&self) -> &[String] {
        &self.weakened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(output: &str) -> OutputScan {
        let contract = Contract {
            skip_exit: Some(200),
            skip_line: Some("TEST SKIPPED".into()),
            bare_skip_lines: vec!["## 1 skip() called from ".into()],
            warn_line: Some("TEST WARNING".into()),
            fail_line: Some("set +vx; STACKTRACE; set -vx".into()),
            weakened_lines: vec!["Found dm-".into()],
            teardown_line: None,
            known_to_fail_line: Some("KNOWN TO FAIL: ".into()),
            own_program: false,
        };
        let mut scan = OutputScan::new(contract);
        scan.push(output.as_bytes());
        scan
    }

    #[test]
    fn a_skip_brings_its_reason() {
        let skip = |output: &str| scan(output).outcome(Exit::Code(200)).detail();
        assert_eq!(skip("TEST SKIPPED: needs more memory\n"), "TEST SKIPPED: needs more memory");
        assert_eq!(
            skip("#x.sh:19+ skip\n## 1 skip() called from x.sh:19\n"),
            "## 1 skip() called from x.sh:19"
        );
        assert_eq!(skip(""), "it gave no reason");
    }

    #[test]
    fn a_command_is_no_reason_for_a_skip() {
        let skip = |output: &str| {
            let mut scan = scan("");
            scan.contract.own_program = true;
            scan.push(output.as_bytes());
            scan.outcome(Exit::Code(200)).detail()
        };
        let sentence = "no NOWAIT writes here, though nothing is in their way";
        assert_eq!(skip(&format!("+ xfs_io -d\n+ echo '{sentence}'\n{sentence}\n+ exit 200\n")), sentence);
        assert_eq!(skip(&format!("#x.sh:3+ echo no\n{sentence}\n#x.sh:4+ exit 200\n")), sentence);
        // Not even if a clean-up is longer than what is kept, or has words of its own.
        let cleanup = "+ losetup -d\n".repeat(100);
        assert_eq!(skip(&format!("{sentence}\n+ exit 200\n{cleanup}mdadm: stopped /dev/md0\n")), sentence);
        // `set -v` shows the source, `printf` ends no line, and so may be the whole output.
        assert_eq!(skip(&format!("echo {sentence:?}\n{sentence}\nexit 200\n")), sentence);
        assert_eq!(skip("no disk+ exit 200\n"), "no disk");
        assert_eq!(skip("no disk"), "no disk");
        assert_eq!(skip("no disk\n"), "no disk");
        assert_eq!(skip("+ '[' -e /dev/x ']'\n+ exit 200\n"), "it gave no reason");
    }

    #[test]
    fn what_its_authors_say_of_a_test_is_kept_and_changes_no_outcome() {
        let scan = scan("+ echo KNOWN TO FAIL: a trace\nKNOWN TO FAIL: always \nKNOWN TO FAIL: again\n");
        assert_eq!(scan.known_to_fail(), Some("always"));
        assert_eq!(scan.outcome(Exit::Code(0)), Outcome::Pass);
        assert!(matches!(scan.outcome(Exit::Code(1)), Outcome::Fail { .. }));
    }

    #[test]
    fn words_in_the_middle_of_a_line_mean_nothing() {
        let scan = scan("echo \"TEST WARNING: in the script's own source\"\n");
        assert_eq!(scan.outcome(Exit::Code(0)), Outcome::Pass);
    }

    #[test]
    fn a_warning_makes_a_pass_a_warning_and_a_failure_none() {
        let scan = scan("TEST WARNING: Ignoring command failure.\n");
        assert!(matches!(scan.outcome(Exit::Code(0)), Outcome::Warn { .. }));
        assert!(matches!(scan.outcome(Exit::Code(1)), Outcome::Fail { .. }));
    }

    #[test]
    fn changed_data_is_worse_than_a_failure_and_nothing_to_a_pass() {
        let line = "a b differ: byte 1, line 1\n";
        let corrupted = Outcome::DataCorruption { title: line.trim_end().to_owned() };
        assert_eq!(scan(line).outcome(Exit::Code(1)), corrupted);
        assert_eq!(scan(line).outcome(Exit::Code(0)), Outcome::Pass);
        let source = format!("set +vx; STACKTRACE; set -vx\n{line}");
        assert!(matches!(scan(&source).outcome(Exit::Code(1)), Outcome::Fail { .. }));
    }

    #[test]
    fn a_failure_shows_what_came_before_its_epilogue() {
        let script: String = (0..100).map(|n| format!("## Line: {n}\n")).collect();
        let scan = scan(&format!("the cause\nset +vx; STACKTRACE; set -vx\n{script}"));
        let outcome = scan.outcome(Exit::Code(1));
        assert_eq!(scan.telling_lines(&outcome), ["the cause"]);
        assert_eq!(scan.telling_lines(&Outcome::Pass).len(), KEPT_LINES);
    }

    #[test]
    fn memory_is_bounded_however_much_is_printed() {
        let mut scan = scan("");
        for _ in 0..1000 {
            scan.push(&[b'x'; 10_000]);
            scan.push(b"\nFound dm-x\n");
        }
        assert!(scan.last.len() <= KEPT_LINES && scan.weakened.len() <= 10);
        assert!(scan.last.iter().all(|line| line.len() <= 4096));
    }
}
