//! Parses the arguments as which a run's options were recorded ([`harness::run::settings`]).

use anyhow::{Context, Result};
use clap::{Arg, Args, Command, FromArgMatches};
use harness::run::options::Options;

use super::TestOptions;

/// The options that such arguments mean.
pub(crate) fn options(words: &[String]) -> Result<Options> {
    let none = |argument: Arg| argument.env(None::<&'static str>);
    let command = TestOptions::augment_args(Command::new("test")).mut_args(none);
    let line = ["test"].into_iter().chain(words.iter().map(|word| now(word)));
    let matches = command.try_get_matches_from(line).context("the run's settings make no sense")?;
    let options = TestOptions::from_arg_matches(&matches).context("the run's settings make no sense")?;
    Ok(options.into())
}

/// A word of an older record in its present form.
fn now(word: &str) -> &str {
    match word {
        "--tag=seed" => "--tag=v6.7-regressions",
        word => word,
    }
}

#[cfg(test)]
mod tests {
    use harness::machine::Accel;
    use harness::run::settings::words;

    use super::*;

    /// Checks that a user's arguments are recorded as ones that mean the same.
    fn check(line: &[&str]) {
        let line: Vec<String> = line.iter().map(|&word| word.to_owned()).collect();
        let said = options(&line).unwrap();
        let again = options(&words(&said, Accel::Tcg)).unwrap();
        let expect = Options { accel: harness::machine::accel::AccelChoice::Tcg, ..said };
        assert_eq!(format!("{again:?}"), format!("{expect:?}"));
    }

    #[test]
    fn words_mean_what_the_user_said() {
        check(&["--history=/h"]);
        check(&["--kernel=deb:6.1,deb:6.12-amd64", "--suite=canary", "--no-history", "--", "must-*", "-x"]);
        check(&["--history=/h", "--tag=raid", "--exclude=a", "-E", "a b|c", "--flavour=udev-vanilla", "-j3"]);
        check(&[
            "--history=/h",
            "--script=/x y.sh",
            "--script-needs=ram=2G",
            "--append",
            "-v 'a b'",
            "--no-snapshot",
        ]);
        check(&["--history=/h", "--lvm2-src=/src", "--mdadm-src=/m", "--retries=2", "--shard=2/5"]);
        check(&["--history=/h", "--mdadm=deb:4.4-11+deb13u1"]);
        check(&["--history=/h", "--repeat=40", "--dump"]);
        check(&["--history=/h", "--retries=1", "--flaky=fail", "--fail-on=complaints,no-hung-task"]);
        check(&["--history=/h", "--until-fail", "--for=2h"]);
        check(&["--history=/h", "--until-fail", "--repeat=1"]);
    }

    #[test]
    fn a_tag_of_an_older_record_is_known() {
        let options = options(&["--tag=seed".to_owned()]).unwrap();
        assert_eq!(options.selection.tags, ["v6.7-regressions"]);
    }
}
