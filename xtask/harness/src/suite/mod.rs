//! A test suite as data: reads `suites/NAME/suite.toml`. Pure except [`Suite::read`] and its callers.

pub mod script;
pub mod select;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use protocol::TestId;
use protocol::wire::INBOX;
use serde::Deserialize;
use vm_images::spec::KernelSpec;

use crate::error::usage;
use crate::workspace::workspace;

/// Content of a `suite.toml`. The files themselves explain each part.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// Name of the suite, the part of a test's id before the colon.
    pub name: String,
    /// The suite in a sentence.
    pub about: String,
    /// Version of the suite's source that the data was written for.
    #[serde(default)]
    pub written_for: Option<String>,
    /// Tags of the tests that run when nothing is selected; if there are none, all tests do.
    #[serde(default)]
    pub(crate) default_tags: Vec<String>,
    pub(crate) run: StartCommand,
    pub(crate) contract: Contract,
    pub(crate) limits: Limits,
    pub(crate) machine: Machine,
    #[serde(default)]
    #[cfg_attr(not(test), expect(dead_code, reason = "a test holds it against roots.toml"))]
    pub(crate) guest: Option<Guest>,
    #[serde(default)]
    /// Sets of variables that tests can be run with.
    pub flavours: Flavours,
    #[serde(default)]
    /// The meaning of each tag.
    pub tag_docs: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) need_docs: BTreeMap<String, String>,
    /// All tests that are listed, by name.
    pub tests: BTreeMap<String, Test>,
    /// Folder of the suite's `suite.toml`.
    #[serde(skip)]
    folder: PathBuf,
    /// The script that `run.runner` names.
    #[serde(skip)]
    runner: Option<GivenFile>,
}

/// The program behind a test of a suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TestSource {
    /// The suite's own command.
    Own,
    /// Another suite's test.
    Test(TestId),
    /// A script in the suite's folder, with a header that states its needs.
    Script(PathBuf),
}

/// Command that starts a test in the guest. `{test}`, `{flavour}` and `{tools}` are replaced in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartCommand {
    #[serde(default)]
    argv: Vec<String>,
    /// Script beside `suite.toml` that the guest is given as `{runner}`.
    runner: Option<String>,
    cwd: String,
    #[serde(default)]
    make_dirs: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

/// Rules by which a test's result is read from its exit status and output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// Exit status of a skipped test.
    pub(crate) skip_exit: Option<i32>,
    /// Beginning of the line that gives the reason of a skip.
    pub(crate) skip_line: Option<String>,
    /// Beginnings of lines that a skip without a reason prints.
    #[serde(default)]
    pub(crate) bare_skip_lines: Vec<String>,
    /// Beginning of a line that turns a pass into a warning.
    pub(crate) warn_line: Option<String>,
    /// The line after which a failed test prints its epilogue; the cause is above it.
    pub(crate) fail_line: Option<String>,
    /// Beginnings of lines that say that a passing test tested less than it could.
    #[serde(default)]
    pub(crate) weakened_lines: Vec<String>,
    /// Beginning of the line that the clean-up prints; after it the test itself has ended.
    pub(crate) teardown_line: Option<String>,
    /// Beginning of a line that says that the test's authors know it to fail, and why.
    pub(crate) known_to_fail_line: Option<String>,
    /// True for a user's own program. If it cannot be run, that is the user's fault, and its last line is the
    /// reason of a skip.
    #[serde(skip)]
    pub(crate) own_program: bool,
}

/// Time limits of a test under KVM; emulation gets longer ones.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    silence_timeout_s: u64,
    test_timeout_s: u64,
}

/// Virtual hardware and kernel modules of the VM for this suite.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    ram_mib: u32,
    vcpus: u32,
    /// Modules loaded before each test.
    #[serde(default)]
    pub(crate) load_modules: Vec<String>,
    /// Modules loaded before the snapshot is taken, because nearly every test needs them. Ignored if an
    /// overlay replaces md.
    #[serde(default)]
    preload_modules: Vec<String>,
    /// Folder of the suite's own kernel modules, beside `suite.toml`.
    #[serde(default)]
    own_modules: Option<String>,
    /// Modules without which no test of the suite makes sense.
    #[serde(default)]
    required_modules: Vec<String>,
    /// Files that must not exist in the guest.
    #[serde(default)]
    #[expect(dead_code, reason = "the guest image holds no /boot at all")]
    absent_files: Vec<String>,
}

/// Programs and packages that the guest image must have for this suite.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Guest {
    #[cfg_attr(not(test), expect(dead_code, reason = "a test holds it against roots.toml"))]
    pub(crate) packages: Vec<String>,
}

/// Flavours: named sets of environment variables that tests run with, as in lvm2.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flavours {
    pub(crate) default: Option<String>,
    #[serde(default)]
    /// Names of all flavours.
    pub known: Vec<String>,
    /// Names of the tests that run in flavours with this part in their name; only these do.
    #[serde(default)]
    pub(crate) only: BTreeMap<String, Vec<String>>,
    /// Names of the tests that never run in flavours with this part in their name.
    #[serde(default)]
    pub(crate) never: BTreeMap<String, Vec<String>>,
    /// Words put before each test's command in flavours with this part in their name.
    #[serde(default)]
    prefix: BTreeMap<String, Vec<String>>,
}

impl Flavours {
    /// Why `test` is not run in `flavour`; `None` if it is.
    pub(crate) fn objection(&self, test: &str, flavour: &str) -> Option<String> {
        let listed = |lists: &BTreeMap<String, Vec<String>>, wanted: bool| {
            parts(flavour)
                .find(|part| {
                    lists.get(*part).is_some_and(|list| list.iter().any(|name| name == test) == wanted)
                })
                .map(str::to_owned)
        };
        // A flavour with `lvmlockd` runs all tests, whatever its other parts allow.
        let only = listed(&self.only, false).filter(|_| !parts(flavour).any(|part| part == "lvmlockd"));
        let part = only.or_else(|| listed(&self.never, true))?;
        Some(format!("does not run in flavours with `{part}`"))
    }

    fn prefix_of(&self, flavour: &str) -> &[String] {
        parts(flavour).find_map(|part| self.prefix.get(part)).map_or(&[], Vec::as_slice)
    }
}

/// The parts of a flavour's name: `udev-lvmlockd-dlm` → `udev`, `lvmlockd`, `dlm`.
fn parts(flavour: &str) -> impl Iterator<Item = &str> {
    flavour.split('-')
}

/// Settings of one test that differ from the suite's.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    #[serde(default)]
    /// Tags of the test.
    pub tags: Vec<String>,
    /// Modules without which the test skips or fails.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Modules without which it tests less.
    #[serde(default)]
    pub wants: Vec<String>,
    ram_mib: Option<u32>,
    /// Command that runs instead of the suite's `argv`, which may be absent then.
    argv: Option<Vec<String>>,
    /// True if the test gets the suite's own kernel modules.
    #[serde(default)]
    own_modules: bool,
    vcpus: Option<u32>,
    silence_timeout_s: Option<u64>,
    test_timeout_s: Option<u64>,
    /// Specs of the kernels that the test runs on, whatever the command line names.
    #[serde(default)]
    kernels: Vec<String>,
    /// Another suite's test that this one runs, in that suite's way.
    runs: Option<TestId>,
    /// A script beside `suite.toml` that this test runs, like a user's.
    script: Option<String>,
    /// Minimum number of tries; the command line may ask for more.
    tries: Option<u32>,
}

impl Test {
    /// All modules that the test needs or wants.
    fn modules(&self) -> Vec<String> {
        let all = self.needs.iter().chain(&self.wants);
        all.filter_map(|need| need.strip_prefix("module:").map(str::to_owned)).collect()
    }

    /// The programs without which it skips or fails.
    fn tools(&self) -> Vec<&str> {
        self.needs.iter().filter_map(|need| need.strip_prefix("tool:")).collect()
    }
}

/// One test with all settings that apply to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Name of the test, with its suite.
    pub id: TestId,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Working directory in the guest.
    pub cwd: String,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Directories that are made in the guest before the test starts.
    pub make_dirs: Vec<String>,
    /// Modules that are loaded before the test starts.
    pub load_modules: Vec<String>,
    /// Modules that are already loaded in a guest restored from a snapshot.
    pub preload_modules: Vec<String>,
    /// Modules without which the test makes no sense.
    pub required_modules: Vec<String>,
    /// Modules without which the test skips or tests less.
    pub wanted_modules: Vec<String>,
    /// Folder of sources of kernel modules that are built for the test's kernel and given to it.
    pub own_modules: Option<PathBuf>,
    /// Regular expressions of titles of kernel reports that the test causes on purpose, by its own statement.
    pub allow: Vec<String>,
    /// Files given to the test, in [`protocol::wire::INBOX`].
    pub files: Vec<GivenFile>,
    /// Sizes of the disks given to the test, bytes.
    pub disks: Vec<u64>,
    /// Rules by which its result is read.
    pub contract: Contract,
    /// Memory of the VM, MiB.
    pub ram_mib: u32,
    /// Processors of the VM.
    pub vcpus: u32,
    /// Time without output after which the test is stopped, under KVM.
    pub silence_timeout: Duration,
    /// Total time after which the test is stopped, under KVM.
    pub test_timeout: Duration,
}

/// A file given to a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenFile {
    /// Plain file name, without a directory.
    pub(crate) name: String,
    pub(crate) mode: u32,
    pub(crate) content: Vec<u8>,
}

/// Differences between the tests that the guest has and those that `suite.toml` lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TestListDifference {
    /// Tests of the guest that `suite.toml` does not list.
    pub(crate) unknown: BTreeSet<String>,
    /// Tests that `suite.toml` lists and the guest lacks.
    pub(crate) gone: BTreeSet<String>,
    /// Number of tests of the guest whose names are not valid test ids.
    pub(crate) unnameable: usize,
}

impl TestListDifference {
    /// The differences in one line; `None` if there are none.
    pub(crate) fn text(&self, suite: &str) -> Option<String> {
        let some = |names: &BTreeSet<String>| {
            let shown: Vec<_> = names.iter().take(3).map(String::as_str).collect();
            let dots = if names.len() > shown.len() { ", …" } else { "" };
            format!("{} ({}{dots})", names.len(), shown.join(", "))
        };
        let mut parts = Vec::new();
        if !self.unknown.is_empty() {
            parts.push(format!("has {} that suites/{suite}/suite.toml does not know", some(&self.unknown)));
        }
        if !self.gone.is_empty() {
            parts.push(format!("lacks {} that it lists", some(&self.gone)));
        }
        match self.unnameable {
            0 => {}
            1 => parts.push("has 1 test whose name is not a valid test id".to_owned()),
            n => parts.push(format!("has {n} tests whose names are not valid test ids")),
        }
        (!parts.is_empty()).then(|| format!("of {suite}'s tests, the guest {}", parts.join(", ")))
    }
}

impl Suite {
    /// Adds the tests that the guest has. Unlisted ones get the settings of the whole suite, and no tags.
    pub(crate) fn add_installed(&mut self, installed: &BTreeSet<String>) -> TestListDifference {
        let is_gone = |name: &&String| !installed.contains(*name);
        let gone = self.tests.keys().filter(is_gone).cloned().collect();
        let mut difference = TestListDifference { gone, ..TestListDifference::default() };
        for name in installed.iter().filter(|name| !self.tests.contains_key(*name)) {
            if TestId::new(&self.name, name).is_ok_and(|id| id.flavour().is_none()) {
                difference.unknown.insert(name.clone());
            } else {
                difference.unnameable += 1;
            }
        }
        self.tests.extend(difference.unknown.iter().map(|name| (name.clone(), Test::default())));
        difference
    }

    /// Reads the `suite.toml` in a suite's folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("suite.toml");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("failed to read suite `{}`", path.display()))?;
        let suite =
            Self::parse(&text).with_context(|| format!("suite `{}` makes no sense", path.display()))?;
        let runner = suite.run.runner.as_ref().map(|name| Self::read_runner(folder, name)).transpose()?;
        Ok(Suite { folder: folder.to_owned(), runner, ..suite })
    }

    fn read_runner(folder: &Path, name: &str) -> Result<GivenFile> {
        let path = folder.join(name);
        let content =
            fs::read(&path).with_context(|| format!("failed to read runner `{}`", path.display()))?;
        Ok(GivenFile { name: name.to_owned(), mode: 0o755, content })
    }

    fn parse(text: &str) -> Result<Self> {
        let suite: Suite = toml::from_str(text)?;
        if let Some(runner) = &suite.run.runner {
            let name = Path::new(runner).file_name().and_then(|name| name.to_str());
            ensure!(name == Some(runner), "runner `{runner}` is no plain name of a file beside suite.toml");
        }
        for (name, test) in &suite.tests {
            TestId::new(&suite.name, name)?;
            for kernel in &test.kernels {
                kernel.parse::<KernelSpec>().with_context(|| format!("kernel of `{name}`"))?;
            }
            for tag in &test.tags {
                ensure!(suite.tag_docs.contains_key(tag), "tag `{tag}` of `{name}` is not in [tag_docs]");
            }
            for need in test.needs.iter().chain(&test.wants) {
                let kind = need.split(':').next().unwrap_or(need);
                ensure!(
                    suite.need_docs.contains_key(kind),
                    "need `{need}` of `{name}` is not in [need_docs]"
                );
            }
        }
        for list in suite.flavours.only.values().chain(suite.flavours.never.values()) {
            for name in list {
                ensure!(suite.tests.contains_key(name), "[flavours] names `{name}`, which is no test");
            }
        }
        for tag in &suite.default_tags {
            ensure!(suite.tag_docs.contains_key(tag), "default tag `{tag}` is not in [tag_docs]");
        }
        Ok(suite)
    }

    /// The job that runs a user's program the way this suite's tests are run.
    pub(crate) fn job_for(&self, id: TestId, argv: Vec<String>) -> Job {
        self.job_of(id, &Test { argv: Some(argv), ..Test::default() })
    }

    /// Job of a test that runs by default, as an example of how tests are started and prepared.
    pub fn example(&self) -> Result<Job> {
        let named = self.tests.iter().find(|(_, test)| self.runs_by_default(test)).map(|(name, _)| name);
        let name = named.with_context(|| format!("suite `{}` runs no test by default", self.name))?;
        self.job(&TestId::new(&self.name, name)?)
    }

    /// True for a test that runs when nothing is selected.
    pub(crate) fn runs_by_default(&self, test: &Test) -> bool {
        self.default_tags.is_empty() || test.tags.iter().any(|tag| self.default_tags.contains(tag))
    }

    /// Memory (MiB) and processors of this suite's VM, where a test has no settings of its own.
    pub(crate) fn machine_size(&self) -> (u32, u32) {
        (self.machine.ram_mib, self.machine.vcpus)
    }

    /// The program behind a test.
    pub(crate) fn source_of(&self, id: &TestId) -> TestSource {
        let Some(test) = self.tests.get(id.name()) else { return TestSource::Own };
        match (&test.runs, &test.script) {
            (Some(other), _) => TestSource::Test(other.clone()),
            (None, Some(script)) => TestSource::Script(self.folder.join(script)),
            (None, None) => TestSource::Own,
        }
    }

    /// The kernels that a test names itself, and its minimum number of tries.
    pub(crate) fn own_kernels(&self, id: &TestId) -> (Vec<KernelSpec>, u32) {
        let Some(test) = self.tests.get(id.name()) else { return (vec![], 1) };
        let kernels = test.kernels.iter().filter_map(|kernel| kernel.parse().ok()).collect();
        (kernels, test.tries.unwrap_or(1))
    }

    /// The job of a test.
    pub fn job(&self, id: &TestId) -> Result<Job> {
        let test = self
            .tests
            .get(id.name())
            .with_context(|| format!("suite `{}` has no test `{}`", self.name, id.name()))?;
        Ok(self.job_of(id.clone(), test))
    }

    fn job_of(&self, id: TestId, test: &Test) -> Job {
        let flavour = id.flavour().or(self.flavours.default.as_deref()).unwrap_or_default();
        let runner = self.runner.as_ref().map(|file| format!("{INBOX}/{}", file.name)).unwrap_or_default();
        let tools = test.tools().join(" ");
        let values =
            [("{test}", id.name()), ("{flavour}", flavour), ("{tools}", &tools), ("{runner}", &runner)];
        let fill = |text: &String| {
            values.iter().fold(text.clone(), |text, (placeholder, value)| text.replace(placeholder, value))
        };
        let prefix = self.flavours.prefix_of(flavour);
        let seconds = |own: Option<u64>, common| Duration::from_secs(own.unwrap_or(common));
        Job {
            argv: prefix.iter().chain(test.argv.as_ref().unwrap_or(&self.run.argv)).map(fill).collect(),
            cwd: self.run.cwd.clone(),
            env: self.run.env.iter().map(|(name, value)| (name.clone(), fill(value))).collect(),
            make_dirs: self.run.make_dirs.clone(),
            load_modules: self.machine.load_modules.clone(),
            preload_modules: self.machine.preload_modules.clone(),
            allow: vec![],
            required_modules: self.machine.required_modules.clone(),
            wanted_modules: test.modules(),
            own_modules: self
                .machine
                .own_modules
                .as_ref()
                .filter(|_| test.own_modules)
                .map(|folder| crate::workspace::workspace().join("suites").join(&self.name).join(folder)),
            files: self.runner.iter().cloned().collect(),
            disks: vec![],
            contract: self.contract.clone(),
            ram_mib: test.ram_mib.unwrap_or(self.machine.ram_mib),
            vcpus: test.vcpus.unwrap_or(self.machine.vcpus),
            silence_timeout: seconds(test.silence_timeout_s, self.limits.silence_timeout_s),
            test_timeout: seconds(test.test_timeout_s, self.limits.test_timeout_s),
            id,
        }
    }
}

/// Name of the suite that is used when none is named.
pub const DEFAULT_SUITE: &str = "lvm2";

/// Reads the suite of that name in `suites/`.
pub fn suite_named(name: &str) -> Result<Suite> {
    let folder = workspace().join("suites").join(name);
    if folder.join("suite.toml").is_file() {
        return Suite::read(&folder).map_err(usage);
    }
    Err(usage(anyhow::anyhow!("no suite `{name}`; there are {}", suite_names()?.join(", "))))
}

/// Names of the suites in this work tree, sorted.
pub fn suite_names() -> Result<Vec<String>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::workspace;
    use vm_images::spec::Overlay;

    #[test]
    fn lvm2s_data_makes_sense_and_is_whole() {
        let suite = Suite::read(&workspace().join("suites/lvm2")).unwrap();
        assert!(suite.tests.len() > 400, "{} tests", suite.tests.len());
        let named: Vec<_> =
            suite.tests.iter().filter(|(_, test)| test.tags.contains(&"v6.7-regressions".into())).collect();
        assert_eq!(named.len(), 2);
        for name in suite.tests.keys() {
            suite.job(&TestId::new("lvm2", name).unwrap()).unwrap();
        }
    }

    #[test]
    fn mdadms_data_makes_sense_and_each_job_brings_its_runner() {
        let suite = Suite::read(&workspace().join("suites/mdadm")).unwrap();
        let issues = crate::run::criteria::known_issues().unwrap();
        crate::run::criteria::expectations_of("mdadm", &issues).unwrap();
        assert!(suite.tests.len() > 120, "{} tests", suite.tests.len());
        for name in suite.tests.keys() {
            let job = suite.job(&TestId::new("mdadm", name).unwrap()).unwrap();
            let given: Vec<_> = job.files.iter().map(|file| format!("{INBOX}/{}", file.name)).collect();
            assert!(given.len() == 1 && job.argv.contains(&given[0]) && job.argv.contains(name), "{job:?}");
        }
        let tools = |name| suite.job(&TestId::new("mdadm", name).unwrap()).unwrap().argv.pop().unwrap();
        assert_eq!((tools("24raid456deadlock").as_str(), tools("00raid1").as_str()), ("fio", ""));
        // What the runner prints for the harness begins as the contract says.
        let runner = fs::read_to_string(workspace().join("suites/mdadm/one-test.sh")).unwrap();
        let Contract { skip_line, warn_line, fail_line, known_to_fail_line, .. } = &suite.contract;
        for line in [skip_line, warn_line, fail_line, known_to_fail_line] {
            let line = line.as_ref().unwrap();
            assert!(runner.contains(line.trim_end()), "the runner never prints `{line}`");
        }
    }

    #[test]
    fn a_runner_is_a_file_beside_the_suite() {
        let dir = tempfile::tempdir().unwrap();
        let write = |runner: &str| {
            let text = format!(
                "name = \"x\"\nabout = \"x\"\n[run]\nrunner = \"{runner}\"\n\
                 argv = [\"{{runner}}\", \"{{test}}\", \"{{tools}}\"]\ncwd = \"/tmp\"\n[contract]\n\
                 [limits]\nsilence_timeout_s = 1\ntest_timeout_s = 1\n[machine]\nram_mib = 1\nvcpus = 1\n\
                 [need_docs]\ntool = \"x\"\nmodule = \"x\"\n\
                 [tests]\n\"t\" = {{ tags = [], needs = [\"tool:a\", \"module:m\", \"tool:b\"] }}\n"
            );
            fs::write(dir.path().join("suite.toml"), text).unwrap();
        };
        write("run.sh");
        let missing = Suite::read(dir.path()).unwrap_err().to_string();
        assert!(missing.contains("failed to read runner"), "{missing}");
        fs::write(dir.path().join("run.sh"), "exit 0").unwrap();
        let job = Suite::read(dir.path()).unwrap().job(&TestId::new("x", "t").unwrap()).unwrap();
        assert_eq!(job.argv, [format!("{INBOX}/run.sh").as_str(), "t", "a b"]);
        assert_eq!(job.files[0].content, b"exit 0");
        write("../run.sh");
        let outside = Suite::read(dir.path()).unwrap_err().to_string();
        assert!(outside.contains("makes no sense"), "{outside}");
    }

    #[test]
    fn the_planted_suites_data_is_whole() {
        let folder = workspace().join("suites/planted");
        let suite = Suite::read(&folder).unwrap();
        crate::run::criteria::Criteria::of_suite("planted").unwrap();
        for name in suite.tests.keys() {
            let id = TestId::new("planted", name).unwrap();
            match suite.source_of(&id) {
                TestSource::Own => panic!("{name} runs nothing"),
                TestSource::Test(other) => {
                    assert!(TestId::new("lvm2", other.name()).is_ok_and(|id| id == other))
                }
                TestSource::Script(path) => assert!(path.is_file(), "{}", path.display()),
            }
            let (kernels, _) = suite.own_kernels(&id);
            assert!(!kernels.is_empty(), "{name} names no kernel");
            for kernel in &kernels {
                let KernelSpec::Debian { overlay, .. } = kernel else { panic!("{kernel} is nobody else's") };
                let Some(overlay) = overlay else { continue };
                let Overlay::Plant(plant) = overlay else { panic!("{overlay} is nobody else's") };
                let text = fs::read_to_string(folder.join(format!("plants/{plant}.toml"))).unwrap();
                vm_images::kernel::plant::Plant::parse(&text).unwrap();
            }
        }
    }

    /// Without `strings`, for example, the integrity tests corrupt nothing and still pass.
    #[test]
    fn the_guest_has_what_the_suites_tests_call() {
        let guest = vm_images::debian::roots::root_packages("guest");
        for name in ["lvm2", "mdadm"] {
            let suite = Suite::read(&workspace().join("suites").join(name)).unwrap();
            for package in suite.guest.unwrap().packages {
                // mdadm is built from its source package.
                assert!(guest.contains(&package) || package == "mdadm", "roots.toml lacks {package}");
            }
        }
    }

    #[test]
    fn a_guest_may_have_other_tests_than_are_listed() {
        let mut suite = Suite::read(&workspace().join("suites/lvm2")).unwrap();
        let mut installed: BTreeSet<_> = suite.tests.keys().cloned().collect();
        assert_eq!(suite.add_installed(&installed).text("lvm2"), None);
        installed.remove("shell/000-basic.sh");
        installed.extend(["shell/zz-mine.sh".to_owned(), "shell/not a name.sh".to_owned()]);
        let difference = suite.add_installed(&installed);
        assert_eq!(
            difference.text("lvm2").unwrap(),
            "of lvm2's tests, the guest has 1 (shell/zz-mine.sh) that suites/lvm2/suite.toml does not know, \
             lacks 1 (shell/000-basic.sh) that it lists, has 1 test whose name is not a valid test id"
        );
        let job = suite.job(&TestId::new("lvm2", "shell/zz-mine.sh").unwrap()).unwrap();
        assert_eq!(job.argv.last().unwrap(), "/usr/share/lvm2-testsuite/shell/zz-mine.sh");
        assert!(suite.tests.contains_key("shell/000-basic.sh"), "what is gone can still be named");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = Suite::parse("name = \"x\"\ncolour = 1\n").unwrap_err().to_string();
        assert!(error.contains("colour") && error.contains("line 2"), "{error}");
    }
}
