//! A VM that does not take a request: what is still carried out.

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Do {
    Ask(u32),
    Record(u32),
    Kill,
}

impl Effect for Do {
    fn asks_the_vm(&self) -> bool {
        matches!(self, Do::Ask(_))
    }
}

#[derive(Default)]
struct State {
    failures: Vec<String>,
    killed: bool,
}

impl Decide for State {
    type Event = Input;
    type Effect = Do;

    fn apply(&mut self, _: Duration, _: Input) -> Vec<Do> {
        vec![Do::Record(100)]
    }
    fn tick(&mut self, _: Duration) -> Vec<Do> {
        vec![]
    }
    fn interrupt(&mut self) -> Vec<Do> {
        vec![]
    }
    /// Like those of a test and of a shell: kills once.
    fn fail(&mut self, error: String) -> Vec<Do> {
        self.failures.push(error);
        if std::mem::replace(&mut self.killed, true) { vec![] } else { vec![Do::Kill] }
    }
    fn is_over(&self) -> bool {
        false
    }
}

/// Does everything but the request of this number.
struct Fake {
    refuses: u32,
    done: Vec<Do>,
}

impl Hands<State> for Fake {
    fn see(&mut self, _: &Input) -> Result<()> {
        Ok(())
    }
    fn carry_out(&mut self, effect: Do) -> Result<CarriedOut<Input>> {
        if effect == Do::Ask(self.refuses) {
            return Ok(CarriedOut::Failed("it does not read".to_owned()));
        }
        self.done.push(effect);
        Ok(match effect {
            Do::Ask(7) => CarriedOut::Happened(Input::Console(vec![])),
            Do::Ask(_) | Do::Record(_) | Do::Kill => CarriedOut::Done,
        })
    }
}

fn check(state: &mut State, effects: &[Do], expect: &[Do]) {
    let mut hands = Fake { refuses: 1, done: vec![] };
    carry_out(Duration::ZERO, effects.to_vec(), state, &mut hands).unwrap();
    assert_eq!(hands.done, expect);
}

#[test]
fn a_vm_that_takes_nothing_is_ended_at_once_and_the_record_is_kept() {
    let mut state = State::default();
    let effects = [Do::Record(1), Do::Ask(1), Do::Ask(2), Do::Record(2), Do::Ask(1), Do::Record(3)];
    check(&mut state, &effects, &[Do::Record(1), Do::Kill, Do::Record(2), Do::Record(3)]);
    assert_eq!(state.failures, ["it does not read"]);
}

/// It was decided on together with the request that fails: nobody decides on it again.
#[test]
fn a_vm_that_is_to_be_ended_anyway_is() {
    let mut state = State { killed: true, ..State::default() };
    check(&mut state, &[Do::Ask(1), Do::Ask(2), Do::Kill], &[Do::Kill]);
}

#[test]
fn what_happens_on_the_way_is_decided_on() {
    let mut state = State::default();
    check(&mut state, &[Do::Ask(7), Do::Record(1)], &[Do::Ask(7), Do::Record(1), Do::Record(100)]);
}
