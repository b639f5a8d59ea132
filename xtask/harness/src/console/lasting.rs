//! Removes from kernel messages the parts that differ from boot to boot. Pure.

use std::sync::LazyLock;

use regex::Regex;

/// `words` without the parts that differ from boot to boot: addresses, process ids, counts.
pub(super) fn lasting(words: &str) -> String {
    static CHANGING: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\b0x[0-9a-f]+\b|\b[0-9a-f]{8,}\b|(?:/|#|\b)\d+\b")
            .expect("a regular expression of our own")
    });
    let text = CHANGING.replace_all(words, "N");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A task's name without the parts that differ from boot to boot: `kworker/0:1+md` → `kworker`, `md127_raid5`
/// → `mdN_raid5`.
pub(super) fn lasting_comm(comm: &str) -> String {
    static ARRAY: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^md\d+_").expect("a regular expression of our own"));
    let name = comm.split(['/', ':']).next().unwrap_or(comm);
    ARRAY.replace(name, "mdN_").into_owned()
}
