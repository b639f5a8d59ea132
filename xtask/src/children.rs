//! Looks at processes of the host: their parents, and their memory.
//!
//! Deliberately not here: starting or ending any.

use std::fs;

use anyhow::{Context, Result};

/// All processes of the host: id and parent's id.
pub(crate) fn processes() -> Vec<(u32, u32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let ppid = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
        Some((pid, ppid))
    })
    .collect()
}

/// All descendants of process `pid`, except the janitor, whose work begins when `pid` is gone.
pub(crate) fn descendants_of(pid: u32) -> Vec<u32> {
    let all = processes();
    let mut family = vec![pid];
    let mut idx = 0;
    while let Some(&parent) = family.get(idx) {
        family.extend(all.iter().filter(|&&(_, ppid)| ppid == parent).map(|(pid, _)| pid));
        idx += 1;
    }
    family.remove(0);
    family.retain(|&pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        !String::from_utf8_lossy(&command).contains(harness::session::JANITOR_COMMAND)
    });
    family
}

/// True if a process is gone, or a zombie that its new parent has not reaped yet.
pub(crate) fn is_gone(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

/// Memory of a process, KiB; of shared memory its share (Pss, proc_pid_smaps(5)).
pub(crate) fn pss_kib(pid: u32) -> Result<u64> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&file).with_context(|| format!("failed to read `{file}`"))?;
    pss_of(&text).with_context(|| format!("`{file}` has no Pss"))
}

fn pss_of(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_of_what_is_shared_is_read() {
        let text =
            "7f00-7fff ---p 00000000 00:00 0 [rollup]\nRss:  900 kB\nPss:     812 kB\nPss_Dirty: 7 kB\n";
        assert_eq!(pss_of(text), Some(812));
        assert_eq!(pss_of("Pss_Dirty: 7 kB\n"), None);
    }

    #[test]
    fn a_process_that_runs_takes_memory_and_is_not_gone() {
        let own = std::process::id();
        assert!(pss_kib(own).unwrap() > 0);
        assert!(!is_gone(own));
    }
}
