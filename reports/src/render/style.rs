//! How the text for a terminal is to look: colours, width, and how paths are named.
//!
//! Whether there are colours (`NO_COLOR`, a pipe) and how wide the terminal is, the caller knows.

use crate::judge::verdict::Verdict;

/// How the text is to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerminalStyle {
    /// True for ANSI colours.
    pub color: bool,
    /// Columns of the terminal. Commands to copy and paths are never cut.
    pub width: usize,
    /// The run's folder, as the user would name it, `reports/out/NAME`.
    pub run_dir: String,
    /// The folder of the reports, which is the run's unless they were asked for elsewhere.
    pub reports_dir: String,
}

impl TerminalStyle {
    /// 100 columns without colours.
    pub fn plain(run_dir: &str) -> TerminalStyle {
        let run_dir = run_dir.to_owned();
        TerminalStyle { color: false, width: 100, reports_dir: run_dir.clone(), run_dir }
    }
}

/// A colour that a verdict or a result is shown in.
#[derive(Clone, Copy)]
pub(crate) enum Color {
    Green,
    Red,
    Yellow,
    Plain,
}

/// The colour of a verdict: red for what somebody must look at.
pub(crate) fn color(verdict: Verdict) -> Color {
    match verdict {
        Verdict::Passed => Color::Green,
        Verdict::Failed
        | Verdict::Hung
        | Verdict::Crashed
        | Verdict::Corrupted
        | Verdict::UnexpectedSkip
        | Verdict::Infra => Color::Red,
        Verdict::PassedWithComplaints | Verdict::UnexpectedPass | Verdict::Flaky | Verdict::Interrupted => {
            Color::Yellow
        }
        Verdict::KnownFailure | Verdict::Skipped | Verdict::NotRun => Color::Plain,
    }
}

/// `text` in that colour, if the terminal is to have any.
pub(crate) fn painted(text: &str, color: Color, style: &TerminalStyle) -> String {
    let code = match color {
        Color::Green => 32,
        Color::Red => 31,
        Color::Yellow => 33,
        Color::Plain => return text.to_owned(),
    };
    if style.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
