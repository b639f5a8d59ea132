//! Which QEMU is used: the one that was asked for, the host's if it is new enough, or the tools root's.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Result, bail};
use vm_images::build::tools::Tools;
use vm_images::host::{Host, HostError, quick};
use xshell::cmd;

use super::qemu::Qemu;

/// Oldest QEMU of the host's that is used. Snapshots need 8.2 at least, which maps a file privately that it
/// may only read.
const HOST_QEMU_MIN: (u32, u32) = (9, 0);

/// The program's name, on the host and in the tools root.
const PROGRAM: &str = "qemu-system-x86_64";

/// The host's QEMU, if it is one that can be used: `wanted` is empty (the one in the host's `PATH`), a
/// program, or `private` (none of the host's).
///
/// # Errors
/// If a program was asked for that does not run, or is too old.
pub fn on_host(host: &Host, wanted: &str) -> Result<Option<Qemu>> {
    if wanted == "private" {
        return Ok(None);
    }
    let program = if wanted.is_empty() { PROGRAM } else { wanted };
    let text = version(host, &[program.into()]).ok();
    match text.and_then(|text| Some((parse_version(&text)?, text))) {
        Some((version, text)) if version >= HOST_QEMU_MIN => {
            Ok(Some(Qemu { command: vec![program.into()], firmware: vec![], version: first_line(&text) }))
        }
        Some(_) | None if wanted.is_empty() => Ok(None),
        Some((version, _)) => {
            let (major, minor) = HOST_QEMU_MIN;
            bail!(
                "QEMU `{wanted}` is {}.{}, older than {major}.{minor}; --qemu private takes one of md-regress's own",
                version.0,
                version.1
            )
        }
        None => bail!("`{wanted}` is no QEMU that runs; --qemu private takes one of md-regress's own"),
    }
}

/// The tools root's QEMU, with the firmware that lies there.
///
/// # Errors
/// If it does not run.
pub fn in_tools(tools: &Tools, host: &Host) -> Result<Qemu> {
    let command = tools.command(&format!("usr/bin/{PROGRAM}"));
    let text = version(host, &command)?;
    let share = tools.root().join("usr/share");
    Ok(Qemu {
        command,
        firmware: vec![share.join("qemu"), share.join("seabios")],
        version: first_line(&text),
    })
}

fn version(host: &Host, command: &[OsString]) -> Result<String, HostError> {
    let (program, words) = command.split_first().expect("a command has a first word");
    let shell = host.shell(Path::new("."))?;
    quick::read(cmd!(shell, "{program} {words...} --version"))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// `QEMU emulator version 10.0.13 (Debian …)` → (10, 0).
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("QEMU emulator version ")?.split(['.', ' ']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemus_version_is_read() {
        assert_eq!(parse_version("QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds)"), Some((10, 0)));
        assert_eq!(parse_version("something else"), None);
    }
}
