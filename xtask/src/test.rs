//! A run of tests, from top to bottom: prepare → plan → run → record → verdicts → reports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use protocol::event::{Blame, Checkout, PlannedAttempt};
use protocol::{Event, TestId};
use vm_images::checkout::Sources;
use vm_images::kernel_spec::KernelSpec;
use vm_images::modules::config_of;
use vm_images::progress::Progress;

use crate::exit::usage;
use crate::prepare::{self, BootKernel, Prepared};
use crate::report::{self, Ran};
use crate::runner::attempt::TimeLimits;
use crate::runner::event_log::{EventLog, FAILED};
use crate::runner::{self, Planned, RunContext};
use crate::script;
use crate::select::{LeftOut, Selection, check_flavour, in_flavours, select};
use crate::session::{Session, workspace};
use crate::suite::{Job, Suite};
use crate::vm::accel::AccelChoice;
use crate::vm::snapshot::Snapshots;
use crate::vm::{Accel, VmSpec};

/// Time limits that no suite names, at the speed of KVM.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
const RESTORE_TIMEOUT: Duration = Duration::from_secs(10);
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(20);
const GRACE_PERIOD: Duration = Duration::from_secs(5);

/// The suite that is meant when none is named.
pub(crate) const DEFAULT_SUITE: &str = "lvm2";

/// What a run is asked to do.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) kernels: Vec<KernelSpec>,
    pub(crate) suite: String,
    pub(crate) selection: Selection,
    /// What the guest is built from, where that is not Debian's source packages.
    pub(crate) sources: Sources,
    /// Flavours that tests are run in; the suite's default one if there are none.
    pub(crate) flavours: Vec<String>,
    /// The user's own scripts, and what they need.
    pub(crate) scripts: Vec<PathBuf>,
    pub(crate) script_needs: Option<String>,
    /// Added to the kernel's command line.
    pub(crate) append: String,
    pub(crate) accel: AccelChoice,
    /// VMs at a time; by default as many as the processors bear.
    pub(crate) n_vms: Option<usize>,
    /// Folder of the runs; by default `reports/out`.
    pub(crate) out: Option<PathBuf>,
    /// Restore VMs from snapshots rather than boot each.
    pub(crate) snapshots: bool,
    /// Changes each test before it is planned: benchmarks run some in a plainer way.
    pub(crate) change: Option<fn(Job) -> Job>,
}

/// Runs tests and writes reports of what came of them; nothing if no test is selected.
pub(crate) fn run(session: &Session, options: &Options) -> Result<Option<Ran>> {
    let started = Instant::now();
    let mut suite = suite_named(&options.suite)?;
    let expectations = BTreeMap::from([(suite.name.clone(), report::expectations_of(&options.suite)?)]);
    let known_issues = report::known_issues()?;
    // A mistyped name is told before anything is prepared, unless only a checkout knows what there is.
    if !options.sources.has(&suite.name) {
        let Chosen { jobs, left_out } = choose_jobs(&suite, options).map_err(usage)?;
        if jobs.is_empty() {
            for (test, reason) in left_out {
                session.terminal.say(&format!("{test}: {reason}"));
            }
            return Ok(None);
        }
    }

    let mut kernels = options.kernels.clone();
    kernels.dedup();
    let prepared = prepare::prepare(session, &kernels, &options.sources, options.accel)?;
    let installed = prepared.installed_tests(&suite.name)?;
    let difference = installed.map(|installed| suite.meet(&installed)).unwrap_or_default();
    let chosen = choose_jobs(&suite, options).map_err(usage)?;
    let version = prepared.versions.get(&suite.name).map(String::as_str).unwrap_or_default();
    let Chosen { mut jobs, left_out } = chosen.without(&difference.gone, &suite.name, version);
    if jobs.is_empty() && left_out.is_empty() {
        return Ok(None);
    }
    if let Some(change) = options.change {
        for chosen in &mut jobs {
            chosen.job = change(chosen.job.clone());
        }
    }
    let lacking = check_modules(&prepared, &jobs)?;
    let plan = plan(&prepared, &jobs, &options.append)?;
    let n_vms = options.n_vms.unwrap_or_else(|| default_n_vms(&plan)).clamp(1, plan.len().max(1));
    announce(session, &prepared, plan.len(), n_vms, started);

    let out = options.out.clone().unwrap_or_else(report::default_runs);
    let dir = create_run(&out)?;
    let events = EventLog::create(&dir.join("events.jsonl"))
        .with_context(|| format!("failed to create events.jsonl in `{}`", dir.display()))?;
    record_beginning(&events, &dir, &prepared, &plan, &left_out).context(FAILED)?;
    for Lacking { kernel_idx, test, text } in lacking {
        let planned = plan
            .iter()
            .find(|planned| planned.attempt.kernel_idx == kernel_idx && planned.attempt.test == test);
        let attempt = planned.map(|planned| planned.attempt.attempt);
        let remark = Event::Remark { attempt, blame: Blame::Kernel, text };
        events.append(remark).context(FAILED)?;
    }
    for text in version_mismatch(&suite, &prepared).into_iter().chain(difference.text(&suite.name)) {
        session.terminal.note(&text);
        let remark = Event::Remark { attempt: None, blame: Blame::Harness, text };
        events.append(remark).context(FAILED)?;
    }

    let cancel = session.host.cancel();
    let snapshots =
        options.snapshots.then(|| Snapshots::new(&prepared.qemu, &session.store, &*session.terminal, cancel));
    let context = RunContext {
        hypervisor: &prepared.qemu,
        snapshots: snapshots.as_ref(),
        dir: &dir,
        scratch: session.store.temporary(),
        events: &events,
        terminal: &session.terminal,
        cancel,
    };
    runner::run(context, plan, n_vms)?;
    events.append(Event::RunFinished { interrupted: cancel.is_cancelled() }).context(FAILED)?;

    let record = report::read_record(&dir)?;
    let ran = Ran::judge(dir, record, &expectations, &known_issues);
    ran.write(&ran.dir)?;
    Ok(Some(ran))
}

fn announce(session: &Session, prepared: &Prepared, n_attempts: usize, n_vms: usize, started: Instant) {
    let chosen = &prepared.chosen;
    session.terminal.note(&format!("accelerator: {} ({})", chosen.accel, chosen.reason));
    for checkout in &prepared.checkouts {
        let (name, from) = (checkout.project.name(), checkout.dir.display());
        session.terminal.note(&format!("{name} {} from `{from}`", checkout.version()));
    }
    let releases: Vec<_> = prepared.kernels.iter().map(|kernel| kernel.kernel.release.as_str()).collect();
    session.terminal.note(&format!(
        "{} on {}, {n_vms} at a time; prepared in {:.1} s",
        count(n_attempts, "attempt"),
        releases.join(", "),
        started.elapsed().as_secs_f32(),
    ));
}

/// The suite of that name, in `suites/`.
pub(crate) fn suite_named(name: &str) -> Result<Suite> {
    let folder = workspace().join("suites").join(name);
    if folder.join("suite.toml").is_file() {
        return Suite::read(&folder).map_err(usage);
    }
    Err(usage(anyhow::anyhow!("no suite `{name}`; there are {}", suite_names()?.join(", "))))
}

/// The suites of this work tree, sorted.
pub(crate) fn suite_names() -> Result<Vec<String>> {
    let suites = workspace().join("suites");
    let entries = fs::read_dir(&suites).with_context(|| format!("failed to read `{}`", suites.display()))?;
    let mut names: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.path().join("suite.toml").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

/// A suite's list of tests, tags and needs is of one version; what the guest has may be another. Of a
/// checkout that is expected, and only how its tests differ is news.
fn version_mismatch(suite: &Suite, prepared: &Prepared) -> Option<String> {
    if prepared.checkouts.iter().any(|checkout| checkout.project.name() == suite.name) {
        return None;
    }
    let (written_for, version) = (suite.written_for.as_ref()?, prepared.versions.get(&suite.name)?);
    let upstream = version.split(['-', '+', '~']).next().unwrap_or(version);
    (upstream != written_for).then(|| {
        format!("suites/{}/suite.toml was written for {written_for}, the guest has {version}", suite.name)
    })
}

/// A test that is to be run.
struct ChosenJob {
    job: Job,
    /// Words of a command line that try it again.
    again: Vec<String>,
}

/// What the options mean.
struct Chosen {
    jobs: Vec<ChosenJob>,
    /// Selected, and not run: not in that flavour, or not there at all.
    left_out: Vec<LeftOut>,
}

impl Chosen {
    /// The same without a suite's tests that the guest does not have: not run, rather than failed.
    fn without(mut self, gone: &BTreeSet<String>, suite: &str, version: &str) -> Self {
        let is_gone = |job: &Job| job.id.suite() == suite && gone.contains(job.id.name());
        let (gone, jobs): (Vec<_>, Vec<_>) = self.jobs.into_iter().partition(|chosen| is_gone(&chosen.job));
        let reason = format!("{suite} {version} has no such test");
        self.left_out.extend(gone.into_iter().map(|chosen| (chosen.job.id, reason.clone())));
        Chosen { jobs, left_out: self.left_out }
    }
}

/// The tests that are selected, and the user's own.
fn choose_jobs(suite: &Suite, options: &Options) -> Result<Chosen> {
    let mut common = Vec::new();
    if !options.append.is_empty() {
        common.extend(["--append".to_owned(), options.append.clone()]);
    }
    let mut jobs = Vec::new();
    if !options.scripts.is_empty() {
        let needs = options.script_needs.as_deref().map(str::parse).transpose()?;
        let run_as = suite_named(script::RUN_AS)?;
        let flavours = match options.flavours.as_slice() {
            [] => vec![None],
            all => all.iter().map(|flavour| Some(flavour.as_str())).collect(),
        };
        for path in &options.scripts {
            for flavour in &flavours {
                let mut again =
                    [common.clone(), script::again(path, options.script_needs.as_deref())].concat();
                if let Some(flavour) = flavour {
                    check_flavour(&run_as, flavour)?;
                    again.extend(["--flavour".to_owned(), (*flavour).to_owned()]);
                }
                let job = script::job(path, needs.as_ref(), &run_as, *flavour)?;
                if jobs.iter().any(|other: &ChosenJob| other.job.id == job.id) {
                    bail!("two scripts have the name `{}`; give one another name", job.id.name());
                }
                jobs.push(ChosenJob { job, again });
            }
        }
        if options.selection.is_empty() {
            return Ok(Chosen { jobs, left_out: vec![] });
        }
    }
    let tests = select(suite, &options.selection)?;
    let (tests, left_out) = in_flavours(suite, tests, &options.flavours)?;
    for test in tests {
        let mut again = common.clone();
        if suite.name != DEFAULT_SUITE {
            again.extend(["--suite".to_owned(), suite.name.clone()]);
        }
        again.push(test.to_string());
        jobs.push(ChosenJob { job: suite.job(&test)?, again });
    }
    Ok(Chosen { jobs, left_out })
}

/// A module that a test wants and its kernel lacks.
struct Lacking {
    kernel_idx: u32,
    test: TestId,
    text: String,
}

/// Refuses a kernel that lacks a module which is required; gives what only makes a test skip or test less.
fn check_modules(prepared: &Prepared, jobs: &[ChosenJob]) -> Result<Vec<Lacking>> {
    let named = |modules: &[&str]| {
        let all: Vec<_> = modules.iter().map(|module| format!("{module} ({})", config_of(module))).collect();
        all.join(", ")
    };
    let mut lacking = Vec::new();
    for (kernel_idx, BootKernel { kernel, .. }) in (0u32..).zip(&prepared.kernels) {
        for ChosenJob { job, .. } in jobs {
            let required = kernel.lacks(&job.required_modules)?;
            if !required.is_empty() {
                return Err(usage(anyhow::anyhow!(
                    "kernel `{}` ({}) lacks {}, which {} needs; choose another kernel, or build it in",
                    kernel.spec,
                    kernel.release,
                    named(&required),
                    job.id,
                )));
            }
            let wanted = kernel.lacks(&job.wanted_modules)?;
            if !wanted.is_empty() {
                let text = format!("the kernel lacks {}: it skips or tests less", named(&wanted));
                lacking.push(Lacking { kernel_idx, test: job.id.clone(), text });
            }
        }
    }
    Ok(lacking)
}

/// Every test on every kernel, kernel by kernel.
fn plan(prepared: &Prepared, jobs: &[ChosenJob], append: &str) -> Result<Vec<Planned>> {
    let accel = prepared.chosen.accel;
    let mut plan = Vec::new();
    for (kernel_idx, kernel) in (0u32..).zip(&prepared.kernels) {
        for ChosenJob { job, again } in jobs {
            let release = &kernel.kernel.release;
            let name = match prepared.kernels.len() {
                1 => job.id.to_string(),
                _ => format!("{} on {release}", job.id),
            };
            let attempt = PlannedAttempt {
                attempt: u32::try_from(plan.len()).context("too many attempts")? + 1,
                test: job.id.clone(),
                kernel_idx,
                dir: dir_of(prepared, kernel_idx, &job.id),
                again: again.clone(),
            };
            plan.push(Planned {
                attempt,
                vm: VmSpec {
                    append: append.to_owned(),
                    ..kernel.vm(&prepared.guest, accel, job.ram_mib, job.vcpus)
                },
                limits: limits(accel, job),
                job: job.clone(),
                name,
            });
        }
    }
    Ok(plan)
}

/// A folder for each kernel and test; kernels of one release are told apart by their number.
fn dir_of(prepared: &Prepared, kernel_idx: u32, test: &TestId) -> String {
    let releases = || prepared.kernels.iter().map(|kernel| kernel.kernel.release.as_str());
    let release = releases().nth(kernel_idx as usize).unwrap_or_default();
    if releases().filter(|other| *other == release).count() > 1 {
        format!("{release}-{kernel_idx}/{}", test.slug())
    } else {
        format!("{release}/{}", test.slug())
    }
}

/// The suite's limits, and those that no suite names.
pub(crate) fn limits(accel: Accel, job: &Job) -> TimeLimits {
    TimeLimits {
        boot_timeout: accel.scale(BOOT_TIMEOUT),
        restore_timeout: accel.scale(RESTORE_TIMEOUT),
        silence_timeout: accel.scale(job.silence_timeout),
        test_timeout: accel.scale(job.test_timeout),
        heartbeat_timeout: accel.scale(HEARTBEAT_TIMEOUT),
        grace_period: accel.scale(GRACE_PERIOD),
    }
}

/// What QEMU takes beside the guest's memory, MiB: translated code, and itself.
const QEMU_OVERHEAD_MIB: u64 = 400;

/// As many VMs as there are processors and memory for.
fn default_n_vms(plan: &[Planned]) -> usize {
    let n_cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let vcpus = plan.iter().map(|planned| planned.vm.vcpus).max().unwrap_or(1).max(1);
    let ram_mib = plan.iter().map(|planned| planned.vm.ram_mib).max().unwrap_or(1);
    let by_cpus = n_cpus / usize::try_from(vcpus).unwrap_or(1);
    let by_memory = match prepare::memory_available_mib() {
        Some(available) => available / (u64::from(ram_mib) + QEMU_OVERHEAD_MIB),
        None => u64::MAX,
    };
    by_cpus.min(usize::try_from(by_memory).unwrap_or(usize::MAX)).max(1)
}

fn record_beginning(
    events: &EventLog,
    run_dir: &Path,
    prepared: &Prepared,
    plan: &[Planned],
    left_out: &[LeftOut],
) -> std::io::Result<()> {
    let run = run_dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    events.append(Event::RunStarted {
        format: protocol::event::FORMAT,
        run,
        started_at: rfc3339_now(),
        harness: prepare::harness_version(),
        command: ["cargo".to_owned(), "xtask".to_owned()]
            .into_iter()
            .chain(std::env::args().skip(1))
            .collect(),
        host: prepare::host_facts(),
    })?;
    let accel = prepared.chosen.accel;
    events.append(Event::MachineChosen {
        accel: accel.to_string(),
        reason: prepared.chosen.reason.clone(),
        qemu: prepared.qemu.version.clone(),
        cpu: accel.cpu().to_owned(),
        time_scale_percent: accel.time_scale_percent(),
    })?;
    for (kernel_idx, kernel) in (0u32..).zip(&prepared.kernels) {
        let kernel = &kernel.kernel;
        events.append(Event::KernelReady {
            kernel_idx,
            spec: kernel.spec.clone(),
            exact_spec: format!("deb:{}", kernel.release),
            release: kernel.release.clone(),
            package_version: Some(kernel.version.clone()),
            digest: kernel.artifact.digest.to_string(),
        })?;
    }
    events.append(Event::ImageReady {
        digest: prepared.guest.digest.to_string(),
        versions: prepared.versions.clone(),
        checkouts: prepared.checkouts.iter().map(checkout_facts).collect(),
    })?;
    for change in &prepared.replaced {
        let text = format!("not as pinned in artifacts.lock: {change}");
        events.append(Event::Remark { attempt: None, blame: Blame::Host, text })?;
    }
    events
        .append(Event::Planned { attempts: plan.iter().map(|planned| planned.attempt.clone()).collect() })?;
    for (kernel_idx, _) in (0u32..).zip(&prepared.kernels) {
        for (test, reason) in left_out {
            let (test, reason) = (test.clone(), reason.clone());
            events.append(Event::NotPlanned { test, kernel_idx, reason })?;
        }
    }
    Ok(())
}

fn checkout_facts(checkout: &vm_images::checkout::Checkout) -> (String, Checkout) {
    let facts = Checkout {
        dir: checkout.dir.to_string_lossy().into_owned(),
        commit: checkout.commit.clone(),
        digest: checkout.digest.to_string(),
    };
    (checkout.project.name().to_owned(), facts)
}

/// Makes the folder of a new run, named by the time.
fn create_run(out: &Path) -> Result<PathBuf> {
    let dir = create_folder(out, "")?;
    link_latest(out, &dir);
    Ok(dir)
}

/// Makes a folder in `out`, named by the time, after `prefix`.
pub(crate) fn create_folder(out: &Path, prefix: &str) -> Result<PathBuf> {
    fs::create_dir_all(out).with_context(|| format!("failed to create output folder `{}`", out.display()))?;
    let format = time::macros::format_description!("[year]-[month]-[day]T[hour]-[minute]-[second]Z");
    let time = time::OffsetDateTime::now_utc().format(format).context("failed to write the time")?;
    let name = format!("{prefix}{time}");
    for n in 1..1000 {
        let dir = out.join(if n == 1 { name.clone() } else { format!("{name}-{n}") });
        match fs::create_dir(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| format!("failed to create `{}`", dir.display()));
            }
        }
    }
    bail!("no free name for `{name}` in `{}`", out.display())
}

/// Points `latest` at the newest run. Only a convenience: a failure is not worth a word.
fn link_latest(out: &Path, run_dir: &Path) {
    let new = out.join(format!(".latest-{}", std::process::id()));
    if let Some(name) = run_dir.file_name()
        && std::os::unix::fs::symlink(name, &new).is_ok()
        && fs::rename(&new, out.join("latest")).is_err()
    {
        let _ = fs::remove_file(&new);
    }
}

fn rfc3339_now() -> String {
    let format = &time::format_description::well_known::Rfc3339;
    let now = time::OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now).format(format).unwrap_or_default()
}

/// `1 vCPU`, `2 vCPUs`.
pub(crate) fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
