//! Parses the kernel's list of workqueues after one stalls: the works in flight in the stalled pool, and the
//! stacks of the workers (`show_one_workqueue`, kernel/workqueue.c).
//!
//! Pure and bounded. Deliberately not here: the line that reports the stall.

use std::sync::LazyLock;

use protocol::evidence::{FRAMES_MAX, TaskStack};
use protocol::frames::is_storage_frame;
use regex::Regex;

use super::stack::{frame, instruction_pointer, is_doubtful_frame, kept};
use super::tasks::{stack_of, task_line};

/// Maximum number of pools that are kept.
const POOLS_MAX: usize = 16;

/// Maximum number of works that are kept.
const WORKS_MAX: usize = 8;

/// The works of the stalled pools.
#[derive(Debug, Default)]
pub(super) struct StalledWork {
    /// The stalled pools, as the report names them.
    pools: Vec<String>,
    /// True while the lines are about one of these pools.
    is_in_pool: bool,
    works: Vec<Work>,
    /// Index of the worker whose stack is being read.
    current_idx: Option<usize>,
}

/// A work in flight, or a worker.
#[derive(Debug)]
struct Work {
    /// The work's function, if it was named: `md_start_sync [md_mod]`.
    function: Option<String>,
    is_in_pool: bool,
    worker: TaskStack,
}

impl StalledWork {
    pub(super) fn of(pool: Option<String>) -> Self {
        StalledWork { pools: pool.into_iter().collect(), ..StalledWork::default() }
    }

    /// Adds a further stalled pool.
    pub(super) fn add_pool(&mut self, pool: Option<String>) {
        self.pools.extend(pool.filter(|_| self.pools.len() < POOLS_MAX));
    }

    /// True as long as no work has been named.
    pub(super) fn is_untold(&self) -> bool {
        self.works.is_empty()
    }

    /// Takes a line; returns false if it is no part of the list.
    pub(super) fn look(&mut self, text: &str) -> bool {
        static IN_FLIGHT: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(
                r"(?:^|[ ,])(?:(?<pid>\d+)(?:\(RESCUER\))?|bh\w*):(?<function>[A-Za-z_][\w.]*(?: \[\w+\])?)",
            )
            .expect("a regular expression of our own")
        });
        const OTHERS: [&str; 12] = [
            "Showing ",
            "workqueue ",
            "pending:",
            "inactive:",
            "delayed:",
            "pool ",
            "The pool ",
            "Call Trace:",
            "Call trace:",
            "Workqueue: ",
            "<TASK>",
            "</TASK>",
        ];
        if let Some(pwq) = text.strip_prefix("pwq ") {
            let told = pwq.split_once(": ").map_or("", |(_, told)| told);
            self.is_in_pool = self.pools.iter().any(|pool| told.starts_with(pool.as_str()));
            return true;
        }
        if let Some(works) = text.strip_prefix("in-flight:") {
            for found in IN_FLIGHT.captures_iter(works) {
                let pid = found.name("pid").and_then(|pid| pid.as_str().parse().ok()).unwrap_or(0);
                self.add(Work {
                    function: Some(found["function"].to_owned()),
                    is_in_pool: self.is_in_pool,
                    worker: stack_of(pid, "kworker", '?'),
                });
            }
            return true;
        }
        if let Some(task) = task_line(text) {
            let known = self.works.iter().position(|work| work.worker.pid == task.pid);
            // Only workers of stalled pools have their stacks printed.
            self.current_idx =
                known.or_else(|| self.add(Work { function: None, is_in_pool: true, worker: task.stack() }));
            if let Some(idx) = self.current_idx {
                self.works[idx].worker.comm = task.comm;
                self.works[idx].worker.state = task.state;
            }
            return true;
        }
        if let Some(found) = instruction_pointer(text).or_else(|| frame(text)) {
            if let Some(worker) = self.current_idx.map(|idx| &mut self.works[idx].worker)
                && worker.frames.len() < FRAMES_MAX
            {
                worker.frames.push(kept(found.text));
            }
            return true;
        }
        text.is_empty()
            || OTHERS.iter().any(|start| text.starts_with(start))
            || is_doubtful_frame(text)
            || ["RIP:", "RSP:", "RAX:", "RDX:", "RBP:", "R10:", "R13:", "Code:"]
                .iter()
                .any(|word| text.starts_with(word))
    }

    fn add(&mut self, work: Work) -> Option<usize> {
        if self.works.len() == WORKS_MAX {
            return None;
        }
        self.works.push(work);
        Some(self.works.len() - 1)
    }

    /// Stacks of the workers that the pool waits for, those in md or dm first, and the function for the
    /// title.
    pub(super) fn causes(self) -> (Vec<TaskStack>, Option<String>) {
        let mut works = self.works;
        if works.iter().any(|work| work.is_in_pool) {
            works.retain(|work| work.is_in_pool);
        }
        for work in &mut works {
            if work.worker.frames.is_empty() {
                work.worker.frames.extend(work.function.clone());
            }
        }
        let is_ours = |work: &Work| {
            work.function.iter().chain(&work.worker.frames).any(|frame| is_storage_frame(frame))
        };
        works.sort_by_key(|work| !is_ours(work));
        let named = works.iter().find_map(|work| work.function.as_deref());
        let named = named.and_then(|function| function.split([' ', '.']).next()).map(str::to_owned);
        (works.into_iter().map(|work| work.worker).collect(), named)
    }
}
