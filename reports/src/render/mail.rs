//! `report.txt`: a failure as a mail to linux-raid or dm-devel, in plain text of 78 columns where lines can
//! be wrapped. Stacks, logs and commands cannot.

use protocol::Outcome;

use crate::judge::judged::Judged;
use crate::judge::kernel_version;
use crate::judge::signature::ARROW;
use crate::record::{Attempt, RunRecord};
use crate::render::words::findings::{file_names, issue_details, report_lines, stack_lines};
use crate::render::words::reproduce;
use crate::render::words::storage;
use crate::text::{self, MAX_LAST_LINES, clip, columns, printable};

/// Width of what is wrapped, columns.
const WIDTH: usize = 78;

/// Widest line that is not wrapped.
const MAX_LINE_WIDTH: usize = 200;

/// Columns of the names in the head, `Kernel:`.
const NAME_WIDTH: usize = 11;

/// True if what came of an attempt is worth a mail.
pub(crate) fn is_due(judged: &Judged) -> bool {
    let Some(came_to) = &judged.came_to else { return false };
    match came_to {
        Outcome::Fail { .. }
        | Outcome::Timeout { .. }
        | Outcome::Hang { .. }
        | Outcome::KernelCrash { .. }
        | Outcome::DataCorruption { .. } => true,
        Outcome::Pass
        | Outcome::Warn { .. }
        | Outcome::Skip { .. }
        | Outcome::Interrupted
        | Outcome::Infra { .. } => false,
    }
}

/// The text, of an attempt that is over.
pub(crate) fn render(record: &RunRecord, judged: &Judged, attempt: &Attempt) -> String {
    let mut out = MailText::default();
    let kernel = kernel_name(record, judged.kernel_idx);
    let what = what_happened(judged);
    let title = judged.signature.as_ref().map(|signature| format!(": {}", signature.title()));
    out.line(&plain_arrows(&format!(
        "Subject: {} {what} on {kernel}{}",
        judged.test,
        title.unwrap_or_default()
    )));
    out.line("");
    let after = attempt.duration_ms().map(|ms| format!(", {} after its start", text::duration(ms)));
    let explanation = judged.explanation();
    let why = if explanation.is_empty() { explanation } else { format!(": {explanation}") };
    out.wrap(&format!("{} {what} on {kernel}{}{why}", judged.test, after.unwrap_or_default()), 0);
    judged.tries_lines().iter().for_each(|line| out.wrap(line, 0));
    out.line("");
    head(&mut out, record, judged, attempt);
    if let Some(signature) = &judged.signature {
        out.section("Signature");
        signature.lines().iter().for_each(|line| out.wrap(line, 4));
    }
    let issues = judged.issue_lines();
    if !issues.is_empty() {
        out.section("Known issues");
        for line in issues {
            out.wrap(&line, 0);
            let matched = judged.known_issues.iter().find(|matched| matched.sentence() == line);
            for detail in matched.map(issue_details).unwrap_or_default() {
                out.wrap(&format!("  {detail}"), 2);
            }
        }
    }
    let stacks: Vec<_> = stack_lines(record, judged, attempt).iter().map(|line| plain_arrows(line)).collect();
    out.block("Where tasks stand", &stacks);
    out.block("md and dm", &attempt.storage.as_ref().map(storage::lines).unwrap_or_default());
    out.block("Reports in the kernel's log", &report_lines(judged, attempt));
    if let Some((outcome, facts)) = attempt.finished() {
        let title = match outcome {
            Outcome::KernelCrash { .. } => "Console",
            Outcome::Pass
            | Outcome::Fail { .. }
            | Outcome::Skip { .. }
            | Outcome::Warn { .. }
            | Outcome::Timeout { .. }
            | Outcome::Hang { .. }
            | Outcome::DataCorruption { .. }
            | Outcome::Interrupted
            | Outcome::Infra { .. } => "Last lines of its output",
        };
        out.block(title, &text::last_lines(facts, MAX_LAST_LINES, MAX_LINE_WIDTH));
    }
    out.section("To reproduce");
    out.command(&reproduce::command(record, attempt).unwrap_or_else(|| "no kernel became ready".to_owned()));
    let names = file_names(attempt);
    let files = if names.is_empty() { String::new() } else { format!(", files/ ({})", names.join(", ")) };
    out.line("");
    out.wrap(&format!("Files beside this one: kernel.log, console.log, output.log{files}."), 0);
    out.0
}

/// Kernel, userland, machine, and who found it.
fn head(out: &mut MailText, record: &RunRecord, judged: &Judged, attempt: &Attempt) {
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            out.wrap(&format!("{:NAME_WIDTH$}{value}", format!("{name}:")), NAME_WIDTH);
        }
    };
    if let Some(kernel) = record.kernels.get(&judged.kernel_idx) {
        let package = kernel.package_version.iter().map(|version| format!(", package {version}"));
        let version = attempt.guest.iter().map(|guest| format!(", {}", guest.kernel_version));
        let rest: String = package.chain(version).collect();
        field("Kernel", &format!("{}{rest}", kernel.release));
        field("As", &kernel.exact_spec);
    }
    if let Some(image) = &record.image {
        let ours = image.versions.iter().filter(|(name, _)| ["lvm2", "mdadm"].contains(&name.as_str()));
        let versions: Vec<_> = ours.map(|(name, version)| format!("{name} {version}")).collect();
        field("Userland", &versions.join(", "));
    }
    if let Some(machine) = &record.machine {
        let guest = attempt.guest.as_ref();
        let size = guest.map(|guest| format!(", {} CPU, {} MiB", guest.n_cpus, guest.mem_total_kib / 1024));
        field("Machine", &format!("{}, {}{}", machine.qemu, machine.accel, size.unwrap_or_default()));
    }
    let harness = record.run.harness.trim_start_matches("md-regress ");
    field("Found by", &format!("md-regress {harness}, {}", record.run.started_at));
}

/// `6.1.192`, or else the release.
fn kernel_name(record: &RunRecord, kernel_idx: u32) -> String {
    let words = record.kernels.get(&kernel_idx).and_then(kernel_version::in_words);
    words.unwrap_or_else(|| record.kernel_label(kernel_idx))
}

/// The outcome as part of a sentence, `hung`, whatever was expected.
fn what_happened(judged: &Judged) -> &'static str {
    match &judged.came_to {
        Some(Outcome::Hang { .. }) => "hung",
        Some(Outcome::KernelCrash { .. }) => "crashed the kernel",
        Some(Outcome::DataCorruption { .. }) => "found changed data",
        Some(Outcome::Timeout { .. }) => "ran into its time limit",
        Some(Outcome::Fail { .. }) => "failed",
        Some(Outcome::Pass | Outcome::Warn { .. }) => "passed",
        Some(Outcome::Skip { .. }) => "skipped",
        Some(Outcome::Interrupted | Outcome::Infra { .. }) | None => "did not end",
    }
}

/// `text` with arrows of plain ASCII, for mail programs that know no others.
fn plain_arrows(text: &str) -> String {
    text.replace(ARROW, " <- ")
}

#[derive(Default)]
struct MailText(String);

impl MailText {
    fn line(&mut self, line: &str) {
        self.0 += clip(&printable(line), MAX_LINE_WIDTH).trim_end();
        self.0.push('\n');
    }

    /// A command, whole, whatever its width.
    fn command(&mut self, command: &str) {
        self.0 += &printable(command);
        self.0.push('\n');
    }

    fn section(&mut self, title: &str) {
        self.0 += &format!("\n{title}\n{}\n", "-".repeat(title.len()));
    }

    fn block(&mut self, title: &str, lines: &[String]) {
        if !lines.is_empty() {
            self.section(title);
            lines.iter().for_each(|line| self.line(line));
        }
    }

    /// Breaks a line between words; what goes on is indented by so many columns.
    fn wrap(&mut self, line: &str, indent: usize) {
        let line = plain_arrows(&printable(line));
        let lead: String = line.chars().take_while(|c| *c == ' ').collect();
        let mut current = lead;
        let mut is_empty = true;
        // As they are: the head has columns.
        for word in line.trim_start().split(' ') {
            let gap = usize::from(!is_empty);
            if !is_empty && columns(&current) + gap + columns(word) > WIDTH {
                self.line(&current);
                current = " ".repeat(indent);
                is_empty = true;
            }
            if !is_empty {
                current.push(' ');
            }
            current += word;
            is_empty = false;
        }
        if !current.trim().is_empty() {
            self.line(&current);
        }
    }
}

#[cfg(test)]
#[path = "mail_tests.rs"]
mod tests;
