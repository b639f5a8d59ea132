//! Whether KVM works here: boots a guest under it to its agent's answer.
//!
//! Deliberately not here: how long that answer is good for, and what follows from it ([`super::accel`]).

use std::time::Duration;

use vm_images::host::Cancel;

use super::accel::KvmAnswer;
use super::greeting::Opening;
use super::talk::{Talk, Unheard};
use super::{Hypervisor, VmEnd, VmSpec};

/// How long a guest may take to answer under KVM before KVM counts as broken: such a guest
/// answers in about a second.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Boots a guest of `spec`, which takes KVM; `kernel` is the digest of its kernel.
pub(crate) fn boot(hypervisor: &dyn Hypervisor, spec: &VmSpec, kernel: &str) -> KvmAnswer {
    let unclear = |why: String| KvmAnswer::Unclear {
        why: format!("/dev/kvm opens, but {why}"),
        kernels: vec![kernel.to_owned()],
    };
    // The answer is remembered: one that a signal cut short would be a wrong one.
    let never = Cancel::default();
    let mut talk = match Talk::start(hypervisor, spec, Opening::without_entropy(), &never) {
        Ok(talk) => talk,
        Err(error) => return unclear(error.to_string()),
    };
    match talk.wait_for_answer(TIMEOUT, |_| {}) {
        Ok(_) => KvmAnswer::Works,
        Err(Unheard::Ended(VmEnd::Failed { error })) => {
            KvmAnswer::Broken { why: format!("/dev/kvm opens, but {error}") }
        }
        Err(Unheard::Ended(VmEnd::Clean | VmEnd::Killed)) => {
            unclear("the guest went away while booting".into())
        }
        Err(Unheard::Late) => unclear(format!("no guest boots within {} s", TIMEOUT.as_secs())),
        Err(error @ (Unheard::OtherAgent(_) | Unheard::Cancelled)) => unclear(error.to_string()),
    }
}
