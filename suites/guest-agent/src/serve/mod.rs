//! The loop: one thread that polls everything, waits for nothing else, and always comes round.
//!
//! Here is the round itself, and the end of processes. [`waiting`] polls, [`sending`] chooses what goes to
//! the host, [`requests`] handles what comes from it, and [`helpers`] has the processes that help beside a
//! test. Deliberately not here: the test itself ([`crate::process::test`]), the shell
//! ([`crate::process::shell`]), and anything that may block on a test's doing.

mod helpers;
mod requests;
mod sending;
mod waiting;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use protocol::program::Exit;
use protocol::shell::ShellMessage;
use protocol::wire::{AGENT_PORT, FILES_PORT, GuestFacts, HEARTBEAT_MS, Message};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus};

use crate::boot;
use crate::console;
use crate::guest;
use crate::link::kmsg::Kmsg;
use crate::link::ports::{self, Port};
use crate::process::shell::{Shell, ShellPart};
use crate::process::supervised::Change;
use crate::process::test::RunningTest;
use crate::watch::witness::Witness;
use helpers::{Collector, Wanted};
use waiting::Source;

/// How often orphans are reaped at most.
const REAP_EVERY: Duration = Duration::from_millis(20);
/// How often a port without a host is looked at. Short: a restored guest answers that late.
const HOST_CHECK: Duration = Duration::from_millis(20);
/// How often a port without a host is looked at while a test runs, which should not be disturbed.
const HOST_CHECK_BUSY: Duration = Duration::from_millis(100);
/// A read of the pipe; a short one means that there is little to read.
const READ: usize = 256 * 1024;

/// All that the agent has in hand.
struct Agent {
    port: Port,
    files: Result<OwnedFd, String>,
    kmsg: Option<Kmsg>,
    control: VecDeque<Message>,
    test: Option<RunningTest>,
    /// The cgroup of a test that is over and left processes that cannot be killed: they are still sampled.
    left: Option<PathBuf>,
    /// A guest has one shell in its life, and keeps it: closing a terminal may take long.
    shell: Option<Shell>,
    sampler: Option<Witness>,
    /// Samplers of this test that ended before it.
    n_samplers_lost: u32,
    /// The process that writes down how the guest hangs, and the attempt that it is about.
    diagnosis: Option<(Witness, u32)>,
    collector: Option<Collector>,
    /// Collections that wait for the one under way.
    wanted: VecDeque<Wanted>,
    facts: GuestFacts,
    /// Faults while booting: each host is told of them, because a snapshot is restored for many.
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

    fn drain_pipe(&mut self, now: Instant) {
        if let Some(test) = &mut self.test {
            test.drain_pipe(&mut self.buffer, now);
        }
    }

    /// Reaps processes that have ended, without waiting for others.
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
