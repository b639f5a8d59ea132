//! Tests of expectations: what they are about, when they are met, how errors read.

use super::*;
use proptest::prelude::*;

const GOOD: &str = r#"
# one entry = one expectation
[[expect]]
tests = ["shell/lvconvert-raid-reshape-size.sh", "shell/integrity-*.sh"]
kernels = ["6.12", "6.1.140"]
outcome = "fail"
match = "mismatch_cnt [0-9]+"
reason = "the size is read before the reshape ends"

[[expect]]
tests = ["*@ndev-lvmpolld"]
outcome = "skip"
reason = "no lvmpolld in the guest"
flaky = true
"#;

fn check_scope(test: &str, release: Option<&str>, expect: &[&str]) {
    let expectations = Expectations::parse(GOOD, "expectations.toml").unwrap();
    let test: TestId = format!("lvm2:{test}").parse().unwrap();
    let places: Vec<_> = expectations.about(&test, release).map(|entry| entry.place.as_str()).collect();
    assert_eq!(places, expect, "{test} on {release:?}");
}

fn check_error(text: &str, expect: &str) {
    assert_eq!(Expectations::parse(text, "x/expectations.toml").unwrap_err().to_string(), expect);
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
    check_scope("shell/other.sh@ndev-lvmpolld", None, &["expectations.toml:10"]);
    check_scope("shell/other.sh", None, &[]);
}

fn printed(last_lines: &[String]) -> AttemptTexts<'_> {
    AttemptTexts { last_lines, ..AttemptTexts::default() }
}

#[test]
fn of_a_list_all_signatures_must_be_found_and_one_issue() {
    let text = "[[expect]]\ntests = [\"a\"]\noutcome = \"timeout\"\nsignature = [\"^lvm: \", \"^mdX_resync: \"]\n\
                known-issue = [\"one\", \"other\"]\nreason = \"both halves\"\n";
    let expectations = Expectations::parse(text, "e.toml").unwrap();
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
                known-issue = \"sync-without-done\"\nreason = \"planted\"\nmust = true\n";
    let expectations = Expectations::parse(text, "expectations.toml").unwrap();
    let hang = Outcome::Hang { kind: protocol::HangKind::NoProgress, silent_ms: 1, seen: None };
    let met = |line: &str, issue: &str| {
        let signature = [line.to_owned()];
        let shown = AttemptTexts { signature: &signature, known_issues: &[issue], ..AttemptTexts::default() };
        expectations.entries()[0].is_met_by(&hang, shown)
    };
    assert!(met("lvm: stop_sync_thread ← md_stop", "sync-without-done"));
    assert!(!met("lvm: stop_sync_thread ← md_stop", "another"));
    assert!(!met("lvm: kthread_stop ← md_stop", "sync-without-done"));
}

#[test]
fn an_entry_is_met_by_kind_and_words() {
    let expectations = Expectations::parse(GOOD, "expectations.toml").unwrap();
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
    assert!(Expectations::parse("# nothing yet\n", "x").unwrap().entries().is_empty());
}

#[test]
fn errors_name_file_and_line() {
    check_error(
        "\n[[expect]]\ntests = [\"a\"]\noutcome = \"pass\"\nreason = \"r\"\n",
        "x/expectations.toml:4: unknown variant `pass`, expected one of `fail`, `skip`, `warn`, \
         `timeout`, `hang`, `kernel-crash`, `data-corruption`",
    );
    check_error(
        "[[expect]]\ntests = [\"a\"]\noutcome = \"fail\"\nreasn = \"r\"\n",
        "x/expectations.toml:4: unknown field `reasn`, expected one of `tests`, `kernels`, `outcome`, \
         `match`, `signature`, `known-issue`, `reason`, `flaky`, `must`",
    );
    check_error(
        "[[expect]]\ntests = [\"a\"]\noutcome = \"fail\"\n",
        "x/expectations.toml:1: missing field `reason`",
    );
    check_error(
        "[[expect]]\ntests = []\noutcome = \"fail\"\nreason = \"r\"\n",
        "x/expectations.toml:2: `tests` names no test; `*` stands for all of them",
    );
    check_error(
        "[[expect]]\ntests = [\"a\"]\noutcome = \"fail\"\nreason = \" \"\n",
        "x/expectations.toml:4: `reason` is empty; say in a sentence why this is expected",
    );
    check_error(
        "[[expect]]\ntests = [\"a\"]\nkernels = 6.12\noutcome = \"fail\"\nreason = \"r\"\n",
        "x/expectations.toml:3: expected a kernel branch like \"6.12\", or a list of them",
    );
    check_error(
        "[[expect]]\ntests = [\"a\"]\nkernels = \"6.12.*\"\noutcome = \"fail\"\nreason = \"r\"\n",
        "x/expectations.toml:3: `6.12.*` is no kernel branch or release: expected `6.12`, `6.12.113`",
    );
    check_error(
        "[[expect]]\ntests = [\"a\"]\nmatch = \"a(\"\noutcome = \"fail\"\nreason = \"r\"\n",
        "x/expectations.toml:3: `match` is no regular expression: unclosed group",
    );
    let error = Expectations::parse("[[expect\n", "x").unwrap_err().to_string();
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
    let expectations = Expectations::parse(ALLOWED, "e.toml").unwrap();
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
