//! Compares verdicts with those that a `verdicts.json` kept: judged again, did anything change?
//!
//! Deliberately not here: comparison of two runs. The events are the same here, so whatever differs
//! comes from the expectations or from md-regress itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::judge::judged::Judged;
use crate::record::RunRecord;
use crate::render::verdicts_json::{self, FORMAT};
use crate::text::printable;

/// The part of a `verdicts.json` that is compared.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct KeptVerdicts {
    result: String,
    verdicts: Vec<KeptVerdict>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct KeptVerdict {
    test: String,
    kernel_idx: u32,
    attempt: Option<u32>,
    verdict: String,
}

/// Why a `verdicts.json` cannot be compared with.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// A later md-regress wrote it.
    #[error(
        "`{path}` has format {found}, this md-regress knows up to {FORMAT}; \
         compare with the md-regress that wrote it, or a newer one",
        path = .path.display()
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// The format that it names.
        found: u64,
    },
    /// It is none.
    #[error(
        "`{path}` is no verdicts.json: {cause}; `cargo xtask replay` without --check writes it again",
        path = .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        cause: serde_json::Error,
    },
}

impl KeptVerdicts {
    /// Parses the text of a `verdicts.json`; `path` is only named in errors.
    pub fn parse(text: &str, path: &Path) -> Result<KeptVerdicts, KeptError> {
        /// Looked at alone: a newer format may have changed everything else.
        #[derive(Deserialize)]
        struct Header {
            format: u64,
        }
        let damaged = |cause| KeptError::Damaged { path: path.to_owned(), cause };
        let Header { format } = serde_json::from_str(text).map_err(damaged)?;
        if format > u64::from(FORMAT) {
            return Err(KeptError::TooNew { path: path.to_owned(), found: format });
        }
        serde_json::from_str(text).map_err(damaged)
    }

    /// The differences, a line each; none if every verdict and the result are the same.
    pub fn differences(&self, record: &RunRecord, judged: &[Judged]) -> Vec<String> {
        let now = verdicts_json::render(record, judged);
        let now: KeptVerdicts = serde_json::from_str(&now).expect("what we write, we read");
        let (before, after) = (self.by_subject(), now.by_subject());
        let subjects: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let word = |verdicts: Option<&Vec<&str>>| match verdicts {
            Some(verdicts) => verdicts.join(", "),
            None => "absent".to_owned(),
        };
        let mut lines: Vec<String> = subjects
            .into_iter()
            .filter(|subject| before.get(*subject) != after.get(*subject))
            .map(|subject| {
                let (attempt, test, kernel_idx) = *subject;
                let number = attempt.map(|number| format!(" (attempt {number})")).unwrap_or_default();
                format!(
                    "{test} on {}{number}: was {}, is {}",
                    record.kernel_label(kernel_idx),
                    word(before.get(subject)),
                    word(after.get(subject)),
                )
            })
            .collect();
        if self.result != now.result {
            lines.push(format!("the run: was {}, is {}", self.result, now.result));
        }
        lines.iter().map(|line| printable(line)).collect()
    }

    /// Verdicts by attempt, test and kernel. What was never planned has no number, and may be there twice.
    fn by_subject(&self) -> BTreeMap<(Option<u32>, &str, u32), Vec<&str>> {
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for KeptVerdict { test, kernel_idx, attempt, verdict } in &self.verdicts {
            all.entry((*attempt, test.as_str(), *kernel_idx)).or_default().push(verdict.as_str());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::judge;
    use crate::judge::known_issues::KnownIssues;
    use crate::testing;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<KeptVerdicts, String> {
        KeptVerdicts::parse(text, Path::new("out/x/verdicts.json")).map_err(|error| error.to_string())
    }

    #[test]
    fn each_changed_verdict_is_named_once() {
        let (record, judged) = testing::sample_of_one_kernel();
        let kept = parse(&verdicts_json::render(&record, &judged)).unwrap();
        assert_eq!(kept.differences(&record, &judged), Vec::<String>::new());
        let without_expectations = judge(&record, &BTreeMap::new(), &KnownIssues::default());
        assert_eq!(
            kept.differences(&record, &without_expectations),
            ["lvm2:shell/lvconvert-vdo-raid.sh on 6.12.107+deb13-cloud-amd64 (attempt 6): was skipped, is \
              unexpected-skip"]
        );
        assert_eq!(
            kept.differences(&record, &judged[..4]),
            [
                "lvm2:shell/lvconvert-vdo-raid.sh on 6.12.107+deb13-cloud-amd64 (attempt 6): was skipped, is absent"
            ]
        );
        let lines = kept.differences(&record, &judged[..1]);
        assert_eq!(lines.last().unwrap(), "the run: was tests-failed, is passed");
    }

    #[test]
    fn what_cannot_be_compared_is_named() {
        let newer = parse("{\"format\":2,\"verdicts\":{}}").unwrap_err();
        assert!(newer.contains("verdicts.json` has format 2, this md-regress knows up to 1"), "{newer}");
        for text in ["", "[]", "{\"format\":1}", "{\"format\":1,\"result\":\"passed\",\"verdicts\":[1]}"] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with("`out/x/verdicts.json` is no verdicts.json: "), "{error}");
        }
    }

    proptest! {
        #[test]
        fn the_same_events_give_the_same_verdicts(
            events in proptest::collection::vec(testing::any_record(), 0..60),
        ) {
            let record = RunRecord::from_events(events);
            let judged = judge(&record, &testing::sample_expectations(), &KnownIssues::default());
            let kept = parse(&verdicts_json::render(&record, &judged)).unwrap();
            prop_assert_eq!(kept.differences(&record, &judged), Vec::<String>::new());
        }
    }
}
