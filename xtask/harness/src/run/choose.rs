//! Chooses the tests that the options select, and the kernels that each runs on.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use protocol::TestId;
use vm_images::kernel::Kernel;
use vm_images::kernel::modules::config_of;
use vm_images::spec::KernelSpec;

use crate::error::usage;
use crate::run::options::Options;
use crate::run::prepare::{BootKernel, Prepared};
use crate::suite::script;
use crate::suite::select::{LeftOut, check_flavour, in_flavours, select};
use crate::suite::{DEFAULT_SUITE, Job, Suite, TestSource, suite_named};
use crate::terminal::Terminal;

/// A test that will run.
pub(crate) struct ChosenJob {
    pub(crate) job: Job,
    /// Arguments of `cargo xtask test` that run it again.
    pub(crate) again: Vec<String>,
    /// The only kernels that it runs on; empty for those of the command line.
    pub(crate) kernels: Vec<KernelSpec>,
    /// Minimum number of tries.
    pub(crate) n_tries: u32,
}

impl ChosenJob {
    /// True if it runs on this kernel of a run.
    pub(crate) fn runs_on(&self, kernel: &Kernel) -> bool {
        self.kernels.is_empty() || self.kernels.contains(&kernel.spec)
    }
}

/// All kernels that `jobs` run on: those that they name themselves, and for the others those of the command
/// line.
pub(crate) fn kernels_of(jobs: &[ChosenJob], named: &[KernelSpec]) -> Vec<KernelSpec> {
    let mut kernels: Vec<KernelSpec> = Vec::new();
    for job in jobs {
        let wanted = if job.kernels.is_empty() { named } else { &job.kernels };
        for spec in wanted {
            if !kernels.contains(spec) {
                kernels.push(spec.clone());
            }
        }
    }
    kernels
}

/// The tests chosen by the suite's own list; none yet if only a checkout of the user's knows the tests.
pub(crate) struct Choice {
    suite: Suite,
    chosen: Option<ChosenTests>,
}

impl Choice {
    /// Chooses before anything is prepared, so that a mistyped name is reported at once.
    pub(crate) fn by_list(suite: Suite, options: &Options) -> Result<Choice> {
        let is_listed = !options.sources.has(&suite.name);
        let chosen = is_listed.then(|| choose_jobs(&suite, options)).transpose().map_err(usage)?;
        Ok(Choice { suite, chosen })
    }

    /// True if it is certain that nothing is chosen.
    pub(crate) fn is_empty(&self) -> bool {
        self.chosen.as_ref().is_some_and(|chosen| chosen.jobs.is_empty())
    }

    /// Prints, for each test that was selected but does not run, the reason.
    pub(crate) fn say_why(&self, terminal: &Terminal) {
        for (test, reason) in self.chosen.iter().flat_map(|chosen| &chosen.left_out) {
            terminal.say(&format!("{test}: {reason}"));
        }
    }

    /// The kernels that are needed.
    pub(crate) fn kernels(&self, options: &Options) -> Vec<KernelSpec> {
        let mut named = options.kernels.clone();
        named.dedup();
        match &self.chosen {
            Some(chosen) => kernels_of(&chosen.jobs, &named),
            None => named,
        }
    }

    /// Chooses among the tests that the guest really has.
    pub(crate) fn by_guest(mut self, options: &Options, prepared: &Prepared) -> Result<ChosenTests> {
        let installed = prepared.installed_tests(&self.suite.name)?;
        let difference = installed.map(|installed| self.suite.add_installed(&installed)).unwrap_or_default();
        let chosen = match self.chosen.take() {
            Some(chosen) if difference.unknown.is_empty() => chosen,
            Some(_) | None => choose_jobs(&self.suite, options).map_err(usage)?,
        };
        let name = &self.suite.name;
        let version = prepared.versions.get(name).map(String::as_str).unwrap_or_default();
        let remarks =
            version_mismatch(&self.suite, prepared).into_iter().chain(difference.text(name)).collect();
        Ok(ChosenTests { remarks, ..chosen.without(&difference.gone, name, version) })
    }
}

/// The tests that a run consists of.
pub(crate) struct ChosenTests {
    pub(crate) jobs: Vec<ChosenJob>,
    /// Tests that were selected but do not run, because the flavour excludes them or the guest lacks them.
    pub(crate) left_out: Vec<LeftOut>,
    /// Differences between the guest's tests and the suite's list.
    pub(crate) remarks: Vec<String>,
}

impl ChosenTests {
    /// True if there is nothing to run or to report.
    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.left_out.is_empty()
    }

    /// Moves the suite's tests that the guest lacks to `left_out`: they are not run, rather than failed.
    pub(crate) fn without(mut self, gone: &BTreeSet<String>, suite: &str, version: &str) -> Self {
        let is_gone = |job: &Job| job.id.suite() == suite && gone.contains(job.id.name());
        let (gone, jobs): (Vec<_>, Vec<_>) = self.jobs.into_iter().partition(|chosen| is_gone(&chosen.job));
        let reason = format!("{suite} {version} has no such test");
        self.left_out.extend(gone.into_iter().map(|chosen| (chosen.job.id, reason.clone())));
        ChosenTests { jobs, ..self }
    }
}

/// The jobs of the selected tests and of the user's scripts.
pub(crate) fn choose_jobs(suite: &Suite, options: &Options) -> Result<ChosenTests> {
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
                jobs.push(ChosenJob { job, again, kernels: vec![], n_tries: 1 });
            }
        }
        if options.selection.is_empty() {
            return Ok(ChosenTests { jobs, left_out: vec![], remarks: vec![] });
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
        let job = match suite.source_of(&test) {
            TestSource::Own => suite.job(&test)?,
            TestSource::Test(other) => suite_named(other.suite())?.job(&other)?,
            TestSource::Script(path) => script::job(&path, None, &suite_named(script::RUN_AS)?, None)?,
        };
        let (kernels, n_tries) = suite.own_kernels(&test);
        jobs.push(ChosenJob { job: Job { id: test, ..job }, again, kernels, n_tries });
    }
    Ok(ChosenTests { jobs, left_out, remarks: vec![] })
}

/// A module that a test wants and its kernel lacks.
pub(crate) struct MissingModule {
    pub(crate) kernel_idx: u32,
    pub(crate) test: TestId,
    pub(crate) text: String,
}

/// Returns an error if a kernel lacks a required module; otherwise the missing modules without which a test
/// skips or tests less.
pub(crate) fn check_modules(prepared: &Prepared, jobs: &[ChosenJob]) -> Result<Vec<MissingModule>> {
    let named = |modules: &[&str]| {
        let all: Vec<_> = modules.iter().map(|module| format!("{module} ({})", config_of(module))).collect();
        all.join(", ")
    };
    let mut lacking = Vec::new();
    for (kernel_idx, BootKernel { kernel, .. }) in (0u32..).zip(&prepared.kernels) {
        for ChosenJob { job, .. } in jobs.iter().filter(|chosen| chosen.runs_on(kernel)) {
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
                lacking.push(MissingModule { kernel_idx, test: job.id.clone(), text });
            }
        }
    }
    Ok(lacking)
}

/// A warning if the suite's list is of another version than the guest's tests. A checkout is expected to
/// differ, so for it only changed tests are reported.
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
