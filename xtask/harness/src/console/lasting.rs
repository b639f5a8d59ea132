//! Words of the kernel without what differs from boot to boot. Pure.

use std::sync::LazyLock;

use regex::Regex;

/// Words without what differs from boot to boot: addresses, ids of processes, counts.
pub(super) fn lasting(words: &str) -> String {
    static CHANGING: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\b0x[0-9a-f]+\b|\b[0-9a-f]{8,}\b|(?:/|#|\b)\d+\b")
            .expect("a regular expression of our own")
    });
    let text = CHANGING.replace_all(words, "N");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `kworker/0:1+md` → `kworker`, `md127_raid5` → `mdN_raid5`: a task's name without what differs.
pub(super) fn lasting_comm(comm: &str) -> String {
    static ARRAY: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^md\d+_").expect("a regular expression of our own"));
    let name = comm.split(['/', ':']).next().unwrap_or(comm);
    ARRAY.replace(name, "mdN_").into_owned()
}
