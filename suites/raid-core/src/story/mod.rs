//! A trace as a story: which task does what in which function, and who waits for what at the end.
//!
//! `text.rs` and `html.rs` write it down, `ending.rs` finds out why nobody ends a wait.

mod ending;
mod html;
mod text;

use std::fmt::{self, Write as _};

use crate::cpu::Note;
use crate::era::Era;
use crate::explore::finding::{Finding, Kind};
use crate::kernel::step::step;
use crate::machine::bits::{names, recovery, sb};
use crate::machine::names::F;
use crate::machine::state::{Set, State, Task};
use crate::scenario::Scenario;

pub use text::Page;

/// One step of a story.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Line {
    /// The task's name.
    pub task: String,
    /// The functions, innermost first.
    pub stack: Vec<String>,
    /// The step in words.
    pub text: String,
    /// The flag words of the raid_set that changed.
    pub flags: Vec<Change>,
    /// True if a change of the step is left when the next task takes over, or it looked at a flag, or it
    /// changed a flag that holds the sync thread back (FROZEN, WAIT), or it waits.
    pub matters: bool,
}

/// A flag word that changed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// Number of the raid_set.
    pub raid_set: usize,
    /// `recovery` or `sb_flags`.
    pub word: &'static str,
    /// The flags before.
    pub before: String,
    /// The flags after.
    pub after: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} → {}", self.word, self.before, self.after)
    }
}

/// A task that cannot go on at the end, and why.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Waiting {
    /// The task's name.
    pub task: String,
    /// The functions, innermost first.
    pub stack: Vec<String>,
    /// The wait in words.
    pub wait: String,
    /// Why nobody ends the wait; empty if the story goes on.
    pub why: String,
}

/// A finding's story.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Story {
    /// The scenario.
    pub scenario: String,
    /// The finding in words.
    pub finding: String,
    /// All steps.
    pub lines: Vec<Line>,
    /// How many of the last steps repeat.
    pub repeats: usize,
    /// The tasks that cannot go on.
    pub waiting: Vec<Waiting>,
    /// Single flags and wakes that would let all users go on, if they were otherwise at the end.
    pub remedies: Vec<String>,
    /// `recovery` and `sb_flags` of each raid_set at the end.
    pub flags: Vec<String>,
}

/// Tells a finding: runs its steps again, and writes down what each does.
pub fn tell(scenario: &Scenario, era: Era, finding: &Finding) -> Story {
    let mut state = scenario.initial();
    let (mut lines, mut states) = (Vec::new(), vec![state]);
    for &(task, choice) in &finding.trace {
        let before = state;
        let mut note = Note::default();
        let stepped = step(&mut state, era, scenario, task, choice, Some(&mut note));
        assert!(stepped.is_some(), "a trace's step can be taken");
        let set = before.tasks[task].on as usize;
        let asked =
            (before.sets[set].recovery ^ state.sets[set].recovery) & (recovery::FROZEN | recovery::WAIT) != 0;
        lines.push(Line {
            task: scenario.task_name(task),
            stack: stack(&note.stack),
            text: note.text,
            flags: changed(set, &before.sets[set], &state.sets[set]),
            matters: note.looked.is_some() || note.needs.is_some() || asked,
        });
        states.push(state);
    }
    mark_lasting(&mut lines, finding, &states);
    let ending = ending::of(&state, era, scenario, finding.kind);
    Story {
        scenario: format!("{}: {}", scenario.name, scenario.title),
        finding: describe(finding.kind),
        lines,
        repeats: finding.repeats,
        waiting: ending.waiting,
        remedies: ending.remedies,
        flags: state
            .sets
            .iter()
            .enumerate()
            .filter(|(_, set)| set.life == 1)
            .map(|(idx, set)| format!("raid_set {idx}: {}", flags(set)))
            .collect(),
    }
}

/// Marks, in each run of steps of one task, the steps of which a change is left at the run's end: for each
/// bit of the state that differs then, the last step that changed it. The task's own place in its functions
/// does not count.
fn mark_lasting(lines: &mut [Line], finding: &Finding, states: &[State]) {
    let mut begin = 0;
    while begin < lines.len() {
        let task = finding.trace[begin].0;
        let end = begin + finding.trace[begin..].iter().take_while(|step| step.0 == task).count();
        let bits = |at: usize| bytemuck::bytes_of(&others(&states[at], task)).to_vec();
        let (first, last) = (bits(begin), bits(end));
        let mut left: Vec<u8> = first.iter().zip(&last).map(|(was, is)| was ^ is).collect();
        let mut after = last;
        for at in (begin..end).rev() {
            let before = bits(at);
            for (left, (was, is)) in left.iter_mut().zip(before.iter().zip(&after)) {
                lines[at].matters |= *left & (was ^ is) != 0;
                *left &= !(was ^ is);
            }
            after = before;
        }
        if let Some(last) = lines[..end].last_mut() {
            // What breaks an invariant or ends the story may leave nothing behind.
            last.matters |= end == states.len() - 1;
        }
        begin = end;
    }
}

/// The state without a task's place in its functions.
fn others(state: &State, task: usize) -> State {
    let mut others = *state;
    let mine = &mut others.tasks[task];
    *mine = Task { alive: mine.alive, sleep: mine.sleep, ..Task::NONE };
    others
}

/// A kind of finding, in a line of words.
pub fn describe(kind: Kind) -> String {
    match kind {
        Kind::Eio => "an IO fails with EIO".to_owned(),
        Kind::Churn => "the sync thread is registered and reaped again and again".to_owned(),
        Kind::Broken(invariant) => format!("invariant {invariant}: {}", invariant.in_words()),
        Kind::Livelock => "livelock: what repeats leads nowhere".to_owned(),
        Kind::Deadlock => "deadlock".to_owned(),
        Kind::Restart => {
            "data corruption after a restart: a block would not say what was last written".to_owned()
        }
        Kind::Corruption => "data corruption: a block does not say what was last written".to_owned(),
    }
}

pub(crate) fn stack(functions: &[F]) -> Vec<String> {
    functions
        .iter()
        .rev()
        .filter(|f| !matches!(f, F::None | F::Script | F::WorkerThread))
        .map(|f| f.name().to_owned())
        .collect()
}

fn flags(set: &Set) -> String {
    let mut text = names(set.recovery, &recovery::NAMES);
    if set.sb_flags != 0 {
        let _infallible = write!(text, " sb:{}", names(set.sb_flags.into(), &sb::NAMES));
    }
    text
}

fn changed(raid_set: usize, before: &Set, after: &Set) -> Vec<Change> {
    let recovery = |set: &Set| names(set.recovery, &recovery::NAMES);
    let sb_flags = |set: &Set| names(set.sb_flags.into(), &sb::NAMES);
    [("recovery", recovery(before), recovery(after)), ("sb_flags", sb_flags(before), sb_flags(after))]
        .into_iter()
        .filter(|(_, was, is)| was != is && before.life == after.life)
        .map(|(word, before, after)| Change { raid_set, word, before, after })
        .collect()
}

impl Story {
    /// Its tasks, in the order in which they first do something.
    pub fn tasks(&self) -> Vec<&str> {
        let mut tasks: Vec<&str> = Vec::new();
        for line in &self.lines {
            if !tasks.contains(&line.task.as_str()) {
                tasks.push(&line.task);
            }
        }
        tasks
    }

    /// The story as a Mermaid sequence diagram: a column per task, a note for a task's steps in one function.
    pub fn to_mermaid(&self) -> String {
        let tasks = self.tasks();
        let id = |task: &str| task.replace('/', "_");
        let plain = |text: &str| text.replace([';', '#'], ",").replace(':', " -");
        let mut text = String::from("sequenceDiagram\n");
        for task in &tasks {
            let _infallible = writeln!(text, "  participant {} as {task}", id(task));
        }
        let mut at = 0;
        while at < self.lines.len() {
            let line = &self.lines[at];
            let same = self.lines[at..]
                .iter()
                .take_while(|next| next.task == line.task && next.stack.first() == line.stack.first())
                .count();
            let function = line.stack.first().map_or("", String::as_str);
            let done: Vec<String> = self.lines[at..at + same].iter().map(|line| plain(&line.text)).collect();
            let _infallible =
                writeln!(text, "  Note over {}: {function}<br/>{}", id(&line.task), done.join("<br/>"));
            at += same;
        }
        for waiting in &self.waiting {
            let _infallible = writeln!(
                text,
                "  Note over {}: at the end {}<br/>{}",
                id(&waiting.task),
                plain(&waiting.wait),
                waiting.stack.join(" ← ")
            );
        }
        text
    }
}
