//! The report of a launcher to the agent, both ends: what went wrong while it prepared, and which module it
//! loaded.
//!
//! Lines of `errno what`, where 0 marks a remark, and of `probed NAME BUILD-ID`. The pipe closes when the
//! launcher becomes the program, or ends because it could not.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use protocol::program::LoadedModule;
use rustix::io::Errno;

/// A launcher's report.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Faults that stopped nothing.
    pub(crate) remarks: Vec<String>,
    /// Why it did not become the test: errno, and what it was doing.
    pub(crate) failure: Option<(i32, String)>,
    /// The module that it loaded in place of the kernel's, as the kernel has it.
    pub(crate) probed: Option<LoadedModule>,
}

/// Before the name and the build id of a module, in a launcher's report.
const PROBED: &str = "probed";

/// Parses the launcher's report: lines of `errno what`, where 0 marks a remark, and of
/// `probed NAME BUILD-ID`.
fn parse_report(text: &str) -> Report {
    let mut report = Report::default();
    for (errno, what) in text.lines().filter_map(|line| line.split_once(' ')) {
        if errno == PROBED {
            let loaded = what.split_once(' ');
            report.probed =
                loaded.map(|(name, id)| LoadedModule { name: name.to_owned(), build_id: id.to_owned() });
            continue;
        }
        match errno.parse() {
            Ok(0) => report.remarks.push(what.to_owned()),
            Ok(errno) => report.failure = Some((errno, what.to_owned())),
            Err(_) => {}
        }
    }
    report
}

/// The report of a launcher, as it comes.
#[derive(Debug)]
pub(crate) struct ReportReader {
    /// Closes when the launcher has become the test, or has ended because it could not.
    fd: Option<OwnedFd>,
    text: Vec<u8>,
}

impl ReportReader {
    /// Nothing read yet.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd: Some(fd), text: Vec::new() }
    }

    /// Readable when there is something to [`Self::read`].
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// Reads the pipe. Returns the whole report, once, when the launcher has said everything.
    pub(crate) fn read(&mut self) -> Option<Report> {
        let fd = self.fd.as_ref()?;
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(fd, &mut buffer) {
                // Little: the launcher sends a remark, a module and a failure at most.
                Ok(n) if n > 0 => self.text.extend_from_slice(&buffer[..n]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                Ok(_) | Err(_) => break,
            }
        }
        self.fd = None;
        Some(parse_report(&String::from_utf8_lossy(&self.text)))
    }

    /// Gives the rest of the report up.
    pub(crate) fn close(&mut self) {
        self.fd = None;
    }
}

/// The launcher's end of the report.
pub(crate) struct Reporter(pub(crate) OwnedFd);

impl Reporter {
    /// The kernel has loaded a module that takes the place of its own.
    pub(crate) fn probed(&self, module: &LoadedModule) {
        let line = format!("{PROBED} {} {}\n", module.name, module.build_id);
        let _ = rustix::io::write(&self.0, line.as_bytes());
    }

    /// Something went wrong; 0 for an `errno` that stops nothing.
    pub(crate) fn say(&self, errno: i32, what: &str) {
        // One line, and short enough for the pipe to take it whole.
        let words: Vec<&str> = what.split_whitespace().collect();
        let what: String = words.join(" ").chars().take(900).collect();
        let _ = rustix::io::write(&self.0, format!("{errno} {what}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports() {
        assert_eq!(parse_report(""), Report::default());
        assert_eq!(
            parse_report("0 no module x\n2 execute no-such\n"),
            Report {
                remarks: vec!["no module x".to_owned()],
                failure: Some((2, "execute no-such".to_owned())),
                probed: None,
            }
        );
        let probed = LoadedModule { name: "md_mod".to_owned(), build_id: "0a".to_owned() };
        assert_eq!(parse_report("probed md_mod 0a\n").probed, Some(probed));
    }
}
