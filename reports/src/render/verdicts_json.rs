//! `verdicts.json`: the verdicts for scripts. Versioned; fields are only ever added to a version.

use protocol::event::Blame;
use protocol::evidence::{KernelReport, ReportKind, TaskStack};
use protocol::storage_state::StorageState;
use serde::Serialize;

use crate::judge::known_issues::{IssueInfo, IssueMatch};
use crate::judge::result::{RunResult, counts};
use crate::judge::signature::{Signature, TaskSignature, telling_tasks};

use crate::judge::judged::{ExpectationMatch, Judged, Try};
use crate::record::{Attempt, RunRecord};
use crate::render::words::reproduce;

/// Version of the format.
pub const FORMAT: u32 = 1;

#[derive(Serialize)]
struct File<'a> {
    format: u32,
    run: &'a str,
    started_at: &'a str,
    harness: &'a str,
    command: &'a [String],
    result: &'static str,
    elapsed_ms: u64,
    accel: Option<&'a str>,
    image_digest: Option<&'a str>,
    counts: Vec<Count>,
    kernels: Vec<KernelLine<'a>>,
    verdicts: Vec<VerdictLine<'a>>,
    /// About the run as a whole.
    remarks: Vec<RemarkLine<'a>>,
}

#[derive(Serialize)]
struct RemarkLine<'a> {
    blame: Blame,
    text: &'a str,
}

#[derive(Serialize)]
struct Count {
    verdict: &'static str,
    n: usize,
}

#[derive(Serialize)]
struct KernelLine<'a> {
    kernel_idx: u32,
    spec: &'a str,
    exact_spec: &'a str,
    release: &'a str,
    digest: &'a str,
}

#[derive(Serialize)]
struct VerdictLine<'a> {
    test: String,
    kernel_idx: u32,
    attempt: Option<u32>,
    verdict: &'static str,
    bad: bool,
    detail: &'a str,
    expectation: Option<ExpectationLine<'a>>,
    signature: Option<SignatureLine<'a>>,
    known_issues: Vec<IssueLine<'a>>,
    not_struck: Vec<&'a str>,
    stacks: Vec<&'a TaskStack>,
    storage: Option<&'a StorageState>,
    kernel_reports: Vec<ReportLine<'a>>,
    duration_ms: Option<u64>,
    dir: Option<&'a str>,
    reproduce: Option<String>,
    /// Empty if there was one.
    tries: Vec<TryLine<'a>>,
    rate: Option<RateLine>,
}

#[derive(Serialize)]
struct TryLine<'a> {
    attempt: u32,
    retry_of: Option<u32>,
    verdict: &'static str,
    signature: Option<String>,
    duration_ms: Option<u64>,
    dir: Option<&'a str>,
}

/// At 95 % confidence.
#[derive(Serialize)]
struct RateLine {
    n_failed: u32,
    n: u32,
    low: f64,
    high: f64,
}

#[derive(Serialize)]
struct ExpectationLine<'a> {
    met: bool,
    outcome: &'a str,
    because: &'a str,
    reason: &'a str,
    place: &'a str,
}

#[derive(Serialize)]
struct SignatureLine<'a> {
    text: String,
    title: Option<&'a str>,
    tasks: Vec<TaskLine<'a>>,
}

#[derive(Serialize)]
struct TaskLine<'a> {
    comm: Option<&'a str>,
    frames: &'a [String],
}

#[derive(Serialize)]
struct ReportLine<'a> {
    kind: ReportKind,
    title: &'a str,
    /// Why it is, if it is.
    allowed: Option<&'a str>,
}

#[derive(Serialize)]
struct IssueLine<'a> {
    id: &'a str,
    title: &'a str,
    standing: &'static str,
    fix: Option<&'a str>,
    fixed_in: &'a [String],
    /// Debian's packages, likewise.
    debian: &'a [String],
    /// Other bugs may share what it was recognised by.
    is_wide: bool,
    link: Option<&'a str>,
    unchecked: bool,
    seen: bool,
    place: &'a str,
}

/// The text of `verdicts.json`. Guests' words are in it as they came: JSON escapes them.
pub fn render(record: &RunRecord, judged: &[Judged]) -> String {
    let kernels = record.kernels.iter().map(|(kernel_idx, kernel)| KernelLine {
        kernel_idx: *kernel_idx,
        spec: &kernel.spec,
        exact_spec: &kernel.exact_spec,
        release: &kernel.release,
        digest: &kernel.digest,
    });
    let file = File {
        format: FORMAT,
        run: &record.run.name,
        started_at: &record.run.started_at,
        harness: &record.run.harness,
        command: &record.run.command,
        result: RunResult::of(record, judged).name(),
        elapsed_ms: record.elapsed_ms,
        accel: record.machine.as_ref().map(|machine| machine.accel.as_str()),
        image_digest: record.image.as_ref().map(|image| image.digest.as_str()),
        counts: counts(judged).into_iter().map(|(verdict, n)| Count { verdict: verdict.name(), n }).collect(),
        kernels: kernels.collect(),
        verdicts: judged.iter().map(|judged| verdict_line(record, judged)).collect(),
        remarks: record
            .remarks
            .iter()
            .map(|remark| RemarkLine { blame: remark.blame, text: &remark.text })
            .collect(),
    };
    let mut text = serde_json::to_string_pretty(&file)
        .expect("maps with string keys and plain numbers always serialise");
    text.push('\n');
    text
}

fn verdict_line<'a>(record: &'a RunRecord, judged: &'a Judged) -> VerdictLine<'a> {
    let attempt = judged.attempt.and_then(|number| record.attempt(number));
    let expectation =
        judged.expectation.as_ref().map(|ExpectationMatch { met, outcome, because, reason, place }| {
            ExpectationLine { met: *met, outcome, because, reason, place }
        });
    VerdictLine {
        test: judged.test.to_string(),
        kernel_idx: judged.kernel_idx,
        attempt: judged.attempt,
        verdict: judged.verdict.name(),
        bad: judged.verdict.is_bad(),
        detail: &judged.detail,
        expectation,
        signature: judged.signature.as_ref().map(signature_line),
        known_issues: judged.known_issues.iter().map(issue_line).collect(),
        not_struck: judged.missing_issues.iter().map(|info| info.id.as_str()).collect(),
        stacks: attempt
            .map(|attempt| telling_tasks(&attempt.stacks).into_iter().map(|(stack, _)| stack).collect())
            .unwrap_or_default(),
        storage: attempt.and_then(|attempt| attempt.storage.as_ref()),
        kernel_reports: attempt.map(|attempt| report_lines(judged, attempt)).unwrap_or_default(),
        duration_ms: attempt.and_then(Attempt::duration_ms),
        dir: attempt.map(|attempt| attempt.dir.as_str()),
        reproduce: attempt.and_then(|attempt| reproduce::command(record, attempt)),
        tries: judged.tries.iter().map(|one| try_line(record, one)).collect(),
        rate: judged.rate().map(|rate| {
            let (low, high) = rate.bounds();
            RateLine { n_failed: rate.n_failed, n: rate.n, low, high }
        }),
    }
}

fn try_line<'a>(record: &'a RunRecord, one: &Try) -> TryLine<'a> {
    let attempt = record.attempt(one.attempt);
    TryLine {
        attempt: one.attempt,
        retry_of: one.retry_of,
        verdict: one.verdict.name(),
        signature: one.signature.as_ref().map(Signature::headline),
        duration_ms: attempt.and_then(Attempt::duration_ms),
        dir: attempt.map(|attempt| attempt.dir.as_str()),
    }
}

fn report_lines<'a>(judged: &'a Judged, attempt: &'a Attempt) -> Vec<ReportLine<'a>> {
    let line = |report: &'a KernelReport| ReportLine {
        kind: report.kind,
        title: &report.title,
        allowed: judged.allowed.get(&report.title).map(String::as_str),
    };
    attempt.kernel_reports.iter().map(line).collect()
}

fn signature_line<'a>(signature: &'a Signature) -> SignatureLine<'a> {
    let (title, tasks) = match signature {
        Signature::Tasks(tasks) => {
            let line = |task: &'a TaskSignature| TaskLine { comm: Some(&task.comm), frames: &task.frames };
            (None, tasks.iter().map(line).collect())
        }
        Signature::Report { title, frames } => (Some(title.as_str()), vec![TaskLine { comm: None, frames }]),
    };
    SignatureLine { text: signature.headline(), title, tasks }
}

fn issue_line(matched: &IssueMatch) -> IssueLine<'_> {
    let IssueMatch { info, standing, fixed_in, debian, is_wide } = matched;
    let IssueInfo { id, title, bug: _, fix, subject: _, unchecked, seen, link, place } = info;
    IssueLine {
        id,
        title,
        standing: standing.name(),
        fix: fix.as_deref(),
        fixed_in,
        debian,
        is_wide: *is_wide,
        link: link.as_deref(),
        unchecked: *unchecked,
        seen: *seen,
        place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn scripts_find_result_and_verdicts() {
        let (record, judged) = testing::sample_of_one_kernel();
        let json: serde_json::Value = serde_json::from_str(&render(&record, &judged)).unwrap();
        assert_eq!(json["format"], 1);
        assert_eq!(json["result"], "tests-failed");
        assert_eq!(json["kernels"][0]["release"], "6.12.107+deb13-cloud-amd64");
        let failed = &json["verdicts"][1];
        assert_eq!(failed["test"], "lvm2:shell/lvconvert-raid-reshape.sh");
        assert_eq!(failed["verdict"], "failed");
        assert_eq!(failed["bad"], true);
        assert_eq!(failed["duration_ms"], 111_200);
        assert_eq!(json["verdicts"][4]["expectation"]["reason"], "the guest has no dm-vdo");
        assert_eq!(json["verdicts"][0]["signature"], serde_json::Value::Null);
    }

    #[test]
    fn scripts_find_remarks_about_the_run() {
        let (mut record, judged) = testing::sample_of_one_kernel();
        let text = "stale expectation e.toml:2".to_owned();
        record.remarks = vec![crate::record::Remark { blame: Blame::Test, text }];
        let json: serde_json::Value = serde_json::from_str(&render(&record, &judged)).unwrap();
        assert_eq!(json["remarks"][0]["blame"], "test");
        assert_eq!(json["remarks"][0]["text"], "stale expectation e.toml:2");
        assert_eq!(json["result"], "tests-failed");
    }

    #[test]
    fn scripts_find_signature_and_known_issue() {
        let (record, judged) = testing::hung();
        let json: serde_json::Value = serde_json::from_str(&render(&record, &judged)).unwrap();
        let hung = &json["verdicts"][0];
        assert_eq!(hung["bad"], true);
        assert_eq!(hung["signature"]["tasks"][1]["comm"], "mdX_resync");
        assert_eq!(hung["signature"]["tasks"][1]["frames"][0], "_wait_barrier");
        assert_eq!(hung["known_issues"][0]["id"], "dm-raid-stop-and-barrier");
        assert_eq!(hung["known_issues"][0]["standing"], "present");
        assert_eq!(hung["stacks"].as_array().unwrap().len(), 3);
        assert_eq!(hung["stacks"][0]["comm"], "lvm");
        assert_eq!(hung["storage"]["suspended"][0], "LVMTEST79vg-LV1");
        assert_eq!(hung["storage"]["arrays"][0]["attributes"]["sync_action"], "frozen");
    }
}
