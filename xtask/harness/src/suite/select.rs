//! Selects tests by names, expressions and tags. Pure.

use anyhow::{Context, Result, bail};
use globset::{GlobBuilder, GlobMatcher};
use protocol::TestId;
use regex::Regex;

use crate::suite::Suite;

/// A user's selection. Patterns, expressions and tags each add tests; `exclude` removes some.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Names or globs: `shell/x.sh`, `lvm2:shell/x.sh`, `x`; with `@FLAVOUR` at the end for one flavour.
    pub patterns: Vec<String>,
    /// Regular expressions, searched for in `suite:name`.
    pub expressions: Vec<Regex>,
    /// Tags; all tests with one of them are selected.
    pub tags: Vec<String>,
    /// Names or globs of tests that are not run.
    pub exclude: Vec<String>,
}

/// The selected tests in the suite's order; the default ones if the selection is empty.
pub fn select(suite: &Suite, selection: &Selection) -> Result<Vec<TestId>> {
    let patterns = compile(&selection.patterns)?;
    let exclude = compile(&selection.exclude)?;
    for pattern in &patterns {
        if let Some(flavour) = &pattern.flavour {
            check_flavour(suite, flavour)?;
        }
    }
    let tags = &selection.tags;
    if let Some(tag) = tags.iter().find(|tag| !suite.tag_docs.contains_key(*tag)) {
        let known: Vec<_> = suite.tag_docs.keys().map(String::as_str).collect();
        bail!("suite `{}` has no tag `{tag}`; it has {}", suite.name, known.join(", "));
    }
    let mut used = vec![false; patterns.len()];
    let mut used_exclude = vec![false; exclude.len()];
    let mut selected = Vec::new();
    for (name, test) in &suite.tests {
        let id = TestId::new(&suite.name, name)?;
        let mut wanted = match selection.is_empty() {
            true => suite.runs_by_default(test),
            false => test.tags.iter().any(|tag| tags.contains(tag)),
        };
        let mut flavours = Vec::new();
        for (pattern, used) in patterns.iter().zip(&mut used) {
            if pattern.matches(&id) {
                *used = true;
                match &pattern.flavour {
                    Some(flavour) => flavours.push(flavour),
                    None => wanted = true,
                }
            }
        }
        wanted |= selection.expressions.iter().any(|expression| expression.is_match(&id.to_string()));
        // All of them are evaluated, so that one that never matches is reported: a mistyped exclusion would
        // run tests that were to be left out.
        let mut excluded = false;
        for (pattern, used) in exclude.iter().zip(&mut used_exclude) {
            if pattern.matches(&id) {
                *used = true;
                excluded = true;
            }
        }
        if !excluded {
            flavours.sort();
            flavours.dedup();
            let flavoured = flavours.into_iter().map(|flavour| in_flavour(suite, &id, flavour));
            let mut all = flavoured.collect::<Result<Vec<_>>>()?;
            if wanted && !all.contains(&id) {
                all.insert(0, id);
            }
            selected.extend(all);
        }
    }
    let unused =
        |used: &[bool], given: &[String]| used.iter().position(|used| !used).map(|idx| given[idx].clone());
    let unused = unused(&used, &selection.patterns).or_else(|| unused(&used_exclude, &selection.exclude));
    if let Some(pattern) = &unused {
        if suite.tag_docs.contains_key(pattern) {
            bail!("no test matches `{pattern}`, but it is a tag: --tag {pattern}");
        }
        let near = nearest(suite, pattern);
        bail!(
            "no test matches `{pattern}`{}",
            near.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
        );
    }
    Ok(selected)
}

/// A selected test that is not run, and the reason.
pub(crate) type LeftOut = (TestId, String);

/// `tests` in each of `flavours`, except those that name one themselves; and the ones that cannot run, with
/// reasons.
pub fn in_flavours(
    suite: &Suite,
    tests: Vec<TestId>,
    flavours: &[String],
) -> Result<(Vec<TestId>, Vec<LeftOut>)> {
    for flavour in flavours {
        check_flavour(suite, flavour)?;
    }
    let mut all = Vec::new();
    for test in tests {
        if flavours.is_empty() || test.flavour().is_some() {
            all.push(test);
        } else {
            for flavour in flavours {
                all.push(in_flavour(suite, &test, flavour)?);
            }
        }
    }
    let mut left_out = Vec::new();
    all.retain(|test| {
        let flavour = test.flavour().or(suite.flavours.default.as_deref()).unwrap_or_default();
        let objection = suite.flavours.objection(test.name(), flavour);
        if let Some(reason) = &objection {
            left_out.push((test.clone(), reason.clone()));
        }
        objection.is_none()
    });
    Ok((all, left_out))
}

/// The test in `flavour`; the default flavour is not part of a name.
fn in_flavour(suite: &Suite, test: &TestId, flavour: &str) -> Result<TestId> {
    let is_default = suite.flavours.default.as_deref() == Some(flavour);
    Ok(if is_default { test.clone() } else { test.with_flavour(flavour)? })
}

/// Returns an error if the suite has no such flavour.
pub(crate) fn check_flavour(suite: &Suite, flavour: &str) -> Result<()> {
    let known = &suite.flavours.known;
    if known.is_empty() {
        bail!("suite `{}` has no flavours", suite.name);
    }
    if !known.iter().any(|name| name == flavour) {
        bail!("suite `{}` has no flavour `{flavour}`; it has {}", suite.name, known.join(", "));
    }
    Ok(())
}

impl Selection {
    /// True if nothing is selected, so that the default tests are meant.
    pub(crate) fn is_empty(&self) -> bool {
        self.patterns.is_empty() && self.expressions.is_empty() && self.tags.is_empty()
    }
}

struct Pattern {
    glob: GlobMatcher,
    /// The part after `@`.
    flavour: Option<String>,
}

impl Pattern {
    /// True if the pattern matches the name, with or without its suite, folder and extension.
    fn matches(&self, id: &TestId) -> bool {
        let name = id.name();
        let file = name.rsplit('/').next().unwrap_or(name);
        [name, file].iter().any(|long| {
            let short = long.strip_suffix(".sh").unwrap_or(long);
            [*long, short]
                .iter()
                .any(|text| self.glob.is_match(text) || self.glob.is_match(format!("{}:{text}", id.suite())))
        })
    }
}

fn compile(patterns: &[String]) -> Result<Vec<Pattern>> {
    let glob = |pattern: &String| {
        let (name, flavour) = match pattern.rsplit_once('@') {
            Some((name, flavour)) => (name, Some(flavour.to_owned())),
            None => (pattern.as_str(), None),
        };
        let glob = GlobBuilder::new(name).build();
        let glob = glob.with_context(|| format!("`{pattern}` is no pattern of test names"))?;
        Ok(Pattern { glob: glob.compile_matcher(), flavour })
    };
    patterns.iter().map(glob).collect()
}

/// The suite's test most similar to a pattern that matches nothing: the one with the longest common
/// substring.
fn nearest<'a>(suite: &'a Suite, pattern: &str) -> Option<&'a str> {
    let stem = |name: &str| {
        let file = name.rsplit('/').next().unwrap_or(name);
        file.trim_end_matches(".sh").to_owned()
    };
    let wanted = stem(pattern.rsplit(':').next().unwrap_or(pattern));
    let common = |name: &str| stem(name).bytes().zip(wanted.bytes()).take_while(|(a, b)| a == b).count();
    let best = suite.tests.keys().max_by_key(|name| common(name))?;
    (common(best) >= 3).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::workspace;

    fn check(selection: Selection, expect: &[&str]) {
        let suite = Suite::read(&workspace().join("suites/lvm2")).unwrap();
        let selected = select(&suite, &selection).unwrap();
        let names: Vec<_> = selected.iter().map(TestId::name).collect();
        assert_eq!(names, expect);
    }

    fn patterns(patterns: &[&str]) -> Selection {
        Selection { patterns: patterns.iter().map(|&text| text.to_owned()).collect(), ..Selection::default() }
    }

    const SEED: [&str; 2] = ["shell/integrity-caching.sh", "shell/lvconvert-raid-reshape.sh"];

    #[test]
    fn nothing_named_means_the_default_tags() {
        check(Selection::default(), &SEED);
    }

    #[test]
    fn a_suite_without_default_tags_runs_all_its_tests() {
        let suite = Suite::read(&crate::workspace::workspace().join("suites/mdadm")).unwrap();
        assert_eq!(select(&suite, &Selection::default()).unwrap().len(), suite.tests.len());
        let tagged = Selection { tags: vec!["imsm".to_owned()], ..Selection::default() };
        assert!(select(&suite, &tagged).unwrap().iter().all(|id| id.name().contains("imsm")));
    }

    #[test]
    fn a_test_may_be_named_in_any_way() {
        for name in [
            "integrity-caching",
            "integrity-caching.sh",
            "shell/integrity-caching.sh",
            "lvm2:shell/integrity-caching.sh",
        ] {
            check(patterns(&[name]), &SEED[..1]);
        }
    }

    #[test]
    fn flavours() {
        let suite = Suite::read(&workspace().join("suites/lvm2")).unwrap();
        let names = |tests: &[TestId]| tests.iter().map(TestId::to_string).collect::<Vec<_>>();
        let chosen = patterns(&[
            "integrity-caching@ndev-lvmpolld",
            "integrity-caching@ndev-vanilla",
            "lvconvert-mirror",
        ]);
        let tests = select(&suite, &chosen).unwrap();
        assert_eq!(
            names(&tests),
            [
                "lvm2:shell/integrity-caching.sh@ndev-lvmpolld",
                "lvm2:shell/integrity-caching.sh",
                "lvm2:shell/lvconvert-mirror.sh"
            ]
        );
        let flavours = ["udev-vanilla", "ndev-vanilla", "ndev-lvmpolld"].map(str::to_owned);
        let (tests, left_out) = in_flavours(&suite, tests, &flavours).unwrap();
        assert_eq!(
            names(&tests)[..3],
            [
                "lvm2:shell/integrity-caching.sh@udev-vanilla",
                "lvm2:shell/integrity-caching.sh",
                "lvm2:shell/lvconvert-mirror.sh@udev-vanilla"
            ]
        );
        assert_eq!(left_out.len(), 2, "{left_out:?}");
        assert!(left_out[0].1.contains("lvmpolld"));
        let error = select(&suite, &patterns(&["integrity-caching@ndev"])).unwrap_err().to_string();
        assert!(error.contains("no flavour `ndev`; it has ndev-devicesfile"), "{error}");
    }

    #[test]
    fn expressions_and_exclusions() {
        let mut selection = patterns(&[]);
        selection.expressions.push(Regex::new("lvconvert-raid-reshape(-load)?\\.sh$").unwrap());
        selection.exclude.push("*-load.sh".into());
        check(selection, &SEED[1..]);
    }

    #[test]
    fn a_pattern_without_a_match_offers_the_nearest() {
        let suite = Suite::read(&workspace().join("suites/lvm2")).unwrap();
        let error = |selection: &Selection| select(&suite, selection).unwrap_err().to_string();
        for pattern in ["integrity-cachin", "lvm2:shell/integrity-cachin"] {
            let error = error(&patterns(&[pattern]));
            assert!(error.contains("shell/integrity-caching.sh"), "{error}");
        }
        assert!(error(&patterns(&["reshape"])).contains("--tag reshape"));
        let mistyped = Selection { exclude: vec!["integrity-cachin".into()], ..Selection::default() };
        assert!(error(&mistyped).contains("shell/integrity-caching.sh"));
    }
}
