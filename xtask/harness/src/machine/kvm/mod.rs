//! What is known of KVM on this host: whether a guest runs under it, and if none does, why, and what to do.
//!
//! A `/dev/kvm` that opens proves nothing: seen on a real host, it opens, answers its API version and creates
//! a VM, and then QEMU aborts or the guest faults for ever. So [`probe`] boots a guest to its agent's answer,
//! for as long as it shows [signs of life](patience), and [`answers`] remembers how that went. Whether there
//! is anything to open is read from the [host's facts](facts). Deliberately not here: the choice that follows
//! ([`super::accel`]).

mod absent;
pub mod answers;
mod create_vm;
mod facts;
mod last_words;
mod patience;
pub(crate) mod probe;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why no guest runs under KVM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absent {
    /// What is missing, or fails.
    pub why: String,
    /// What the user can do about it.
    pub next: String,
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.why, self.next)
    }
}

/// Whether a guest runs under KVM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kvm", rename_all = "kebab-case")]
pub enum KvmAnswer {
    /// A guest boots.
    Works {
        /// Time from its start to its answer, milliseconds.
        boot_ms: u64,
    },
    /// There is nothing to open, or QEMU itself gave up: that will not change before the host does.
    Broken(Absent),
    /// QEMU itself gave up at once, for a reason that passes.
    Passing(Absent),
    /// No answer, for whatever reason: worth another try after an hour.
    Unclear {
        /// The reason.
        #[serde(flatten)]
        absent: Absent,
        /// Digests of the kernels that were tried: the fault of one may be its own.
        kernels: Vec<String>,
    },
}

/// A KVM under which a guest takes longer to boot is as slow as emulation: it runs inside a VM, where each
/// exit of the guest's passes through two hypervisors. Elsewhere a boot takes about a second.
pub(super) const SLOW_BOOT: Duration = Duration::from_secs(5);

impl KvmAnswer {
    /// A guest boots, and slowly: that may be the doing of a busy host.
    fn is_slow(&self) -> bool {
        matches!(self, KvmAnswer::Works { boot_ms } if Duration::from_millis(*boot_ms) > SLOW_BOOT)
    }

    /// How long a guest takes to boot.
    ///
    /// # Errors
    /// If none is known to boot.
    pub fn works(&self) -> Result<Duration, &Absent> {
        match self {
            KvmAnswer::Works { boot_ms } => Ok(Duration::from_millis(*boot_ms)),
            KvmAnswer::Broken(absent) | KvmAnswer::Passing(absent) | KvmAnswer::Unclear { absent, .. } => {
                Err(absent)
            }
        }
    }
}
