//! One line of the history: what an attempt came to.

use protocol::TestId;
use serde::{Deserialize, Serialize};

use crate::judge::judged::Judged;
use crate::record::RunRecord;
use crate::text::printable;

/// Version of a line; readers pass over lines of a newer one.
pub const FORMAT: u32 = 1;

/// One attempt, for ever. Fields are only ever added to a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryLine {
    /// [`FORMAT`].
    pub format: u32,
    /// When it was over, wall clock, RFC 3339.
    pub at: String,
    /// The run; with `attempt`, names the line.
    pub run: String,
    /// Number of the attempt within its run.
    pub attempt: u32,
    /// Which test.
    pub test: TestId,
    /// The kernel as the user named it, `deb:6.12`.
    pub kernel: String,
    /// `uname -r`.
    pub release: String,
    /// Version of the kernel's package, if it is from one; absent in older lines.
    #[serde(default)]
    pub package_version: Option<String>,
    /// Digest of the kernel's boot artifact.
    pub kernel_digest: String,
    /// Digest of the guest image.
    pub image_digest: String,
    /// `kvm` or `tcg`.
    pub accel: String,
    /// Processors of the VM; `None` if it never answered.
    pub vcpus: Option<u32>,
    /// Processors of the host.
    pub host_cpus: Option<u32>,
    /// VMs that the run had at a time: a test beside others takes longer.
    pub n_vms: Option<u32>,
    /// Name of the [`Outcome`](protocol::Outcome).
    pub outcome: String,
    /// Name of the [`Verdict`](crate::Verdict), as it was judged then.
    pub verdict: String,
    /// The outcome of the expectation that it met, if it met one; absent in older lines.
    #[serde(default)]
    pub met: Option<String>,
    /// Duration of the test alone, milliseconds.
    pub test_ms: Option<u64>,
    /// From starting the VM to its end, milliseconds.
    pub vm_ms: u64,
    /// The signature's headline, printable.
    pub signature: Option<String>,
}

impl HistoryLine {
    /// The line of an attempt that is over at `at`; nothing of one that is not, and nothing of one that was
    /// never planned.
    pub fn of(record: &RunRecord, judged: &Judged, at: &str) -> Option<HistoryLine> {
        let attempt = record.attempt(judged.attempt?)?;
        let (outcome, facts) = attempt.finished()?;
        let kernel = record.kernels.get(&attempt.kernel_idx)?;
        let host = |name: &str| record.run.host.get(name).and_then(|value| value.parse().ok());
        Some(HistoryLine {
            format: FORMAT,
            at: at.to_owned(),
            run: record.run.name.clone(),
            attempt: attempt.number,
            test: attempt.test.clone(),
            kernel: kernel.spec.clone(),
            release: kernel.release.clone(),
            package_version: kernel.package_version.clone(),
            kernel_digest: kernel.digest.clone(),
            image_digest: record.image.as_ref().map(|image| image.digest.clone()).unwrap_or_default(),
            accel: record.machine.as_ref().map(|machine| machine.accel.clone()).unwrap_or_default(),
            vcpus: attempt.guest.as_ref().map(|guest| guest.n_cpus),
            host_cpus: host("cpus"),
            n_vms: host("vms"),
            outcome: outcome.name().to_owned(),
            verdict: judged.verdict.name().to_owned(),
            met: judged.expectation.as_ref().filter(|one| one.met).map(|one| one.outcome.clone()),
            test_ms: facts.test_ms,
            vm_ms: facts.vm_ms,
            signature: judged.signature.as_ref().map(|signature| printable(&signature.headline())),
        })
    }
}
