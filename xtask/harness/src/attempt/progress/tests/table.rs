//! The table of rules in docs/how/hang-detection.md, which is made from that in `rules.rs`.

use crate::attempt::progress::rules::{
    Beside, Excuse, LONG_SLEEP, Longer, NEVER, RULES, Rule, STOOD_AT_LIMIT, STOOD_FOR_EVER, STOOD_SUSPENDED,
    WAITS, What, Where,
};
use crate::workspace::workspace;
use protocol::HangKind;

const PAGE: &str = "docs/how/hang-detection.md";
const BEGIN: &str = "<!-- hang rules -->\n";
const END: &str = "<!-- /hang rules -->";

fn kind(kind: HangKind) -> &'static str {
    match kind {
        HangKind::NoOutput => "no output",
        HangKind::NoProgress => "no progress",
        HangKind::HeartbeatLost => "heartbeat lost",
        HangKind::HungTask => "hung task",
        HangKind::SyncStalled => "sync stalled",
        HangKind::Livelock => "livelock",
    }
}

fn what(what: What) -> &'static str {
    match what {
        What::Task(Where::AtKnownDevice) => "a task of the test stands at a device that is known",
        What::Task(Where::Inside) => "a task of the test stands in md or dm",
        What::Task(Where::InsideKnown) => "a task of the test stands in md or dm, its device is known",
        What::Task(Where::Outside) => "a task of the test stands elsewhere",
        What::Task(Where::OutsideKnown) => "a task of the test stands elsewhere, its device is known",
        What::Spin => "a task, or a thread of an array's, spins in md or dm",
        What::SpinTogether => "several of these spin, each waiting for the other now and then",
        What::Reported => {
            "a task stands that the kernel reported as hung, nothing is done on any device, and the test prints nothing"
        }
        What::SyncThread => "a sync thread that should move stands in D state",
        What::SyncThreadAsleep => "a sync thread that should move sleeps: nobody woke it",
    }
}

fn beside(beside: Beside) -> &'static str {
    match beside {
        Beside::NobodyMoves => "does not move",
        Beside::Polls => "polls",
        Beside::PollsSilently => "polls, and prints nothing",
        Beside::SamePrograms => "starts no new program",
        Beside::Anything => "does anything",
    }
}

fn samples(n: u32) -> String {
    if n == NEVER { "never".to_owned() } else { format!("{n} samples at least") }
}

fn longer(longer: Longer) -> String {
    match longer {
        Longer::Host(n) => format!("a request that the host's disk has not answered: {n} times as long"),
        Longer::Helper(n) => {
            format!("a program that the kernel runs for a task, such as modprobe: {n} times as long")
        }
        Longer::Delay(n) => format!("dm-delay at work, with no word for how long: {n} times as long"),
        Longer::Kernel => {
            "a wait that the kernel ends by itself (a disk's timeout, dm-delay, a thin pool without \
                           space): by as much as that takes"
                .to_owned()
        }
        Longer::Memory(n) => format!("memory is short, and the task waits for some: {}", samples(n)),
        Longer::Suspended(n) => format!("suspended: {}", samples(n)),
        Longer::Steps(n) => format!("the test sleeps from time to time: {}", samples(n)),
    }
}

fn excuse(excuse: Excuse) -> &'static str {
    match excuse {
        Excuse::Never => "",
        Excuse::Sleep => "a task of the test sleeps",
        Excuse::LongSleep => "a task of the test sleeps for long",
    }
}

fn row(number: usize, rule: &Rule) -> String {
    let is_wait = rule.longer.starts_with(WAITS);
    let others = if is_wait { &rule.longer[WAITS.len()..] } else { rule.longer };
    let lengthened: Vec<_> =
        is_wait.then(|| "(a)".to_owned()).into_iter().chain(others.iter().copied().map(longer)).collect();
    format!(
        "| {number} | {} | {} | {} | {} | {} | {} |\n",
        kind(rule.kind),
        what(rule.what),
        beside(rule.beside),
        rule.samples,
        lengthened.join("; "),
        excuse(rule.excuse)
    )
}

fn rendered() -> String {
    let mut text = "| | kind | what | while the rest of the test | samples | longer if | not if |\n\
                    |--:|---|---|---|--:|---|---|\n"
        .to_owned();
    RULES.iter().enumerate().for_each(|(idx, rule)| text += &row(idx + 1, rule));
    text += "\n(a) is any of:\n\n";
    WAITS.iter().for_each(|circumstance| text += &format!("- {}\n", longer(*circumstance)));
    text += &format!(
        "\n\"Suspended\": a device that the task waits for, or one below it, is suspended, and somebody may be about to\n\
         resume it. A task \"sleeps\" if it named the end of its sleep, and that is nearer than the silence timeout; \"for\n\
         long\" after {LONG_SLEEP} samples.\n\n\
         When a test reaches its limit of time, a task that stands hung it, and it is no timeout: after {STOOD_AT_LIMIT} \
         samples in\nmd or dm, {STOOD_SUSPENDED} if a device is suspended, {STOOD_FOR_EVER} in md or dm whatever is done on \
         its device, and {STOOD_FOR_EVER} of a task of\nthe test elsewhere at a device that is known; each longer by (a).\n"
    );
    text
}

#[test]
fn hang_rules_are_documented_as_they_are() {
    let path = workspace().join(PAGE);
    let page =
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("failed to read `{PAGE}`: {error}"));
    let (before, rest) = page.split_once(BEGIN).unwrap_or_else(|| panic!("`{PAGE}` has no line {BEGIN}"));
    let (table, after) = rest.split_once(END).unwrap_or_else(|| panic!("`{PAGE}` has no line {END}"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", rendered())).unwrap();
        return;
    }
    assert_eq!(
        table,
        rendered(),
        "`UPDATE=1 cargo test -p harness hang_rules` makes the table of `{PAGE}` anew"
    );
}
