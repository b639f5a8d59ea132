//! Holds what `suites/known-issues.toml` says of fixes against the changelogs of Debian's kernels, which list
//! every commit of a stable release by its first line.
//!
//! The changelogs have some 10 MB. What they say of md, dm's core, dm-raid and dm-integrity is kept in
//! `testdata/debian-changelogs.txt`: a line for each release, `6.1.165 in 6.1.170-1`, and below it the first
//! lines of its commits. To make it again, read the changelog of a package of each branch
//! (`zcat /usr/share/doc/linux-libc-dev/changelog.Debian.gz`) into files of one folder, and run
//! `DEBIAN_CHANGELOGS=FOLDER cargo test -p reports changelog`. Releases that are marked `by hand` stay:
//! Debian's changelog does not list them, and they are written down from the kernel's stable tree.
//!
//! A rule that is not here: nothing is said of a commit that no changelog lists. A mainline release's commits
//! are listed nowhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;
use crate::testing;

/// Releases older than this branch are left out of the extract.
const OLDEST: (u32, u32) = (6, 1);

/// The mark of a release that no changelog lists.
const BY_HAND: &str = "by hand";

/// The word in place of a package where Debian's changelogs name none.
const NO_PACKAGE: &str = "no package";

/// A release, and what it brought.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Release {
    /// The stable release; none for what Debian applied itself.
    upstream: Option<String>,
    /// The package that had it first, `6.1.170-1`; [`NO_PACKAGE`] where Debian's changelog does not say.
    package: String,
    is_by_hand: bool,
    /// The first lines of its commits, without architectures, CVE ids and bug numbers.
    subjects: Vec<String>,
}

impl Release {
    /// The version from which a kernel has what the release brought.
    fn version(&self) -> Version {
        let version = self.upstream.as_deref().unwrap_or_else(|| self.package_upstream());
        Version::parse(version).unwrap_or_else(|| panic!("{version}"))
    }

    /// The package's version without Debian's part.
    fn package_upstream(&self) -> &str {
        self.package.split_once('-').map_or(self.package.as_str(), |(upstream, _)| upstream)
    }

    fn heading(&self) -> String {
        let what = self.upstream.as_deref().unwrap_or("Debian's own");
        let mark = if self.is_by_hand { format!(", {BY_HAND}") } else { String::new() };
        format!("{what} in {}{mark}", self.package)
    }
}

/// Reads the extract: headings, and indented subjects below them.
fn parse_extract(text: &str) -> Vec<Release> {
    let mut releases: Vec<Release> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        match line.strip_prefix('\t') {
            Some(subject) => releases.last_mut().expect("a heading first").subjects.push(subject.to_owned()),
            None => {
                let (line, is_by_hand) = match line.strip_suffix(BY_HAND) {
                    Some(line) => (line.trim_end_matches([',', ' ']), true),
                    None => (line, false),
                };
                let (what, package) = line.split_once(" in ").unwrap_or_else(|| panic!("no heading: {line}"));
                releases.push(Release {
                    upstream: (what != "Debian's own").then(|| what.to_owned()),
                    package: package.to_owned(),
                    is_by_hand,
                    subjects: Vec::new(),
                });
            }
        }
    }
    releases
}

/// Writes the extract.
fn write_extract(releases: &[Release]) -> String {
    let mut text = "# What the changelogs of Debian's kernels say of md, dm, dm-raid and dm-integrity.\n\
                    # Made by known_issues_changelog_tests.rs, which says how; do not edit what is not `by hand`.\n"
        .to_owned();
    for release in releases {
        text += &format!("{}\n", release.heading());
        for subject in &release.subjects {
            text += &format!("\t{subject}\n");
        }
    }
    text
}

/// The releases of one changelog, newest first, without those that brought nothing to md.
fn releases_of(changelog: &str) -> Vec<Release> {
    let mut releases: Vec<Release> = Vec::new();
    let mut package = String::new();
    let mut upstream: Option<String> = None;
    let mut item: Option<(bool, String)> = None;
    for line in changelog.lines().chain([""]) {
        let text = line.trim();
        let starts_item = line.starts_with("    - ") || line.starts_with("  * ");
        if starts_item || text.is_empty() || text.starts_with("https://") || !line.starts_with("      ") {
            if let Some((is_stable, subject)) = item.take() {
                push(&mut releases, upstream.as_ref().filter(|_| is_stable), &package, &subject);
            }
        } else if let Some((_, subject)) = &mut item {
            // A long line is broken.
            subject.push(' ');
            subject.push_str(text);
            continue;
        }
        if let Some(rest) = line.strip_prefix("linux (") {
            package = rest.split(')').next().unwrap_or_default().to_owned();
            upstream = None;
        } else if let Some((_, version)) = text.split_once("/ChangeLog-") {
            upstream = Some(version.to_owned());
        } else if let Some(own) = line.strip_prefix("  * ") {
            // What follows is of this item, not of the stable release.
            upstream = None;
            item = Some((false, own.to_owned()));
        } else if let Some(listed) = line.strip_prefix("    - ") {
            item = upstream.is_some().then(|| (true, listed.to_owned()));
        }
    }
    releases
}

/// Adds a commit's first line to its release, if it is one of md's.
fn push(releases: &mut Vec<Release>, upstream: Option<&String>, package: &str, subject: &str) {
    // What a backport or a rebuild adds to the version is no news.
    let is_rebuild = package.contains('~') && !package.contains("~rc") && !package.contains("~exp");
    let branch = |version: &str| {
        let mut numbers = version.split(['.', '-', '~']).map(|number| number.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    };
    let Some(subject) = md_subject(subject).filter(|_| !is_rebuild && branch(package) >= OLDEST) else {
        return;
    };
    let upstream = upstream.cloned();
    match releases.iter_mut().find(|release| release.upstream == upstream && release.package == package) {
        Some(release) if release.subjects.contains(&subject) => {}
        Some(release) => release.subjects.push(subject),
        None => releases.push(Release {
            upstream,
            package: package.to_owned(),
            is_by_hand: false,
            subjects: vec![subject],
        }),
    }
}

/// The bare first line of a commit to md, dm's core, dm-raid or dm-integrity.
fn md_subject(line: &str) -> Option<String> {
    let mut subject = line.trim();
    if let Some((_, rest)) = subject.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        subject = rest;
    }
    for note in [" (CVE-", " (Closes: "] {
        subject = subject.split_once(note).map_or(subject, |(subject, _)| subject);
    }
    let mut bare = subject;
    while let Some(of) = bare.strip_prefix("Revert \"").or_else(|| bare.strip_prefix("Reapply \"")) {
        bare = of;
    }
    let area = bare.split_once(": ")?.0;
    let is_md = area.split([',', ' ']).filter(|word| !word.is_empty()).any(|word| {
        ["md", "dm", "raid", "raid0", "raid1", "raid5", "raid6", "raid10", "async_tx"].contains(&word)
            || ["md/", "md-", "dm-raid", "dm-integrity", "raid456"].iter().any(|area| word.starts_with(area))
    });
    // dm's other targets, whose commits say `dm cache: …` and `dm-crypt: …`.
    let is_other_target =
        area.strip_prefix("dm ").is_some_and(|of| !of.starts_with("raid") && of != "integrity");
    (is_md && !is_other_target && !area.contains('[')).then(|| subject.to_owned())
}

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/debian-changelogs.txt")
}

fn extract() -> Vec<Release> {
    parse_extract(include_str!("../../../testdata/debian-changelogs.txt"))
}

/// The mistakes in `issues`, as far as the changelogs know, in sentences.
fn differences(issues: &KnownIssues, releases: &[Release]) -> Vec<String> {
    let mut wrong = Vec::new();
    for issue in &issues.issues {
        let id = &issue.info.id;
        let is_stable = |version: &Version| version.to_string().matches('.').count() == 2;
        let Some(subject) = &issue.info.subject else {
            let claims = issue.fixed_in.iter().filter(|(_, first)| is_stable(first));
            wrong.extend(claims.map(|(branch, first)| {
                format!("{id}: `{branch}` = `{first}` cannot be checked: no `subject` is given")
            }));
            continue;
        };
        // Branch, and the first release of it with the fix, as stable release and as package.
        let mut listed: BTreeMap<String, (Version, Option<Version>)> = BTreeMap::new();
        for release in releases.iter().filter(|release| release.subjects.contains(subject)) {
            let version = release.version();
            let package = (release.package != NO_PACKAGE).then(|| {
                Version::parse(release.package_upstream()).unwrap_or_else(|| panic!("{}", release.package))
            });
            let branch = version.to_string().split('.').take(2).collect::<Vec<_>>().join(".");
            let first = listed.entry(branch).or_insert_with(|| (version.clone(), package.clone()));
            let packages = [first.1.clone(), package].into_iter().flatten();
            *first = (first.0.clone().min(version), packages.min());
        }
        let said = |all: &[(Version, Version)], branch: &str| {
            let of = all.iter().find(|(of, _)| of.to_string() == branch);
            of.map(|(_, first)| first.clone())
        };
        for (branch, (first, package)) in &listed {
            let package = package.as_ref();
            let keys = [("fixed-in", &issue.fixed_in, Some(first)), ("debian", &issue.debian, package)];
            for (key, of, first) in keys.into_iter().filter_map(|(key, of, first)| Some((key, of, first?))) {
                match said(of, branch) {
                    Some(said) if said == *first => {}
                    Some(said) => wrong.push(format!("{id}: {key} says {said}, but {first} lists the fix")),
                    None => {
                        wrong.push(format!("{id}: {key} says nothing of {branch}, but {first} lists the fix"))
                    }
                }
            }
        }
        for (key, of) in [("fixed-in", &issue.fixed_in), ("debian", &issue.debian)] {
            let claims = of.iter().filter(|(_, first)| key == "debian" || is_stable(first));
            for (branch, first) in claims.filter(|(branch, _)| !listed.contains_key(&branch.to_string())) {
                wrong.push(format!("{id}: {key} says {first}, but no release of {branch} lists the fix"));
            }
        }
    }
    wrong
}

#[test]
fn changelogs_have_what_known_issues_say_of_fixes() {
    let wrong = differences(testing::known_issues(), &extract());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn changelogs_tell_a_wrong_fix_a_missing_one_and_one_that_cannot_be_checked() {
    let releases =
        parse_extract("6.1.165 in 6.1.170-1\n\tmd: fix it\nDebian's own in 6.12.22-1\n\tmd: fix it\n");
    let check = |keys: &str| {
        let entry = format!("[[issue]]\nid = \"x\"\ntitle = \"t\"\nreport = \"r\"\n{keys}\n");
        differences(&KnownIssues::parse(&entry, "x").unwrap(), &releases)
    };
    let subject = "subject = \"md: fix it\"\n";
    let debian = "debian = { \"6.1\" = \"6.1.170\", \"6.12\" = \"6.12.22\" }";
    let right = format!(
        "{subject}fixed-in = {{ \"6.1\" = \"6.1.165\", \"6.12\" = \"6.12.22\", \"7.1\" = \"7.1\" }}\n{debian}"
    );
    assert_eq!(check(&right), Vec::<String>::new());
    assert_eq!(
        check(&right.replace("6.1.165", "6.1.164")),
        ["x: fixed-in says 6.1.164, but 6.1.165 lists the fix"]
    );
    assert_eq!(
        check(&right.replace("\"6.1\" = \"6.1.165\", ", "")),
        ["x: fixed-in says nothing of 6.1, but 6.1.165 lists the fix"]
    );
    assert_eq!(
        check(&right.replace("\"7.1\" = \"7.1\"", "\"7.0\" = \"7.0.3\"")),
        ["x: fixed-in says 7.0.3, but no release of 7.0 lists the fix"]
    );
    assert_eq!(
        check(&right.replace("6.1.170", "6.1.162")),
        ["x: debian says 6.1.162, but 6.1.170 lists the fix"]
    );
    assert_eq!(
        check("fixed-in = { \"6.1\" = \"6.1.165\" }"),
        ["x: `6.1` = `6.1.165` cannot be checked: no `subject` is given"]
    );
}

#[test]
fn changelogs_are_read_as_debian_writes_them() {
    let changelog = "\
linux (6.1.170-1) bookworm-security; urgency=high

  * New upstream stable update:
    https://www.kernel.org/pub/linux/kernel/v6.x/ChangeLog-6.1.165
    - md/raid5: fix possible null-pointer dereferences in
      raid5_store_group_thread_cnt()
    - dm cache: fix a hit
    - drm/amd: fix a fan
    https://www.kernel.org/pub/linux/kernel/v6.x/ChangeLog-6.1.166
    - [x86] dm-integrity: fix a typo (CVE-2026-1)

  [ Somebody ]
  * md: fix mddev uaf while iterating all_mddevs list (Closes: #1086175)
    - md/raid1: this is no commit of the stable release

 -- Somebody <a@b>  Sat, 02 Mar 2024 08:22:54 +0100

linux (6.1.164-1~bpo11+1) bullseye-backports; urgency=medium

  * md: rebuilt
";
    let expect = "6.1.165 in 6.1.170-1\n\
                  \tmd/raid5: fix possible null-pointer dereferences in raid5_store_group_thread_cnt()\n\
                  6.1.166 in 6.1.170-1\n\
                  \tdm-integrity: fix a typo\n\
                  Debian's own in 6.1.170-1\n\
                  \tmd: fix mddev uaf while iterating all_mddevs list\n";
    let releases = releases_of(changelog);
    assert_eq!(releases, parse_extract(expect));
    assert_eq!(parse_extract(&write_extract(&releases)), releases);
}

/// Makes the extract again, if it is told where the changelogs are.
#[test]
fn changelogs_are_extracted() {
    let Some(folder) = std::env::var_os("DEBIAN_CHANGELOGS") else { return };
    let mut releases: Vec<Release> = extract().into_iter().filter(|release| release.is_by_hand).collect();
    for file in std::fs::read_dir(folder).unwrap() {
        for release in releases_of(&std::fs::read_to_string(file.unwrap().path()).unwrap()) {
            let is_known = |known: &Release| {
                (known.upstream.is_some() && known.upstream == release.upstream) || *known == release
            };
            match releases.iter_mut().find(|known| is_known(known) && !known.is_by_hand) {
                // Two branches of packages may list one release: the older package had it first.
                Some(known) if release.package_upstream().len() < known.package_upstream().len() => {
                    *known = release
                }
                Some(_) => {}
                None => releases.push(release),
            }
        }
    }
    releases.sort_by_key(|release| {
        (
            release.version(),
            Version::parse(release.package_upstream()),
            release.upstream.is_none(),
            release.package.clone(),
        )
    });
    std::fs::write(testdata(), write_extract(&releases)).unwrap();
}
