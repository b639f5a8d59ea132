//! The kernel log as `/dev/kmsg` gives it: records with sequence numbers, within a budget.
//!
//! [`parse`] and [`Backlog`] are pure; [`Kmsg`] adds the file. Deliberately not here: any idea of
//! what a line means. The harness judges, and the serial console is its second witness.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use protocol::codec::encode;
use protocol::wire::Message;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::bucket::TokenBucket;

/// Bytes of kernel log that may be sent at once: a sysrq-t of a busy guest fits.
const BURST: u64 = 2 * 1024 * 1024;
/// Bytes of kernel log per second after that.
const PER_S: u64 = 512 * 1024;
/// Bytes that wait for the host at most; the oldest beyond that are dropped.
const BACKLOG: u64 = 256 * 1024;
/// Bytes that a record costs beside its text: the message around it.
const OVERHEAD: u64 = 64;
/// Larger than any record (the kernel's limit is 8 KiB; a smaller buffer gives `EINVAL`).
const BUFFER: usize = 16 * 1024;
/// Records read in one go, so that a flood leaves time for everything else.
const AT_ONCE: usize = 512;
/// How many times [`AT_ONCE`] records are read, where the log is read to its end.
const ROUNDS_MAX: usize = 16;
/// Pause after reading: a kernel that logs line by line does not wake us line by line.
const PAUSE: Duration = Duration::from_millis(10);
/// Pause when records that are read could only be dropped.
const LONG_PAUSE: Duration = Duration::from_millis(50);

/// One record of the kernel log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) seq: u64,
    pub(crate) at_us: u64,
    pub(crate) level: u8,
    pub(crate) facility: u8,
    pub(crate) caller: Option<String>,
    pub(crate) text: String,
}

/// Parses what one `read` of `/dev/kmsg` returned: `prio,seq,time,flags[,more];text`, then lines
/// of properties that begin with a space and are passed over.
pub(crate) fn parse(record: &[u8]) -> Option<Record> {
    let record = String::from_utf8_lossy(record);
    let (head, rest) = record.split_once(';')?;
    let mut fields = head.split(',');
    let prio: u32 = fields.next()?.parse().ok()?;
    let seq = fields.next()?.parse().ok()?;
    let at_us = fields.next()?.parse().ok()?;
    // Flags come first; what follows has names.
    let caller = fields.skip(1).find_map(|field| field.strip_prefix("caller=")).map(str::to_owned);
    let text = rest.split('\n').next().unwrap_or_default().to_owned();
    let facility = u8::try_from(prio >> 3).unwrap_or(u8::MAX);
    Some(Record { seq, at_us, level: (prio & 7) as u8, facility, caller, text })
}

/// A record as it goes to the host. It may go to several, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    record: Rc<Record>,
    bytes: Rc<[u8]>,
    cost: u64,
}

impl Line {
    fn of(record: Record) -> Self {
        let cost = record.text.len() as u64 + OVERHEAD;
        let bytes = record.encoded(0).into();
        Line { record: Rc::new(record), bytes, cost }
    }

    /// The line as it is sent after `left_out` records that are not.
    fn after(&self, left_out: u64) -> Rc<[u8]> {
        if left_out == 0 { Rc::clone(&self.bytes) } else { self.record.encoded(left_out).into() }
    }
}

impl Record {
    fn encoded(&self, left_out: u64) -> Vec<u8> {
        let Record { seq, at_us, level, facility, caller, text } = self.clone();
        encode(&Message::Kmsg { seq, at_us, level, facility, caller, left_out, text })
    }
}

/// Records that wait for the host.
#[derive(Debug)]
pub(crate) struct Backlog {
    lines: VecDeque<Line>,
    bytes: u64,
    /// Records dropped since the last one that was sent.
    left_out: u64,
    /// Bytes that may be sent whatever the budget says.
    granted: u64,
    bucket: TokenBucket,
}

impl Backlog {
    /// An empty backlog.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            lines: VecDeque::new(),
            bytes: 0,
            left_out: 0,
            granted: 0,
            bucket: TokenBucket::new(BURST, PER_S, now),
        }
    }

    /// True if the budget is spent: what comes now pushes out what is older.
    fn is_starved(&mut self, now: Instant) -> bool {
        self.lines
            .front()
            .is_some_and(|first| self.granted < first.cost && self.bucket.available(now) < first.cost)
    }

    /// True if more should be read. While the budget lasts and the host is slow, the kernel's own
    /// buffer is the better place to wait; once it is spent, new lines are worth more than old.
    pub(crate) fn wants_more(&mut self, now: Instant) -> bool {
        self.bytes < BACKLOG / 2 || self.is_starved(now)
    }

    /// Takes a record, and drops the oldest if there are too many.
    pub(crate) fn push(&mut self, line: Line) {
        self.bytes += line.cost;
        self.lines.push_back(line);
        while self.bytes > BACKLOG {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.cost;
            self.left_out += 1;
        }
    }

    /// The next record, if the budget allows it.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Rc<[u8]>> {
        if self.next_in(now)? > Duration::ZERO {
            return None;
        }
        let line = self.lines.pop_front()?;
        self.bytes -= line.cost;
        match self.granted.checked_sub(line.cost) {
            Some(rest) => self.granted = rest,
            None => self.bucket.spend(line.cost),
        }
        Some(line.after(std::mem::take(&mut self.left_out)))
    }

    /// How long until [`Self::pop`] gives something; `None` if nothing waits.
    pub(crate) fn next_in(&mut self, now: Instant) -> Option<Duration> {
        let cost = self.lines.front()?.cost;
        if self.granted >= cost { Some(Duration::ZERO) } else { self.bucket.wait_for(cost, now) }
    }

    /// Lets all waiting records go, whatever the budget says: they are the last of a test.
    fn grant(&mut self) {
        self.granted = self.bytes;
    }

    /// True if nothing waits.
    fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// All records that were read so far, kept for the next host: a restored guest tells each of its hosts of its
/// boot, and reading the log again would be slow under emulation.
#[derive(Debug, Default)]
struct Said {
    lines: Vec<Line>,
    bytes: u64,
    /// Records are missing, or became too many: for the next host the log is read again from its beginning.
    gone: bool,
}

impl Said {
    fn push(&mut self, line: &Line) {
        self.bytes += line.cost;
        if self.bytes > BACKLOG / 2 {
            self.forget();
        }
        if !self.gone {
            self.lines.push(line.clone());
        }
    }

    fn forget(&mut self) {
        *self = Said { gone: true, ..Said::default() };
    }
}

/// `/dev/kmsg`, open from its oldest record on.
#[derive(Debug)]
pub(crate) struct Kmsg {
    fd: OwnedFd,
    said: Said,
    resume: Instant,
    /// One beyond the newest record, if all have been read.
    end: Option<u64>,
    /// One beyond the newest record that was read.
    next: u64,
    pub(crate) backlog: Backlog,
}

impl Kmsg {
    /// Opens the log, and reads what is there.
    pub(crate) fn open(now: Instant) -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open("/dev/kmsg", flags, Mode::empty())?;
        let mut kmsg = Self::of(fd, now);
        kmsg.read(now);
        Ok(kmsg)
    }

    fn of(fd: OwnedFd, now: Instant) -> Self {
        Self { fd, said: Said::default(), resume: now, end: None, next: 0, backlog: Backlog::new(now) }
    }

    /// One beyond the newest record that there was when all had been read; `None` if there is more.
    pub(crate) fn end(&self) -> Option<u64> {
        self.end
    }

    /// Begins again at the oldest record.
    pub(crate) fn rewind(&mut self, now: Instant) {
        self.resume = now;
        self.backlog = Backlog::new(now);
        if self.said.gone {
            self.said = Said::default();
            self.end = None;
            // Cannot fail on a `/dev/kmsg`; if it did, only what a reader had before would be missing.
            let _ = rustix::fs::seek(&self.fd, rustix::fs::SeekFrom::Start(0));
        } else {
            self.said.lines.iter().cloned().for_each(|line| self.backlog.push(line));
        }
    }

    /// The descriptor.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// True if more should be read now.
    pub(crate) fn wants_read(&mut self, now: Instant) -> bool {
        now >= self.resume && self.backlog.wants_more(now)
    }

    /// When [`Self::wants_read`] should be asked again, if it is pausing.
    pub(crate) fn resume_in(&self, now: Instant) -> Option<Duration> {
        (self.resume > now).then(|| self.resume - now)
    }

    /// Reads the log to its end, within bounds, and lets all waiting records go. The kernel's last words of a
    /// test say most, and would be lost if a flood had spent the budget.
    pub(crate) fn catch_up(&mut self, now: Instant) {
        for _ in 0..ROUNDS_MAX {
            self.read(now);
            if self.end.is_some() || !self.backlog.wants_more(now) {
                break;
            }
        }
        self.backlog.grant();
    }

    /// True if all records have been sent.
    pub(crate) fn is_said(&self) -> bool {
        self.end.is_some() && self.backlog.is_empty()
    }

    /// Reads new records, within bounds.
    pub(crate) fn read(&mut self, now: Instant) {
        let starved = self.backlog.is_starved(now);
        self.resume = now + if starved { LONG_PAUSE } else { PAUSE };
        let mut buffer = [0; BUFFER];
        self.end = None;
        for _ in 0..AT_ONCE {
            if !self.backlog.wants_more(now) {
                break;
            }
            match rustix::io::read(&self.fd, &mut buffer) {
                Ok(n) => {
                    if let Some(record) = parse(&buffer[..n]) {
                        self.next = record.seq.saturating_add(1);
                        let line = Line::of(record);
                        self.said.push(&line);
                        self.backlog.push(line);
                    }
                }
                // Overwritten before we came: the gap in the sequence numbers tells the host.
                Err(Errno::PIPE) => self.said.forget(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.end = Some(self.next);
                    break;
                }
                Err(_) => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn real_lines() {
        let check = |line: &str, seq, at_us, level, text: &str| {
            let record = parse(line.as_bytes()).unwrap();
            let found = (record.seq, record.at_us, record.level, record.text.as_str());
            assert_eq!(found, (seq, at_us, level, text), "{line:?}");
            (record.facility, record.caller)
        };
        check(
            "5,0,0,-;Linux version 6.12.117+deb13-cloud-amd64 (debian-kernel@lists.debian.org)\n",
            0,
            0,
            5,
            "Linux version 6.12.117+deb13-cloud-amd64 (debian-kernel@lists.debian.org)",
        );
        check(
            "6,160,424069,-;pci_root PNP0A03:00: host bridge window [io  0x0000-0x0cf7] (ignored)\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n",
            160,
            424_069,
            6,
            "pci_root PNP0A03:00: host bridge window [io  0x0000-0x0cf7] (ignored)",
        );
        check(
            "30,340,5690716,-;udevd[80]: starting version 181\n",
            340,
            5_690_716,
            6,
            "udevd[80]: starting version 181",
        );
        let (facility, caller) = check("4,9,17,c,caller=T1;a\\x0ab;c\n", 9, 17, 4, "a\\x0ab;c");
        assert_eq!((facility, caller.as_deref()), (0, Some("T1")));
        // Who writes to /dev/kmsg is a user (facility 1) whatever it says.
        let (facility, caller) = check("12,9,17,-;Kernel panic\n", 9, 17, 4, "Kernel panic");
        assert_eq!((facility, caller), (1, None));
    }

    #[test]
    fn rubbish_is_no_record() {
        for line in ["", ";", "6;x", "6,1;x", "a,1,2,-;x", " SUBSYSTEM=acpi\n"] {
            assert_eq!(parse(line.as_bytes()), None, "{line:?}");
        }
    }

    fn line(seq: u64) -> Line {
        let text = "x".repeat(100);
        Line::of(Record { seq, at_us: 0, level: 6, facility: 0, caller: None, text })
    }

    /// Sequence number of a line as it is sent, and how many were left out before it.
    fn sent(line: &[u8]) -> (u64, u64) {
        let mut numbers = None;
        protocol::codec::LineDecoder::new().push(line, |message| {
            if let Ok(Message::Kmsg { seq, left_out, .. }) = message {
                numbers = Some((seq, left_out));
            }
        });
        numbers.unwrap()
    }

    fn seq(line: &[u8]) -> u64 {
        sent(line).0
    }

    #[test]
    fn what_was_said_is_kept_whole_or_not_at_all() {
        let mut said = Said::default();
        (0..10).for_each(|seq| said.push(&line(seq)));
        assert_eq!(
            said.lines.iter().map(|line| line.record.seq).collect::<Vec<_>>(),
            (0..10).collect::<Vec<_>>()
        );
        (10..10_000).for_each(|seq| said.push(&line(seq)));
        assert!(said.gone && said.lines.is_empty());
    }

    #[test]
    fn the_next_host_hears_the_same_again() {
        // The file is not read again, so any will do.
        let fd = rustix::fs::open("/dev/null", OFlags::RDONLY, Mode::empty()).unwrap();
        let now = Instant::now();
        let mut kmsg = Kmsg::of(fd, now);
        for seq in 0..3 {
            kmsg.said.push(&line(seq));
            kmsg.backlog.push(line(seq));
        }
        for _ in 0..2 {
            kmsg.rewind(now);
            let heard: Vec<_> = std::iter::from_fn(|| kmsg.backlog.pop(now)).map(|line| seq(&line)).collect();
            assert_eq!(heard, [0, 1, 2]);
        }
    }

    #[test]
    fn a_flood_drops_the_oldest_and_keeps_to_the_budget() {
        let now = Instant::now();
        let mut backlog = Backlog::new(now);
        let (mut spent, mut last) = (0, 0);
        let cost = line(0).cost;
        for number in 0..100_000 {
            backlog.push(line(number));
            while let Some(line) = backlog.pop(now) {
                spent += cost;
                last = seq(&line);
            }
        }
        assert!(spent <= BURST && backlog.bytes <= BACKLOG);
        assert!(backlog.wants_more(now), "new lines are worth more than old ones");
        let later = now + Duration::from_secs(1);
        let (next, left_out) = sent(&backlog.pop(later).unwrap());
        assert!(next > last + 1, "the gap shows");
        assert_eq!(left_out, next - last - 1, "and whose doing it is");
        assert_eq!(sent(&backlog.pop(later).unwrap()), (next + 1, 0));
    }

    #[test]
    fn while_the_budget_lasts_the_kernel_keeps_what_waits() {
        let now = Instant::now();
        let mut backlog = Backlog::new(now);
        let mut n = 0;
        while backlog.wants_more(now) {
            backlog.push(line(n));
            n += 1;
        }
        assert_eq!(seq(&backlog.pop(now).unwrap()), 0);
    }

    /// A flood has spent the budget; what comes last of it goes all the same, and at once.
    #[test]
    fn the_end_of_a_flood_goes_in_any_case() {
        let now = Instant::now();
        let mut backlog = Backlog::new(now);
        for number in 0..100_000 {
            backlog.push(line(number));
            while backlog.pop(now).is_some() {}
        }
        assert!(backlog.is_starved(now) && backlog.pop(now).is_none());
        backlog.grant();
        assert!(!backlog.is_starved(now));
        let mut newest = 0;
        while let Some(line) = backlog.pop(now) {
            newest = seq(&line);
        }
        assert_eq!((newest, backlog.bytes, backlog.is_empty()), (99_999, 0, true));
        backlog.push(line(100_000));
        assert!(backlog.pop(now).is_none(), "the budget holds again");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
