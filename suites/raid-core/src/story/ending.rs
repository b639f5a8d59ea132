//! Why a story ends where it ends: who waits on what, and why nobody ends the wait.
//!
//! There is no list of explanations; they are tried on the state at the end: what would a sleeping thread do
//! if it were woken once more, and which single flag or wake, if it were otherwise, would let all users go
//! on?

use crate::cpu::{Look, Needs, Note};
use crate::era::Era;
use crate::explore::finding::{Invariant, Kind};
use crate::explore::trial::{TRIAL_STEPS, Trial};
use crate::kernel::step::{can_step, step, waits_for};
use crate::machine::bits::{names, recovery};
use crate::machine::state::{N_TASKS, N_USERS, Queue, Role, State, role};
use crate::scenario::Scenario;
use crate::story::{Waiting, stack};

/// How a story ends.
pub(crate) struct Ending {
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) remedies: Vec<String>,
}

/// Looks at the state at the end of a trace.
pub(crate) fn of(state: &State, era: Era, scenario: &Scenario, kind: Kind) -> Ending {
    let trial = Trial { state, era, scenario };
    let is_over = matches!(kind, Kind::Deadlock | Kind::Broken(Invariant::I16));
    let waiting = (0..N_TASKS).filter_map(|task| trial.waits(task, is_over)).collect();
    Ending { waiting, remedies: if is_over { trial.remedies() } else { Vec::new() } }
}

impl Trial<'_> {
    fn waits(&self, task: usize, is_over: bool) -> Option<Waiting> {
        let me = &self.state.tasks[task];
        if me.alive == 0 || can_step(self.state, self.era, self.scenario, task) {
            return None;
        }
        // A worker without work is nobody's concern.
        if matches!(role(task), Role::Worker(set) if self.state.sets[set].work != 2) {
            return None;
        }
        let note = waits_for(self.state, self.era, self.scenario, task);
        let why = if is_over { self.why(task, note.needs) } else { String::new() };
        Some(Waiting { task: self.name(task), stack: stack(&note.stack), wait: note.text, why })
    }

    fn why(&self, task: usize, needs: Option<Needs>) -> String {
        match needs {
            Some(Needs::Lock(holder) | Needs::Task(holder)) if holder == task => {
                "that is itself: nobody else can do it".to_owned()
            }
            Some(Needs::Lock(holder) | Needs::Task(holder)) => {
                format!("{} {}", self.name(holder), self.is_at(holder))
            }
            Some(Needs::Wakeup) => self.woken_once_more(task),
            Some(Needs::Condition) | None => "nobody who could make it so can go on".to_owned(),
        }
    }

    /// Where another task stands that somebody waits for.
    fn is_at(&self, task: usize) -> String {
        let note = waits_for(self.state, self.era, self.scenario, task);
        let stack = stack(&note.stack);
        match (self.state.tasks[task].alive, stack.first()) {
            (0, _) => "is gone".to_owned(),
            (_, None) => note.text,
            (_, Some(function)) => format!("{} in {function}", note.text),
        }
    }

    /// Where a thread without work would turn back if it were woken: the looks that would have ended the
    /// users' waits, had they seen the opposite; if there are none, the last look.
    fn woken_once_more(&self, task: usize) -> String {
        let mut state = *self.state;
        wake(&mut state, task);
        let mut looks = Vec::new();
        for _ in 0..TRIAL_STEPS {
            let before = state;
            let mut note = Note::default();
            let stepped = step(&mut state, self.era, self.scenario, task, 0, Some(&mut note));
            if stepped.is_none() || state.tasks[task].sleep != Queue::None {
                break;
            }
            if let (Some(look), Some(function)) = (note.looked, stack(&note.stack).first()) {
                looks.push((before, look, format!("{function}: {}", note.text)));
            }
        }
        if (0..N_TASKS).any(|other| other != task && can_step(&state, self.era, self.scenario, other)) {
            return "a wake is missing: if it came, others could go on".to_owned();
        }
        let decides = |(before, look, _): &&(State, Look, String)| {
            let mut otherwise = *before;
            look.turn_round(&mut otherwise.sets[before.tasks[task].on as usize])
                && self.ends(&otherwise, N_TASKS)
        };
        let mut reasons: Vec<&str> =
            looks.iter().filter(decides).map(|(_, _, words)| words.as_str()).collect();
        reasons.dedup();
        if reasons.is_empty() {
            reasons.extend(looks.last().map(|(_, _, words)| words.as_str()));
        }
        match reasons.is_empty() {
            true => "woken once more, it would find nothing to do".to_owned(),
            false => format!("woken once more, it would turn back ({})", reasons.join("; ")),
        }
    }

    /// Single flags and wakes that, if they were otherwise, would end the wait of each user when everybody
    /// looks again. The conditions that the users themselves wait for are not among them.
    fn remedies(&self) -> Vec<String> {
        let mut remedies = Vec::new();
        let several = self.state.sets.iter().filter(|set| set.life == 1).count() > 1;
        let of = |text: &str, set: usize| {
            if several { format!("{text} of raid_set {set}") } else { text.to_owned() }
        };
        let mut wakes = *self.state;
        for task in 0..N_TASKS {
            let mut woken = *self.state;
            wake(&mut woken, task);
            wake(&mut wakes, task);
            if self.ends(&woken, N_TASKS) {
                remedies.push(format!("it would end if {} were woken", self.name(task)));
            }
        }
        if self.ends(&wakes, N_TASKS) {
            return remedies;
        }
        for set in (0..2).filter(|set| self.state.sets[*set].life == 1) {
            for bit in 0..recovery::NAMES.len() {
                let mut other = wakes;
                other.sets[set].recovery ^= 1 << bit;
                if self.ends(&other, N_TASKS) && !self.ends(&other, N_USERS) {
                    let is_set = other.sets[set].recovery & (1 << bit) != 0;
                    let name = names(1 << bit, &recovery::NAMES);
                    let verb = if is_set { "set" } else { "clear" };
                    remedies.push(format!("it would end if {} were {verb}", of(&name, set)));
                }
            }
            let mut other = wakes;
            other.sets[set].suspended = 0;
            if self.state.sets[set].suspended != 0 && self.ends(&other, N_TASKS) {
                remedies.push(format!("it would end if {} were not suspended", of("the array", set)));
            }
        }
        if remedies.is_empty() {
            remedies.push("no single flag or wake would end it".to_owned());
        }
        remedies
    }

    fn name(&self, task: usize) -> String {
        self.scenario.task_name(task)
    }
}

/// Wakes a task, an md thread with THREAD_WAKEUP.
fn wake(state: &mut State, task: usize) {
    let task = &mut state.tasks[task];
    task.sleep = Queue::None;
    task.woken = u8::from(task.listens != Queue::None);
    if task.alive != 0 {
        task.wakeup = 1;
    }
}
