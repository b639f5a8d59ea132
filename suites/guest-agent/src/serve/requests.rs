//! Requests of the host, handled one after the other.

use std::time::{Duration, Instant};

use protocol::codec::encode;
use protocol::program::{Exit, Program};
use protocol::shell::{ShellMessage, ShellRequest};
use protocol::wire::{Message, Request, StartTest, VERSION};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::process::{Signal, kill_process};

use super::Agent;
use super::helpers::Wanted;
use crate::console;
use crate::guest;
use crate::link::inbox;
use crate::process::launch;
use crate::process::life::Life;
use crate::process::shell::Shell;
use crate::process::spawn;
use crate::process::test::RunningTest;
use crate::watch::witness::Witness;

/// How long a power-off waits for messages that are still to be written.
const LAST_WORDS: Duration = Duration::from_millis(200);

impl Agent {
    pub(super) fn read_requests(&mut self, flags: PollFlags, now: Instant) {
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
            Request::Hello { version, session, entropy } => self.hello(version, session, &entropy, now),
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

    fn hello(&mut self, version: u32, session: u64, entropy: &[u8], now: Instant) {
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
            guest::stir_random(entropy);
        }
        // The new host has heard nothing yet of what the kernel said while booting.
        if let Some(kmsg) = &mut self.kmsg {
            kmsg.rewind(now);
        }
        self.tell_kernel_state(now);
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
}
