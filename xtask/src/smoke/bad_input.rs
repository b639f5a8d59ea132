//! Checks that impossible requests end with a message that says why and what to do, with the right exit code,
//! and without loss.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::run::finished::read_record;
use harness::session::Session;
use protocol::Outcome;
use reports::record::{AttemptState, RunEnd};
use rustix::process::{Pid, Signal, kill_process};

use super::checkouts;
use super::other_xtask::OtherXtask;
use super::{Scratch, wait_until};

/// Errors that are found before the first guest starts.
pub(super) fn wrong_words(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let xtask = OtherXtask::new(session);
    let runs = out.0.join("runs");
    let runs = runs.to_str().context("the folder has a plain name")?;
    let script = out.0.join("dust.sh");
    fs::write(&script, "# md-regress: modules=dm-dust\ntrue\n")?;
    let script = script.to_str().context("the folder has a plain name")?;
    let cases: [(&[&str], i32, &[&str]); 12] = [
        (&["--kernel", "deb:9.99"], 2, &["no kernel `deb:9.99`", "`cargo xtask kernel list` shows all"]),
        (&["--kernel", "6.12"], 2, &["`6.12` names no kernel", "deb:6.12"]),
        (&["no-such-test"], 2, &["no test matches `no-such-test`"]),
        (&["integrity-cachin"], 2, &["did you mean `shell/integrity-caching.sh`?"]),
        (&["-E", "no such test"], 3, &["nothing to run"]),
        (&["-E", "("], 2, &["regex"]),
        (&["--tag", "colour"], 2, &["no tag `colour`", "reshape"]),
        (&["--flavour", "vanilla"], 2, &["no flavour `vanilla`", "ndev-vanilla"]),
        (&["--suite", "none"], 2, &["no suite `none`", "canary, lvm2"]),
        (&["--script", "/no/such.sh"], 2, &["script `/no/such.sh`"]),
        (&["--script", script, "--script-needs", "ram=lots"], 2, &["`ram=lots` is no size", "ram=2G"]),
        (&["--script", script], 2, &["lacks dm-dust (CONFIG_DM_DUST)", "choose another kernel"]),
    ];
    for (words, code, texts) in cases {
        let ended = xtask.run(&out, ["test", "--out", runs].iter().chain(words))?;
        ended.expect(code, texts).with_context(|| format!("test {}", words.join(" ")))?;
    }
    ensure!(!Path::new(runs).exists(), "a run was made of nothing");
    let bad = out.0.join("bad.toml");
    fs::write(&bad, "jobs = 2\nkernal = \"deb:6.1\"\n")?;
    let config = OtherXtask::new(session).env("MD_REGRESS_CONFIG", &bad.to_string_lossy());
    let place = format!("{}:2: there is no key `kernal`; did you mean `kernel`?", bad.display());
    config.run(&out, ["test"])?.expect(2, &[&place])
}

/// An output folder that cannot be written.
pub(super) fn unwritable_output(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let file = out.0.join("a-file");
    fs::write(&file, "")?;
    let place = file.join("runs");
    let ended = OtherXtask::new(session)
        .run(&out, ["test", "--suite", "canary", "must-pass", "--out", &place.to_string_lossy()])?;
    ended.expect(4, &["failed to create output folder", &place.to_string_lossy()])
}

/// An empty store and no network.
pub(super) fn no_network(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let xtask = OtherXtask::new(session).store(&out.0.join("store"));
    let ended = xtask.run(&out, ["--mirror", "http://127.0.0.1:9/debian", "--qemu", "private", "test"])?;
    ended.expect(4, &["http://127.0.0.1:9/debian", "--mirror"])
}

/// A kernel that does not boot is the kernel's fault; the end of its console is shown.
pub(super) fn kernel_that_does_not_boot(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let runs = out.0.join("runs");
    let words = ["test", "--suite", "canary", "must-pass", "--append", "mem=20M", "--out"];
    let ended =
        OtherXtask::new(session).run(&out, words.iter().copied().chain([&*runs.to_string_lossy()]))?;
    ended.expect(1, &["CRASH"])?;
    for text in ["crashed", "Kernel panic - not syncing", "    | [", "--append mem=20M"] {
        ensure!(ended.stdout.contains(text), "`{text}` is not in the report: {}", ended.stdout);
    }
    Ok(())
}

/// A QEMU that dies is the host's fault, never the kernel's.
pub(super) fn dead_qemu(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let runs = out.0.join("runs");
    let words = ["test", "--suite", "canary", "must-stay-alive", "--out"];
    let run =
        OtherXtask::new(session).start(&out, words.iter().copied().chain([&*runs.to_string_lossy()]))?;
    let mut qemu = None;
    let own = run.child.id();
    wait_until("its test runs", || {
        qemu = crate::children::descendants_of(own).into_iter().find(|&pid| is_qemu(pid));
        qemu.is_some() && super::killing::has_started(&runs.join("latest/events.jsonl"))
    })?;
    let qemu = qemu.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).context("no QEMU runs")?;
    kill_process(qemu, Signal::KILL).context("failed to kill QEMU")?;
    let ended = run.wait()?;
    ended.expect(4, &["INFRA", "killed by signal 9"])?;
    ensure!(runs.join("latest/summary.md").is_file(), "it left no report");
    Ok(())
}

fn is_qemu(pid: u32) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = command.split(|&byte| byte == 0);
    words.any(|word| word == b"-sandbox")
}

/// Two runs with one store and one output folder at the same time.
pub(super) fn two_at_once(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let runs = out.0.join("runs");
    let runs = runs.to_string_lossy();
    let words = ["test", "--suite", "canary", "must-pass", "must-fail", "--out", &runs];
    let xtask = OtherXtask::new(session);
    let both = [xtask.start(&out, words)?, xtask.start(&out, words)?];
    for run in both {
        let ended = run.wait()?;
        ended.expect(0, &[])?;
        ensure!(ended.stdout.contains("1 passed"), "{}", ended.stdout);
    }
    let n_runs = fs::read_dir(&*runs)?.flatten().filter(|entry| !entry.path().is_symlink()).count();
    ensure!(n_runs == 2, "{n_runs} runs were made");
    Ok(())
}

/// A damaged artifact is made again. In a store of its own, because other checks use the common one.
pub(super) fn damaged_artifact(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let store = out.0.join("store");
    fs::create_dir(&store)?;
    copy_of_store(
        session,
        &store,
        &["tools", "build", "lvm2", "mdadm", "guest", "kernel", "probes", "files"],
    )?;
    let xtask = OtherXtask::new(session).store(&store);
    let runs = out.0.join("runs");
    let runs = runs.to_string_lossy();
    let words = ["test", "--suite", "canary", "must-pass", "--no-snapshot", "--out", &runs];
    xtask.run(&out, words)?.expect(0, &[])?;
    let mut cut = 0;
    for entry in fs::read_dir(store.join("initramfs"))? {
        let image = entry?.path().join("initramfs.cpio");
        fs::OpenOptions::new().write(true).open(&image)?.set_len(1000)?;
        cut += 1;
    }
    ensure!(cut > 0, "there is no initramfs");
    xtask.run(&out, words)?.expect(0, &["is damaged; building it again"])
}

/// Copies a store by hard links, for files that are never changed in place.
fn copy_of_store(session: &Session, to: &Path, kinds: &[&str]) -> Result<()> {
    for kind in kinds {
        let from = session.store.root().join(kind);
        if from.is_dir() {
            let copy = session.host.call("cp").args(["-al", "--"]).arg(from).arg(to);
            copy.run(&session.store.temporary().join("copy.log")).context("failed to copy the store")?;
        }
    }
    Ok(())
}

/// An `xtask` started by a shell script that may mount; its mounts go with it.
fn with_mounts(session: &Session, script: &str) -> OtherXtask {
    let mut words = vec!["unshare", "--mount"];
    if !rustix::process::geteuid().is_root() {
        words.extend(["--user", "--map-root-user"]);
    }
    words.extend(["sh", "-c", script, "sh"]);
    OtherXtask::new(session).wrapped(&words)
}

/// A full disk at each stage: making images, saving a snapshot, recording a run.
pub(super) fn full_disk(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let store = out.0.join("store");
    fs::create_dir(&store)?;
    let xtask = with_small_disk(session, &store, "30M").store(&store);
    xtask.run(&out, ["--qemu", "private", "image"])?.expect(4, &["o space left on device"])?;
    full_disk_of_a_run(session)
}

/// Runs xtask with a small disk at a folder.
fn with_small_disk(session: &Session, at: &Path, size: &str) -> OtherXtask {
    let script = format!("mount -t tmpfs -o size={size} none '{}' && exec \"$@\"", at.display());
    with_mounts(session, &script)
}

/// A disk that fills up while a guest is saved, and while a run is recorded.
pub(super) fn full_disk_of_a_run(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    // The folder that everything is made in; finished artifacts are beside it. Runs go elsewhere, because
    // this check looks at them afterwards.
    let elsewhere = tempfile::tempdir()?;
    let runs = elsewhere.path().join("runs");
    let words =
        ["test", "--suite", "canary", "must-pass", "--append", "quiet", "--out", &runs.to_string_lossy()]
            .map(str::to_owned);
    let made_in = session.store.root().join("tmp");
    let ended = with_small_disk(session, &made_in, "20M").run(&out, &words)?;
    ended.expect(0, &[]).context("while a snapshot is saved")?;
    let record = read_record(&fs::canonicalize(runs.join("latest"))?)?;
    let remarks: Vec<_> = record.attempts.iter().flat_map(|attempt| &attempt.remarks).collect();
    ensure!(
        remarks.iter().any(|remark| remark.text.contains("no snapshot could be made")),
        "nothing says why the guest booted: {remarks:?}"
    );

    let (full, kept) = (out.0.join("full"), out.0.join("kept"));
    for folder in [&full, &kept] {
        fs::create_dir(folder)?;
    }
    let script = format!(
        "mount -t tmpfs -o size=300k none '{full}' && \"$@\"; code=$?; cp -r '{full}/.' '{kept}'; exit $code",
        full = full.display(),
        kept = kept.display()
    );
    let xtask = with_mounts(session, &script);
    let ended =
        xtask.run(&out, ["test", "--suite", "canary", "must-flood", "--out", &full.to_string_lossy()])?;
    ended.expect(4, &["o space left on device"]).context("while a run is recorded")?;
    let runs = fs::read_dir(&kept)?.flatten().map(|entry| entry.path());
    let run = runs.into_iter().find(|path| !path.is_symlink()).context("the run is gone")?;
    let record = read_record(&run)?;
    ensure!(record.end == RunEnd::Cut, "a run that could not be recorded ended {:?}", record.end);
    ensure!(record.attempts.iter().any(|attempt| attempt.guest.is_some()), "what was recorded is lost");
    Ok(())
}

/// A host that forbids namespaces: plain chroot by root takes their place, and without root an error says
/// what to allow. Only root can drop its own privileges.
pub(super) fn no_namespaces(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    if !rustix::process::geteuid().is_root() {
        session.terminal.say("  only root can try this; left out");
        return Ok(());
    }
    // All artifacts except those that are built inside a root.
    let store = out.0.join("store");
    fs::create_dir(&store)?;
    copy_of_store(session, &store, &["tools", "build", "lvm2", "files", "apt"])?;
    let forbidden = |rights: &str| {
        let bounds = format!("--bounding-set={rights}");
        let inherited = format!("--inh-caps={rights}");
        OtherXtask::new(session).store(&store).wrapped(&["setpriv", &bounds, &inherited])
    };
    let ended = forbidden("-sys_admin,-sys_chroot").run(&out, ["image"])?;
    ended.expect(4, &["lets no", "tried: ", "user namespaces"])?;
    forbidden("-sys_admin").run(&out, ["image"])?.expect(0, &["building mdadm"])?;
    ensure!(store.join("guest").is_dir(), "no guest image was made");
    // Packages signed by Debian need no sandbox; other people's trees do.
    let tree = out.0.join("mdadm");
    checkouts::unpack_mdadm(session, &tree)?;
    let words = ["image".as_ref(), "--mdadm-src".as_ref(), tree.as_os_str()];
    let distrusting = forbidden("-sys_admin").env("MD_REGRESS_TRUST_SOURCE", "false");
    distrusting.run(&out, words)?.expect(2, &["forbids namespaces", "--trust-source"])?;
    ensure!(!store.join("mdadm-checkout").exists(), "a stranger's source was built");
    forbidden("-sys_admin").run(&out, words)?.expect(0, &["building mdadm"])
}

/// Everything that a killed run has shown is in its events. It is killed at `N_KILLS` points: every other one
/// anywhere in the run, the rest while it shows attempts, however long preparing took.
pub(super) fn shown_is_recorded(session: &Session) -> Result<()> {
    const N_KILLS: u64 = 20;
    let out = Scratch::new(session)?;
    let runs = out.0.join("runs");
    let runs_text = runs.to_string_lossy();
    let words = [
        "test",
        "--suite",
        "canary",
        "must-pass",
        "must-fail",
        "must-skip",
        "must-warn",
        "--out",
        &runs_text,
    ];
    let xtask = OtherXtask::new(session);
    // Once before, or things that are made only once would count.
    xtask.run(&out, words)?.expect(0, &[])?;
    let begun = std::time::Instant::now();
    let ended = xtask.run(&out, words)?;
    let whole = begun.elapsed();
    ended.expect(0, &[])?;
    let shows_from = first_attempt_at(&ended.stderr).context("a run that passes shows no attempt")?;
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let seed = u64::from_le_bytes(random);
    let mut state = seed;
    let mut n_shown = 0;
    for kill in 0..N_KILLS {
        // Knuth's MMIX generator; its high bits are random enough to choose a moment.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let from = if kill % 2 == 0 { Duration::ZERO } else { shows_from.min(whole) };
        let after = from + (whole - from).mul_f64((state >> 33) as f64 / f64::from(1u32 << 31));
        let run = xtask.start(&out, words)?;
        std::thread::sleep(after);
        let _ = run.signal(Signal::KILL);
        let shown = run.wait()?.stderr;
        n_shown +=
            check_shown(&shown, &runs).with_context(|| format!("killed after {after:?} (seed {seed})"))?;
    }
    ensure!(n_shown > 0, "no killed run had shown anything (seed {seed})");
    Ok(())
}

/// Time at which the first line of an attempt was shown, by its stamp: `[12.3 s] start  canary:must-pass`.
fn first_attempt_at(shown: &str) -> Option<Duration> {
    let line = shown.lines().find(|line| line.contains("] start "))?;
    let seconds = line.trim_start().strip_prefix('[')?.split(" s]").next()?;
    Duration::try_from_secs_f64(seconds.trim().parse().ok()?).ok()
}

/// Checks that every line about an attempt has its event; returns the number of such lines.
fn check_shown(shown: &str, runs: &Path) -> Result<usize> {
    let mut n_shown = 0;
    let lines = shown.lines().filter_map(|line| line.split_once("] ").map(|(_, told)| told));
    let record = read_record(&fs::canonicalize(runs.join("latest"))?);
    for told in lines {
        let mut words = told.split_whitespace();
        let (Some(word), Some(name)) = (words.next(), words.next()) else { continue };
        if !name.starts_with("canary:") {
            continue;
        }
        n_shown += 1;
        let record = match &record {
            Ok(record) => record,
            Err(error) => bail!("`{told}` was shown, but {error:#}"),
        };
        let attempt = record.attempts.iter().find(|attempt| attempt.test.to_string() == name);
        let state = &attempt.with_context(|| format!("`{told}` was shown, but not planned"))?.state;
        let is_recorded = match (word, state) {
            ("start", AttemptState::Running | AttemptState::Finished { .. }) => true,
            ("pass", AttemptState::Finished { outcome: Outcome::Pass, .. })
            | ("FAIL", AttemptState::Finished { outcome: Outcome::Fail { .. }, .. })
            | ("skip", AttemptState::Finished { outcome: Outcome::Skip { .. }, .. })
            | ("warn", AttemptState::Finished { outcome: Outcome::Warn { .. }, .. }) => true,
            (_, AttemptState::NotStarted | AttemptState::Running | AttemptState::Finished { .. }) => false,
        };
        ensure!(is_recorded, "`{told}` was shown, but {state:?} is recorded");
    }
    Ok(n_shown)
}
