//! Numbers in words.

/// A number with its noun: `1 vCPU`, `2 vCPUs`.
pub fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
