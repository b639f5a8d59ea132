//! Tests of expectations: what they are about, when they are met, how errors read.

use super::*;
use proptest::prelude::*;

const GOOD: &str = r#"
# one entry = one expectation
[[expect]]
tests = ["shell/lvconvert-raid-reshape-size.sh", "shell/integrity-*.sh"]
kernels = ["6.12", "6.1.140"]
outcome = "fail"
because = "test"
match = "mismatch_cnt [0-9]+"
reason = "the size is read before the reshape ends"

[[expect]]
tests = ["*@ndev-lvmpolld"]
outcome = "skip"
because = "environment"
reason = "no lvmpolld in the guest"
flaky = true
"#;

/// Known issues that entries may name.
const ISSUES: &str = r#"
[[issue]]
id = "one"
title = "mended in 6.7.7"
report = "one"
present = [">=6.7, <6.8"]
fixed-in = { "6.7" = "6.7.7", "6.8" = "6.8" }

[[issue]]
id = "other"
title = "in old branches"
report = "other"
present = ["6.1 to 6.6"]

[[issue]]
id = "third"
title = "in versions that nobody knows"
report = "third"
"#;

fn issues() -> KnownIssues {
    KnownIssues::parse(ISSUES, "known-issues.toml").unwrap()
}

fn parsed(text: &str, path: &str) -> Expectations {
    Expectations::parse(text, path, &issues()).unwrap()
}

fn check_scope(test: &str, release: Option<&str>, expect: &[&str]) {
    let expectations = parsed(GOOD, "expectations.toml");
    let test: TestId = format!("lvm2:{test}").parse().unwrap();
    let places: Vec<_> = expectations
        .about(&test, KernelFacts { release, version: None })
        .map(|entry| entry.place.as_str())
        .collect();
    assert_eq!(places, expect, "{test} on {release:?}");
}

fn check_error(text: &str, expect: &str) {
    assert_eq!(Expectations::parse(text, "x/expectations.toml", &issues()).unwrap_err().to_string(), expect);
}

#[test]
fn entries_are_about_tests_and_kernels() {
    check_scope("shell/lvconvert-raid-reshape-size.sh", Some("6.12.113+deb13"), &["expectations.toml:3"]);
    check_scope("shell/integrity-misc.sh", Some("6.12-rc1"), &["expectations.toml:3"]);
    check_scope("shell/integrity-misc.sh@ndev-vanilla", Some("6.1.140-1"), &["expectations.toml:3"]);
    check_scope("shell/integrity-misc.sh", Some("6.120.1"), &[]);
    check_scope("shell/integrity-misc.sh", Some("6.1.14"), &[]);
    check_scope("shell/integrity-misc.sh", Some("6.1.1400"), &[]);
    check_scope("shell/integrity-misc.sh", None, &[]);
    check_scope("shell/other.sh@ndev-lvmpolld", None, &["expectations.toml:11"]);
    check_scope("shell/other.sh", None, &[]);
}

fn printed(last_lines: &[String]) -> AttemptTexts<'_> {
    AttemptTexts { last_lines, ..AttemptTexts::default() }
}

#[test]
fn of_a_list_all_signatures_must_be_found_and_one_issue() {
    let text = "[[expect]]\ntests = [\"a\"]\noutcome = \"timeout\"\nsignature = [\"^lvm: \", \"^mdX_resync: \"]\n\
                known-issue = [\"one\", \"other\"]\nreason = \"both halves\"\nbecause = \"kernel\"\nmust = true\n";
    let expectations = parsed(text, "e.toml");
    let is_met = |signature: &[&str], issue| {
        let signature: Vec<String> = signature.iter().map(|line| (*line).to_owned()).collect();
        let shown = AttemptTexts { signature: &signature, known_issues: &[issue], ..AttemptTexts::default() };
        expectations.entries()[0].is_met_by(&Outcome::Timeout { limit_ms: 1 }, shown)
    };
    let both = ["lvm: kthread_stop", "mdX_resync: raise_barrier"];
    assert!(is_met(&both, "one") && is_met(&both, "other"));
    assert!(!is_met(&both, "third"));
    assert!(!is_met(&both[..1], "one") && !is_met(&both[1..], "one"));
    check_error(
        &text.replace("\"^lvm: \"", "\"(\""),
        "x/expectations.toml:4: `signature` is no regular expression: unclosed group",
    );
    check_error(
        &text.replace("[\"one\", \"other\"]", "[]"),
        "x/expectations.toml:5: `known-issue` is empty; leave it out if it does not matter",
    );
}

#[test]
fn an_entry_may_want_a_signature_and_a_known_issue() {
    let text = "[[expect]]\ntests = [\"*\"]\noutcome = \"hang\"\nsignature = \"^lvm: stop_sync_thread\"\n\
                known-issue = \"one\"\nreason = \"planted\"\nbecause = \"kernel\"\nmust = true\n";
    let expectations = parsed(text, "expectations.toml");
    let hang = Outcome::Hang { kind: protocol::HangKind::NoProgress, silent_ms: 1, seen: None };
    let met = |line: &str, issue: &str| {
        let signature = [line.to_owned()];
        let shown = AttemptTexts { signature: &signature, known_issues: &[issue], ..AttemptTexts::default() };
        expectations.entries()[0].is_met_by(&hang, shown)
    };
    assert!(met("lvm: stop_sync_thread ← md_stop", "one"));
    assert!(!met("lvm: stop_sync_thread ← md_stop", "other"));
    assert!(!met("lvm: kthread_stop ← md_stop", "one"));
}

#[test]
fn an_entry_is_met_by_kind_and_words() {
    let expectations = parsed(GOOD, "expectations.toml");
    let entry = &expectations.entries()[0];
    let fail = |how: &str| Outcome::Fail { how: how.to_owned() };
    assert!(entry.is_met_by(&fail("mismatch_cnt 128"), printed(&[])));
    assert!(entry.is_met_by(&fail("exit status 1"), printed(&["x: mismatch_cnt 5".to_owned()])));
    assert!(!entry.is_met_by(&fail("exit status 1"), printed(&["mismatch_cnt none".to_owned()])));
    assert!(!entry.is_met_by(&Outcome::KernelCrash { title: "mismatch_cnt 1".to_owned() }, printed(&[])));
    assert!(!entry.is_met_by(&Outcome::Pass, printed(&[])));
}

#[test]
fn a_file_without_entries_expects_nothing() {
    assert!(parsed("# nothing yet\n", "x").entries().is_empty());
}

#[test]
fn errors_name_file_and_line() {
    check_error(
        "\n[[expect]]\ntests = [\"a\"]\noutcome = \"pass\"\nreason = \"r\"\nbecause = \"test\"\n",
        "x/expectations.toml:4: unknown variant `pass`, expected one of `fail`, `skip`, `warn`, \
         `timeout`, `hang`, `kernel-crash`, `data-corruption`",
    );
    check_error(
        "[[expect]]\ntests = [\"a\"]\noutcome = \"fail\"\nreasn = \"r\"\n",
        "x/expectations.toml:4: unknown field `reasn`, expected one of `tests`, `kernels`, `outcome`, \
         `because`, `match`, `signature`, `known-issue`, `reason`, `flaky`, `must`",
    );
    check_error(
        "[[expect]]\ntests = [\"a\"]\noutcome = \"fail\"\nbecause = \"test\"\n",
        "x/expectations.toml:1: missing field `reason`",
    );
    check_error(
        "[[expect]]\ntests = []\noutcome = \"fail\"\nreason = \"r\"\nbecause = \"test\"\n",
        "x/expectations.toml:2: `tests` names no test; `*` stands for all of them",
    );
    check_error(
        "[[expect]]\ntests = [\"a\"]\noutcome = \"fail\"\nreason = \" \"\nbecause = \"test\"\n",
        "x/expectations.toml:4: `reason` is empty; say in a sentence why this is expected",
    );
    check_error(
        "[[expect]]\ntests = [\"a\"]\nkernels = 6.12\noutcome = \"fail\"\nreason = \"r\"\nbecause = \"test\"\n",
        "x/expectations.toml:3: expected a kernel branch like \"6.12\", or a list of them",
    );
    check_error(
        "[[expect]]\ntests = [\"a\"]\nkernels = \"6.12.*\"\noutcome = \"fail\"\nreason = \"r\"\nbecause = \"test\"\n",
        "x/expectations.toml:3: `6.12.*` is no kernel branch or release: expected `6.12`, `6.12.113`",
    );
    check_error(
        "[[expect]]\ntests = [\"a\"]\nmatch = \"a(\"\noutcome = \"fail\"\nreason = \"r\"\nbecause = \"test\"\n",
        "x/expectations.toml:3: `match` is no regular expression: unclosed group",
    );
    let error = Expectations::parse("[[expect\n", "x", &issues()).unwrap_err().to_string();
    assert!(error.starts_with("x:1: "), "{error}");
}

proptest! {
    #[test]
    fn a_glob_matches_as_its_regex_does(glob in "[ab*?/]{0,8}", text in "[ab/]{0,10}") {
        let regex: String = glob
            .chars()
            .map(|c| match c { '*' => ".*".to_owned(), '?' => ".".to_owned(), c => c.to_string() })
            .collect();
        let regex = Regex::new(&format!("^(?s:{regex})$")).unwrap();
        prop_assert_eq!(glob_matches(&glob, &text), regex.is_match(&text));
    }
}

const ALLOWED: &str = r#"
[[allow]]
tests = ["shell/integrity*.sh"]
kernels = ["6.12"]
reports = ["^dm-integrity: ", "^md: superblock write error$"]
reason = "corrupts its devices"
"#;

#[test]
fn reports_are_allowed_by_test_kernel_and_title() {
    let expectations = parsed(ALLOWED, "e.toml");
    let allowing = |test: &str, release, title: &str| {
        let test: TestId = format!("lvm2:{test}").parse().unwrap();
        expectations.allowing(&test, release, None, title).map(|entry| entry.place.clone())
    };
    let here = Some("e.toml:2".to_owned());
    assert_eq!(allowing("shell/integrity.sh", Some("6.12.1"), "dm-integrity: checksum failed"), here);
    assert_eq!(allowing("shell/integrity.sh", Some("6.12.1"), "md: superblock write error"), here);
    assert_eq!(allowing("shell/integrity.sh", Some("6.1.1"), "dm-integrity: checksum failed"), None);
    assert_eq!(allowing("shell/integrity.sh", Some("6.12.1"), "WARNING in md_run"), None);
    assert_eq!(allowing("shell/other.sh", Some("6.12.1"), "dm-integrity: checksum failed"), None);
    assert!(expectations.entries().is_empty());
}

#[test]
fn errors_of_an_allowance_name_their_line() {
    let with = |from: &str, to: &str| ALLOWED.replace(from, to);
    check_error(
        &with("\"^dm-integrity: \"", "\"(\""),
        "x/expectations.toml:5: `reports` is no regular expression: unclosed group",
    );
    check_error(
        &with("\"^dm-integrity: \"", "\".*\""),
        "x/expectations.toml:5: `reports` would allow anything by `.*`; name the titles",
    );
    check_error(
        &with("corrupts its devices", " "),
        "x/expectations.toml:6: `reason` is empty; say in a sentence why this is allowed",
    );
    check_error(
        &with("tests = [\"shell/integrity*.sh\"]", "tests = []"),
        "x/expectations.toml:3: `tests` names no test; `*` stands for all of them",
    );
}

/// An entry about a hang by these issues; with lines of its own.
fn linked(issues: &str, more: &str) -> String {
    format!(
        "[[expect]]\ntests = [\"a\"]\noutcome = \"hang\"\nbecause = \"kernel\"\nknown-issue = {issues}\n\
         reason = \"r\"\n{more}\n"
    )
}

/// True if the entry holds on sources of this version, and true if a hang that looks like `shown` meets it.
fn holds_and_is_met(text: &str, version: Option<&str>, shown: &str) -> (bool, bool) {
    let expectations = parsed(text, "e.toml");
    let version = version.map(|version| Version::parse(version).unwrap());
    let kernel = KernelFacts { release: Some("x"), version: version.as_ref() };
    let entry = &expectations.entries()[0];
    let texts = AttemptTexts { known_issues: &[shown], version: version.as_ref(), ..AttemptTexts::default() };
    let hang = Outcome::Hang { kind: protocol::HangKind::NoProgress, silent_ms: 1, seen: None };
    (entry.holds_on(kernel), entry.is_met_by(&hang, texts))
}

#[test]
fn an_entry_holds_on_the_kernels_that_have_its_known_issue() {
    let one = linked("\"one\"", "");
    for (version, shown, expect) in [
        (Some("6.7.6"), "one", (true, true)),
        (Some("6.7.6"), "other", (true, false)),
        (Some("6.7.6"), "third", (true, false)),
        (Some("6.7.7"), "one", (false, false)),
        (Some("6.8"), "one", (false, false)),
        (Some("6.6.1"), "one", (false, false)),
        (None, "one", (false, false)),
    ] {
        assert_eq!(holds_and_is_met(&one, version, shown), expect, "{version:?} {shown}");
    }
    // Of a list, only an issue that this kernel has.
    let both = linked("[\"one\", \"other\"]", "");
    assert_eq!(holds_and_is_met(&both, Some("6.7.6"), "other"), (true, false));
    assert_eq!(holds_and_is_met(&both, Some("6.1.9"), "other"), (true, true));
    // A bug that was put there: its kernel has no version, or one of which nothing is known.
    let planted = linked("\"one\"", "must = true");
    assert_eq!(holds_and_is_met(&planted, None, "one"), (true, true));
    assert_eq!(holds_and_is_met(&planted, None, "other"), (true, false));
    assert_eq!(holds_and_is_met(&planted, Some("6.8"), "one"), (false, false));
}

#[test]
fn what_contradicts_a_known_issue_is_an_error() {
    check_error(
        &linked("\"on\"", ""),
        "x/expectations.toml:5: `on` is no known issue: suites/known-issues.toml has no such id",
    );
    for kernels in ["6.8", "6.7.7", "6.12.1+deb13", "6.1.0-56", "5"] {
        check_error(
            &linked("\"one\"", &format!("kernels = [\"6.7\", \"{kernels}\"]")),
            &format!(
                "x/expectations.toml:7: `{kernels}` does not have `one` (known-issues.toml:2); without `kernels`, \
                 the known issue says which do"
            ),
        );
    }
    for kernels in ["6.7", "6", "6.7.6", "6.7.0-3", "6.8-rc1"] {
        parsed(&linked("\"one\"", &format!("kernels = \"{kernels}\"")), "e.toml");
    }
    parsed(&linked("[\"one\", \"other\"]", "kernels = [\"6.7\", \"6.1.0-56\"]"), "e.toml");
}

#[test]
fn a_fault_of_the_kernel_s_has_a_signature_and_no_other_has_a_known_issue() {
    check_error(
        &linked("\"one\"", "").replace("\"kernel\"", "\"test\""),
        "x/expectations.toml:4: a known issue is the kernel's fault: expected `because = \"kernel\"`",
    );
    check_error(
        &linked("\"one\"", "").replace("known-issue = \"one\"\n", ""),
        "x/expectations.toml:4: a fault of the kernel's needs `signature`, `known-issue` or `match`, or it would \
         excuse the next one, too",
    );
    check_error(
        &linked("\"one\"", "").replace("\"kernel\"", "\"host\""),
        "x/expectations.toml:4: unknown variant `host`, expected one of `test`, `kernel`, `environment`",
    );
}

proptest! {
    /// The rule over all kernels: an entry by a known issue holds exactly where the issue is present, and an
    /// entry is refused only for kernels of which none has the issue.
    #[test]
    fn an_entry_is_where_its_issue_is(
        present in proptest::collection::vec(any_range(), 0..3),
        absent in proptest::collection::vec(any_range(), 0..2),
        fixed in proptest::collection::btree_map(1u32..6, 0u32..5, 0..3),
        branch in (1u32..7, proptest::option::of(0u32..6)),
    ) {
        let fixed: Vec<_> = fixed.iter().map(|(minor, patch)| format!("\"6.{minor}\" = \"6.{minor}.{patch}\"")).collect();
        let list = |ranges: &[String]| ranges.iter().map(|range| format!("\"{range}\", ")).collect::<String>();
        let issues = format!(
            "[[issue]]\nid = \"i\"\ntitle = \"t\"\nreport = \"r\"\npresent = [{}]\nabsent = [{}]\n\
             fixed-in = {{ {} }}\n", list(&present), list(&absent), fixed.join(", "));
        let issues = KnownIssues::parse(&issues, "k.toml").unwrap();
        let issue = issues.named("i").unwrap();
        let without = Expectations::parse(&linked("\"i\"", ""), "e.toml", &issues).unwrap();
        let branch = match branch {
            (minor, None) => format!("6.{minor}"),
            (minor, Some(patch)) => format!("6.{minor}.{patch}"),
        };
        let with = Expectations::parse(&linked("\"i\"", &format!("kernels = \"{branch}\"")), "e.toml", &issues);
        let prefix = Version::parse(&branch).unwrap();
        let mut has = false;
        for version in (0..8).flat_map(|minor| (0..8).map(move |patch| format!("6.{minor}.{patch}"))) {
            let version = Version::parse(&version).unwrap();
            let is_present = issue.standing(Some(&version)) == Standing::Present;
            let kernel = KernelFacts { release: None, version: Some(&version) };
            prop_assert_eq!(without.entries()[0].holds_on(kernel), is_present);
            has |= is_present && version.is_of(&prefix);
        }
        prop_assert_eq!(with.is_ok(), has, "{} {:?} {:?} {:?}", branch, present, absent, fixed);
    }
}

fn any_range() -> impl Strategy<Value = String> {
    let version = (1u32..6, 0u32..5).prop_map(|(minor, patch)| format!("6.{minor}.{patch}"));
    prop_oneof![
        (1u32..6).prop_map(|minor| format!("6.{minor}")),
        (1u32..4, 1u32..3).prop_map(|(first, more)| format!("6.{first} to 6.{}", first + more)),
        version.clone().prop_map(|from| format!(">={from}")),
        version.clone().prop_map(|before| format!("<{before}")),
        (1u32..3, 0u32..5, 3u32..6, 0u32..5)
            .prop_map(|(minor, patch, more, last)| format!(">=6.{minor}.{patch}, <6.{more}.{last}")),
    ]
}
