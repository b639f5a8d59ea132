//! Writes a run's options as arguments of `cargo xtask test` that mean the same whatever environment and
//! configuration there are when they are parsed again. A resumed run uses them.
//!
//! Deliberately not here: parsing them, which is the command line's.

use std::path::Path;

use clap::ValueEnum;

use crate::machine::Accel;
use crate::run::options::Options;
use crate::workspace::absolute;

/// The arguments, without `cargo xtask test`; `accel` is the accelerator that was chosen.
pub fn words(options: &Options, accel: Accel) -> Vec<String> {
    words_with(options, &accel.to_string())
}

/// The arguments with the accelerator as the user gave it: `auto` stays `auto`.
pub fn words_as_asked(options: &Options) -> Vec<String> {
    let asked = options.accel.to_possible_value();
    words_with(options, asked.as_ref().map_or("auto", clap::builder::PossibleValue::get_name))
}

fn words_with(options: &Options, accel: &str) -> Vec<String> {
    // Every field is named, so that a new one cannot be forgotten.
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
        dump,
        snapshots,
        tuning: _,
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
    if let Some(version) = &sources.mdadm_version {
        add("mdadm", format!("deb:{version}"));
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
