//! Programs that finish at once (`qemu --version`, `git rev-parse`): xshell makes them. They write no log.
//!
//! A program that may take longer than about a second belongs to [`Call`](super::Call): cancellation ends
//! none of these once it runs.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use xshell::{Cmd, Shell};

use super::{Host, HostError, die_with_parent, search_path, shortened, tail_of};

impl Host {
    /// [`shell`], refused once the host is cancelled.
    pub fn shell(&self, dir: &Path) -> Result<Shell, HostError> {
        self.cancel.check()?;
        shell(dir)
    }
}

/// A shell in `dir` whose programs are found as those of [`Host::call`] are.
///
/// # Errors
/// If our own working directory is gone.
pub fn shell(dir: &Path) -> Result<Shell, HostError> {
    #[expect(clippy::disallowed_methods, reason = "the one place that makes a shell")]
    let shell = Shell::new().map_err(HostError::NoFolder)?;
    shell.change_dir(dir);
    shell.set_var("PATH", search_path());
    Ok(shell)
}

/// Runs `program` to its end, with nothing to read; gives its standard output.
///
/// # Errors
/// If it cannot be started, or fails; with the last lines of its standard error then, or of its standard
/// output if it wrote no error.
pub fn read(program: Cmd<'_>) -> Result<String, HostError> {
    Ok(String::from_utf8_lossy(&read_bytes(program)?).into_owned())
}

/// [`read`], byte for byte: names of files need not be text.
pub fn read_bytes(program: Cmd<'_>) -> Result<Vec<u8>, HostError> {
    let shown = shortened(program.to_string());
    // xshell's own `Cmd::output` would start it without a parent-death signal and in our process group, and
    // its error does not tell a missing program from others.
    let mut command = Command::from(program);
    command.stdin(Stdio::null()).process_group(0);
    die_with_parent(&mut command);
    let output = command.output().map_err(|source| HostError::NotStarted {
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    Err(HostError::Failed { command: shown, status: output.status, log: None, tail: tail_of(said) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Cancel;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use xshell::cmd;

    fn shell() -> Shell {
        super::shell(Path::new("/")).unwrap()
    }

    #[test]
    fn names_that_are_no_text_go_in_and_come_out() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(OsStr::from_bytes(b"a\xff b"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("file"), "").unwrap();
        let shell = super::shell(&folder).unwrap();
        assert_eq!(read(cmd!(shell, "ls")).unwrap(), "file\n");
        let found = read_bytes(cmd!(shell, "find {folder} -name file -printf %h")).unwrap();
        assert_eq!(found, folder.as_os_str().as_bytes());
    }

    #[test]
    fn a_failing_program_is_named_with_its_last_words() {
        let shell = shell();
        let script = "echo before; echo broken >&2; exit 3";
        let text = read(cmd!(shell, "sh -c {script}")).unwrap_err().to_string();
        assert!(text.contains("`sh -c \"") && text.ends_with("(exit status: 3)\n  | broken\n"), "{text}");
        let text = read(cmd!(shell, "sh -c 'echo nothing to do; exit 1'")).unwrap_err().to_string();
        assert!(text.ends_with("  | nothing to do\n"), "{text}");
    }

    #[test]
    fn a_missing_program_is_named_with_what_to_do() {
        let shell = shell();
        let text = read(cmd!(shell, "no-such-program-here")).unwrap_err().to_string();
        assert!(text.starts_with("failed to start `no-such-program-here`: "), "{text}");
        assert!(text.contains("container"), "{text}");
    }

    #[test]
    fn nothing_is_started_once_the_host_is_cancelled() {
        let cancel = Cancel::default();
        let host = Host::new(cancel.clone());
        assert!(host.shell(Path::new("/")).is_ok());
        cancel.cancel();
        assert!(matches!(host.shell(Path::new("/")), Err(HostError::Cancelled)));
    }

    #[test]
    fn it_is_not_in_our_group_so_the_terminal_does_not_reach_it() {
        let shell = shell();
        let said = read(cmd!(shell, "sh -c 'cut -d\" \" -f5 /proc/$$/stat; echo $$'")).unwrap();
        let (group, pid) = said.trim().split_once('\n').unwrap();
        assert_eq!(group, pid);
    }
}
