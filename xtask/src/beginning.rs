//! How a run begins: its folder, and the first events, which say what it consists of.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use protocol::Event;
use protocol::event::{Blame, Checkout, Script};

use crate::plan::Part;
use crate::prepare::{self, Prepared};
use crate::run_order;
use crate::runner::Planned;
use crate::runner::event_log::EventLog;
use crate::select::LeftOut;
use crate::settings;
use crate::shard::Shard;
use crate::test::Options;

/// Everything that is known before the first VM starts.
pub(crate) struct Beginning<'a> {
    pub(crate) prepared: &'a Prepared,
    pub(crate) options: &'a Options,
    /// VMs at a time.
    pub(crate) n_vms: usize,
    pub(crate) plan: &'a [Planned],
    /// The user's own scripts, as they are.
    pub(crate) scripts: Vec<Script>,
    /// Which part of a whole it is.
    pub(crate) part: Option<Part>,
    pub(crate) left_out: Vec<LeftOut>,
}

impl Beginning<'_> {
    /// Writes the first events.
    pub(crate) fn record(&self, events: &EventLog, run_dir: &Path) -> std::io::Result<()> {
        let Beginning { prepared, options, n_vms, plan, scripts, part, left_out } = self;
        let mut host = prepare::host_facts();
        host.insert("vms".to_owned(), n_vms.to_string());
        let run = run_dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        events.append(Event::RunStarted {
            format: protocol::event::FORMAT,
            run,
            started_at: rfc3339_now(),
            harness: prepare::harness_version(),
            command: command_line(std::env::args_os()),
            settings: settings::words(options, prepared.chosen.accel),
            scripts: scripts.clone(),
            host,
            fail_on: options.policy.words().to_vec(),
            flaky_fails: options.policy.flaky_fails,
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
                spec: kernel.spec.to_string(),
                exact_spec: kernel.exact_spec.to_string(),
                release: kernel.release.clone(),
                package_version: kernel.package_version.clone(),
                digest: kernel.digest().to_string(),
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
        if let Some(Part { shard, digest }) = part {
            let Shard { shard, n_shards } = *shard;
            events.append(Event::Sharded { shard, n_shards, digest: digest.to_string() })?;
        }
        events.append(Event::Planned {
            attempts: plan.iter().map(|planned| planned.attempt.clone()).collect(),
        })?;
        for (kernel_idx, _) in (0u32..).zip(&prepared.kernels) {
            for (test, reason) in left_out {
                let (test, reason) = (test.clone(), reason.clone());
                events.append(Event::NotPlanned { test, kernel_idx, reason })?;
            }
        }
        Ok(())
    }
}

/// The command line as it was given, for the record. What is no UTF-8 (a file's name need not be) is shown as near as
/// text can come to it: `std::env::args` would panic.
pub(crate) fn command_line(args: impl Iterator<Item = OsString>) -> Vec<String> {
    let words = args.skip(1).map(|word| word.to_string_lossy().into_owned());
    ["cargo".to_owned(), "xtask".to_owned()].into_iter().chain(words).collect()
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
pub(crate) fn create_run(out: &Path) -> Result<PathBuf> {
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
            Ok(()) => {
                let noted = run_order::note(out, &dir);
                noted.with_context(|| format!("failed to write into `{}`", dir.display()))?;
                return Ok(dir);
            }
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

/// Wall clock, to the second.
pub(crate) fn rfc3339_now() -> String {
    let format = &time::format_description::well_known::Rfc3339;
    let now = time::OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now).format(format).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn a_word_that_is_no_text_is_recorded_as_near_as_text_can_come() {
        let words = [b"xtask".to_vec(), b"test".to_vec(), b"--script=a\xff.sh".to_vec()];
        let command = command_line(words.into_iter().map(OsString::from_vec));
        assert_eq!(command, ["cargo", "xtask", "test", "--script=a\u{fffd}.sh"]);
    }
}
