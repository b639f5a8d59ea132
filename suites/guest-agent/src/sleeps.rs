//! For how long a task sleeps, by its own word: the time that it gave the system call in which it waits.
//!
//! Deliberately not here: what a sleep means for a verdict, which is the harness's business.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// How a task that sleeps says when it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    /// In so many milliseconds, counted from its call.
    Ms(u64),
    /// In its memory there, as seconds and parts of one, of which a second has so many.
    At(u64, Parts),
    /// At some time.
    Sometime,
}

/// Parts of a second, for one millisecond.
type Parts = u64;
const NANO: Parts = 1_000_000;
const MICRO: Parts = 1_000;

/// A system call in which a task sleeps (`/proc/PID/syscall`, proc(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Call {
    number: Option<u32>,
    args: [u64; 6],
}

impl Call {
    /// Reads `/proc/PID/syscall`.
    pub(crate) fn parse(text: &str) -> Self {
        let mut words = text.split_whitespace();
        let number = words.next().and_then(|word| word.parse().ok());
        let mut args = [0; 6];
        for (arg, word) in args.iter_mut().zip(words) {
            *arg = u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap_or(0);
        }
        Call { number, args }
    }

    /// True if it may wait for storage: it is none in which a task waits for others of its kind.
    pub(crate) fn may_wait_for_storage(&self) -> bool {
        // wait4, waitid, rt_sigsuspend, pause
        self.number.is_some_and(|number| ![61, 247, 130, 34].contains(&number))
    }

    /// Numbers and arguments are those of x86-64 (arch/x86/entry/syscalls/syscall_64.tbl).
    fn timer(&self) -> Option<Timer> {
        const TIMER_ABSTIME: u64 = 1;
        const FUTEX_COMMAND: u64 = 0x7f;
        let Call { number, args } = *self;
        let at = |idx: usize, parts| (args[idx] != 0).then_some(Timer::At(args[idx], parts));
        let ms = |idx: usize| u64::try_from(args[idx] as u32 as i32).ok().map(Timer::Ms);
        match number? {
            // nanosleep
            35 => at(0, NANO),
            // clock_nanosleep
            230 if args[1] & TIMER_ABSTIME != 0 => Some(Timer::Sometime),
            230 => at(2, NANO),
            // poll; epoll_wait, epoll_pwait: a negative time is for ever
            7 => ms(2),
            232 | 281 => ms(3),
            // ppoll, rt_sigtimedwait
            271 | 128 => at(2, NANO),
            // epoll_pwait2, semtimedop
            441 | 220 => at(3, NANO),
            // select; pselect6, io_getevents, io_pgetevents
            23 => at(4, MICRO),
            270 | 208 | 333 => at(4, NANO),
            // futex: FUTEX_WAIT counts from now, the others name a time of day
            202 if args[1] & FUTEX_COMMAND == 0 => at(3, NANO),
            202 => (args[3] != 0).then_some(Timer::Sometime),
            // restart_syscall: one of these, after a signal
            219 => Some(Timer::Sometime),
            _ => None,
        }
    }

    /// For how long task `pid` sleeps in it, milliseconds: 0 if it named an end and nobody knows how far it is;
    /// nothing if it named none.
    pub(crate) fn sleeps_ms(&self, pid: u32) -> Option<u64> {
        match self.timer() {
            Some(Timer::Ms(ms)) => Some(ms.max(1)),
            Some(Timer::At(at, parts)) => Some(read(pid, at, parts).unwrap_or(0)),
            Some(Timer::Sometime) => Some(0),
            None => has_timers(pid).then_some(0),
        }
    }
}

/// The time at an address of a task's, milliseconds.
fn read(pid: u32, at: u64, parts: Parts) -> Option<u64> {
    let mut bytes = [0; 16];
    File::open(format!("/proc/{pid}/mem")).ok()?.read_exact_at(&mut bytes, at).ok()?;
    let (seconds, rest) = bytes.split_at(8);
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).ok();
    Some((number(seconds)?.saturating_mul(1000)).saturating_add(number(rest)? / parts).max(1))
}

/// It has a POSIX timer (`timer_create`), as timeout(1) has, and waits for its signal.
fn has_timers(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/timers")).is_ok_and(|timers| !timers.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_are_told_from_waits() {
        let calls = [
            ("230 0x0 0x0 0x7ffe 0x0 0x0 0x0 0x7ffe 0x7f", Some(Timer::At(0x7ffe, NANO))),
            ("230 0x0 0x1 0x7ffe 0x0 0x0 0x0 0x7ffe 0x7f", Some(Timer::Sometime)),
            ("7 0x5581 0x1 0xffffffff 0x8 0x0 0x0 0x7ffe 0x7f", None),
            ("7 0x5581 0x1 0x3e8 0x8 0x0 0x0 0x7ffe 0x7f", Some(Timer::Ms(1000))),
            ("61 0xffffffffffffffff 0x7ffe 0x0 0x0 0x0 0x0 0x7ffe 0x7f", None),
            ("202 0x7f 0x80 0x2 0x0 0x0 0x0 0x7ffe 0x7f", None),
            ("202 0x7f 0x80 0x2 0x7ffd 0x0 0x0 0x7ffe 0x7f", Some(Timer::At(0x7ffd, NANO))),
            ("202 0x7f 0x189 0x2 0x7ffd 0x0 0x0 0x7ffe 0x7f", Some(Timer::Sometime)),
            ("23 0x1 0x0 0x0 0x0 0x7ffc 0x0 0x7ffe 0x7f", Some(Timer::At(0x7ffc, MICRO))),
            ("219 0x1 0x0 0x0 0x0 0x7ffc 0x0 0x7ffe 0x7f", Some(Timer::Sometime)),
            ("running", None),
            ("", None),
        ];
        for (call, expect) in calls {
            assert_eq!(Call::parse(call).timer(), expect, "{call}");
        }
    }

    #[test]
    fn a_sleeper_of_our_own_says_how_long_it_sleeps() {
        let (say, told) = std::sync::mpsc::channel();
        // Ends with the tests.
        std::thread::spawn(move || {
            say.send(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(77_500));
        });
        let pid = told.recv().unwrap();
        let answer = (0..200).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
            Call::parse(&call).sleeps_ms(pid)
        });
        assert_eq!(answer, Some(77_500));
    }
}
