//! Which accelerator: KVM where it works, TCG elsewhere, and why.
//!
//! Deliberately not here: whether KVM works ([`super::kvm`]).

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::kvm::{KvmAnswer, SLOW_BOOT};

/// How guest code is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// By the processor's virtualisation.
    Kvm,
    /// By QEMU's translator.
    Tcg,
}

/// The accelerator that the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AccelChoice {
    /// KVM if it works, else TCG
    #[default]
    Auto,
    /// KVM, or an error that says why it does not work
    Kvm,
    /// Software emulation
    Tcg,
}

impl Accel {
    /// `-cpu` model. Under TCG a plain one: the more features, the more code to translate
    /// (user time of lvconvert-raid-reshape.sh: `max` 71 s, `qemu64` 55 s).
    /// `able` is the one that has all that QEMU can emulate, AMD's virtualisation among it.
    pub(crate) fn cpu(self, able: bool) -> &'static str {
        match (self, able) {
            (Accel::Kvm, _) => "host",
            (Accel::Tcg, false) => "qemu64",
            (Accel::Tcg, true) => "max",
        }
    }
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Accel::Kvm => "kvm",
            Accel::Tcg => "tcg",
        })
    }
}

/// An accelerator and the reason for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The accelerator.
    pub accel: Accel,
    /// Why it was chosen, for people.
    pub reason: String,
    /// How much slower than KVM it is.
    pub time_scale: TimeScale,
}

/// The factor on all time limits. Suites are written for the speed of KVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeScale {
    /// Percent.
    pub percent: u32,
}

impl TimeScale {
    /// As fast as KVM is.
    const FAST: TimeScale = TimeScale { percent: 100 };
    /// As slow as emulation is.
    const SLOW: TimeScale = TimeScale { percent: 300 };

    /// `duration` at this speed.
    pub(crate) fn apply(self, duration: Duration) -> Duration {
        duration * self.percent / 100
    }
}

/// Decides, given what is known of KVM here.
///
/// # Errors
/// If KVM was asked for and does not work, and those of `kvm`.
pub fn choose(choice: AccelChoice, kvm: impl FnOnce() -> Result<KvmAnswer>) -> Result<Chosen> {
    let tcg = |reason| Chosen { accel: Accel::Tcg, reason, time_scale: TimeScale::SLOW };
    if choice == AccelChoice::Tcg {
        return Ok(tcg("asked for".into()));
    }
    match kvm()?.works() {
        Ok(boot) => {
            let asked = if choice == AccelChoice::Kvm { "asked for; " } else { "" };
            let (slowly, time_scale) = match boot > SLOW_BOOT {
                true => (
                    format!(", slowly ({:.1} s): time limits are three times as long", boot.as_secs_f32()),
                    TimeScale::SLOW,
                ),
                false => (String::new(), TimeScale::FAST),
            };
            let reason = format!("{asked}a guest boots under KVM{slowly}");
            Ok(Chosen { accel: Accel::Kvm, reason, time_scale })
        }
        Err(absent) if choice == AccelChoice::Kvm => Err(anyhow::anyhow!(
            "--accel kvm cannot work here: {absent}; --accel tcg needs no KVM and is slower"
        )),
        Err(absent) => Ok(tcg(format!("no KVM: {absent}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::kvm::Absent;

    fn works(boot_ms: u64) -> impl FnOnce() -> Result<KvmAnswer> {
        move || Ok(KvmAnswer::Works { boot_ms })
    }

    #[test]
    fn a_broken_kvm_is_an_error_only_if_asked_for() {
        let broken =
            || Ok(KvmAnswer::Broken(Absent { why: "guest faults".into(), next: "buy another".into() }));
        let chosen = choose(AccelChoice::Auto, broken).unwrap();
        assert_eq!((chosen.accel, chosen.time_scale.percent), (Accel::Tcg, 300));
        assert_eq!(chosen.reason, "no KVM: guest faults; buy another");
        let error = choose(AccelChoice::Kvm, broken).unwrap_err().to_string();
        assert!(error.contains("guest faults; buy another; --accel tcg"), "{error}");
        assert_eq!(choose(AccelChoice::Tcg, || panic!("not probed")).unwrap().accel, Accel::Tcg);
        let interrupted = || Err(anyhow::anyhow!("interrupted"));
        assert!(choose(AccelChoice::Auto, interrupted).is_err(), "that is no answer");
    }

    #[test]
    fn a_slow_kvm_gets_the_time_limits_of_emulation() {
        let check = |choice, boot_ms, percent, reason: &str| {
            let chosen = choose(choice, works(boot_ms)).unwrap();
            let expect =
                Chosen { accel: Accel::Kvm, reason: reason.to_owned(), time_scale: TimeScale { percent } };
            assert_eq!(chosen, expect);
        };
        check(AccelChoice::Auto, 1200, 100, "a guest boots under KVM");
        check(AccelChoice::Kvm, 5000, 100, "asked for; a guest boots under KVM");
        let slowly = "a guest boots under KVM, slowly (8.2 s): time limits are three times as long";
        check(AccelChoice::Auto, 8200, 300, slowly);
        check(AccelChoice::Kvm, 8200, 300, &format!("asked for; {slowly}"));
        let limit = Duration::from_secs(60);
        assert_eq!(TimeScale::SLOW.apply(limit), Duration::from_secs(180));
        assert_eq!(TimeScale::FAST.apply(limit), limit);
    }
}
