//! The table of scenario and kernel: the verdicts that are expected (docs/md/scenarios.md), those that
//! reading the source has settled since (docs/md/answers.md), and whether a verdict is the expected one.

use crate::explore::finding::{Finding, Invariant, Kind, Outcome};
use crate::story;

/// The columns of the expected table.
pub const COLUMNS: [&str; 6] = ["6.6", "6.7", "P1-4", "P1-8", "v2", "6.9"];

/// The verdicts that were expected before the model ran, in the order of [`COLUMNS`]. S1r, S6r and S15 to S19
/// came later: S1r and S19 are expected to be like S1, S18u like S5b, S18 and S18r to be ok; S6r to be what
/// suites/raid-core/repro/s6.sh found on 6.1 wherever P7 is not; the others to be what the messages of
/// 868bba54a3bc, of the change of `mddev_suspend` in v6.7, of 5ce10a38590c (v6.11) and of cefcb9297fbd (v7.0)
/// say.
const EXPECTED: [(&str, [&str; 6]); 27] = [
    ("S1", ["ok", "DL", "V I5", "ok", "ok", "ok"]),
    ("S1r", ["ok", "DL", "V I5", "ok", "ok", "ok"]),
    ("S2", ["ok", "ok", "ok", "ok", "ok", "ok"]),
    ("S3", ["ok", "DL", "churn", "churn", "churn", "churn"]),
    ("S4", ["ok", "DL", "ok", "ok", "ok", "ok"]),
    ("S5a", ["ok", "DL", "DC", "ok", "ok", "ok"]),
    ("S5b", ["ok", "ok", "V", "V", "V", "ok"]),
    ("S6", ["V I3", "V", "V", "ok", "ok", "ok"]),
    ("S6f", ["V I3", "V", "V", "ok", "ok", "V I12"]),
    ("S6r", ["DC", "DC", "DC", "V I12", "V I12", "V I12"]),
    ("S7", ["DC", "DL", "DL", "DL", "EIO", "EIO"]),
    ("S7b", ["DC", "ok", "ok", "ok", "ok", "ok"]),
    ("S8", ["ok", "ok", "ok", "V I13", "V I13", "ok"]),
    ("S9", ["ok", "DL", "DL", "DL", "DL", "ok"]),
    ("S10", ["ok", "ok", "ok", "DL", "DL", "ok"]),
    ("S11", ["ok", "ok", "ok", "ok", "ok", "ok"]),
    ("S12", ["", "", "", "", "ok", "V I13"]),
    ("S13", ["", "DL", "DL", "DL", "DL", "DL"]),
    ("S14", ["", "", "", "", "", ""]),
    ("S14u", ["", "", "", "", "", ""]),
    ("S15", ["EIO", "ok", "ok", "ok", "EIO", "ok"]),
    ("S16", ["V I15", "V I15", "V I15", "V I15", "V I15", "V I15"]),
    ("S17", ["DL", "DL", "DL", "DL", "DL", "DL"]),
    ("S18", ["ok", "ok", "ok", "ok", "ok", "ok"]),
    ("S18r", ["ok", "ok", "ok", "ok", "ok", "ok"]),
    ("S18u", ["ok", "ok", "V", "V", "V", "ok"]),
    ("S19", ["ok", "DL", "V I5", "ok", "ok", "ok"]),
];

/// Kernels that are expected to be like a column, but for the cells below.
const LIKE: [(&str, &str); 3] = [("6.8", "P1-4"), ("6.12", "6.9"), ("7.3", "6.9")];

/// Cells where the source says otherwise than the expectation; the number is the note in docs/md/answers.md.
const SETTLED: &[(&str, &str, &str, u8)] = &[
    ("S1", "6.1", "DL", 1),
    ("S1", "6.5", "DL", 1),
    ("S1", "6.6", "DL", 1),
    ("S1r", "6.1", "DL", 1),
    ("S1r", "6.5", "DL", 1),
    ("S1r", "6.6", "DL", 1),
    ("S2", "P1", "DL", 0),
    ("S2", "P1-4", "V I5", 2),
    ("S2", "P1-8", "V I5", 2),
    ("S2", "v2", "V I5", 2),
    ("S2", "6.8", "V I5", 2),
    ("S3", "P1-4", "V I13", 5),
    ("S3", "6.8", "V I13", 5),
    ("S5a", "6.5", "DC", 1),
    ("S5a", "6.6", "DC", 1),
    ("S5a", "6.7", "DC", 6),
    ("S6f", "P1-8", "V I12", 3),
    ("S6f", "v2", "V I12", 3),
    ("S7", "6.6", "DL", 4),
    ("S8", "P1-8", "ok", 7),
    ("S8", "v2", "ok", 7),
    ("S9", "6.9", "EIO", 8),
    ("S9", "6.12", "EIO", 8),
    ("S12", "v2", "EIO", 9),
    ("S13", "6.12", "livelock", 10),
    ("S13", "7.3", "livelock", 10),
    ("S14u", "6.9", "V I17", 13),
    ("S14u", "6.12", "V I17", 13),
    ("S14u", "7.3", "V I17", 13),
    ("S17", "6.12", "DL", 11),
    ("S18", "P1-8", "V I13", 12),
    ("S18", "v2", "V I13", 12),
    ("S18", "6.9", "V I13", 12),
    ("S18", "6.12", "V I13", 12),
    ("S18", "7.3", "V I13", 12),
    ("S18r", "6.9", "V I17", 13),
    ("S18u", "6.9", "V I17", 13),
    ("S18u", "6.12", "V I17", 13),
    ("S18u", "7.3", "V I17", 13),
    ("S19", "6.1", "DL", 1),
    ("S19", "6.5", "DL", 1),
    ("S19", "6.6", "DL", 1),
    ("S19", "7.3", "V I13", 12),
];

/// Further cells that are expected: those of 6.1 by bugs that are known of that series.
const TOLD: [(&str, &str, &str); 25] = [
    ("S6r", "6.1", "DC"),
    ("S6r", "6.5", "DC"),
    ("S7", "6.1", "DL"),
    ("S7b", "6.1", "ok"),
    ("S10", "6.1", "V I3"),
    ("S11", "6.1", "ok"),
    ("S13", "6.1", "DL"),
    ("S15", "6.1", "DL"),
    ("S16", "6.1", "V I15"),
    ("S13", "6.5", "DL"),
    ("S13", "6.6", "EIO"),
    ("S15", "6.5", "EIO"),
    ("S16", "6.5", "V I15"),
    ("S7", "7.3", "ok"),
    ("S9", "6.8", "ok"),
    ("S11", "6.5", "DL"),
    ("S12", "7.3", "ok"),
    ("S14", "6.1", "DL"),
    ("S14", "6.5", "livelock"),
    ("S14", "6.6", "livelock"),
    ("S16", "6.12", "ok"),
    ("S16", "7.3", "ok"),
    ("S17", "6.1", "DL"),
    ("S17", "6.5", "DL"),
    ("S17", "7.3", "ok"),
];

/// The expectation for a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// A verdict, as [`verdict`] writes it; `V` alone stands for any broken invariant.
    pub verdict: &'static str,
    /// The note in docs/md/answers.md that says why it is not the first expectation.
    pub note: Option<u8>,
}

/// The expectation for a scenario in an era, if there is one.
pub fn expected(scenario: &str, era: &str) -> Option<Expected> {
    let settled = SETTLED.iter().find(|cell| (cell.0, cell.1) == (scenario, era));
    if let Some((_, _, verdict, note)) = settled {
        return Some(Expected { verdict, note: (*note != 0).then_some(*note) });
    }
    if let Some((_, _, verdict)) = TOLD.iter().find(|cell| (cell.0, cell.1) == (scenario, era)) {
        return Some(Expected { verdict, note: None });
    }
    let column = LIKE.iter().find(|(like, _)| *like == era).map_or(era, |(_, column)| column);
    let idx = COLUMNS.iter().position(|known| *known == column)?;
    let (_, row) = EXPECTED.iter().find(|(known, _)| *known == scenario)?;
    (!row[idx].is_empty()).then_some(Expected { verdict: row[idx], note: None })
}

/// Windows of a few instructions that would be in most cells: I8 at a reshape's end, which holds in no
/// kernel; I14, in none since v6.7; and I16, where raid5d waits for itself (5e2cf333b7bd). They are shown,
/// but not part of a verdict.
pub fn counts(kind: Kind) -> bool {
    !matches!(kind, Kind::Broken(Invariant::I8 | Invariant::I14 | Invariant::I16))
}

/// A finding in the table's words.
pub fn word(kind: Kind) -> String {
    match kind {
        Kind::Corruption | Kind::Restart => "DC".to_owned(),
        Kind::Deadlock => "DL".to_owned(),
        Kind::Livelock => "livelock".to_owned(),
        Kind::Churn => "churn".to_owned(),
        Kind::Eio => "EIO".to_owned(),
        Kind::Broken(invariant) => format!("V {invariant}"),
    }
}

/// True if `text` means this finding: by the table's word (`DL`, `V`, `V I5`), by its invariant (`I5`), or by
/// a part of its description ([`story::describe`]).
pub fn is_meant(kind: Kind, text: &str) -> bool {
    let text = text.trim().to_lowercase();
    let word = word(kind).to_lowercase();
    let invariant = match kind {
        Kind::Deadlock => "i1",
        Kind::Livelock => "i2",
        Kind::Corruption => "i7",
        Kind::Restart => "i8",
        Kind::Eio => "i9",
        Kind::Broken(_) | Kind::Churn => word.trim_start_matches("v "),
    };
    text == word
        || text == invariant
        || (text == "v" && word.starts_with("v "))
        || (!is_a_word(&text) && story::describe(kind).to_lowercase().contains(&text))
}

/// True if a text is one of the table's words: `I1` is not a part of "invariant I13".
fn is_a_word(text: &str) -> bool {
    let digits = text.strip_prefix("v ").unwrap_or(text).strip_prefix('i');
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
        || ["dc", "dl", "livelock", "churn", "eio", "v"].contains(&text)
}

/// The finding that a verdict stands for: the worst that counts.
pub fn worst(outcome: &Outcome) -> Option<&Finding> {
    outcome.findings.iter().find(|finding| counts(finding.kind))
}

/// The finding that somebody means, first of those that count; without words, the worst.
pub fn find<'a>(outcome: &'a Outcome, text: Option<&str>) -> Option<&'a Finding> {
    let meant = || {
        let is_meant = |finding: &&Finding| text.is_none_or(|text| is_meant(finding.kind, text));
        outcome.findings.iter().filter(is_meant)
    };
    meant().find(|finding| counts(finding.kind)).or_else(|| meant().next())
}

/// The verdict in the table's words: the worst of what was found.
pub fn verdict(outcome: &Outcome) -> String {
    let kinds: Vec<Kind> =
        outcome.findings.iter().map(|finding| finding.kind).filter(|kind| counts(*kind)).collect();
    let text = match kinds.iter().max() {
        None => "ok".to_owned(),
        Some(Kind::Broken(_)) => {
            let mut broken: Vec<Invariant> = kinds
                .iter()
                .filter_map(|kind| if let Kind::Broken(invariant) = kind { Some(*invariant) } else { None })
                .collect();
            broken.sort_unstable();
            let names: Vec<String> = broken.iter().map(Invariant::to_string).collect();
            format!("V {}", names.join(","))
        }
        Some(worst) => word(*worst),
    };
    match (outcome.complete, outcome.n_walks) {
        (true, _) => text,
        (false, 0) => format!("{text}?"),
        (false, _) => format!("{text}~"),
    }
}

/// True if a verdict is the expected one. An incomplete exploration counts by its findings so far.
pub fn is_as_expected(expected: &Expected, verdict: &str) -> bool {
    let verdict = verdict.trim_end_matches(['?', '~']);
    match expected.verdict.split_once(' ') {
        _ if expected.verdict == verdict => true,
        None => expected.verdict == "V" && verdict.starts_with("V "),
        Some(("V", wanted)) => {
            verdict.strip_prefix("V ").is_some_and(|found| found.split(',').any(|found| found == wanted))
        }
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: &'static str, verdict: &str) -> bool {
        is_as_expected(&Expected { verdict: expected, note: None }, verdict)
    }

    #[test]
    fn a_verdict_is_held_against_what_is_expected() {
        assert!(check("ok", "ok"));
        assert!(check("V", "V I3"));
        assert!(check("V I5", "V I5,I13"));
        assert!(!check("V I5", "V I13"));
        assert!(!check("V", "DL"));
        assert!(!check("ok", "V I5"));
        assert!(!check("V I1", "V I12"));
    }

    #[test]
    fn a_finding_is_meant_by_the_tables_word_or_in_words() {
        for (kind, texts) in [
            (Kind::Deadlock, &["DL", "dl", "deadlock"][..]),
            (Kind::Churn, &["churn", "reaped again"]),
            (Kind::Corruption, &["DC", "corruption"]),
            (Kind::Restart, &["DC", "I8", "restart", "corruption"]),
            (Kind::Broken(Invariant::I5), &["V", "V I5", "I5", "suspended"]),
            (Kind::Eio, &["eio", "IO fails"]),
        ] {
            for text in texts {
                assert!(is_meant(kind, text), "{kind:?} {text}");
            }
        }
        assert!(!is_meant(Kind::Broken(Invariant::I13), "I1"));
        assert!(!is_meant(Kind::Broken(Invariant::I13), "V I1"));
        assert!(!is_meant(Kind::Livelock, "DL"));
        assert!(!is_meant(Kind::Deadlock, "V"));
    }

    #[test]
    fn every_row_is_a_scenario() {
        for (name, _) in EXPECTED {
            assert!(crate::scenario::named(name).is_some(), "{name}");
        }
        for &(scenario, era, _, _) in SETTLED {
            assert!(crate::scenario::named(scenario).is_some() && crate::era::named(era).is_some());
        }
    }
}
