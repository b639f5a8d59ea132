//! Which accelerator: KVM where it works, TCG elsewhere, and why.
//!
//! A `/dev/kvm` that opens proves nothing: seen on a real host, it opens, answers its API version
//! and creates a VM, and then QEMU aborts or the guest faults for ever. So KVM is probed by booting
//! a guest to its agent's answer. The answer is cached per QEMU and host kernel.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use vm_images::digest::Digest;

/// How guest code is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Accel {
    /// By the processor's virtualisation.
    Kvm,
    /// By QEMU's translator.
    Tcg,
}

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum AccelChoice {
    /// KVM if it works, else TCG
    #[default]
    Auto,
    /// KVM, or an error that says why it does not work
    Kvm,
    /// Software emulation
    Tcg,
}

/// How long a guest may take to answer under KVM before KVM counts as broken: such a guest
/// answers in about a second.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

impl Accel {
    /// `-cpu` model. Under TCG a plain one: the more features, the more code to translate
    /// (user time of lvconvert-raid-reshape.sh: `max` 71 s, `qemu64` 55 s).
    pub(crate) fn cpu(self) -> &'static str {
        match self {
            Accel::Kvm => "host",
            Accel::Tcg => "qemu64",
        }
    }

    /// Factor on all time limits, percent. Suites are written for the speed of KVM.
    pub(crate) fn time_scale_percent(self) -> u32 {
        match self {
            Accel::Kvm => 100,
            Accel::Tcg => 300,
        }
    }

    /// `duration` at this accelerator's speed.
    pub(crate) fn scale(self, duration: Duration) -> Duration {
        duration * self.time_scale_percent() / 100
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
pub(crate) struct Chosen {
    pub(crate) accel: Accel,
    pub(crate) reason: String,
}

/// Decides, given what is known of KVM here: `Ok` if it works, `Err` with why not.
pub(crate) fn choose(
    choice: AccelChoice,
    kvm: impl FnOnce() -> Result<(), String>,
) -> anyhow::Result<Chosen> {
    match choice {
        AccelChoice::Tcg => Ok(Chosen { accel: Accel::Tcg, reason: "asked for".into() }),
        AccelChoice::Kvm => match kvm() {
            Ok(()) => Ok(Chosen { accel: Accel::Kvm, reason: "asked for; a guest boots".into() }),
            Err(why) => Err(anyhow::anyhow!(
                "--accel kvm cannot work here: {why}; --accel tcg needs no KVM and is slower"
            )),
        },
        AccelChoice::Auto => Ok(match kvm() {
            Ok(()) => Chosen { accel: Accel::Kvm, reason: "a guest boots under KVM".into() },
            Err(why) => Chosen { accel: Accel::Tcg, reason: format!("no KVM: {why}") },
        }),
    }
}

/// What a try to boot under KVM came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kvm", rename_all = "kebab-case")]
pub(crate) enum KvmAnswer {
    /// A guest boots.
    Works,
    /// QEMU itself gave up: that will not change before the host does.
    Broken {
        /// What it said.
        why: String,
    },
    /// No answer, for whatever reason: worth another try in the next run.
    Unclear {
        /// What happened.
        why: String,
    },
}

/// Says if KVM works: from the cache, or by `boot`, which boots a guest under KVM. Only answers about
/// the machine are cached, and `retry` asks again in spite of a cached no.
pub(crate) fn kvm_works(
    cache: &Path,
    qemu: &str,
    retry: bool,
    boot: impl FnOnce() -> KvmAnswer,
) -> Result<(), String> {
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .map_err(|error| format!("/dev/kvm does not open: {error}"))?;
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let host = format!("{}\n{boot_id}", host_identity());
    let file = cache.join(format!("kvm-{}", Digest::of_inputs([("qemu", qemu), ("host", &host)]).short()));
    let known = fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
    match known {
        Some(KvmAnswer::Works) => return Ok(()),
        Some(KvmAnswer::Broken { why }) if !retry => return Err(why),
        Some(KvmAnswer::Broken { .. } | KvmAnswer::Unclear { .. }) | None => {}
    }
    let answer = boot();
    if !matches!(answer, KvmAnswer::Unclear { .. }) {
        // An error of the cache is none of KVM's.
        let _ = remember(&file, &answer);
    }
    match answer {
        KvmAnswer::Works => Ok(()),
        KvmAnswer::Broken { why } | KvmAnswer::Unclear { why } => Err(why),
    }
}

/// The host's kernel and processor.
pub(crate) fn host_identity() -> String {
    let host = rustix::system::uname();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor: Vec<_> = cpuinfo
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| {
            ["model name", "stepping", "microcode", "flags"].iter().any(|key| line.starts_with(key))
        })
        .collect();
    format!(
        "{}\n{}\n{}",
        host.release().to_string_lossy(),
        host.version().to_string_lossy(),
        processor.join("\n")
    )
}

fn remember(file: &Path, answer: &KvmAnswer) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut beside = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&mut beside, answer)?;
    beside.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_kvm_is_an_error_only_if_asked_for() {
        let broken = || Err("guest faults".to_owned());
        assert_eq!(choose(AccelChoice::Auto, broken).unwrap().accel, Accel::Tcg);
        assert!(choose(AccelChoice::Auto, broken).unwrap().reason.contains("guest faults"));
        let error = choose(AccelChoice::Kvm, broken).unwrap_err().to_string();
        assert!(error.contains("guest faults") && error.contains("--accel tcg"), "{error}");
        assert_eq!(choose(AccelChoice::Tcg, || panic!("not probed")).unwrap().accel, Accel::Tcg);
        assert_eq!(choose(AccelChoice::Auto, || Ok(())).unwrap().accel, Accel::Kvm);
    }
}
