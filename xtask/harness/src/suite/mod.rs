//! A suite as data: reads `suites/NAME/suite.toml`. Pure but for [`Suite::read`].

pub mod script;
pub mod select;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use protocol::TestId;
use serde::Deserialize;
use vm_images::spec::KernelSpec;

use crate::error::usage;
use crate::machine::Tuning;
use crate::workspace::workspace;

/// What `suite.toml` says. The file itself explains each part.
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
    /// What runs when nothing is selected.
    pub(crate) default_tags: Vec<String>,
    pub(crate) run: Run,
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
    /// Its folder.
    #[serde(skip)]
    folder: PathBuf,
}

/// What a test of a suite really runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Runs {
    /// What the suite says.
    Own,
    /// Another suite's test.
    Test(TestId),
    /// A script in the suite's folder, which says itself what it needs.
    Script(PathBuf),
}

/// How a test is started in the guest. `{test}` and `{flavour}` are filled in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Run {
    #[serde(default)]
    argv: Vec<String>,
    cwd: String,
    #[serde(default)]
    make_dirs: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

/// How its result is read from exit status and output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// Exit status of a skip.
    pub(crate) skip_exit: Option<i32>,
    /// Begins a line that gives a skip's reason.
    pub(crate) skip_line: Option<String>,
    /// Begin the line that a skip without a reason ends with.
    #[serde(default)]
    pub(crate) bare_skip_lines: Vec<String>,
    /// Begins a line that makes a pass a warning.
    pub(crate) warn_line: Option<String>,
    /// The line that a failure's epilogue begins with: the cause is above it.
    pub(crate) fail_line: Option<String>,
    /// Begin lines that say that a pass tested less than it could.
    #[serde(default)]
    pub(crate) weakened_lines: Vec<String>,
    /// Begins the line that the clean-up prints: what follows is no longer the test's own work.
    pub(crate) teardown_line: Option<String>,
    /// The user's own program: what keeps it from running is theirs, and its last line is a skip's reason.
    #[serde(skip)]
    pub(crate) own_program: bool,
}

/// Time limits at the speed of KVM.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    silence_timeout_s: u64,
    test_timeout_s: u64,
}

/// What a VM for this suite has.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    ram_mib: u32,
    vcpus: u32,
    /// Loaded before a test starts.
    #[serde(default)]
    pub(crate) load_modules: Vec<String>,
    /// Loaded before the guest is saved, where none of them is replaced: what nearly every test has the kernel load.
    #[serde(default)]
    preload_modules: Vec<String>,
    /// Folder, beside `suite.toml`, of kernel modules of the suite's own.
    #[serde(default)]
    own_modules: Option<String>,
    /// Without these no test of the suite makes sense.
    #[serde(default)]
    required_modules: Vec<String>,
    /// Must not exist in the guest.
    #[serde(default)]
    #[expect(dead_code, reason = "the guest image holds no /boot at all")]
    absent_files: Vec<String>,
}

/// What the guest image must hold for this suite.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Guest {
    #[cfg_attr(not(test), expect(dead_code, reason = "a test holds it against roots.toml"))]
    pub(crate) packages: Vec<String>,
}

/// lvm2's word for sets of variables that tests run with.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flavours {
    pub(crate) default: Option<String>,
    #[serde(default)]
    /// Names of all flavours.
    pub known: Vec<String>,
    /// By a part of the flavour's name: only these tests run in it.
    #[serde(default)]
    pub(crate) only: BTreeMap<String, Vec<String>>,
    /// By a part of the flavour's name: these tests never run in it.
    #[serde(default)]
    pub(crate) never: BTreeMap<String, Vec<String>>,
    /// By a part of the flavour's name: words in front of each test's own.
    #[serde(default)]
    prefix: BTreeMap<String, Vec<String>>,
}

impl Flavours {
    /// Why `test` is not run in `flavour`; nothing if it is.
    pub(crate) fn objection(&self, test: &str, flavour: &str) -> Option<String> {
        let listed = |lists: &BTreeMap<String, Vec<String>>, wanted: bool| {
            parts(flavour)
                .find(|part| {
                    lists.get(*part).is_some_and(|list| list.iter().any(|name| name == test) == wanted)
                })
                .map(str::to_owned)
        };
        // The lvmlockd flavours lift what their other parts allow.
        let only = listed(&self.only, false).filter(|_| !parts(flavour).any(|part| part == "lvmlockd"));
        let part = only.or_else(|| listed(&self.never, true))?;
        Some(format!("does not run in flavours with `{part}`"))
    }

    fn prefix_of(&self, flavour: &str) -> &[String] {
        parts(flavour).find_map(|part| self.prefix.get(part)).map_or(&[], Vec::as_slice)
    }
}

/// `udev-lvmlockd-dlm` → `udev`, `lvmlockd`, `dlm`.
fn parts(flavour: &str) -> impl Iterator<Item = &str> {
    flavour.split('-')
}

/// One test of the suite, where it differs from the suite.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    #[serde(default)]
    /// Tags of the test.
    pub tags: Vec<String>,
    /// Without these it skips or fails.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Without these it tests less.
    #[serde(default)]
    pub wants: Vec<String>,
    ram_mib: Option<u32>,
    /// Run instead of the suite's `argv`, which then may be absent.
    argv: Option<Vec<String>>,
    /// It is given the suite's own kernel modules.
    #[serde(default)]
    own_modules: bool,
    vcpus: Option<u32>,
    silence_timeout_s: Option<u64>,
    test_timeout_s: Option<u64>,
    /// Run on these, whatever the command line names.
    #[serde(default)]
    kernels: Vec<String>,
    /// Another suite's test, which it runs as that suite does.
    runs: Option<TestId>,
    /// A script beside `suite.toml`, run as a user's.
    script: Option<String>,
    /// How many times it is tried, if the command line does not want more.
    tries: Option<u32>,
}

impl Test {
    /// Modules that it says it needs or wants.
    fn modules(&self) -> Vec<String> {
        let all = self.needs.iter().chain(&self.wants);
        all.filter_map(|need| need.strip_prefix("module:").map(str::to_owned)).collect()
    }
}

/// A test, with everything that its suite says of it filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The test's name, with its suite.
    pub id: TestId,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Folder in the guest that it runs in.
    pub cwd: String,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Folders that are made before it starts.
    pub make_dirs: Vec<String>,
    /// Modules that are loaded before it starts.
    pub load_modules: Vec<String>,
    /// Modules that a guest has loaded which is restored for it.
    pub preload_modules: Vec<String>,
    /// Modules without which it makes no sense.
    pub required_modules: Vec<String>,
    /// Modules without which it skips or tests less.
    pub wanted_modules: Vec<String>,
    /// Folder of the sources of kernel modules that it is given, built for its kernel.
    pub own_modules: Option<PathBuf>,
    /// Regular expressions of titles that it says itself it causes on purpose.
    pub allow: Vec<String>,
    /// Files that it is given, in [`protocol::wire::INBOX`].
    pub files: Vec<GivenFile>,
    /// Sizes of disks that it is given, bytes.
    pub disks: Vec<u64>,
    /// What a benchmark changes.
    pub tuning: Tuning,
    /// What its exit status means.
    pub contract: Contract,
    /// Memory of the VM, MiB.
    pub ram_mib: u32,
    /// Processors of the VM.
    pub vcpus: u32,
    /// At the speed of KVM.
    pub silence_timeout: Duration,
    /// At the speed of KVM.
    pub test_timeout: Duration,
}

/// A file that a test is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenFile {
    /// A plain file name.
    pub(crate) name: String,
    pub(crate) mode: u32,
    pub(crate) content: Vec<u8>,
}

/// How the tests that a guest has differ from those that `suite.toml` lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The guest has them, `suite.toml` does not know them.
    pub(crate) unknown: BTreeSet<String>,
    /// `suite.toml` lists them, the guest does not have them.
    pub(crate) gone: BTreeSet<String>,
    /// The guest has them, and they cannot be named here.
    pub(crate) unnameable: usize,
}

impl Difference {
    /// In one line; `None` if there is no difference.
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
        if self.unnameable > 0 {
            parts.push(format!("has {} whose names are no names of tests here", self.unnameable));
        }
        (!parts.is_empty()).then(|| format!("of {suite}'s tests, the guest {}", parts.join(", ")))
    }
}

impl Suite {
    /// Takes in the tests that a guest has: those that are not listed get what the suite says of all, and no
    /// tags.
    pub(crate) fn meet(&mut self, installed: &BTreeSet<String>) -> Difference {
        let is_gone = |name: &&String| !installed.contains(*name);
        let gone = self.tests.keys().filter(is_gone).cloned().collect();
        let mut difference = Difference { gone, ..Difference::default() };
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

    /// Reads a suite's folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("suite.toml");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("failed to read suite `{}`", path.display()))?;
        let suite =
            Self::parse(&text).with_context(|| format!("suite `{}` makes no sense", path.display()))?;
        Ok(Suite { folder: folder.to_owned(), ..suite })
    }

    fn parse(text: &str) -> Result<Self> {
        let suite: Suite = toml::from_str(text)?;
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

    /// Everything it takes to run something of the user's as this suite's tests are run.
    pub(crate) fn job_for(&self, id: TestId, argv: Vec<String>) -> Job {
        self.job_of(id, &Test { argv: Some(argv), ..Test::default() })
    }

    /// A test that runs by default, as an example: how one is started, and what is prepared for it.
    pub fn example(&self) -> Result<Job> {
        let runs_by_default = |test: &Test| test.tags.iter().any(|tag| self.default_tags.contains(tag));
        let named = self.tests.iter().find(|(_, test)| runs_by_default(test)).map(|(name, _)| name);
        let name = named.with_context(|| format!("suite `{}` runs no test by default", self.name))?;
        self.job(&TestId::new(&self.name, name)?)
    }

    /// Memory (MiB) and processors of this suite's machine, where no test says otherwise.
    pub(crate) fn machine_size(&self) -> (u32, u32) {
        (self.machine.ram_mib, self.machine.vcpus)
    }

    /// What a test really runs.
    pub(crate) fn runs(&self, id: &TestId) -> Runs {
        let Some(test) = self.tests.get(id.name()) else { return Runs::Own };
        match (&test.runs, &test.script) {
            (Some(other), _) => Runs::Test(other.clone()),
            (None, Some(script)) => Runs::Script(self.folder.join(script)),
            (None, None) => Runs::Own,
        }
    }

    /// The kernels that a test names itself, and how many times it is to be tried.
    pub(crate) fn own_kernels(&self, id: &TestId) -> (Vec<KernelSpec>, u32) {
        let Some(test) = self.tests.get(id.name()) else { return (vec![], 1) };
        let kernels = test.kernels.iter().filter_map(|kernel| kernel.parse().ok()).collect();
        (kernels, test.tries.unwrap_or(1))
    }

    /// Everything it takes to run one test.
    pub fn job(&self, id: &TestId) -> Result<Job> {
        let test = self
            .tests
            .get(id.name())
            .with_context(|| format!("suite `{}` has no test `{}`", self.name, id.name()))?;
        Ok(self.job_of(id.clone(), test))
    }

    fn job_of(&self, id: TestId, test: &Test) -> Job {
        let flavour = id.flavour().or(self.flavours.default.as_deref()).unwrap_or_default();
        let fill = |text: &String| text.replace("{test}", id.name()).replace("{flavour}", flavour);
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
            files: vec![],
            disks: vec![],
            tuning: Tuning::default(),
            contract: self.contract.clone(),
            ram_mib: test.ram_mib.unwrap_or(self.machine.ram_mib),
            vcpus: test.vcpus.unwrap_or(self.machine.vcpus),
            silence_timeout: seconds(test.silence_timeout_s, self.limits.silence_timeout_s),
            test_timeout: seconds(test.test_timeout_s, self.limits.test_timeout_s),
            id,
        }
    }
}

/// The suite that is meant when none is named.
pub const DEFAULT_SUITE: &str = "lvm2";

/// The suite of that name, in `suites/`.
pub fn suite_named(name: &str) -> Result<Suite> {
    let folder = workspace().join("suites").join(name);
    if folder.join("suite.toml").is_file() {
        return Suite::read(&folder).map_err(usage);
    }
    Err(usage(anyhow::anyhow!("no suite `{name}`; there are {}", suite_names()?.join(", "))))
}

/// The suites of this work tree, sorted.
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
    fn the_planted_suites_data_is_whole() {
        let folder = workspace().join("suites/planted");
        let suite = Suite::read(&folder).unwrap();
        crate::run::known::expectations_of("planted").unwrap();
        for name in suite.tests.keys() {
            let id = TestId::new("planted", name).unwrap();
            match suite.runs(&id) {
                Runs::Own => panic!("{name} runs nothing"),
                Runs::Test(other) => assert!(TestId::new("lvm2", other.name()).is_ok_and(|id| id == other)),
                Runs::Script(path) => assert!(path.is_file(), "{}", path.display()),
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

    /// Without `strings`, for one, the integrity tests corrupt nothing and pass all the same.
    #[test]
    fn the_guest_has_what_lvm2s_tests_call() {
        let suite = Suite::read(&workspace().join("suites/lvm2")).unwrap();
        let guest = vm_images::debian::roots::root_packages("guest");
        for package in suite.guest.unwrap().packages {
            // mdadm is built from its source package.
            assert!(guest.contains(&package) || package == "mdadm", "roots.toml lacks {package}");
        }
    }

    #[test]
    fn a_guest_may_have_other_tests_than_are_listed() {
        let mut suite = Suite::read(&workspace().join("suites/lvm2")).unwrap();
        let mut installed: BTreeSet<_> = suite.tests.keys().cloned().collect();
        assert_eq!(suite.meet(&installed).text("lvm2"), None);
        installed.remove("shell/000-basic.sh");
        installed.extend(["shell/zz-mine.sh".to_owned(), "shell/not a name.sh".to_owned()]);
        let difference = suite.meet(&installed);
        assert_eq!(
            difference.text("lvm2").unwrap(),
            "of lvm2's tests, the guest has 1 (shell/zz-mine.sh) that suites/lvm2/suite.toml does not know, \
             lacks 1 (shell/000-basic.sh) that it lists, has 1 whose names are no names of tests here"
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
