//! The host that guests run on, told from others: states and answers that were kept hold for one only.

use std::fs;

/// The host's kernel and processor.
pub(crate) fn identity() -> String {
    let host = rustix::system::uname();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor: Vec<_> = cpuinfo
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| {
            ["model name", "stepping", "microcode", "flags"].iter().any(|key| line.starts_with(key))
        })
        .collect();
    format!(
        "{}\n{}\n{}",
        host.release().to_string_lossy(),
        host.version().to_string_lossy(),
        processor.join("\n")
    )
}

/// The first value of a field of `/proc/cpuinfo`, whose text is `cpuinfo`: the first processor's.
pub fn processor_field<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}
