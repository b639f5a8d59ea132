//! The loop: one thread that polls everything, waits for nothing else, and always comes round.
//!
//! What goes to the host is pulled, not pushed: whenever the port takes more, the most important
//! line that is there is encoded ([`Agent::next_line`]). So a slow host costs no memory and what
//! it gets is fresh. Deliberately not here: the test itself ([`crate::process::test`]), the shell
//! ([`crate::process::shell`]), and anything that may
//! block on a test's doing.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use protocol::codec::encode;
use protocol::shell::{ShellMessage, ShellRequest};
use protocol::wire::{
    AGENT_PORT, Exit, FILES_PORT, GuestFacts, HEARTBEAT_MS, Message, Program, Request, StartTest, VERSION,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process, pidfd_open};

use crate::boot;
use crate::console;
use crate::guest;
use crate::link::inbox;
use crate::link::kmsg::Kmsg;
use crate::link::ports::{self, Port, Wrote};
use crate::process::launch;
use crate::process::life::Life;
use crate::process::shell::{Shell, ShellPart};
use crate::process::spawn;
use crate::process::supervised::Change;
use crate::process::test::RunningTest;
use crate::watch::task;
use crate::watch::witness::Witness;

/// The loop comes round at least this often: orphans announce their end to nobody.
const TICK: Duration = Duration::from_millis(200);
/// How often orphans are reaped at most.
const REAP_EVERY: Duration = Duration::from_millis(20);
/// How often the end of a test is looked at: an emptied cgroup tells nobody either.
const ENDING_TICK: Duration = Duration::from_millis(10);
/// How often a port without a host is looked at. Short: a restored guest answers that late.
const HOST_CHECK: Duration = Duration::from_millis(20);
/// The same while a test runs, which should not be disturbed.
const HOST_CHECK_BUSY: Duration = Duration::from_millis(100);
/// A read of the pipe; a short one means that there is little to read.
const READ: usize = 256 * 1024;
/// Batches written in one round.
const BATCHES_AT_ONCE: usize = 32;
/// A host that took nothing for this long does not make a test wait.
const STALL: Duration = Duration::from_millis(100);
/// How long a power-off waits for what is still to be written.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Messages that may wait before no further requests are read.
const MAX_CONTROL: usize = 1000;
/// Collections that may wait for another.
const MAX_WANTED: usize = 8;
/// Samplers that are started in place of one that ended, for one test.
const SAMPLERS_MAX: u32 = 3;
/// Longest text of a note or a refusal, bytes: escaped, it must still fit a line.
const MAX_TEXT: usize = 4096;

/// A request for files.
#[derive(Debug)]
struct Wanted {
    attempt: u32,
    patterns: Vec<String>,
    max_bytes: u64,
}

/// The process that sends files.
#[derive(Debug)]
struct Collector {
    attempt: u32,
    pid: Pid,
    pidfd: Option<OwnedFd>,
}

/// What a polled descriptor is.
#[derive(Clone, Copy, Debug)]
enum Source {
    Port,
    Kmsg,
    Pipe,
    Report,
    TestProcess,
    Shell(ShellPart),
    Collector,
    Sampler,
    Diagnosis,
}

struct Agent {
    port: Port,
    files: Result<OwnedFd, String>,
    kmsg: Option<Kmsg>,
    control: VecDeque<Message>,
    test: Option<RunningTest>,
    /// The cgroup of a test that is over and left behind what cannot be killed: it is still looked at.
    left: Option<PathBuf>,
    /// A guest has one in its life, and it stays: closing a terminal may take long.
    shell: Option<Shell>,
    sampler: Option<Witness>,
    /// Samplers of this test that ended before it.
    n_samplers_lost: u32,
    /// The process that writes down what a hang's report needs, and the attempt it is about.
    diagnosis: Option<(Witness, u32)>,
    collector: Option<Collector>,
    /// Collections that wait for the one under way.
    wanted: VecDeque<Wanted>,
    facts: GuestFacts,
    /// What went wrong while booting: each host is told, for a snapshot has many.
    boot_notes: Vec<String>,
    next_heartbeat: Instant,
    next_reap: Instant,
    next_host_check: Instant,
    power_off_at: Option<Instant>,
    /// There was more to write than one round allows.
    write_again: bool,
    buffer: Vec<u8>,
}

/// Serves requests until the machine ends. Returns why it cannot go on.
pub(crate) fn serve(notes: Vec<String>) -> String {
    let port = match ports::open(AGENT_PORT) {
        Ok(port) => port,
        Err(error) => return error,
    };
    let now = Instant::now();
    let mut agent = Agent {
        port: Port::new(port, now),
        files: ports::open(FILES_PORT),
        kmsg: None,
        control: VecDeque::new(),
        test: None,
        left: None,
        shell: None,
        sampler: None,
        n_samplers_lost: 0,
        diagnosis: None,
        collector: None,
        wanted: VecDeque::new(),
        facts: guest::facts(),
        boot_notes: notes,
        next_heartbeat: now,
        next_reap: now,
        next_host_check: now,
        power_off_at: None,
        write_again: false,
        buffer: vec![0; READ],
    };
    match Kmsg::open(now) {
        Ok(kmsg) => agent.kmsg = Some(kmsg),
        Err(error) => agent.boot_notes.push(format!("cannot open /dev/kmsg: {error}")),
    }
    console::say("ready");
    loop {
        agent.tick(Instant::now());
        agent.write(Instant::now());
        if let Err(error) = agent.wait() {
            return format!("cannot poll: {error}");
        }
    }
}

impl Agent {
    /// Does what is due by the clock.
    fn tick(&mut self, now: Instant) {
        if self.power_off_at.is_some_and(|at| now >= at || self.is_written()) {
            boot::power_off();
        }
        if now >= self.next_host_check {
            self.next_host_check = now + if self.test.is_some() { HOST_CHECK_BUSY } else { HOST_CHECK };
            self.port.look_for_host();
        }
        if now >= self.next_reap {
            self.next_reap = now + REAP_EVERY;
            self.reap(now);
        }
        self.advance_test(now);
        self.advance_shell(now);
        if now >= self.next_heartbeat {
            self.next_heartbeat = now + Duration::from_millis(HEARTBEAT_MS);
            self.heartbeat();
        }
    }

    /// True if nothing that matters waits for the host, or there is no host.
    fn is_written(&self) -> bool {
        let kmsg_is_said = self.kmsg.as_ref().is_none_or(Kmsg::is_said);
        !self.port.has_session() || (self.port.out.is_empty() && self.control.is_empty() && kmsg_is_said)
    }

    // ---- waiting -----------------------------------------------------------------------------

    /// Polls until something happens or is due, and handles what happened.
    fn wait(&mut self) -> rustix::io::Result<()> {
        let ready = match self.poll(Instant::now()) {
            Err(Errno::INTR) => Vec::new(),
            other => other?,
        };
        let now = Instant::now();
        for (source, flags) in ready {
            match source {
                Source::Port => self.read_requests(flags, now),
                Source::Kmsg => self.kmsg.iter_mut().for_each(|kmsg| kmsg.read(now)),
                Source::Pipe => self.drain_pipe(now),
                Source::Report => {
                    let remarks = self.test.as_mut().map(|test| test.process.read_report());
                    remarks.into_iter().flatten().for_each(|remark| self.note(remark));
                }
                Source::TestProcess => {
                    self.test.iter_mut().for_each(|test| test.process.ended());
                    self.reap(now);
                }
                Source::Shell(part) => {
                    let remarks = self.shell.as_mut().map(|shell| shell.ready(part, now));
                    remarks.into_iter().flatten().for_each(|remark| self.note(remark));
                    if part == ShellPart::Process {
                        self.reap(now);
                    }
                }
                Source::Sampler => {
                    // The newest.
                    if let Some(sample) = self.sampler.as_mut().and_then(|sampler| sampler.read().pop()) {
                        // An old one is of no use to anybody.
                        self.control.retain(|message| !matches!(message, Message::Sample(_)));
                        self.control.push_back(Message::Sample(sample));
                    }
                    self.look_after_sampler();
                }
                Source::Diagnosis => self.pass_evidence(),
                Source::Collector => {
                    self.collector.iter_mut().for_each(|collector| collector.pidfd = None);
                    self.reap(now);
                }
            }
        }
        Ok(())
    }

    fn poll(&mut self, now: Instant) -> rustix::io::Result<Vec<(Source, PollFlags)>> {
        let timeout = self.timeout(now);
        let timeout = Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let session = self.port.has_session();
        // Without a host, the kernel's buffer is where its log waits.
        let read_kmsg = session && self.kmsg.as_mut().is_some_and(|kmsg| kmsg.wants_read(now));
        let stalled = self.port.is_stalled(STALL, now);
        let read_pipe = self.test.as_mut().is_some_and(|test| test.wants_output(stalled, now));

        let mut polled: Vec<(Source, BorrowedFd<'_>, PollFlags)> = Vec::with_capacity(6);
        if let Some(fd) = self.port.poll_fd() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, self.control.len() < MAX_CONTROL);
            flags.set(PollFlags::OUT, session && !self.port.out.is_empty());
            polled.push((Source::Port, fd, flags));
        }
        if let Some(kmsg) = self.kmsg.as_ref().filter(|_| read_kmsg) {
            polled.push((Source::Kmsg, kmsg.fd(), PollFlags::IN));
        }
        if let Some(test) = &self.test {
            if let Some(pipe) = test.pipe().filter(|_| read_pipe) {
                polled.push((Source::Pipe, pipe.as_fd(), PollFlags::IN));
            }
            polled.extend(test.process.report_fd().map(|fd| (Source::Report, fd, PollFlags::IN)));
            polled.extend(test.process.process_fd().map(|fd| (Source::TestProcess, fd, PollFlags::IN)));
        }
        if let Some(shell) = &self.shell {
            shell.polled(now, |part, fd, flags| polled.push((Source::Shell(part), fd, flags)));
        }
        if let Some(fd) = self.sampler.as_ref().and_then(Witness::fd) {
            polled.push((Source::Sampler, fd, PollFlags::IN));
        }
        if let Some(fd) = self.diagnosis.as_ref().and_then(|(diagnosis, _)| diagnosis.fd()) {
            polled.push((Source::Diagnosis, fd, PollFlags::IN));
        }
        if let Some(pidfd) = self.collector.as_ref().and_then(|collector| collector.pidfd.as_ref()) {
            polled.push((Source::Collector, pidfd.as_fd(), PollFlags::IN));
        }
        let mut fds: Vec<_> =
            polled.iter().map(|&(_, fd, flags)| PollFd::from_borrowed_fd(fd, flags)).collect();
        poll(&mut fds, Some(&timeout))?;
        let flags = fds.iter().map(PollFd::revents);
        Ok(polled
            .iter()
            .map(|&(source, ..)| source)
            .zip(flags)
            .filter(|(_, flags)| !flags.is_empty())
            .collect())
    }

    /// How long to wait if nothing happens.
    fn timeout(&mut self, now: Instant) -> Duration {
        if self.write_again {
            return Duration::ZERO;
        }
        let mut due = vec![TICK];
        let mut at = |instant: Instant| due.push(instant.saturating_duration_since(now));
        self.power_off_at.into_iter().for_each(&mut at);
        if self.port.poll_fd().is_none() {
            at(self.next_host_check);
        }
        let session = self.port.has_session();
        if session {
            at(self.next_heartbeat);
        }
        if let Some(test) = &self.test {
            if test.process.is_ending() {
                due.push(ENDING_TICK);
            }
            if test.pipe().is_some() {
                // While the test is held back, nothing but a stall lets it go on.
                let resume = test.resume_in(now);
                due.push(if resume.is_zero() { STALL } else { resume });
            }
        }
        if let Some(shell) = &self.shell {
            if shell.is_ending() {
                due.push(ENDING_TICK);
            }
            due.extend(shell.resume_in(now));
        }
        // What waits while a batch is under way is looked at when the host has taken that.
        if session && self.port.out.is_empty() {
            due.extend(self.test.as_mut().and_then(|test| test.output.next_chunk_in(now)));
            due.extend(self.kmsg.as_mut().and_then(|kmsg| kmsg.backlog.next_in(now)));
        }
        if session {
            due.extend(self.kmsg.as_ref().and_then(|kmsg| kmsg.resume_in(now)));
        }
        due.into_iter().min().unwrap_or(TICK)
    }

    // ---- to the host -------------------------------------------------------------------------

    /// Writes as long as the host takes it, within bounds.
    fn write(&mut self, now: Instant) {
        self.write_again = false;
        if !self.port.has_session() {
            return;
        }
        for _ in 0..BATCHES_AT_ONCE {
            while self.port.out.has_room()
                && let Some(line) = self.next_line(now)
            {
                self.port.out.push(&line);
            }
            if self.port.out.is_empty() {
                return;
            }
            match self.port.write(now) {
                Wrote::All => {}
                Wrote::Blocked | Wrote::Gone => return,
            }
        }
        self.write_again = true;
    }

    /// The most important line that waits.
    fn next_line(&mut self, now: Instant) -> Option<Rc<[u8]>> {
        if let Some(message) = self.next_news(now) {
            return Some(encode(&message).into());
        }
        // What the kernel said during the test comes before its end, as far as the budget goes.
        if let Some(line) = self.kmsg.as_mut().and_then(|kmsg| kmsg.backlog.pop(now)) {
            return Some(line);
        }
        self.next_end().map(|message| encode(&message).into())
    }

    /// What goes before the kernel's log.
    fn next_news(&mut self, now: Instant) -> Option<Message> {
        if let Some(message) = self.control.pop_front() {
            return Some(message);
        }
        // Somebody is waiting for an echo.
        if let Some(message) = self.shell.as_mut().and_then(Shell::next_message) {
            return Some(Message::Shell(message));
        }
        self.test.as_mut().and_then(|test| test.next_output(now))
    }

    /// What goes after it.
    fn next_end(&mut self) -> Option<Message> {
        if let Some(exit) = self.shell.as_mut().and_then(Shell::next_end) {
            return Some(Message::Shell(ShellMessage::Ended { exit }));
        }
        let over = self.test.take_if(|test| test.is_sent())?;
        let cgroup = over.process.cgroup().to_owned();
        let report = over.into_report()?;
        if report.survivors.iter().any(|one| one.unkillable) {
            self.left = Some(cgroup);
        } else {
            self.sampler = None;
        }
        Some(Message::Finished(report))
    }

    fn note(&mut self, text: String) {
        if self.control.len() < MAX_CONTROL {
            self.control.push_back(Message::Note { text: clip(text) });
        }
    }

    fn refuse(&mut self, reason: String) {
        self.control.push_back(Message::Refused { reason: clip(reason) });
    }

    fn heartbeat(&mut self) {
        if !self.port.has_session() {
            return;
        }
        // A host that does not read finds one when it comes back, not all of them.
        self.control.retain(|message| !matches!(message, Message::Heartbeat { .. }));
        self.control.push_back(Message::Heartbeat {
            uptime_ms: guest::uptime_ms(),
            mem_available_kib: guest::mem_available_kib(),
            output_bytes: self.test.as_ref().map_or(0, |test| test.output.total()),
            sampler: self.sampler.as_ref().and_then(|sampler| task::state_of(sampler.pid())),
        });
    }

    // ---- from the host -----------------------------------------------------------------------

    fn read_requests(&mut self, flags: PollFlags, now: Instant) {
        if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            for request in self.port.read() {
                match request {
                    Ok(request) => self.handle(request, now),
                    Err(garbage) => {
                        self.refuse(format!("not a request: {}: {}", garbage.error, garbage.excerpt));
                    }
                }
            }
        }
        // After the last words of a host that has gone.
        if flags.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            self.port.host_left();
        }
    }

    fn handle(&mut self, request: Request, now: Instant) {
        match request {
            Request::Hello { version, session, seed } => self.hello(version, session, &seed, now),
            Request::PutFile { name, mode, offset, data } => {
                if let Err(reason) = inbox::put(&name, mode, offset, &data) {
                    self.refuse(format!("cannot take a file: {reason}"));
                }
            }
            Request::StartTest(test) => self.start_test(&test, now),
            Request::Diagnose { attempt } => self.diagnose(attempt),
            Request::StopTest { attempt } => self.stop_test(attempt, now),
            Request::Collect { attempt, patterns, max_bytes } => {
                self.collect(Wanted { attempt, patterns, max_bytes });
            }
            Request::Shell(request) => self.shell_request(request, now),
            Request::PowerOff => {
                self.kmsg.iter_mut().for_each(|kmsg| kmsg.catch_up(now));
                self.power_off_at = Some(now + LAST_WORDS);
            }
        }
    }

    fn hello(&mut self, version: u32, session: u64, seed: &[u8], now: Instant) {
        console::greeted(session);
        if version != VERSION {
            self.note(format!("the harness speaks version {version} of the protocol, the agent {VERSION}"));
        }
        let guest = self.facts.clone();
        let answer = encode(&Message::Hello { version: VERSION, session, guest });
        self.control.retain(|message| !matches!(message, Message::Heartbeat { .. }));
        self.port.open_session(&answer, now);
        self.next_heartbeat = now;
        for text in self.boot_notes.clone() {
            self.note(text);
        }
        // A new session has no use for the old one's files. One that does not die of this, stuck
        // on a wedged file, is not waited for.
        self.wanted.clear();
        if let Some(collector) = self.collector.take() {
            let _ = kill_process(collector.pid, Signal::KILL);
        }
        // After a snapshot was restored, the guest's clock shows when it was taken, and its random
        // pool holds what it held then. Not during a test, which may be measuring time.
        if self.test.is_none() && self.shell.is_none() {
            guest::set_clock();
            guest::stir_random(seed);
        }
        // The new host has heard nothing yet of what the kernel said while booting.
        if let Some(kmsg) = &mut self.kmsg {
            kmsg.rewind(now);
        }
        self.tell_kernel_state(now);
    }

    /// Tells how the kernel says that it is.
    fn tell_kernel_state(&mut self, now: Instant) {
        if !self.port.has_session() {
            return;
        }
        // First the taint: what causes it is logged before or after it, but has been by the time of a
        // report's end.
        let tainted = boot::tainted();
        let log_end = self.kmsg.as_mut().and_then(|kmsg| {
            kmsg.catch_up(now);
            kmsg.end()
        });
        self.control.push_back(Message::KernelState { tainted, log_end });
    }

    /// Why this cannot be run now; `None` if it can.
    fn objection(&self, program: &Program) -> Option<String> {
        if let Some(test) = &self.test {
            return Some(format!("attempt {} is not over", test.process.attempt()));
        }
        if self.shell.is_some() {
            return Some("this guest is a shell's".to_owned());
        }
        launch::objection(program).map(str::to_owned)
    }

    fn start_test(&mut self, request: &StartTest, now: Instant) {
        let attempt = request.attempt;
        if let Some(objection) = self.objection(&request.program) {
            return self.refuse(format!("cannot start attempt {attempt}: {objection}"));
        }
        self.left = None;
        match RunningTest::start(request, now) {
            Ok(test) => {
                match request.sampled.then(|| spawn::sampler(test.process.cgroup())).transpose() {
                    Ok(sampler) => {
                        self.sampler = sampler.map(Witness::new);
                        self.n_samplers_lost = 0;
                    }
                    Err(error) => self.note(format!("attempt {attempt} is not sampled: {error}")),
                }
                self.test = Some(test);
            }
            Err(error) => {
                self.note(format!("attempt {attempt} could not be started: {error}"));
                let errno = error.raw_os_error().unwrap_or(Errno::INVAL.raw_os_error());
                let mut life = Life::new(attempt, 0, Duration::ZERO, now);
                life.reaped(Exit::NotStarted(errno), now);
                self.control.push_back(Message::Finished(life.finished(Vec::new(), None, 0, now)));
            }
        }
    }

    /// A sampler that has ended before its test: without one, a hang is found only by the limits. It is started again, if
    /// it does not end each time.
    fn look_after_sampler(&mut self) {
        if self.sampler.as_ref().is_none_or(|sampler| sampler.fd().is_some()) {
            return;
        }
        self.sampler = None;
        let Some(test) = self.test.as_ref().filter(|test| !test.process.is_ending()) else { return };
        let attempt = test.process.attempt();
        self.n_samplers_lost += 1;
        if self.n_samplers_lost > SAMPLERS_MAX {
            return self.note(format!("attempt {attempt} is no longer sampled: the sampler ends each time"));
        }
        match spawn::sampler(test.process.cgroup()) {
            Ok(sampler) => {
                self.sampler = Some(Witness::new(sampler));
                self.note(format!("the sampler of attempt {attempt} ended, and was started again"));
            }
            Err(error) => self.note(format!(
                "attempt {attempt} is no longer sampled: the sampler ended, and cannot be started: {error}"
            )),
        }
    }

    fn diagnose(&mut self, attempt: u32) {
        self.tell_kernel_state(Instant::now());
        let left = self.left.as_deref().unwrap_or(Path::new(""));
        let cgroup = self.test.as_ref().map_or(left, |test| test.process.cgroup());
        match spawn::diagnosis(cgroup) {
            Ok(diagnosis) => self.diagnosis = Some((Witness::new(diagnosis), attempt)),
            Err(error) => {
                self.note(format!("the hang of attempt {attempt} cannot be written down: {error}"));
                self.control.push_back(Message::Diagnosed { attempt });
            }
        }
    }

    /// Passes on what the diagnosis has said.
    fn pass_evidence(&mut self) {
        if let Some((diagnosis, attempt)) = &mut self.diagnosis {
            let attempt = *attempt;
            let said = diagnosis.read().into_iter();
            self.control.extend(said.map(|evidence| Message::Evidence { attempt, evidence }));
        }
    }

    fn stop_test(&mut self, attempt: u32, now: Instant) {
        match &mut self.test {
            Some(test) if test.process.attempt() == attempt => test.process.stop(now),
            Some(_) | None => self.refuse(format!("cannot stop attempt {attempt}: it does not run")),
        }
    }

    fn shell_request(&mut self, request: ShellRequest, now: Instant) {
        match request {
            ShellRequest::Open { program, terminal } => {
                if let Some(objection) = self.objection(&program) {
                    return self.refuse(format!("cannot open a shell: {objection}"));
                }
                match Shell::open(&program, terminal, now) {
                    Ok(shell) => self.shell = Some(shell),
                    Err(error) => {
                        self.note(format!("the shell could not be started: {error}"));
                        let exit =
                            Exit::NotStarted(error.raw_os_error().unwrap_or(Errno::INVAL.raw_os_error()));
                        self.control.push_back(Message::Shell(ShellMessage::Ended { exit }));
                    }
                }
            }
            ShellRequest::Input { .. }
            | ShellRequest::InputEnd
            | ShellRequest::Resize { .. }
            | ShellRequest::OutputTaken { .. }
            | ShellRequest::CloseOutput { .. } => match &mut self.shell {
                Some(shell) => {
                    if let Err(objection) = shell.handle(request, now) {
                        self.refuse(objection.to_owned());
                    }
                }
                None => self.refuse("there is no shell".to_owned()),
            },
        }
    }

    fn collect(&mut self, wanted: Wanted) {
        if self.wanted.len() >= MAX_WANTED {
            let attempt = wanted.attempt;
            return self.refuse(format!("cannot collect files of attempt {attempt}: too many collections"));
        }
        self.wanted.push_back(wanted);
        self.collect_next();
    }

    /// Starts the next collection, if none is under way.
    fn collect_next(&mut self) {
        while self.collector.is_none()
            && let Some(Wanted { attempt, patterns, max_bytes }) = self.wanted.pop_front()
        {
            let started = self.files.as_ref().map_err(String::clone).and_then(|port| {
                spawn::collect(attempt, &patterns, max_bytes, port).map_err(|error| error.to_string())
            });
            match started {
                Ok(pid) => {
                    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok();
                    self.collector = Some(Collector { attempt, pid, pidfd });
                }
                Err(reason) => self.refuse(format!("cannot collect files of attempt {attempt}: {reason}")),
            }
        }
    }

    // ---- the test ----------------------------------------------------------------------------

    fn drain_pipe(&mut self, now: Instant) {
        if let Some(test) = &mut self.test {
            test.drain_pipe(&mut self.buffer, now);
        }
    }

    /// Waits for the dead, without waiting.
    fn reap(&mut self, now: Instant) {
        for _ in 0..1000 {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.reaped(pid, status, now),
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn reaped(&mut self, pid: Pid, status: WaitStatus, now: Instant) {
        let exit = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => return,
        };
        if let Some(test) = self.test.as_mut().filter(|test| test.process.pid() == pid) {
            let remarks = test.process.reaped(exit, now);
            test.hurry(now);
            remarks.into_iter().for_each(|remark| self.note(remark));
            self.drain_pipe(now);
        } else if let Some(shell) = self.shell.as_mut().filter(|shell| shell.pid() == pid) {
            let remarks = shell.reaped(exit, now);
            remarks.into_iter().for_each(|remark| self.note(remark));
        } else if self.diagnosis.as_ref().is_some_and(|(diagnosis, _)| diagnosis.pid() == pid) {
            self.pass_evidence();
            let attempt = self.diagnosis.take().map_or(0, |(_, attempt)| attempt);
            self.control.push_back(Message::Diagnosed { attempt });
        } else if let Some(collector) = self.collector.take_if(|collector| collector.pid == pid) {
            if exit != Exit::Code(0) {
                let attempt = collector.attempt;
                self.refuse(format!("files of attempt {attempt} were not all sent: {exit:?}"));
            }
            self.collect_next();
        }
    }

    /// Takes the shell as far as it goes now.
    fn advance_shell(&mut self, now: Instant) {
        if self.shell.as_mut().is_some_and(|shell| shell.advance(now)) {
            self.control.push_back(Message::Shell(ShellMessage::Opened));
        }
    }

    /// Takes the test as far as it goes now.
    fn advance_test(&mut self, now: Instant) {
        while let Some(test) = &mut self.test
            && let Some(change) = test.process.advance(test.pipe().is_some(), now)
        {
            match change {
                Change::Started => {
                    let attempt = test.process.attempt();
                    let pid = test.process.pid().as_raw_nonzero().get().unsigned_abs();
                    let probed = test.process.probed();
                    self.control.push_back(Message::Started { attempt, pid, probed });
                }
                Change::Over => {
                    test.drain_pipe(&mut self.buffer, now);
                    test.finish(now);
                    self.tell_kernel_state(now);
                }
            }
        }
    }
}

/// Bounds a text.
fn clip(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text
}
