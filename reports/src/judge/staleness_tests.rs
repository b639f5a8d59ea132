//! Tests of staleness: which attempts count, and that it is what the last of them say.

use proptest::prelude::*;

use super::*;
use crate::judge::kernel_version::Version;
use crate::judge::known_issues::KnownIssues;

const ISSUES: &str = r#"
[[issue]]
id = "mended"
title = "mended in 6.7.7"
report = "x"
present = [">=6.7, <6.8"]
fixed-in = { "6.7" = "6.7.7" }
"#;

const TEXT: &str = r#"
[[expect]]
tests = ["a*"]
outcome = "hang"
because = "kernel"
known-issue = "mended"
reason = "the bug"

[[expect]]
tests = ["*"]
kernels = "6.1"
outcome = "skip"
because = "test"
reason = "skips there"
flaky = true
"#;

fn expectations() -> BTreeMap<String, Expectations> {
    let issues = KnownIssues::parse(ISSUES, "k.toml").unwrap();
    BTreeMap::from([("s".to_owned(), Expectations::parse(TEXT, "e.toml", &issues).unwrap())])
}

/// An attempt: test, release (which is its version), what it met.
type Attempt<'a> = (&'a str, &'a str, Met<'a>);

/// Entry, test, attempts that missed it, since when, when it was met last; times are places in the list.
fn stale(attempts: &[Attempt<'_>], n: usize) -> Vec<(String, String, usize, String, Option<String>)> {
    let expectations = expectations();
    let mut staleness = Staleness::new(&expectations);
    for (at, (test, release, met)) in attempts.iter().enumerate() {
        let (test, version) = (TestId::new("s", test).unwrap(), Version::parse(release));
        let kernel = KernelFacts { release: Some(release), version: version.as_ref() };
        staleness.take(&PastAttempt { test: &test, kernel, at: &at.to_string(), met: *met });
    }
    let line = |stale: Stale<'_>| {
        let place = stale.entry.place.clone();
        (place, stale.test.name().to_owned(), stale.n_missed, stale.since, stale.last_met)
    };
    staleness.stale(n).into_iter().map(line).collect()
}

#[test]
fn what_the_last_attempts_did_not_meet_is_stale() {
    let missed = ("a", "6.7.1", Met::None);
    assert_eq!(stale(&[missed; 2], 3), []);
    let expect = |n, since: &str, last: Option<&str>| {
        [("e.toml:2".to_owned(), "a".to_owned(), n, since.to_owned(), last.map(str::to_owned))]
    };
    assert_eq!(stale(&[missed; 3], 3), expect(3, "0", None));
    let met = ("a", "6.7.1", Met::Outcome("hang"));
    assert_eq!(stale(&[missed, missed, met, missed], 2), []);
    assert_eq!(stale(&[missed, met, missed, missed], 2), expect(2, "2", Some("1")));
    // Met, and by an entry with another outcome.
    assert_eq!(stale(&[("a", "6.7.1", Met::Outcome("fail")); 2], 2), expect(2, "0", None));
    assert_eq!(stale(&[("a", "6.7.1", Met::Some); 2], 2), []);
}

#[test]
fn a_mended_kernel_and_another_test_say_nothing() {
    assert_eq!(stale(&[("a", "6.7.7", Met::None); 20], 1), []);
    assert_eq!(stale(&[("a", "6.8", Met::None); 20], 1), []);
    assert_eq!(stale(&[("b", "6.7.1", Met::None); 20], 1), []);
    // Each test by itself: one of them may still be as it was.
    let both = [("a", "6.1.9", Met::None), ("b", "6.1.9", Met::Outcome("skip"))].repeat(5);
    let tests: Vec<_> = stale(&both, 5).into_iter().map(|stale| stale.1).collect();
    assert_eq!(tests, ["a"]);
}

#[test]
fn a_line_says_which_since_when_and_how_often() {
    let expectations = expectations();
    let test = TestId::new("s", "b").unwrap();
    let mut staleness = Staleness::new(&expectations);
    let kernel = KernelFacts { release: Some("6.1.9"), version: None };
    staleness.take(&PastAttempt { test: &test, kernel, at: "2026-11-22T17:06:00Z", met: Met::None });
    assert_eq!(
        staleness.stale(1)[0].sentence(),
        "stale expectation e.toml:9: the last attempt of s:b did not come to `skip`, since 2026-11-22T17:06:00Z; \
         never met before"
    );
}

fn any_attempt() -> impl Strategy<Value = Attempt<'static>> {
    let met = prop_oneof![
        4 => Just(Met::None),
        1 => Just(Met::Some),
        1 => Just(Met::Outcome("hang")),
        1 => Just(Met::Outcome("skip")),
    ];
    (
        prop_oneof![Just("a"), Just("ab"), Just("b")],
        prop_oneof![Just("6.7.1"), Just("6.7.7"), Just("6.1.9")],
        met,
    )
}

proptest! {
    /// For all histories: an expectation is stale exactly if the last N attempts for which it held, and there
    /// were as many, did not meet it.
    #[test]
    fn stale_is_what_the_last_n_attempts_missed(
        attempts in proptest::collection::vec(any_attempt(), 0..60),
        n in 1usize..6,
    ) {
        let found = stale(&attempts, n);
        for (place, globbed, release, outcome) in
            [("e.toml:2", &["a", "ab"][..], "6.7.1", "hang"), ("e.toml:9", &["a", "ab", "b"], "6.1.9", "skip")]
        {
            for test in ["a", "ab", "b"] {
                let last: Vec<_> =
                    attempts.iter().rev().filter(|one| one.0 == test && one.1 == release).take(n).collect();
                let is_met = |one: &&Attempt<'_>| one.2 == Met::Some || one.2 == Met::Outcome(outcome);
                let expect = globbed.contains(&test) && last.len() == n && !last.iter().any(is_met);
                let is_there = found.iter().any(|stale| stale.0 == place && stale.1 == test);
                prop_assert_eq!(is_there, expect, "{} {}", place, test);
            }
        }
    }
}
