//! A trace as a story: who does what in which function, and at the end who waits for what.

use std::fmt::Write as _;

use crate::bits::{names, recovery, sb};
use crate::cpu::{self, Note};
use crate::era::Era;
use crate::explore::{Finding, Kind};
use crate::kernel::F;
use crate::scenario::{Level, Scenario};
use crate::state::{N_TASKS, Queue, Role, Set, State, role};

/// One step of a story.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Line {
    /// Who.
    pub task: String,
    /// The functions, innermost first.
    pub stack: Vec<String>,
    /// What it does.
    pub text: String,
    /// Flags of the raid_set that changed, before and after; empty if none did.
    pub flags: String,
}

/// Who cannot go on at the end, and why.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Waiting {
    /// Who.
    pub task: String,
    /// The functions, innermost first.
    pub stack: Vec<String>,
    /// For what.
    pub wait: String,
}

/// A finding's story.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Story {
    /// The scenario.
    pub scenario: String,
    /// What was found.
    pub finding: String,
    /// Every step.
    pub lines: Vec<Line>,
    /// How many of the last steps repeat.
    pub repeats: usize,
    /// Who cannot go on.
    pub waiting: Vec<Waiting>,
    /// `recovery` and `sb_flags` of each raid_set at the end.
    pub flags: Vec<String>,
}

/// A task's name.
pub fn task_name(task: usize, scenario: &Scenario) -> String {
    let both = scenario
        .users
        .iter()
        .any(|user| user.script.iter().any(|op| matches!(op, crate::scenario::Op::Ctr(1))));
    let of = |name: &str, set: usize| if both { format!("{name}/{set}") } else { name.to_owned() };
    match role(task) {
        Role::User(user) => scenario.users[user].name.to_owned(),
        Role::Daemon(set) => match scenario.level {
            Level::Raid5 => of("raid5d", set),
            Level::Raid10 => of("raid10d", set),
        },
        Role::Worker(set) => of("worker", set),
        Role::Sync(set) => of("sync", set),
    }
}

/// Tells a finding: runs its steps again, and writes down what each does.
pub fn tell(scenario: &Scenario, era: Era, finding: &Finding) -> Story {
    let mut state = scenario.initial();
    let mut lines = Vec::new();
    for &(task, choice) in &finding.trace {
        let before = state;
        let mut note = Note::default();
        let stepped = cpu::step(&mut state, era, scenario, task, choice, Some(&mut note));
        assert!(stepped.is_some(), "a trace's step can be taken");
        let set = before.tasks[task].on as usize;
        lines.push(Line {
            task: task_name(task, scenario),
            stack: stack(&note.stack),
            text: note.text,
            flags: changed(&before.sets[set], &state.sets[set]),
        });
    }
    let waiting = (0..N_TASKS).filter_map(|task| waits(&state, era, scenario, task)).collect();
    Story {
        scenario: format!("{}: {}", scenario.name, scenario.title),
        finding: describe(finding.kind),
        lines,
        repeats: finding.repeats,
        waiting,
        flags: state
            .sets
            .iter()
            .enumerate()
            .filter(|(_, set)| set.life == 1)
            .map(|(idx, set)| format!("raid_set {idx}: {}", flags(set)))
            .collect(),
    }
}

/// What a kind means, in a line.
pub fn describe(kind: Kind) -> String {
    match kind {
        Kind::Eio => "an IO fails with EIO".to_owned(),
        Kind::Churn => "the sync thread is registered and reaped again and again".to_owned(),
        Kind::Broken(invariant) => format!("invariant I{invariant}: {}", invariant_in_words(invariant)),
        Kind::Livelock => "livelock: what repeats leads nowhere".to_owned(),
        Kind::Deadlock => "deadlock".to_owned(),
        Kind::Corruption => "data corruption: a block does not say what was last written".to_owned(),
    }
}

/// An invariant of domain.md, section 4, in words.
pub fn invariant_in_words(invariant: u8) -> &'static str {
    match invariant {
        3 => "a sync thread is reaped once, under reconfig_mutex, and is the only one",
        4 => "at rest, RUNNING implies a queued work item or a live thread",
        5 => "no sync IO while dm has the device suspended",
        6 => "only one raid_set writes the members",
        8 => "a restart reads what was written after the reshape's end",
        10 => "nobody sleeps on a true condition",
        11 => "no unlock of a lock that is not held",
        12 => "FROZEN persists after message \"frozen\"",
        13 => "nothing freed is referenced",
        14 => "a work item that is about to return uses no freed raid_set",
        _ => "(see domain.md)",
    }
}

fn waits(state: &State, era: Era, scenario: &Scenario, task: usize) -> Option<Waiting> {
    if state.tasks[task].alive == 0 {
        return None;
    }
    let mut copy = *state;
    let runs =
        copy.tasks[task].sleep == Queue::None && cpu::step(&mut copy, era, scenario, task, 0, None).is_some();
    let idle = match role(task) {
        Role::User(_) => false,
        Role::Worker(_) => state.sets[state.tasks[task].on as usize].work != 2,
        Role::Daemon(_) | Role::Sync(_) => false,
    };
    if runs || idle {
        return None;
    }
    let note = cpu::waits_for(state, era, scenario, task);
    Some(Waiting { task: task_name(task, scenario), stack: stack(&note.stack), wait: note.text })
}

fn stack(functions: &[F]) -> Vec<String> {
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

fn changed(before: &Set, after: &Set) -> String {
    let (was, is) = (flags(before), flags(after));
    if was == is || before.life != after.life { String::new() } else { format!("{was} → {is}") }
}

impl Story {
    /// As text for a terminal.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n{}, after {} steps\n\n", self.scenario, self.finding, self.lines.len());
        let width = self.lines.iter().map(|line| line.task.len()).max().unwrap_or(0);
        let cycle = self.lines.len() - self.repeats;
        for (idx, line) in self.lines.iter().enumerate() {
            if self.repeats > 0 && idx == cycle {
                text.push_str("     -- from here on it repeats --\n");
            }
            let function = line.stack.first().map_or("", String::as_str);
            let _infallible =
                writeln!(text, "{:4} {:width$}  {:22} {}", idx + 1, line.task, function, line.text);
            if !line.flags.is_empty() {
                let _infallible = writeln!(text, "     {:width$}  {:22}   {}", "", "", line.flags);
            }
        }
        if !self.waiting.is_empty() {
            text.push_str("\nat the end\n");
        }
        for waiting in &self.waiting {
            let _infallible =
                writeln!(text, "  {} {}\n      {}", waiting.task, waiting.wait, waiting.stack.join(" ← "));
        }
        for flags in &self.flags {
            let _infallible = writeln!(text, "  {flags}");
        }
        text
    }

    /// As a Mermaid sequence diagram: a column per task; what a task does in one function is one note.
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
