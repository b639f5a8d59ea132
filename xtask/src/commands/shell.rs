//! `cargo xtask shell`: opens a shell in a guest, and says how it ended where that is not obvious.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use harness::session::Session;
use harness::shell::state::{End, Finished};
use harness::shell::{self, FinishedShell, Options};
use harness::suite::DEFAULT_SUITE;
use harness::workspace::shown_path;
use protocol::program;
use reports::render::words::reproduce::shell_line;
use reports::text::printable;
use rustix::io::Errno;
use vm_images::host::progress::Progress;
use vm_images::spec::KernelSpecs;

use crate::exit::Exit;
use crate::options::{GuestOptions, all};

pub(crate) const SHELL_HELP: &str = "\
Examples:
  cargo xtask shell                                  bash, on deb:6.12, in the guest of LVM2's tests
  cargo xtask shell --kernel deb:6.1 --suite canary --vcpus 2
  cargo xtask shell -- dmsetup targets               one program, its output, the end
  cargo xtask shell -- sh -c 'lvm version | head -1; uname -r'
  echo 'uname -r' | cargo xtask shell                commands from a pipe

On a terminal every key is the guest's, Ctrl-C and Ctrl-Z too; Ctrl-] three times within a second ends the
VM, whatever state it is in. Everything in the guest goes with it, but for what was put into
$MD_REGRESS_FILES, which is copied to the folder of the logs.

Exit codes:
  0    the shell was left; or the program, or the commands of the pipe, ended with status 0
  1    they ended with another (which is said), or the kernel crashed, does not boot or hangs
  2    the command line makes no sense, or the guest has no such program
  4    the harness or the host failed; nothing is known about the kernel
  130  interrupted, or ended by Ctrl-]";

#[derive(Debug, Args)]
pub(crate) struct ShellOptions {
    /// Kernel to boot, as for `test`; one
    #[arg(long = "kernel", value_name = "SPEC", default_value = "deb:6.12", env = "MD_REGRESS_KERNEL")]
    kernels: Vec<KernelSpecs>,
    /// Suite whose machine, modules and environment the shell gets
    #[arg(long, default_value = DEFAULT_SUITE, env = "MD_REGRESS_SUITE")]
    suite: String,
    #[command(flatten)]
    guest: GuestOptions,
    /// Memory of the VM (default: the suite's)
    #[arg(long = "ram", value_name = "MIB", value_parser = clap::value_parser!(u32).range(256..))]
    ram_mib: Option<u32>,
    /// Processors of the VM (default: the suite's)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    vcpus: Option<u32>,
    /// Folder in which the logs' folder is made
    #[arg(long, value_name = "DIR", env = "MD_REGRESS_OUT")]
    out: Option<PathBuf>,
    /// Program to run instead of bash, with its arguments
    #[arg(last = true, value_name = "PROGRAM")]
    argv: Vec<String>,
}

impl From<ShellOptions> for shell::Options {
    fn from(options: ShellOptions) -> Self {
        shell::Options {
            kernels: all(options.kernels),
            suite: options.suite,
            sources: options.guest.sources.into(),
            append: options.guest.append,
            accel: options.guest.accel,
            snapshots: !options.guest.no_snapshot,
            ram_mib: options.ram_mib,
            vcpus: options.vcpus,
            out: options.out,
            argv: options.argv,
            outer_image: None,
        }
    }
}

/// Signal of a program whose output nobody reads any more.
const SIGPIPE: i32 = 13;

pub(crate) fn run(session: &Session, options: &Options) -> Result<Exit> {
    let FinishedShell { dir, finished, interactive } = shell::run(session, options)?;
    let dir = shown_path(&dir);
    for file in &finished.files {
        let cut = file.error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
        let (name, path) = (file.file_idx, printable(&file.path));
        session.terminal.note(&format!("{dir}/files/{name} is {path}{}", printable(&cut)));
    }
    if finished.n_files_left_out > 0 {
        session.terminal.note(&format!("{} files were left in the guest", finished.n_files_left_out));
    }
    let (exit, words) = judge(&finished, options, interactive);
    if let End::Crashed { .. } = finished.end {
        for line in &finished.last_lines {
            session.terminal.say(&format!("    | {}", printable(line)));
        }
    } else if let Some(fault) = &finished.fault {
        session.terminal.note(&format!("the kernel complained: {}; see {dir}/kernel.log", printable(fault)));
    }
    if let Some(words) = words {
        session.terminal.say(&words);
    }
    match finished.end {
        End::Exited(_) | End::Escaped | End::Interrupted => {}
        End::Crashed { .. } | End::Hung { .. } | End::Infra { .. } => {
            session.terminal.say(&format!("logs: {dir}/"));
        }
    }
    Ok(exit)
}

/// The exit code for an end of the shell, and a message if one is needed.
fn judge(finished: &Finished, options: &Options, interactive: bool) -> (Exit, Option<String>) {
    let what = match options.argv.as_slice() {
        [] => "the shell".to_owned(),
        argv => format!("`{}`", shell_line(argv)),
    };
    match &finished.end {
        End::Exited(program::Exit::Code(0)) => (Exit::Passed, None),
        // A user who leaves a shell after a command that failed has seen the failure.
        End::Exited(program::Exit::Code(_)) if interactive && options.argv.is_empty() => (Exit::Passed, None),
        End::Exited(program::Exit::Code(code)) => {
            (Exit::TestsFailed, Some(format!("{what} ended with status {code}")))
        }
        // A closed reader (`| head`) is no error.
        End::Exited(program::Exit::Signal(SIGPIPE)) if finished.output_gone => (Exit::Passed, None),
        End::Exited(program::Exit::Signal(signal)) => {
            (Exit::TestsFailed, Some(format!("{what} was killed by signal {signal}")))
        }
        End::Exited(program::Exit::NotStarted(errno)) => {
            let error = Errno::from_raw_os_error(*errno);
            (Exit::Usage, Some(format!("error: {what} could not be started in the guest: {error}")))
        }
        End::Escaped => (Exit::Interrupted, Some("the VM was ended by Ctrl-]".to_owned())),
        End::Interrupted => (Exit::Interrupted, Some("interrupted".to_owned())),
        End::Crashed { title } => {
            (Exit::TestsFailed, Some(format!("the guest is gone: {}", printable(title))))
        }
        End::Hung { silent } => {
            let seconds = silent.as_secs();
            (Exit::TestsFailed, Some(format!("the guest did not answer for {seconds} s and was ended")))
        }
        End::Infra { error } => (Exit::Infra, Some(format!("error: {}", printable(error)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use harness::machine::accel::AccelChoice;

    fn check(end: End, argv: &[&str], interactive: bool, expect: (Exit, Option<&str>)) {
        let options = Options {
            kernels: vec!["deb:6.12".parse().unwrap()],
            suite: "lvm2".into(),
            sources: Default::default(),
            append: String::new(),
            accel: AccelChoice::Auto,
            snapshots: true,
            ram_mib: None,
            vcpus: None,
            out: None,
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            outer_image: None,
        };
        let finished = Finished {
            end,
            fault: None,
            last_lines: vec![],
            files: vec![],
            n_files_left_out: 0,
            output_gone: false,
            ready: true,
            late: false,
        };
        let (exit, words) = judge(&finished, &options, interactive);
        assert_eq!((exit, words.as_deref()), expect);
    }

    #[test]
    fn statuses() {
        let code = |code| End::Exited(program::Exit::Code(code));
        check(code(0), &[], true, (Exit::Passed, None));
        check(code(7), &[], true, (Exit::Passed, None));
        check(code(7), &[], false, (Exit::TestsFailed, Some("the shell ended with status 7")));
        check(code(7), &["a", "b c"], true, (Exit::TestsFailed, Some("`a 'b c'` ended with status 7")));
        check(
            End::Exited(program::Exit::Signal(9)),
            &["x"],
            false,
            (Exit::TestsFailed, Some("`x` was killed by signal 9")),
        );
        check(
            End::Exited(program::Exit::NotStarted(2)),
            &["x"],
            false,
            (
                Exit::Usage,
                Some("error: `x` could not be started in the guest: No such file or directory (os error 2)"),
            ),
        );
    }
}
