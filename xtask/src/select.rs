//! Which tests a command line means. Pure.

use anyhow::{Context, Result, bail};
use globset::{GlobBuilder, GlobMatcher};
use protocol::TestId;
use regex::Regex;

use crate::suite::Suite;

/// What was asked for. Patterns, expressions and tags each add tests; `exclude` takes away.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// `shell/x.sh`, `lvm2:shell/x.sh`, `x`, or globs of these.
    pub(crate) patterns: Vec<String>,
    /// Regular expressions, searched in `suite:name`.
    pub(crate) expressions: Vec<Regex>,
    pub(crate) tags: Vec<String>,
    pub(crate) exclude: Vec<String>,
}

/// The tests that `selection` means, in the suite's order; its default ones if it names nothing.
pub(crate) fn select(suite: &Suite, selection: &Selection) -> Result<Vec<TestId>> {
    let patterns = compile(&selection.patterns)?;
    let exclude = compile(&selection.exclude)?;
    let is_empty = patterns.is_empty() && selection.expressions.is_empty() && selection.tags.is_empty();
    let tags = if is_empty { &suite.default_tags } else { &selection.tags };
    if let Some(tag) = tags.iter().find(|tag| !suite.tag_docs.contains_key(*tag)) {
        let known: Vec<_> = suite.tag_docs.keys().map(String::as_str).collect();
        bail!("suite `{}` has no tag `{tag}`; it has {}", suite.name, known.join(", "));
    }
    let mut used = vec![false; patterns.len()];
    let mut used_exclude = vec![false; exclude.len()];
    let mut selected = Vec::new();
    for (name, test) in &suite.tests {
        let id = TestId::new(&suite.name, name)?;
        let mut wanted = test.tags.iter().any(|tag| tags.contains(tag));
        for (pattern, used) in patterns.iter().zip(&mut used) {
            if pattern.matches(&id) {
                *used = true;
                wanted = true;
            }
        }
        wanted |= selection.expressions.iter().any(|expression| expression.is_match(&id.to_string()));
        // All of them, so that one that never matches is found, too: a mistyped exclusion would run what
        // it was meant to leave out.
        let mut excluded = false;
        for (pattern, used) in exclude.iter().zip(&mut used_exclude) {
            if pattern.matches(&id) {
                *used = true;
                excluded = true;
            }
        }
        if wanted && !excluded {
            selected.push(id);
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

struct Pattern {
    glob: GlobMatcher,
}

impl Pattern {
    /// Against the name, with or without its suite, its folder and its ending.
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
        let glob = GlobBuilder::new(pattern).build();
        let glob = glob.with_context(|| format!("`{pattern}` is no pattern of test names"))?;
        Ok(Pattern { glob: glob.compile_matcher() })
    };
    patterns.iter().map(glob).collect()
}

/// The name most like a pattern that matches nothing: with the longest run of letters in common.
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
    use crate::session::workspace;

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
    fn nothing_named_means_the_seed() {
        check(Selection::default(), &SEED);
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
