//! Shows progress on standard error: live lines on a terminal, plain lines elsewhere. Data for standard
//! output go only through [`out`] and [`outln`].

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use vm_images::host::progress::Progress;

/// Where and how progress is shown.
#[derive(Debug)]
pub struct Terminal {
    started: Instant,
    bars: Option<MultiProgress>,
    step: Mutex<Option<ProgressBar>>,
    colour: bool,
    silent: bool,
}

/// One live line: a VM, or a step of preparation.
#[derive(Debug)]
pub(crate) struct Line(Option<ProgressBar>);

impl Terminal {
    /// Decides by standard error and `NO_COLOR` (no-color.org).
    pub fn detect() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let colour = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Terminal {
            started: Instant::now(),
            bars: is_terminal.then(MultiProgress::new),
            step: Mutex::new(None),
            colour,
            silent: false,
        }
    }

    /// A terminal that shows nothing.
    #[cfg(test)]
    pub(crate) fn silent() -> Self {
        Terminal { started: Instant::now(), bars: None, step: Mutex::new(None), colour: false, silent: true }
    }

    /// True if colours are wanted.
    pub(crate) fn colour(&self) -> bool {
        self.colour
    }

    /// True if live lines are shown, so that events need not be printed one by one.
    pub(crate) fn is_live(&self) -> bool {
        self.bars.is_some()
    }

    /// Prints a text that stays.
    pub fn say(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| print(text)),
            None if self.silent => {}
            None => print(text),
        }
    }

    /// Prints a text that stays, with the time since the start.
    pub fn timed(&self, text: &str) {
        self.say(&format!("[{:6.1} s] {text}", self.seconds()));
    }

    /// Shows a live line until it is dropped; without effect where there are none.
    pub(crate) fn line(&self, name: &str) -> Line {
        Line(self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            let style = ProgressStyle::with_template("{spinner} {prefix}  {elapsed:>5}  {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        }))
    }

    /// Width of the terminal, columns; 100 if there is none.
    pub(crate) fn width(&self) -> usize {
        let columns = rustix::termios::tcgetwinsize(std::io::stderr()).map(|size| usize::from(size.ws_col));
        columns.ok().filter(|&columns| columns >= 40).unwrap_or(100)
    }

    fn seconds(&self) -> f32 {
        self.started.elapsed().as_secs_f32()
    }
}

impl Line {
    /// Replaces the text of a live line.
    pub(crate) fn set(&self, text: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(text.to_owned());
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Terminal {
    fn step(&self, what: &str) {
        let Some(bars) = &self.bars else {
            return print(&format!("[{:6.1} s] {what}", self.seconds()));
        };
        let mut step = self.step.lock().expect("no panic with the lock");
        let bar = step.get_or_insert_with(|| {
            let bar = bars.add(ProgressBar::new_spinner());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        bar.set_message(format!("{what} ({:.0} s)", self.seconds()));
    }

    fn end_step(&self) {
        if let Some(bar) = self.step.lock().expect("no panic with the lock").take() {
            bar.finish_and_clear();
        }
    }

    fn note(&self, text: &str) {
        self.say(&format!("note: {text}"));
    }
}

/// Width for texts on standard output, columns: the terminal's, up to a readable maximum; 100 if there is
/// none.
pub fn width_of_output() -> usize {
    let columns = rustix::termios::tcgetwinsize(std::io::stdout()).map(|size| usize::from(size.ws_col));
    columns.ok().filter(|&columns| columns >= 40).unwrap_or(100).min(160)
}

/// Prints data on standard output. A closed reader (`| head`) is no error.
pub fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Prints a line on standard output.
#[macro_export]
macro_rules! outln {
    ($($arg:tt)*) => { $crate::terminal::out(&format!("{}\n", format_args!($($arg)*))) };
}
pub use outln;

fn print(text: &str) {
    // If standard error is closed, nobody can be told.
    let _ = writeln!(std::io::stderr(), "{text}");
}
