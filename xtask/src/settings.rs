//! A run's options as words of a command line that mean the same whatever environment and configuration there are
//! when they are read again: a run that is resumed goes on by them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Arg, Command, CommandFactory, FromArgMatches, ValueEnum};

use crate::cli::{self, Cli};
use crate::test::Options;
use crate::vm::Accel;

/// The words, without `cargo xtask test`; `accel` is the accelerator that was chosen.
pub(crate) fn words(options: &Options, accel: Accel) -> Vec<String> {
    words_with(options, &accel.to_string())
}

/// The same with the accelerator that was asked for: `auto` stays open.
pub(crate) fn words_as_asked(options: &Options) -> Vec<String> {
    let asked = options.accel.to_possible_value();
    words_with(options, asked.as_ref().map_or("auto", clap::builder::PossibleValue::get_name))
}

/// A path that is the same wherever it is read.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn words_with(options: &Options, accel: &str) -> Vec<String> {
    // Every field is named, so that a new one is not forgotten.
    let Options {
        kernels,
        suite,
        selection,
        sources,
        flavours,
        scripts,
        script_needs,
        append,
        accel: _,
        times,
        policy,
        shard,
        n_vms,
        out: _,
        history,
        debug_info,
        resume: _,
        dump,
        snapshots,
        change: _,
    } = options;
    let mut words = Vec::new();
    let mut add = |option: &str, value: String| words.push(format!("--{option}={value}"));
    let absolute = |path: &Path| absolute(path).to_string_lossy().into_owned();
    for kernel in kernels {
        add("kernel", kernel.to_string());
    }
    add("suite", suite.clone());
    add("accel", accel.to_owned());
    for tag in &selection.tags {
        add("tag", tag.clone());
    }
    for expression in &selection.expressions {
        add("expression", expression.to_string());
    }
    for pattern in &selection.exclude {
        add("exclude", pattern.clone());
    }
    for (option, dir) in [("lvm2-src", &sources.lvm2), ("mdadm-src", &sources.mdadm)] {
        if let Some(dir) = dir {
            add(option, absolute(dir));
        }
    }
    for flavour in flavours {
        add("flavour", flavour.clone());
    }
    for script in scripts {
        add("script", absolute(script));
    }
    for folder in debug_info {
        add("debug-info", absolute(folder));
    }
    if let Some(needs) = script_needs {
        add("script-needs", needs.clone());
    }
    if !append.is_empty() {
        add("append", append.clone());
    }
    if let Some(repeat) = times.repeat.filter(|repeat| *repeat > 1 || times.is_open()) {
        add("repeat", repeat.to_string());
    }
    if let Some(within) = times.within {
        add("for", format!("{}s", within.as_secs()));
    }
    if times.retries > 0 {
        add("retries", times.retries.to_string());
    }
    for word in policy.words() {
        add("fail-on", word.clone());
    }
    if policy.flaky_fails {
        add("flaky", "fail".to_owned());
    }
    if let Some(shard) = shard {
        add("shard", shard.to_string());
    }
    if let Some(n_vms) = n_vms {
        add("jobs", n_vms.to_string());
    }
    if let Some(history) = history {
        add("history", absolute(history));
    }
    let flags = [
        ("--no-history", history.is_none()),
        ("--no-snapshot", !snapshots),
        ("--until-fail", times.until_fail),
        ("--dump", *dump),
    ];
    words.extend(flags.iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| (*flag).to_owned()));
    words.push("--".to_owned());
    words.extend(selection.patterns.iter().cloned());
    words
}

/// The options that such words mean.
pub(crate) fn options(words: &[String]) -> Result<Options> {
    let command = without_environment(Cli::command());
    let line = ["xtask", "test"].into_iter().chain(words.iter().map(String::as_str));
    let matches = command.try_get_matches_from(line).context("the run's settings make no sense")?;
    match Cli::from_arg_matches(&matches).context("the run's settings make no sense")?.command {
        cli::Command::Test(options) => Ok(options.into()),
        _ => bail!("the run's settings are no test's"),
    }
}

fn without_environment(command: Command) -> Command {
    let none = |argument: Arg| argument.env(None::<&'static str>);
    command.mut_args(none).mut_subcommands(without_environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a user says becomes words that mean the same.
    fn check(line: &[&str]) {
        let line: Vec<String> = line.iter().map(|&word| word.to_owned()).collect();
        let said = options(&line).unwrap();
        let again = options(&words(&said, Accel::Tcg)).unwrap();
        let expect = Options { accel: crate::vm::accel::AccelChoice::Tcg, ..said };
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
        check(&["--history=/h", "--repeat=40", "--dump"]);
        check(&["--history=/h", "--retries=1", "--flaky=fail", "--fail-on=complaints,no-hung-task"]);
        check(&["--history=/h", "--until-fail", "--for=2h"]);
        check(&["--history=/h", "--until-fail", "--repeat=1"]);
    }
}
