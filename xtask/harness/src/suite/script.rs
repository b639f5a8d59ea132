//! A user's own reproducer as a test: `--script FILE`, and its needs.
//!
//! It runs like one of LVM2's tests, in their folder, with their environment and exit contract, so
//! `. lib/inittest` works and `skip` is a skip. A script that sources nothing runs as well.
//!
//! A script may state its needs, and the kernel reports that it causes on purpose, in comments among its
//! first lines:
//!
//! ```sh
//! # md-regress: ram=2G,disks=4x256M
//! # md-regress: allow=^md/raid1: disk failure, device disabled$
//! ```
//!
//! Deliberately not here: the effect of an `allow` ([`reports::judge::title_pattern`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use protocol::TestId;
use protocol::wire::INBOX;
use reports::judge::title_pattern::TitlePattern;

use crate::suite::{Contract, GivenFile, Job, Suite};

/// Suite name under which scripts are shown.
pub const SUITE: &str = "script";
/// Suite whose way of running tests is used for scripts.
pub(crate) const RUN_AS: &str = "lvm2";
/// Beginning of a script's line that states needs or an allowed report.
const HEADER: &str = "# md-regress:";
/// Beginning of an allowed report in such a line. It stands alone, because a regular expression may contain
/// commas.
const ALLOW: &str = "allow=";
/// Number of lines at the top of a script in which such lines count.
const HEADER_LINES: usize = 30;
/// Largest size of a script, bytes: it is copied into the guest's memory.
const SCRIPT_BYTES_MAX: u64 = 64 << 20;
/// Largest number of disks of a machine.
const DISKS_MAX: usize = 16;

/// Needs of a script: `ram=2G,disks=4x256M,vcpus=2,timeout=20m,silence=90s,modules=raid456+dm-raid`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    ram_mib: Option<u32>,
    vcpus: Option<u32>,
    /// Sizes of the disks, bytes.
    disks: Option<Vec<u64>>,
    test_timeout: Option<Duration>,
    silence_timeout: Option<Duration>,
    modules: Option<Vec<String>>,
}

/// Why a text does not state needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{part}` {problem}; needs look like ram=2G,disks=4x256M,vcpus=2,timeout=20m,silence=90s,modules=raid456+loop"
)]
pub(crate) struct BadNeeds {
    part: String,
    problem: String,
}

impl FromStr for Needs {
    type Err = BadNeeds;

    fn from_str(text: &str) -> Result<Self, BadNeeds> {
        let mut needs = Needs::default();
        for part in text.split(',').map(str::trim) {
            let bad = |problem: &str| BadNeeds { part: part.to_owned(), problem: problem.to_owned() };
            let (key, value) = part.split_once('=').ok_or_else(|| bad("is no `key=value`"))?;
            let is_new = match key {
                "ram" => {
                    let mib = bytes(value).ok_or_else(|| bad("is no size"))? >> 20;
                    let mib = u32::try_from(mib).ok().filter(|mib| (256..1 << 20).contains(mib));
                    needs
                        .ram_mib
                        .replace(mib.ok_or_else(|| bad("is less than 256M or more than 1T"))?)
                        .is_none()
                }
                "vcpus" => {
                    let vcpus = value.parse().ok().filter(|vcpus| (1..=64).contains(vcpus));
                    needs.vcpus.replace(vcpus.ok_or_else(|| bad("is no number from 1 to 64"))?).is_none()
                }
                "disks" => needs
                    .disks
                    .replace(disks(value).ok_or_else(|| bad("is no `COUNTxSIZE`, up to 16 disks"))?)
                    .is_none(),
                "timeout" => {
                    needs.test_timeout.replace(duration(value).ok_or_else(|| bad("is no time"))?).is_none()
                }
                "silence" => {
                    needs.silence_timeout.replace(duration(value).ok_or_else(|| bad("is no time"))?).is_none()
                }
                "modules" => {
                    let modules = value.split('+').map(str::to_owned).collect::<Vec<_>>();
                    if modules.iter().any(String::is_empty) {
                        return Err(bad("names no module"));
                    }
                    needs.modules.replace(modules).is_none()
                }
                "allow" => {
                    return Err(bad(
                        "is no need: the script itself says it, on a line of its own, `# md-regress: allow=REGEX`",
                    ));
                }
                _ => return Err(bad("is nothing that a script can need")),
            };
            if !is_new {
                return Err(bad("was said twice"));
            }
        }
        Ok(needs)
    }
}

impl Needs {
    /// The needs in `self`, completed by those in `other`.
    fn or(self, other: Needs) -> Needs {
        Needs {
            ram_mib: self.ram_mib.or(other.ram_mib),
            vcpus: self.vcpus.or(other.vcpus),
            disks: self.disks.or(other.disks),
            test_timeout: self.test_timeout.or(other.test_timeout),
            silence_timeout: self.silence_timeout.or(other.silence_timeout),
            modules: self.modules.or(other.modules),
        }
    }
}

/// Makes a job of the script at `path`; `needs` from the command line take precedence over those in its
/// header.
pub(crate) fn job(path: &Path, needs: Option<&Needs>, run_as: &Suite, flavour: Option<&str>) -> Result<Job> {
    let shown = path.display();
    let data = fs::metadata(path).with_context(|| format!("failed to read script `{shown}`"))?;
    ensure!(data.is_file(), "script `{shown}` is no file");
    ensure!(
        data.len() <= SCRIPT_BYTES_MAX,
        "script `{shown}` has {} MB; {} MB is the most",
        data.len() >> 20,
        SCRIPT_BYTES_MAX >> 20
    );
    let content = fs::read(path).with_context(|| format!("failed to read script `{shown}`"))?;
    ensure!(!content.is_empty(), "script `{shown}` is empty");
    let Header { needs: own_needs, allow } = Header::read(&content, &shown.to_string())?;
    let needs = needs.cloned().unwrap_or_default().or(own_needs);
    let name = file_name(path);
    let id = TestId::new(SUITE, &name)?;
    let id = match flavour {
        Some(flavour) => id.with_flavour(flavour)?,
        None => id,
    };
    // A script without a `#!` line is run by bash, as LVM2's are.
    let inside = format!("{INBOX}/{name}");
    let argv = if content.starts_with(b"#!") || content.starts_with(b"\x7fELF") {
        vec![inside]
    } else {
        ["bash", "-noprofile", "-norc", &inside].map(str::to_owned).to_vec()
    };
    let plain = run_as.job_for(id, argv);
    let mut load_modules = plain.load_modules;
    let mut required_modules = plain.required_modules;
    let modules = needs.modules.unwrap_or_default();
    load_modules.extend(modules.iter().cloned());
    required_modules.extend(modules);
    let contract = Contract { own_program: true, ..plain.contract.clone() };
    Ok(Job {
        contract,
        load_modules,
        // The script may want to load them with options of its own.
        preload_modules: vec![],
        required_modules,
        allow,
        files: vec![GivenFile { name, mode: 0o755, content }],
        disks: needs.disks.unwrap_or_default(),
        ram_mib: needs.ram_mib.unwrap_or(plain.ram_mib),
        vcpus: needs.vcpus.unwrap_or(plain.vcpus),
        test_timeout: needs.test_timeout.unwrap_or(plain.test_timeout),
        silence_timeout: needs.silence_timeout.unwrap_or(plain.silence_timeout),
        ..plain
    })
}

/// Arguments of `cargo xtask test` that run the script again from any directory.
pub(crate) fn again(path: &Path, needs: Option<&str>) -> Vec<String> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path));
    let mut words = vec!["--script".to_owned(), path.display().to_string()];
    if let Some(needs) = needs {
        words.extend(["--script-needs".to_owned(), needs.to_owned()]);
    }
    words
}

/// A test name made of the file's name; characters that a test name cannot have become `_`.
pub(crate) fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.+=,".contains(c);
    let name: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).take(100).collect();
    if name.chars().all(|c| c == '.') { "script".to_owned() } else { name }
}

/// The statements in a script's header.
#[derive(Debug, Default, PartialEq, Eq)]
struct Header {
    needs: Needs,
    /// Regular expressions of kernel reports that it causes on purpose.
    allow: Vec<String>,
}

impl Header {
    /// Parses the header; errors name `file` and the line.
    fn read(content: &[u8], file: &str) -> Result<Header> {
        let mut header = Header::default();
        // Needs on several lines form one list; no need may be stated twice.
        let (mut needs, mut needs_at) = (Vec::new(), 0);
        for (number, line) in (1..).zip(content.split(|&byte| byte == b'\n').take(HEADER_LINES)) {
            let Ok(line) = std::str::from_utf8(line) else { continue };
            let Some(stated) = line.trim().strip_prefix(HEADER).map(str::trim) else { continue };
            let Some(pattern) = stated.strip_prefix(ALLOW).map(str::trim) else {
                let _checked: Needs =
                    stated.parse().with_context(|| format!("script `{file}`, line {number}"))?;
                needs.push(stated);
                needs_at = number;
                continue;
            };
            if let Err(problem) = TitlePattern::parse(pattern) {
                bail!("script `{file}`, line {number}: `allow` {problem}");
            }
            header.allow.push(pattern.to_owned());
        }
        if !needs.is_empty() {
            header.needs =
                needs.join(",").parse().with_context(|| format!("script `{file}`, line {needs_at}"))?;
        }
        Ok(header)
    }
}

/// Sizes of disks, bytes: `4x256M`, or several with `+`, `2x1G+512M`.
fn disks(text: &str) -> Option<Vec<u64>> {
    let mut all = Vec::new();
    for part in text.split('+') {
        let (count, size) = part.split_once('x').unwrap_or(("1", part));
        let count: usize = count.parse().ok().filter(|count| (1..=DISKS_MAX).contains(count))?;
        let size = bytes(size).filter(|size| *size >= 1 << 20 && size % 512 == 0)?;
        all.extend(std::iter::repeat_n(size, count));
    }
    (all.len() <= DISKS_MAX).then_some(all)
}

/// A size in bytes: `256M`, `2G`, `1T`, in powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let shift = match text.chars().last()? {
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => return None,
    };
    text[..text.len() - 1].parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A duration: `90s`, `20m`, `2h`; at most a week.
pub fn duration(text: &str) -> Option<Duration> {
    let factor = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return None,
    };
    let count = text[..text.len() - 1].parse::<u64>().ok().filter(|count| *count > 0)?;
    Some(Duration::from_secs(count.checked_mul(factor).filter(|seconds| *seconds <= 7 * 24 * 3600)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::workspace;

    fn suite() -> Suite {
        Suite::read(&workspace().join("suites/lvm2")).unwrap()
    }

    fn script(content: &str, needs: Option<&str>) -> Result<Job> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my reshape hang.sh");
        fs::write(&path, content).unwrap();
        job(&path, needs.map(|text| text.parse().unwrap()).as_ref(), &suite(), None)
    }

    #[test]
    fn needs_are_read() {
        let needs: Needs =
            "ram=2G, disks=2x256M+1G,vcpus=2,timeout=20m,silence=90s,modules=raid456+loop".parse().unwrap();
        assert_eq!(needs.ram_mib, Some(2048));
        assert_eq!(needs.disks, Some(vec![256 << 20, 256 << 20, 1 << 30]));
        assert_eq!(needs.test_timeout, Some(Duration::from_secs(1200)));
        assert_eq!(needs.modules.unwrap(), ["raid456", "loop"]);
    }

    #[test]
    fn needs_that_make_no_sense_are_named() {
        for (text, problem) in [
            ("ram", "`ram` is no `key=value`"),
            ("ram=2", "`ram=2` is no size"),
            ("ram=1M", "`ram=1M` is less than 256M"),
            ("disks=17x1G", "`disks=17x1G` is no `COUNTxSIZE`"),
            ("disks=4x", "`disks=4x` is no"),
            ("timeout=5", "`timeout=5` is no time"),
            ("colour=red", "`colour=red` is nothing that a script can need"),
            ("vcpus=1,vcpus=2", "`vcpus=2` was said twice"),
        ] {
            let error = text.parse::<Needs>().unwrap_err().to_string();
            assert!(error.contains(problem) && error.contains("needs look like"), "{error}");
        }
    }

    #[test]
    fn a_script_runs_as_lvm2s_tests_do() {
        let plain = suite().job(&TestId::new("lvm2", "shell/000-basic.sh").unwrap()).unwrap();
        let job = script(". lib/inittest\naux prepare_vg 5\n", None).unwrap();
        assert_eq!(job.id.to_string(), "script:my_reshape_hang.sh");
        assert_eq!(job.argv.last().unwrap(), "/run/md-regress/in/my_reshape_hang.sh");
        assert_eq!((job.argv[0].as_str(), &job.cwd, &job.env), ("bash", &plain.cwd, &plain.env));
        assert_eq!(
            (job.ram_mib, job.contract),
            (plain.ram_mib, Contract { own_program: true, ..plain.contract })
        );
        assert_eq!(script("#!/usr/bin/env python3\n", None).unwrap().argv.len(), 1);
    }

    #[test]
    fn the_command_line_goes_before_the_header() {
        let content = "#!/bin/sh\n# md-regress: ram=1G,disks=2x64M\ntrue\n";
        let job = script(content, Some("ram=4G")).unwrap();
        assert_eq!((job.ram_mib, job.disks.len()), (4096, 2));
        let error = format!("{:#}", script("# md-regress: ram=lots\n", None).unwrap_err());
        assert!(error.contains("my reshape hang.sh") && error.contains("`ram=lots` is no size"), "{error}");
    }

    #[test]
    fn a_script_says_what_it_causes_on_purpose() {
        let content = "#!/bin/bash\n# md-regress: ram=1G\n# md-regress: allow=^md/raid1: disk failure, .{1,9} disabled$\n\
                       # md-regress: disks=2x64M\n#  md-regress: allow=not so near\n  # md-regress: allow=I/O error\r\ntrue\n";
        let job = script(content, None).unwrap();
        assert_eq!(job.allow, ["^md/raid1: disk failure, .{1,9} disabled$", "I/O error"]);
        assert_eq!((job.ram_mib, job.disks.len()), (1024, 2));
        assert_eq!(script("true\n", None).unwrap().allow, Vec::<String>::new());
    }

    #[test]
    fn an_error_in_a_header_names_its_line() {
        let error =
            |line: &str| format!("{:#}", script(&format!("#!/bin/sh\n\n{line}\n"), None).unwrap_err());
        for (line, problem) in [
            ("# md-regress: allow=disk failure(", "`allow` is no regular expression: "),
            ("# md-regress: allow=", "`allow` would allow anything by ``; name the titles"),
            ("# md-regress: allow=.*", "`allow` would allow anything by `.*`; name the titles"),
            ("# md-regress: ram=1G,allow=x", "`allow=x` is no need: the script itself says it"),
            ("# md-regress: ram=1G\n# md-regress: ram=2G", "`ram=2G` was said twice"),
        ] {
            let error = error(line);
            assert!(error.contains("my reshape hang.sh`, line ") && error.contains(problem), "{error}");
        }
        assert!(error("# md-regress: allow=(").contains("line 3: "));
    }

    #[test]
    fn what_is_no_script_is_said() {
        let error = |path: &str| format!("{:#}", job(Path::new(path), None, &suite(), None).unwrap_err());
        assert!(error("/no/such/file").contains("script `/no/such/file`"));
        assert!(error("/tmp").contains("is no file"));
        assert!(error("/dev/null").contains("is no file"));
        assert!(script("", None).unwrap_err().to_string().contains("is empty"));
    }
}
