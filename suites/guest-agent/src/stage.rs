//! The second stages of the agent: what its binary does when the agent runs it again, and by which words.
//!
//! Deliberately not here: the stages' arguments, which each stage reads itself.

/// A job that the agent's binary does in a process of its own, because it may never end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Prepares a test or a shell, and becomes it.
    Launch,
    /// Sends files to the host.
    Collect,
    /// Looks once a second at who moves.
    Sample,
    /// Writes down how the guest hangs.
    Diagnose,
    /// Asks one of the questions of a diagnosis.
    Ask,
}

impl Stage {
    const ALL: [Stage; 5] = [Stage::Launch, Stage::Collect, Stage::Sample, Stage::Diagnose, Stage::Ask];

    /// First argument of the process.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Stage::Launch => "launch",
            Stage::Collect => "collect",
            Stage::Sample => "sample",
            Stage::Diagnose => "diagnose",
            Stage::Ask => "ask",
        }
    }

    /// Name of the process in `/proc/PID/cmdline`.
    pub(crate) fn process_name(self) -> String {
        format!("md-regress-{}", self.word())
    }

    /// The stage that this first argument asks for.
    pub(crate) fn named(word: &str) -> Option<Stage> {
        Stage::ALL.into_iter().find(|stage| stage.word() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_a_word_of_its_own() {
        for stage in Stage::ALL {
            assert_eq!(Stage::named(stage.word()), Some(stage));
        }
        assert_eq!(Stage::named("serve"), None);
    }
}
