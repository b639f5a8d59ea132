//! The agent's helper processes beside a test: the sampler, the diagnosis of a hang, and the one that sends
//! files.
//!
//! Each may come to a standstill, and nobody waits for one.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use protocol::wire::Message;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::Agent;
use crate::process::spawn;
use crate::watch::witness::Witness;

/// Collections that may wait for another.
const MAX_WANTED: usize = 8;
/// Samplers that are started in place of one that ended, for one test.
const SAMPLERS_MAX: u32 = 3;

/// A request for files.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) attempt: u32,
    pub(super) patterns: Vec<String>,
    pub(super) max_bytes: u64,
}

/// The process that sends files.
#[derive(Debug)]
pub(super) struct Collector {
    pub(super) attempt: u32,
    pub(super) pid: Pid,
    pub(super) pidfd: Option<OwnedFd>,
}

impl Agent {
    /// Starts a sampler again that has ended before its test, unless it ends each time. Without one, a hang
    /// is found only by the time limits.
    pub(super) fn look_after_sampler(&mut self) {
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

    pub(super) fn diagnose(&mut self, attempt: u32) {
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
    pub(super) fn pass_evidence(&mut self) {
        if let Some((diagnosis, attempt)) = &mut self.diagnosis {
            let attempt = *attempt;
            let said = diagnosis.read().into_iter();
            self.control.extend(said.map(|evidence| Message::Evidence { attempt, evidence }));
        }
    }

    pub(super) fn collect(&mut self, wanted: Wanted) {
        if self.wanted.len() >= MAX_WANTED {
            let attempt = wanted.attempt;
            return self.refuse(format!("cannot collect files of attempt {attempt}: too many collections"));
        }
        self.wanted.push_back(wanted);
        self.collect_next();
    }

    /// Starts the next collection, if none is under way.
    pub(super) fn collect_next(&mut self) {
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
}
