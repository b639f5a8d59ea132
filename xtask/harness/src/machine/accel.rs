//! Which accelerator: KVM where it works, TCG elsewhere, and why.
//!
//! A `/dev/kvm` that opens proves nothing: seen on a real host, it opens, answers its API version
//! and creates a VM, and then QEMU aborts or the guest faults for ever. So KVM is probed by booting
//! a guest to its agent's answer. The answer is cached per QEMU and host kernel.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use vm_images::store::digest::Digest;

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
    pub(crate) fn cpu(self) -> &'static str {
        match self {
            Accel::Kvm => "host",
            Accel::Tcg => "qemu64",
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

/// Decides, given what is known of KVM here: `Ok` if it works, `Err` with why not.
pub fn choose(choice: AccelChoice, kvm: impl FnOnce() -> Result<(), String>) -> anyhow::Result<Chosen> {
    let tcg = |reason| Chosen { accel: Accel::Tcg, reason, time_scale: TimeScale::SLOW };
    let kvm_for = |reason| Chosen { accel: Accel::Kvm, reason, time_scale: TimeScale::FAST };
    match choice {
        AccelChoice::Tcg => Ok(tcg("asked for".into())),
        AccelChoice::Kvm => match kvm() {
            Ok(()) => Ok(kvm_for("asked for; a guest boots".into())),
            Err(why) => Err(anyhow::anyhow!(
                "--accel kvm cannot work here: {why}; --accel tcg needs no KVM and is slower"
            )),
        },
        AccelChoice::Auto => Ok(match kvm() {
            Ok(()) => kvm_for("a guest boots under KVM".into()),
            Err(why) => tcg(format!("no KVM: {why}")),
        }),
    }
}

/// Result of a try to boot under KVM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kvm", rename_all = "kebab-case")]
pub enum KvmAnswer {
    /// A guest boots.
    Works,
    /// QEMU itself gave up: that will not change before the host does.
    Broken {
        /// QEMU's words.
        why: String,
    },
    /// No answer, for whatever reason: worth another try after [`UNCLEAR_FOR`].
    Unclear {
        /// The reason in words.
        why: String,
        /// Digests of the kernels that were tried: the fault of one may be its own, that of [`KERNELS_MAX`]
        /// is not.
        kernels: Vec<String>,
    },
}

/// After so many kernels that gave no answer it is the host's, and no further one is tried.
const KERNELS_MAX: usize = 2;

/// How long a try without an answer is not made again. A host whose `/dev/kvm` opens and runs nothing never
/// gives one, and each try costs its whole timeout.
const UNCLEAR_FOR: Duration = Duration::from_secs(3600);

/// Answers about KVM on this host, a file for each QEMU.
pub struct KvmAnswers {
    file: PathBuf,
}

impl KvmAnswers {
    /// Those of the folder `cache` about the QEMU with the version line `qemu`, since this host was booted.
    pub fn new(cache: &Path, qemu: &str) -> KvmAnswers {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let host = format!("{}\n{boot_id}", host_identity());
        let digest = Digest::of_inputs([("qemu", qemu), ("host", &host)]);
        KvmAnswers { file: cache.join(format!("kvm-{}", digest.short())) }
    }

    /// The answer that is known without a boot of `kernel` (its digest; `None` for any); `None` if there is
    /// none, or none of late.
    pub fn known(&self, kernel: Option<&str>) -> Option<KvmAnswer> {
        if let Err(error) = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
            return Some(KvmAnswer::Broken { why: format!("/dev/kvm does not open: {error}") });
        }
        self.remembered().filter(|answer| match (answer, kernel) {
            (KvmAnswer::Unclear { kernels, .. }, Some(kernel)) => {
                kernels.len() >= KERNELS_MAX || kernels.iter().any(|tried| tried == kernel)
            }
            (KvmAnswer::Works | KvmAnswer::Broken { .. } | KvmAnswer::Unclear { .. }, _) => true,
        })
    }

    fn remembered(&self) -> Option<KvmAnswer> {
        let answer = serde_json::from_slice(&fs::read(&self.file).ok()?).ok()?;
        if let KvmAnswer::Unclear { .. } = &answer {
            let written = fs::metadata(&self.file).and_then(|data| data.modified()).ok()?;
            // A clock that was set back makes the answer old.
            written.elapsed().ok().filter(|age| *age < UNCLEAR_FOR)?;
        }
        Some(answer)
    }

    /// Says if KVM works: by what is known, or by `boot`, which boots a guest under KVM. With `retry`, a
    /// known no is asked again.
    pub(crate) fn ask(
        &self,
        kernel: &str,
        retry: bool,
        boot: impl FnOnce() -> KvmAnswer,
    ) -> Result<(), String> {
        let known = self.known(Some(kernel)).filter(|answer| !retry || *answer == KvmAnswer::Works);
        let answer = known.unwrap_or_else(|| {
            let mut answer = boot();
            if let (KvmAnswer::Unclear { kernels, .. }, Some(KvmAnswer::Unclear { kernels: before, .. })) =
                (&mut answer, self.remembered())
            {
                kernels.extend(before);
                kernels.sort();
                kernels.dedup();
            }
            // An error of the cache is none of KVM's.
            let _ = remember(&self.file, &answer);
            answer
        });
        answer.works()
    }
}

impl KvmAnswer {
    /// `Err` with the reason if no guest is known to boot.
    pub fn works(self) -> Result<(), String> {
        match self {
            KvmAnswer::Works => Ok(()),
            KvmAnswer::Broken { why } | KvmAnswer::Unclear { why, .. } => Err(why),
        }
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

    #[test]
    fn a_boot_without_an_answer_is_not_tried_again_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let answers = KvmAnswers { file: folder.path().join("kvm-1") };
        if answers.known(None).is_some() {
            return; // No /dev/kvm here: nothing is ever booted.
        }
        let of = |kernel: &str| KvmAnswer::Unclear { why: "silent".into(), kernels: vec![kernel.to_owned()] };
        let unclear = || of("k");
        assert_eq!(answers.ask("k", false, unclear), Err("silent".to_owned()));
        assert_eq!(answers.ask("k", false, || panic!("booted again")), Err("silent".to_owned()));
        assert_eq!(answers.known(Some("k2")), None, "the fault may be the kernel's");
        assert_eq!(answers.ask("k", true, unclear), Err("silent".to_owned()), "--accel kvm asks again");
        assert_eq!(answers.ask("k2", false, || of("k2")), Err("silent".to_owned()));
        assert_eq!(
            answers.ask("k3", false, || panic!("booted")),
            Err("silent".to_owned()),
            "it is the host's"
        );
        assert_eq!(answers.ask("k", false, || panic!("booted again")), Err("silent".to_owned()));
        let old = std::time::SystemTime::now() - UNCLEAR_FOR;
        fs::File::options().write(true).open(&answers.file).unwrap().set_modified(old).unwrap();
        assert_eq!(answers.ask("k", false, || KvmAnswer::Works), Ok(()));
        assert_eq!(answers.ask("k", true, || panic!("booted again")), Ok(()));
    }
}
