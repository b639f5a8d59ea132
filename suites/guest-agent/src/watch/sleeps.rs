//! How long a task sleeps by its own decision: the time that it passed to the system call in which it waits.
//!
//! Deliberately not here: what a sleep means for a verdict, which is the harness's business.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::guest;
use crate::watch::task::TICKS_PER_S;

/// How often all timers are looked at.
const ALARMS_EVERY: Duration = Duration::from_secs(5);
/// Files of a task among which a timer is looked for.
const FILES_MAX: usize = 64;
const SIGALRM: u32 = 14;

/// How a task that sleeps says when it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    /// In so many milliseconds, counted from its call.
    Ms(u64),
    /// After the time at this address in the task's memory: seconds, and parts of a second of this kind.
    At(u64, Parts),
    /// At a time that the call does not say.
    Sometime,
}

/// How many parts make a millisecond.
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

    /// True if the task may wait for storage in it: not in a call that only waits for children or signals.
    pub(crate) fn may_wait_for_storage(&self) -> bool {
        // wait4, waitid, rt_sigsuspend, pause
        self.number.is_some_and(|number| ![61, 247, 130, 34].contains(&number))
    }

    /// The file descriptor that the call is about: the first argument of reads, writes, ioctls, syncs and the
    /// like.
    pub(crate) fn file(&self) -> Option<u64> {
        const OF_A_FILE: [u32; 25] = [
            0, 1, 5, 8, 16, 17, 18, 19, 20, 40, 73, 74, 75, 77, 217, 221, 275, 277, 285, 295, 296, 306, 326,
            327, 328,
        ];
        self.number.filter(|number| OF_A_FILE.contains(number)).map(|_| self.args[0])
    }

    /// Address of the path that the call opens or looks at: open, stat, lstat, unlink, mount (its source),
    /// umount; openat, newfstatat, statx.
    pub(crate) fn path(&self) -> Option<u64> {
        match self.number? {
            2 | 4 | 6 | 87 | 165 | 166 => Some(self.args[0]),
            257 | 262 | 332 => Some(self.args[1]),
            _ => None,
        }
    }

    /// The argument of an ioctl.
    pub(crate) fn argument(&self) -> Option<u64> {
        (self.number == Some(16)).then_some(self.args[2])
    }

    /// True if a signal may end the wait: it is for a child, for a signal, or for data.
    fn may_wait_for_a_signal(&self) -> bool {
        // read, poll, pause, wait4, rt_sigsuspend, epoll_wait, waitid, epoll_pwait
        self.number.is_some_and(|number| [0, 7, 34, 61, 130, 232, 247, 281].contains(&number))
    }

    /// When the call returns by itself. Numbers and arguments are those of x86-64
    /// (arch/x86/entry/syscalls/syscall_64.tbl).
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

    /// How long task `pid` sleeps in the call, milliseconds: 0 if it named an end that cannot be read, `None`
    /// if it named none.
    pub(crate) fn sleeps_ms(&self, pid: u32, comm: &str) -> Option<u64> {
        match self.timer() {
            Some(Timer::Ms(ms)) => Some(ms.max(1)),
            Some(Timer::At(at, parts)) => Some(read(pid, at, parts).unwrap_or(0)),
            Some(Timer::Sometime) => Some(0),
            None if has_timers(pid) && comm == "timeout" => Some(timeout_ms(pid).unwrap_or(0)),
            None => has_timers(pid).then_some(0),
        }
    }

    /// How long task `pid` sleeps by a timer that costs more to find, milliseconds: one of alarm(2),
    /// setitimer(2) or timerfd. Asked only while another task stands still.
    pub(crate) fn sleeps_by_other_means_ms(&self, pid: u32, alarms: &mut Alarms) -> Option<u64> {
        if !self.may_wait_for_a_signal() {
            return None;
        }
        let of_file = timerfd_ms(pid);
        of_file.or_else(|| catches_alarm(pid).then(|| alarms.newest_ms()).flatten())
    }
}

/// Timers that alarm(2) and setitimer(2) have armed. The kernel does not show them per task (`itrealvalue` in
/// `/proc/PID/stat` is 0 since 2.6.17); `/proc/timer_list` shows all of them, without their owners.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    newest: Option<(Instant, Option<u64>)>,
}

impl Alarms {
    /// The timer that goes off last, milliseconds from now. A task that catches the signal is taken to have
    /// armed it.
    fn newest_ms(&mut self) -> Option<u64> {
        let (at, found) = *self.newest.get_or_insert_with(|| {
            let text = fs::read("/proc/timer_list").unwrap_or_default();
            (Instant::now(), armed_ms(&String::from_utf8_lossy(&text)))
        });
        if at.elapsed() > ALARMS_EVERY {
            self.newest = None;
        }
        found
    }
}

/// The longest armed timer in `/proc/timer_list` (timer_list.c), milliseconds:
/// ` #3: <0000000000000000>, it_real_fn, S:01`, then ` # expires at 123-123 nsecs [in 100 to 100 nsecs]`.
fn armed_ms(timer_list: &str) -> Option<u64> {
    let mut lines = timer_list.lines();
    let mut longest = None;
    while let Some(line) = lines.next() {
        if line.contains("it_real_fn") {
            let left = lines
                .next()
                .and_then(|line| line.split_once("[in ")?.1.split(' ').next()?.parse::<u64>().ok());
            longest = longest.max(left.map(|ns| (ns / NANO).max(1)));
        }
    }
    longest
}

/// True if the task catches SIGALRM (`/proc/PID/status`) and is no shell: a shell does so for its traps
/// (bash, `initialize_terminating_signals`), and arms no timer.
fn catches_alarm(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    catches(&status, SIGALRM)
        && !["bash", "sh", "dash"].iter().any(|shell| status.starts_with(&format!("Name:\t{shell}\n")))
}

fn catches(status: &str, signal: u32) -> bool {
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Time left on the armed timers among a task's files (`/proc/PID/fdinfo`; timerfd.c, `timerfd_show`),
/// milliseconds.
fn timerfd_ms(pid: u32) -> Option<u64> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().take(FILES_MAX);
    let timers = files.filter(|file| {
        fs::read_link(file.path()).is_ok_and(|path| path.as_os_str() == "anon_inode:[timerfd]")
    });
    let left = timers.filter_map(|file| {
        let name = file.file_name().into_string().ok()?;
        left_of(&fs::read_to_string(format!("/proc/{pid}/fdinfo/{name}")).ok()?)
    });
    left.max()
}

/// Time left by `it_value: (3, 250000000)`, milliseconds; an unarmed timer has (0, 0).
fn left_of(fdinfo: &str) -> Option<u64> {
    let value = fdinfo.lines().find_map(|line| line.strip_prefix("it_value: (")?.strip_suffix(')'))?;
    let (seconds, nanoseconds) = value.split_once(", ")?;
    let (seconds, nanoseconds): (u64, u64) = (seconds.parse().ok()?, nanoseconds.parse().ok()?);
    let ms = seconds.saturating_mul(1000).saturating_add(nanoseconds.div_ceil(NANO));
    (ms > 0).then_some(ms)
}

/// Time until timeout(1) sends its signal, by its arguments and its age, milliseconds.
fn timeout_ms(pid: u32) -> Option<u64> {
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let limit_ms =
        limit_of(words.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok()))?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // starttime, field 22, in ticks since boot.
    let started: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let age_ms = guest::uptime_ms().saturating_sub(started.saturating_mul(1000 / TICKS_PER_S));
    Some(limit_ms.saturating_sub(age_ms).max(1))
}

/// The limit among timeout(1)'s arguments, milliseconds: the first word that is no option. Short options with
/// an argument are `-k` and `-s`.
fn limit_of<'a>(words: impl Iterator<Item = &'a str>) -> Option<u64> {
    let mut words = words.skip(1);
    while let Some(word) = words.next() {
        match word {
            "-k" | "-s" | "--kill-after" | "--signal" => drop(words.next()),
            option if option.starts_with('-') => {}
            limit => {
                let (number, unit) = limit.split_at(limit.trim_end_matches(char::is_alphabetic).len());
                let times = match unit {
                    "" | "s" => 1.0,
                    "m" => 60.0,
                    "h" => 3600.0,
                    "d" => 86_400.0,
                    _ => return None,
                };
                let seconds = number.parse::<f64>().ok().filter(|number| *number > 0.0)?;
                // Saturates.
                return Some((seconds * times * 1000.0) as u64);
            }
        }
    }
    None
}

/// The time at an address of a task's, milliseconds.
fn read(pid: u32, at: u64, parts: Parts) -> Option<u64> {
    let mut bytes = [0; 16];
    File::open(format!("/proc/{pid}/mem")).ok()?.read_exact_at(&mut bytes, at).ok()?;
    let (seconds, rest) = bytes.split_at(8);
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).ok();
    Some((number(seconds)?.saturating_mul(1000)).saturating_add(number(rest)? / parts).max(1))
}

/// True if the task has a POSIX timer (`timer_create`), as timeout(1) has.
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
    fn what_a_call_is_about_is_known() {
        let call = |text: &str| {
            let call = Call::parse(text);
            (call.file(), call.path(), call.argument())
        };
        assert_eq!(call("1 0x3 0x7f00 0x1000 0x0 0x0 0x0 0x7ffe 0x7f"), (Some(3), None, None));
        assert_eq!(call("16 0x4 0xc138fd06 0x5500 0x0 0x0 0x0 0x7ffe 0x7f"), (Some(4), None, Some(0x5500)));
        assert_eq!(call("257 0xffffff9c 0x5500 0x4000 0x0 0x0 0x0 0x7ffe 0x7f"), (None, Some(0x5500), None));
        assert_eq!(call("162 0x0 0x0 0x0 0x0 0x0 0x0 0x7ffe 0x7f"), (None, None, None));
        assert_eq!(call("running"), (None, None, None));
    }

    #[test]
    fn the_limit_of_timeout_is_read() {
        let limit = |line: &str| limit_of(line.split(' '));
        assert_eq!(limit("timeout 600 lvm x"), Some(600_000));
        assert_eq!(limit("timeout -k 5 -s KILL 1.5m lvm"), Some(90_000));
        assert_eq!(limit("timeout --kill-after=5 --preserve-status 2h lvm"), Some(7_200_000));
        assert_eq!(limit("timeout 0 lvm"), None, "no limit");
        assert_eq!(limit("timeout x lvm"), None);
        assert_eq!(limit("timeout"), None);
    }

    #[test]
    fn timers_of_other_kinds_are_found() {
        let list = " #0: <0000000000000000>, tick_nohz_handler, S:01\n # expires at 9-9 nsecs [in 1000000 to 1000000 nsecs]\n \
                    #1: <0000000000000000>, it_real_fn, S:01\n # expires at 5-5 nsecs [in 7000000000 to 7000000000 nsecs]\n \
                    #2: <0000000000000000>, it_real_fn, S:01\n # expires at 5-5 nsecs [in 3000000000 to 3000000000 nsecs]\n";
        assert_eq!(armed_ms(list), Some(7000));
        assert_eq!(armed_ms(&list.replace("it_real_fn", "hrtimer_wakeup")), None);
        let status = "Name:\tperl\nSigCgt:\t0000000000002000\n";
        assert!(catches(status, SIGALRM) && !catches(status, 13));
        let fdinfo = "pos:\t0\nclockid: 1\nticks: 0\nsettime flags: 00\nit_value: (3, 250000000)\nit_interval: (0, 0)\n";
        assert_eq!(left_of(fdinfo), Some(3250));
        assert_eq!(left_of("it_value: (0, 0)\n"), None);
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
            Call::parse(&call).sleeps_ms(pid, "sleeper")
        });
        assert_eq!(answer, Some(77_500));
    }
}
