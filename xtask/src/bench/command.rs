//! The command line of a bench as a report shows it: values that may name the user's files, hosts or
//! repositories are replaced by their names in `--help`. Pure.

use std::ffi::OsStr;

use clap::builder::ValueHint;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use reports::render::words::reproduce::shell_line;

/// Option that has no say in what is measured.
const MARKDOWN: &str = "markdown";

/// The command that `matches` came from: those options that were given on the command line.
pub(super) fn shown(command: &Command, matches: &ArgMatches) -> String {
    let mut command = command.clone();
    // Options of all commands become known to each.
    command.build();
    let (mut command, mut matches) = (&command, matches);
    let mut words = vec!["cargo".to_owned(), "xtask".to_owned()];
    while let Some((name, below)) = matches.subcommand() {
        let Some(found) = command.find_subcommand(name) else { break };
        (command, matches) = (found, below);
        words.push(name.to_owned());
    }
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        // Looked up before its source is: clap knows no source of what it does not define.
        let is_given = matches.try_contains_id(id).unwrap_or(false)
            && matches.value_source(id) == Some(ValueSource::CommandLine);
        if is_given && id != MARKDOWN {
            words.extend(argument_words(argument, matches));
        }
    }
    shell_line(&words)
}

/// The words of one option, as often as it was given.
fn argument_words(argument: &Arg, matches: &ArgMatches) -> Vec<String> {
    let flag = argument.get_long().map(|long| format!("--{long}"));
    if !argument.get_action().takes_values() {
        return flag.into_iter().collect();
    }
    let occurrences = matches.get_raw_occurrences(argument.get_id().as_str());
    let each = occurrences.into_iter().flatten().flat_map(|values| {
        let values: Vec<_> = values.map(|value| shown_value(argument, value)).collect();
        flag.clone().into_iter().chain([values.join(",")])
    });
    each.collect()
}

/// A value, or its name if it may tell something of the user's machine.
fn shown_value(argument: &Arg, value: &OsStr) -> String {
    let name = argument.get_value_names().and_then(|names| names.first());
    let name = name.map_or_else(|| argument.get_id().as_str().to_uppercase(), |name| name.to_string());
    let is_path = matches!(
        argument.get_value_hint(),
        ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath | ValueHint::ExecutablePath
    );
    match value.to_str().filter(|value| !is_path && is_harmless(value)) {
        Some(value) => value.to_owned(),
        None => name,
    }
}

/// Numbers, words, and kernels of Debian's; no path, address or revision.
fn is_harmless(value: &str) -> bool {
    let rest = value.strip_prefix("deb:").unwrap_or(value);
    !rest.is_empty() && rest.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn check(line: &str, expected: &str) {
        let command = Cli::command();
        let matches = command.clone().try_get_matches_from(line.split(' ').skip(1)).unwrap();
        assert_eq!(shown(&command, &matches), expected);
    }

    #[test]
    fn options_are_shown_as_they_were_given() {
        check("cargo xtask bench vm", "cargo xtask bench vm");
        check(
            "cargo xtask bench vm --no-virtme --rounds=5 --accel kvm --markdown",
            "cargo xtask bench vm --rounds 5 --no-virtme --accel kvm",
        );
        check(
            "cargo xtask bench suite -j2 -j 4 --tests raid10 --cold",
            "cargo xtask bench suite --tests raid10 --jobs 2 --jobs 4 --cold",
        );
        check(
            "cargo xtask bench bisect --simulate --noise 0,0.05 --seed 7",
            "cargo xtask bench bisect --simulate --noise 0,0.05 --seed 7",
        );
        check("cargo xtask bench vm --kernel deb:6.1-amd64", "cargo xtask bench vm --kernel deb:6.1-amd64");
    }

    #[test]
    fn no_path_or_host_gets_in() {
        check(
            "cargo xtask --store /home/jane/s bench suite --out jane --history=/h --markdown=/home/jane/f.md",
            "cargo xtask bench suite --out DIR --history FILE --store DIR",
        );
        check(
            "cargo xtask bench vm --mirror http://box.example/debian --qemu /opt/q --kernel deb:6.12+md:jane",
            "cargo xtask bench vm --kernel SPEC --mirror URL --qemu QEMU",
        );
        check("cargo xtask bench vm --kernel git:jane@v6.7", "cargo xtask bench vm --kernel SPEC");
        check("cargo xtask bench bisect --kernel-tree jane", "cargo xtask bench bisect --kernel-tree DIR");
        check("cargo xtask bench commits jane", "cargo xtask bench commits DIR");
    }
}
