//! The one command that tries an attempt again.

use crate::record::{Attempt, RunRecord};

/// `cargo xtask test …` for the same test on exactly the same kernel, built from the same checkouts as
/// they are by then; `None` if the kernel never became ready, because then there is no attempt to repeat.
pub fn command(record: &RunRecord, attempt: &Attempt) -> Option<String> {
    let kernel = record.kernels.get(&attempt.kernel_idx)?;
    let mut words = vec!["cargo", "xtask", "test", "--kernel", &kernel.exact_spec];
    if let Some(machine) = &record.machine {
        words.extend(["--accel", &machine.accel]);
    }
    // It is judged alike, too.
    for word in record.run.policy.words() {
        words.extend(["--fail-on", word]);
    }
    let checkouts = record.image.iter().flat_map(|image| &image.checkouts);
    let checkouts: Vec<_> = checkouts
        .map(|(name, checkout)| match &checkout.package {
            Some(version) => (format!("--{name}"), format!("deb:{version}")),
            None => (format!("--{name}-src"), checkout.dir.clone()),
        })
        .collect();
    for (option, value) in &checkouts {
        words.extend([option.as_str(), value]);
    }
    let test = attempt.test.to_string();
    if attempt.again.is_empty() {
        // The suite that is meant when none is named.
        if attempt.test.suite() != "lvm2" {
            words.extend(["--suite", attempt.test.suite()]);
        }
        words.push(&test);
    }
    words.extend(attempt.again.iter().map(String::as_str));
    Some(shell_line(&words))
}

/// Words as one line that a POSIX shell takes apart into the same words.
pub fn shell_line(words: &[impl AsRef<str>]) -> String {
    words.iter().map(|word| shell_word(word.as_ref())).collect::<Vec<_>>().join(" ")
}

/// Quotes what a POSIX shell would not take as one plain word.
fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=+,%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_command_names_the_exact_kernel_and_accelerator() {
        let record = RunRecord::from_events(testing::sample_events());
        assert_eq!(
            command(&record, record.attempt(2).unwrap()).unwrap(),
            "cargo xtask test --kernel deb:6.12.107+deb13-cloud-amd64 --accel tcg \
             lvm2:shell/lvconvert-raid-reshape.sh"
        );
    }

    #[test]
    fn what_a_name_alone_does_not_say_is_said() {
        let mut record = RunRecord::from_events(testing::sample_events());
        record.attempts[0].again = ["--script", "/my tests/x.sh"].map(str::to_owned).to_vec();
        assert_eq!(
            command(&record, &record.attempts[0]).unwrap(),
            "cargo xtask test --kernel deb:6.12.107+deb13-cloud-amd64 --accel tcg --script '/my tests/x.sh'"
        );
    }

    #[test]
    fn a_source_package_is_named_by_its_version() {
        let mut record = testing::sample_of_a_checkout();
        let checkouts = record.image.as_mut().unwrap().checkouts.values_mut();
        checkouts.for_each(|checkout| checkout.package = Some("4.6-2".to_owned()));
        let command = command(&record, record.attempt(2).unwrap()).unwrap();
        assert!(command.contains(" --mdadm deb:4.6-2 ") && !command.contains("-src"), "{command}");
    }

    #[test]
    fn the_command_names_the_checkouts() {
        let record = testing::sample_of_a_checkout();
        let command = command(&record, record.attempt(2).unwrap()).unwrap();
        assert!(command.contains(" --mdadm-src '/home/me/my mdadm' lvm2:"), "{command}");
    }

    #[test]
    fn the_command_judges_alike() {
        let mut record = RunRecord::from_events(testing::sample_events());
        record.run.policy = crate::Policy::of(&["storage-error".to_owned()], false).unwrap();
        let command = command(&record, record.attempt(2).unwrap()).unwrap();
        assert!(command.contains(" --fail-on storage-error lvm2:"), "{command}");
    }

    #[test]
    fn without_a_kernel_there_is_no_command() {
        let mut record = RunRecord::from_events(testing::sample_events());
        record.kernels.clear();
        assert_eq!(command(&record, &record.attempts[0]), None);
    }

    #[test]
    fn a_hostile_word_stays_one_word() {
        for (word, expect) in [
            ("deb:6.12", "deb:6.12"),
            ("", "''"),
            ("tree:/my trees/linux", "'tree:/my trees/linux'"),
            ("lvm2:$(reboot);`x`", "'lvm2:$(reboot);`x`'"),
            ("a'b", r"'a'\''b'"),
        ] {
            assert_eq!(shell_word(word), expect);
        }
    }
}
