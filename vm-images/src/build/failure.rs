//! Builds that fail: whether the source is to blame or the host, and the lines of the log that say why.

use std::fs;
use std::path::PathBuf;

use crate::host::HostError;
use crate::store::Store;

/// A build that failed by the doing of its source.
pub(crate) struct SourceFailure {
    /// File with all that the build printed.
    pub(crate) log: PathBuf,
    /// The lines that say why, each as it is shown.
    pub(crate) lines: String,
}

impl SourceFailure {
    /// The failure behind the error of a build; `None` if the host is to blame for it.
    pub(crate) fn of(error: &HostError) -> Option<Self> {
        let HostError::Failed { log: Some(log), .. } = error else { return None };
        let bytes = fs::read(log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        if HOST_IS_TO_BLAME.iter().any(|words| text.contains(words)) {
            return None;
        }
        let lines = telling_lines(&text).into_iter().map(|line| format!("  | {line}\n")).collect();
        Some(SourceFailure { log: log.clone(), lines })
    }

    /// Keeps the log in `store` under the source's `name`: a search meets many sources that do not build, and
    /// each keeps its own.
    pub(crate) fn kept(self, store: &Store, name: &str) -> Self {
        let kept = store.root().join("logs").join(format!("build-{name}.log"));
        match fs::write(&kept, fs::read(&self.log).unwrap_or_default()) {
            Ok(()) => SourceFailure { log: kept, ..self },
            Err(_) => self,
        }
    }
}

/// Words that compilers print when it is the host that fails.
const HOST_IS_TO_BLAME: [&str; 6] = [
    "No space left on device",
    "Cannot allocate memory",
    "Killed signal terminated program",
    // Make's words for a linker that was killed: the linker itself prints nothing.
    "Error 137",
    "Disk quota exceeded",
    "Input/output error",
];

/// Number of lines of a failed build that are shown.
const N_LINES_SHOWN: usize = 12;
/// Number of characters that are shown of each line: a compiler's call may take a page.
const N_CHARS_SHOWN: usize = 200;

/// The lines of a failed build that say why: from the first error on, because other jobs of make go on
/// printing after it; the last ones if none looks like an error.
fn telling_lines(text: &str) -> Vec<String> {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let tells = |line: &&str| {
        [" error: ", "undefined reference to", "ERROR: modpost"].iter().any(|words| line.contains(words))
    };
    let last = lines.len().saturating_sub(N_LINES_SHOWN);
    let from = lines.iter().position(tells).unwrap_or(last);
    let clipped = |line: &str| match line.char_indices().nth(N_CHARS_SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    };
    lines.into_iter().skip(from).take(N_LINES_SHOWN).map(clipped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_build_shows_the_lines_that_matter() {
        let noise = |n: usize| (0..n).map(|idx| format!("    [CC] file{idx}.c\n")).collect::<String>();
        let early =
            format!("{}a.c:3:5: error: no x\n  3 | x\n{}make: *** [a.o] Error 1\n", noise(50), noise(50));
        let lines = telling_lines(&early);
        assert_eq!((lines[0].as_str(), lines.len()), ("a.c:3:5: error: no x", N_LINES_SHOWN));
        let late = format!("{}make: *** No rule to make target\n", noise(50));
        let lines = telling_lines(&late);
        assert_eq!(
            (lines.len(), lines.last().unwrap().as_str()),
            (N_LINES_SHOWN, "make: *** No rule to make target")
        );
        assert_eq!(telling_lines("one\n\n"), ["one"]);
        assert_eq!(telling_lines(&"ö".repeat(1000))[0].chars().count(), N_CHARS_SHOWN + 1);
    }
}
