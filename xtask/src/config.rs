//! `md-regress.toml`: the user's defaults. A key is a flag's long name; flags beat environment beats file.
//!
//! [`Config::parse`] is pure: text in; values or an error with file, line and what is allowed out. The values
//! become defaults of the command line ([`Config::apply`]), so that only clap parses them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Command, ValueEnum};
use harness::error::usage;
use harness::machine::accel::AccelChoice;
use harness::workspace::workspace;
use reports::Policy;
use toml::de::{DeTable, DeValue};
use vm_images::spec::KernelSpec;

use crate::options::FlakyChoice;

/// Name of the file, at the top of the work tree.
pub(crate) const FILE: &str = "md-regress.toml";
/// Environment variable that names another file.
pub(crate) const VARIABLE: &str = "MD_REGRESS_CONFIG";

/// A key that the file may have.
struct Key {
    /// Name in the file, and of the flag.
    name: &'static str,
    /// Id of clap's argument.
    id: &'static str,
    kind: Kind,
}

/// Type of a key's value.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// A path, relative to the file's folder.
    Path,
    /// `private`, the name of a program, or a path.
    Program,
    Kernels,
    Accel,
    /// Words of `--fail-on`.
    Classes,
    Flaky,
    /// A whole number from 1.
    Count,
    /// `true` or `false`.
    Switch,
    Texts,
}

const KEYS: [Key; 17] = [
    Key { name: "mirror", id: "mirror", kind: Kind::Text },
    Key { name: "store", id: "store", kind: Kind::Path },
    Key { name: "qemu", id: "qemu", kind: Kind::Program },
    Key { name: "trust-source", id: "trust_source", kind: Kind::Switch },
    Key { name: "kernel", id: "kernels", kind: Kind::Kernels },
    Key { name: "suite", id: "suite", kind: Kind::Text },
    Key { name: "flavour", id: "flavours", kind: Kind::Texts },
    Key { name: "append", id: "append", kind: Kind::Text },
    Key { name: "accel", id: "accel", kind: Kind::Accel },
    Key { name: "fail-on", id: "fail_on", kind: Kind::Classes },
    Key { name: "flaky", id: "flaky", kind: Kind::Flaky },
    Key { name: "jobs", id: "n_vms", kind: Kind::Count },
    Key { name: "out", id: "out", kind: Kind::Path },
    Key { name: "history", id: "history", kind: Kind::Path },
    Key { name: "debug-info", id: "debug_info", kind: Kind::Path },
    Key { name: "lvm2-src", id: "lvm2_src", kind: Kind::Path },
    Key { name: "mdadm-src", id: "mdadm_src", kind: Kind::Path },
];

/// A key's value, and its line in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    id: &'static str,
    values: Vec<String>,
    line: usize,
}

/// The settings in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// Name of the file in messages.
    file: String,
    settings: Vec<Setting>,
}

/// An error in the file, with its place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {problem}")]
pub(crate) struct ConfigError {
    file: String,
    line: usize,
    problem: String,
}

impl Config {
    /// Reads the file that [`VARIABLE`] names, else the one of the work tree; `None` if there is none.
    pub(crate) fn load() -> Result<Option<Config>> {
        let named = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
        let path = named.clone().unwrap_or_else(|| workspace().join(FILE));
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => return Ok(None),
            Err(error) => {
                let shown = path.display();
                let hint = if named.is_some() { format!("; {VARIABLE} names it") } else { String::new() };
                return Err(usage(anyhow::anyhow!("failed to read `{shown}`: {error}{hint}")));
            }
        };
        let shown = if named.is_some() { path.display().to_string() } else { FILE.to_owned() };
        let path = std::path::absolute(&path).context("the current folder is gone")?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        Config::parse(&text, &shown, folder).map(Some).map_err(|error| usage(error.into()))
    }

    /// Parses `text`. `file` is its name in messages; relative paths are relative to `folder`.
    fn parse(text: &str, file: &str, folder: &Path) -> Result<Config, ConfigError> {
        let line_of = |offset: usize| {
            1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|&&byte| byte == b'\n').count()
        };
        let error = |offset: usize, problem: String| ConfigError {
            file: file.to_owned(),
            line: line_of(offset),
            problem,
        };
        let table = DeTable::parse(text).map_err(|bad| {
            let offset = bad.span().map_or(0, |span| span.start);
            error(offset, bad.message().trim_end().replace('\n', ", "))
        })?;
        let mut settings = Vec::new();
        for (name, value) in table.get_ref() {
            let Some(key) = KEYS.iter().find(|key| key.name == name.get_ref().as_ref()) else {
                return Err(error(name.span().start, unknown_key(name.get_ref())));
            };
            let at = value.span().start;
            let values = read(key, value.get_ref(), folder)
                .map_err(|problem| error(at, format!("`{}` {problem}", key.name)))?;
            settings.push(Setting { id: key.id, values, line: line_of(at) });
        }
        Ok(Config { file: file.to_owned(), settings })
    }

    /// Makes the values the defaults of `command` and of all subcommands that have such a flag.
    pub(crate) fn apply(&self, command: Command) -> Command {
        let mut command = command;
        for setting in &self.settings {
            if command.get_arguments().any(|argument| argument.get_id() == setting.id) {
                command =
                    command.mut_arg(setting.id, |argument| argument.default_values(setting.values.clone()));
            }
        }
        let names: Vec<_> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
        names
            .into_iter()
            .fold(command, |command, name| command.mut_subcommand(name, |below| self.apply(below)))
    }

    /// Place of the default of a flag, if the file sets it: `md-regress.toml:3`.
    pub(crate) fn place_of(&self, id: &str) -> Option<String> {
        let setting = self.settings.iter().find(|setting| setting.id == id)?;
        Some(format!("{}:{}", self.file, setting.line))
    }
}

fn unknown_key(name: &str) -> String {
    let nearest = KEYS.iter().map(|key| (strsim::jaro_winkler(name, key.name), key.name));
    let nearest = nearest.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(likeness, _)| *likeness > 0.75);
    let all: Vec<_> = KEYS.iter().map(|key| key.name).collect();
    match nearest {
        Some((_, meant)) => format!("there is no key `{name}`; did you mean `{meant}`?"),
        None => format!("there is no key `{name}`; there are {}", all.join(", ")),
    }
}

/// The values of a key as arguments of its flag; or the rest of an error message that begins with
/// `` `key` ``.
fn read(key: &Key, value: &DeValue<'_>, folder: &Path) -> Result<Vec<String>, String> {
    let text = |value: &DeValue<'_>| match value {
        DeValue::String(text) if text.is_empty() => Err("is empty; leave it out instead".to_owned()),
        DeValue::String(text) => Ok(text.to_string()),
        other => Err(format!("must be a text in quotes, not {}", article(other.type_str()))),
    };
    let texts = |value: &DeValue<'_>| match value {
        DeValue::Array(all) if all.is_empty() => Err("is empty; leave it out instead".to_owned()),
        DeValue::Array(all) => all.iter().map(|one| text(one.get_ref())).collect(),
        one => Ok(vec![text(one)?]),
    };
    match key.kind {
        Kind::Text => Ok(vec![text(value)?]),
        Kind::Path => Ok(vec![folder.join(text(value)?).display().to_string()]),
        Kind::Program => {
            let program = text(value)?;
            let is_path = program.contains('/');
            Ok(vec![if is_path { folder.join(program).display().to_string() } else { program }])
        }
        Kind::Kernels => {
            let specs = texts(value)?;
            match specs.iter().find_map(|spec| spec.parse::<KernelSpec>().err()) {
                Some(error) => Err(format!("makes no sense: {error}")),
                None => Ok(specs),
            }
        }
        Kind::Accel => choice::<AccelChoice>(text(value)?),
        Kind::Flaky => choice::<FlakyChoice>(text(value)?),
        Kind::Classes => {
            let words = texts(value)?;
            Policy::of(&words, false).map_err(|error| format!("makes no sense: {error}"))?;
            Ok(words)
        }
        Kind::Count => match value {
            DeValue::Integer(number) => match number.as_str().parse::<u16>() {
                Ok(count) if count > 0 => Ok(vec![count.to_string()]),
                Ok(_) | Err(_) => Err(format!("is {}; it must be from 1 to {}", number.as_str(), u16::MAX)),
            },
            other => Err(format!("must be a number, not {}", article(other.type_str()))),
        },
        Kind::Switch => match value {
            DeValue::Boolean(is_on) => Ok(vec![is_on.to_string()]),
            other => Err(format!("must be true or false, not {}", article(other.type_str()))),
        },
        Kind::Texts => texts(value),
    }
}

/// One of the possible values of an option.
fn choice<T: ValueEnum>(name: String) -> Result<Vec<String>, String> {
    let known: Vec<_> = T::value_variants()
        .iter()
        .filter_map(|choice| Some(choice.to_possible_value()?.get_name().to_owned()))
        .collect();
    if known.contains(&name) {
        Ok(vec![name])
    } else {
        Err(format!("is `{name}`; it can be {}", known.join(", ")))
    }
}

fn article(noun: &str) -> String {
    let an = noun.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {noun}", if an { "an" } else { "a" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, "md-regress.toml", Path::new("/home/me/md"))
    }

    fn check_error(text: &str, expect: &str) {
        assert_eq!(parse(text).unwrap_err().to_string(), expect);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        check_error(
            "jobs = 2\nkernal = \"deb:6.1\"\n",
            "md-regress.toml:2: there is no key `kernal`; did you mean `kernel`?",
        );
        check_error("\naccel = \"kmv\"\n", "md-regress.toml:2: `accel` is `kmv`; it can be auto, kvm, tcg");
        check_error("flaky = \"no\"\n", "md-regress.toml:1: `flaky` is `no`; it can be pass, fail");
        let error = parse("fail-on = [\"warnings\"]\n").unwrap_err().to_string();
        assert!(
            error.starts_with("md-regress.toml:1: `fail-on` makes no sense: there is no class `warnings`"),
            "{error}"
        );
        check_error("jobs = 0\n", "md-regress.toml:1: `jobs` is 0; it must be from 1 to 65535");
        check_error("jobs = \"4\"\n", "md-regress.toml:1: `jobs` must be a number, not a string");
        check_error("out = 3\n", "md-regress.toml:1: `out` must be a text in quotes, not an integer");
        check_error(
            "trust-source = 1\n",
            "md-regress.toml:1: `trust-source` must be true or false, not an integer",
        );
        check_error("store = \"\"\n", "md-regress.toml:1: `store` is empty; leave it out instead");
        let error = parse("kernel = [\"deb:6.12\",\n \"6.1\"]\n").unwrap_err().to_string();
        assert!(error.starts_with("md-regress.toml:1: `kernel` makes no sense: `6.1`"), "{error}");
        let error = parse("jobs = 2\njobs = 3\n").unwrap_err().to_string();
        assert!(error.starts_with("md-regress.toml:2: "), "{error}");
        let error = parse("colour = true\n").unwrap_err().to_string();
        assert!(error.contains("there are mirror, store"), "{error}");
    }

    #[test]
    fn flags_beat_environment_beats_file() {
        let config = parse("kernel = [\"deb:6.1\"]\nout = \"runs\"\n").unwrap();
        let command = || {
            let argument = |id: &'static str| clap::Arg::new(id).long(id);
            Command::new("x").subcommand(
                Command::new("test")
                    .arg(argument("kernels").default_value("deb:6.12"))
                    .arg(argument("out").env("PATH")),
            )
        };
        let value = |line: &[&str], id: &str| {
            let matches = config.apply(command()).try_get_matches_from(line).unwrap();
            matches.subcommand().unwrap().1.get_one::<String>(id).unwrap().clone()
        };
        assert_eq!(value(&["x", "test"], "kernels"), "deb:6.1");
        assert_eq!(value(&["x", "test", "--kernels", "deb:7.3"], "kernels"), "deb:7.3");
        assert_eq!(
            value(&["x", "test"], "out"),
            std::env::var("PATH").unwrap(),
            "the environment beats the file"
        );
        assert_eq!(config.place_of("out").unwrap(), "md-regress.toml:2");
    }

    #[test]
    fn a_switch_of_the_file_is_a_flag() {
        use clap::{CommandFactory, FromArgMatches};
        for (text, expect) in
            [("trust-source = true\n", true), ("trust-source = false\n", false), ("", false)]
        {
            let command = parse(text).unwrap().apply(crate::cli::Cli::command());
            let matches = command.try_get_matches_from(["xtask", "tidy"]).unwrap();
            let cli = crate::cli::Cli::from_arg_matches(&matches).unwrap();
            assert_eq!(cli.global.trust_source, expect, "{text}");
        }
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = parse("out = \"runs\"\nqemu = \"private\"\nstore = \"/srv\"\n").unwrap();
        let value = |id| config.settings.iter().find(|setting| setting.id == id).unwrap().values[0].clone();
        assert_eq!(
            (value("out").as_str(), value("qemu").as_str(), value("store").as_str()),
            ("/home/me/md/runs", "private", "/srv")
        );
    }

    /// A key without a flag would be read and have no effect.
    #[test]
    fn every_key_is_a_flag_somewhere() {
        use clap::CommandFactory;
        let command = crate::cli::Cli::command();
        for key in KEYS {
            let is_flag = |command: &Command| {
                command
                    .get_arguments()
                    .any(|argument| argument.get_id() == key.id && argument.get_long() == Some(key.name))
            };
            assert!(is_flag(&command) || command.get_subcommands().any(is_flag), "{}", key.name);
        }
    }
}
