//! Answers about KVM on this host, remembered for each QEMU and each boot of the host, and how long each
//! is good for.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use vm_images::store::digest::Digest;

use super::{KvmAnswer, absent, facts};
use crate::machine::host;

/// After so many kernels that gave no answer it is the host's fault, and no further one is tried.
const KERNELS_MAX: usize = 2;

/// How long a try without an answer, or with a slow one, is not made again. A host whose `/dev/kvm` opens and
/// runs nothing never gives one, and each try costs its whole timeout.
const UNCLEAR_FOR: Duration = Duration::from_secs(3600);

/// Answers about KVM on this host, a file for each QEMU.
pub struct KvmAnswers {
    file: PathBuf,
}

/// An answer that is known without a boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The answer.
    pub answer: KvmAnswer,
    /// When a guest was booted for it, seconds since the epoch; `None` if the host's facts say enough.
    pub tried_s: Option<u64>,
}

impl Known {
    /// When the question is asked again, for people.
    pub fn asked_again(&self) -> &'static str {
        match (&self.answer, self.tried_s) {
            (_, None) | (KvmAnswer::Passing(_), _) => "in each run",
            (answer, _) if answer.is_slow() => "an hour later: a busy host makes it slow, too",
            (KvmAnswer::Works { .. }, _) => "after the host's next boot, or when QEMU fails in a run",
            (KvmAnswer::Broken(_), _) => {
                "with --accel kvm, when the parameter ignore_msrs is changed, or after the host's next boot"
            }
            (KvmAnswer::Unclear { .. }, _) => "an hour later, or with --accel kvm",
        }
    }
}

/// The content of the file. An older one, which lacks something, is none.
#[derive(Serialize, Deserialize)]
struct Remembered {
    /// When a guest was booted for it, seconds since the epoch.
    tried_s: u64,
    #[serde(flatten)]
    answer: KvmAnswer,
}

impl KvmAnswers {
    /// Those of the folder `cache` about the QEMU with the version line `qemu`, since this host was booted.
    pub fn new(cache: &Path, qemu: &str) -> KvmAnswers {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let boot_id = read("/proc/sys/kernel/random/boot_id");
        // We tell users to turn it on: that makes it another host.
        let ignore_msrs = read("/sys/module/kvm/parameters/ignore_msrs");
        let host = format!("{}\n{boot_id}\n{ignore_msrs}", host::identity());
        let digest = Digest::of_inputs([("qemu", qemu), ("host", &host)]);
        KvmAnswers { file: cache.join(format!("kvm-{}", digest.short())) }
    }

    /// Forgets what a boot has shown: QEMU has failed since.
    pub(crate) fn forget(&self) {
        // If that fails, the next run is told the same as this one.
        let _ = fs::remove_file(&self.file);
    }

    /// The answer that is known without a boot; `None` if there is none, or none of late.
    pub fn known(&self) -> Option<Known> {
        known_by_facts().or_else(|| self.remembered(now_s()))
    }

    /// The answer to whether KVM works: what is known, or what `boot` finds, which boots a guest of the
    /// kernel with the digest `kernel`. With `retry`, a known no is asked again.
    ///
    /// # Errors
    /// Those of `boot`; nothing is remembered then.
    pub(crate) fn ask(
        &self,
        kernel: &str,
        retry: bool,
        boot: impl FnOnce() -> Result<KvmAnswer>,
    ) -> Result<KvmAnswer> {
        match known_by_facts() {
            Some(known) => Ok(known.answer),
            None => self.ask_at(now_s(), kernel, retry, boot),
        }
    }

    fn ask_at(
        &self,
        now_s: u64,
        kernel: &str,
        retry: bool,
        boot: impl FnOnce() -> Result<KvmAnswer>,
    ) -> Result<KvmAnswer> {
        let before = self.remembered(now_s).map(|known| known.answer);
        if let Some(answer) = before.as_ref().filter(|answer| is_enough(answer, kernel, retry)) {
            return Ok(answer.clone());
        }
        let mut answer = boot()?;
        if let (KvmAnswer::Unclear { kernels, .. }, Some(KvmAnswer::Unclear { kernels: others, .. })) =
            (&mut answer, before)
        {
            kernels.extend(others);
            kernels.sort();
            kernels.dedup();
        }
        // An error of the cache is none of KVM's.
        let _ = remember(&self.file, &Remembered { tried_s: now_s, answer: answer.clone() });
        Ok(answer)
    }

    fn remembered(&self, now_s: u64) -> Option<Known> {
        let Remembered { tried_s, answer } = serde_json::from_slice(&fs::read(&self.file).ok()?).ok()?;
        is_good_at(now_s, tried_s, &answer).then_some(Known { answer, tried_s: Some(tried_s) })
    }
}

/// The answer that needs no QEMU: that of the host's facts, if they leave nothing to open.
pub fn known_by_facts() -> Option<Known> {
    let absent = absent::absent(&facts::read())?;
    Some(Known { answer: KvmAnswer::Broken(absent), tried_s: None })
}

/// Whether an answer is still one. A clock that was set back makes an unclear one old.
fn is_good_at(now_s: u64, tried_s: u64, answer: &KvmAnswer) -> bool {
    match answer {
        KvmAnswer::Unclear { .. } => is_of_late(now_s, tried_s),
        KvmAnswer::Works { .. } => !answer.is_slow() || is_of_late(now_s, tried_s),
        KvmAnswer::Broken(_) | KvmAnswer::Passing(_) => true,
    }
}

fn is_of_late(now_s: u64, tried_s: u64) -> bool {
    now_s.checked_sub(tried_s).is_some_and(|age_s| age_s < UNCLEAR_FOR.as_secs())
}

/// Whether an answer makes a boot of `kernel` needless.
fn is_enough(answer: &KvmAnswer, kernel: &str, retry: bool) -> bool {
    match answer {
        KvmAnswer::Works { .. } => true,
        KvmAnswer::Broken(_) => !retry,
        // QEMU gives up at once: asking costs nothing.
        KvmAnswer::Passing(_) => false,
        KvmAnswer::Unclear { kernels, .. } => {
            !retry && (kernels.len() >= KERNELS_MAX || kernels.iter().any(|tried| tried == kernel))
        }
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn remember(file: &Path, answer: &Remembered) -> std::io::Result<()> {
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
    use crate::machine::kvm::absent::say;

    const HOUR_S: u64 = 3600;
    const WORKS: KvmAnswer = KvmAnswer::Works { boot_ms: 1200 };

    fn unclear(kernels: &[&str]) -> KvmAnswer {
        let kernels = kernels.iter().map(|&kernel| kernel.to_owned()).collect();
        KvmAnswer::Unclear { absent: say("silent", "wait"), kernels }
    }

    /// Asks at a time, with an answer that is given if a guest is booted.
    #[track_caller]
    fn check(
        answers: &KvmAnswers,
        at_s: u64,
        (kernel, retry): (&str, bool),
        boots: Option<&KvmAnswer>,
        expect: &KvmAnswer,
    ) {
        let boot = || Ok(boots.expect("a guest was booted").clone());
        assert_eq!(&answers.ask_at(at_s, kernel, retry, boot).unwrap(), expect);
    }

    fn empty() -> (tempfile::TempDir, KvmAnswers) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kvm-1");
        (folder, KvmAnswers { file })
    }

    #[test]
    fn a_slow_boot_is_tried_again_after_an_hour_and_a_failed_one_is_forgotten() {
        let (_folder, answers) = empty();
        let slow = KvmAnswer::Works { boot_ms: 8200 };
        check(&answers, 100, ("k", false), Some(&slow), &slow);
        check(&answers, 100 + HOUR_S - 1, ("k", true), None, &slow);
        check(&answers, 100 + HOUR_S, ("k", false), Some(&WORKS), &WORKS);
        check(&answers, 100 + 90 * HOUR_S, ("k", false), None, &WORKS);
        answers.forget();
        check(&answers, 100 + 90 * HOUR_S, ("k", false), Some(&slow), &slow);
    }

    #[test]
    fn a_boot_without_an_answer_is_not_tried_again_at_once() {
        let (_folder, answers) = empty();
        let one = unclear(&["k"]);
        check(&answers, 100, ("k", false), Some(&one), &one);
        check(&answers, 101, ("k", false), None, &one);
        check(&answers, 102, ("k", true), Some(&one), &one);
        // The fault may be the first kernel's; that of two is the host's.
        let two = unclear(&["k", "k2"]);
        check(&answers, 103, ("k2", false), Some(&unclear(&["k2"])), &two);
        check(&answers, 104, ("k3", false), None, &two);
        assert_eq!(answers.remembered(104).unwrap().tried_s, Some(103));
        assert_eq!(answers.remembered(103 + HOUR_S), None);
        assert_eq!(answers.remembered(102), None, "the clock was set back");
        check(&answers, 103 + HOUR_S, ("k", false), Some(&WORKS), &WORKS);
        check(&answers, 1 << 40, ("k", true), None, &WORKS);
    }

    #[test]
    fn a_broken_kvm_is_asked_again_only_if_it_is_insisted_on() {
        let (_folder, answers) = empty();
        let broken = KvmAnswer::Broken(say("no", "buy one"));
        check(&answers, 100, ("k", false), Some(&broken), &broken);
        check(&answers, 100 + 9 * HOUR_S, ("k2", false), None, &broken);
        check(&answers, 100 + 9 * HOUR_S, ("k", true), Some(&WORKS), &WORKS);
    }

    #[test]
    fn a_reason_that_passes_is_asked_again_in_each_run_and_told_between_them() {
        let (_folder, answers) = empty();
        let busy = KvmAnswer::Passing(say("busy", "end it"));
        check(&answers, 100, ("k", false), Some(&busy), &busy);
        let known = answers.remembered(101).unwrap();
        assert_eq!((&known.answer, known.tried_s), (&busy, Some(100)));
        assert_eq!(known.asked_again(), "in each run");
        check(&answers, 101, ("k", false), Some(&WORKS), &WORKS);
    }

    #[test]
    fn nothing_is_remembered_of_a_boot_that_was_cut_short() {
        let (_folder, answers) = empty();
        let cut_short = || Err(anyhow::anyhow!("interrupted"));
        assert!(answers.ask_at(100, "k", false, cut_short).is_err());
        assert_eq!(answers.remembered(100), None);
    }

    #[test]
    fn an_answer_of_an_older_version_is_asked_again() {
        let older = [
            r#"{"kvm":"works"}"#,
            r#"{"kvm":"broken","why":"/dev/kvm opens, but QEMU was killed by signal 6"}"#,
            r#"{"kvm":"unclear","why":"silent","kernels":["k"]}"#,
            "",
        ];
        for content in older {
            let (_folder, answers) = empty();
            fs::write(&answers.file, content).unwrap();
            assert_eq!(answers.remembered(100), None, "{content}");
            check(&answers, 100, ("k", false), Some(&WORKS), &WORKS);
        }
    }

    #[test]
    fn what_is_remembered_is_what_was_said() {
        for answer in
            [WORKS, KvmAnswer::Broken(say("a", "b")), KvmAnswer::Passing(say("a", "b")), unclear(&["k", "l"])]
        {
            let (_folder, answers) = empty();
            check(&answers, 100, ("k", true), Some(&answer), &answer);
            assert_eq!(answers.remembered(100), Some(Known { answer, tried_s: Some(100) }));
        }
    }
}
