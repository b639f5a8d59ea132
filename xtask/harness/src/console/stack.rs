//! Reads the frames of backtraces in kernel logs, and chooses the one that names a bug.
//!
//! Pure. Deliberately not here: the list of functions that never do (`helpers.rs`), addresses to file and
//! line, and signatures.

use std::sync::LazyLock;

use protocol::frames::is_storage_frame;
use regex::Regex;

use super::helpers::is_generic;

/// Longest frame that is kept, characters.
const FRAME_MAX: usize = 200;

/// One function of a backtrace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// The frame as in the log: `stop_sync_thread+0x1b2/0x230 [md_mod]`.
    pub(super) text: &'a str,
    /// Name of the function, without suffixes of the compiler: `stop_sync_thread`.
    pub(super) function: &'a str,
}

static FRAME: LazyLock<Regex> = LazyLock::new(|| {
    // Older kernels print `[<ffffffff81234567>]` before it, powerpc `[c000000003b7b8a0] [c0080000051a0f24]`;
    // `[md_mod be1…]` has a build id.
    Regex::new(
        r"^(?:\[<?[0-9a-f]{8,16}>?\] )*(?<text>(?<function>[A-Za-z_$][\w.$]*)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[\w+(?: [0-9a-f]+)?\])?)(?<rest> \(unreliable\))?",
    )
    .expect("a regular expression of our own")
});

/// A function that the compiler inlined, in a log that was decoded (decode_stacktrace.sh, syzbot):
/// `kref_put include/linux/kref.h:64 [inline]`.
static INLINE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(?<function>[A-Za-z_]\w*) [\w./+-]+\.(?:[chS]|rs):\d+ \[inline\]$")
        .expect("a regular expression of our own")
});

/// Parses `func+0x12/0x34 [mod]`. `None` for `? func+…`, and for `func+… (unreliable)` on powerpc: such an
/// address was only found on the stack, and may be no caller.
pub(super) fn frame(line: &str) -> Option<Frame<'_>> {
    let line = line.trim_start();
    // A cheap check first, true for all frames.
    if !line.contains("+0x") {
        let found = line.ends_with("[inline]").then(|| INLINE.captures(line)).flatten()?;
        let function = found.name("function").expect("a group of the expression").as_str();
        return Some(Frame { text: function, function });
    }
    let found = FRAME.captures(line)?;
    if found.name("rest").is_some() {
        return None;
    }
    let text = found.name("text").expect("a group of the expression").as_str();
    let function = found.name("function").expect("a group of the expression").as_str();
    Some(Frame { text, function: plain(function) })
}

/// True for an address that was only found on the stack.
pub(super) fn is_doubtful_frame(line: &str) -> bool {
    let line = line.trim_start();
    line.strip_prefix("? ").is_some_and(|rest| frame(rest).is_some() || rest.starts_with("0x"))
        || line.ends_with(" (unreliable)")
}

/// The frame of the instruction pointer, if it was in the kernel: `RIP: 0010:func+0x12/0x34 [mod]` on x86
/// (code segment 0x33 is user space), `pc : func+0x12/0x34` on arm64, `NIP [c0080000051a0f24] func+0x12/0x34`
/// on powerpc.
pub(super) fn instruction_pointer(line: &str) -> Option<Frame<'_>> {
    let x86 = || line.strip_prefix("RIP: ")?.split_once(':').filter(|(segment, _)| *segment != "0033");
    let rest = x86()
        .map(|(_, rest)| rest)
        .or_else(|| line.strip_prefix("pc : "))
        .or_else(|| line.strip_prefix("NIP "))?;
    frame(rest)
}

/// A function's name as in the C source: without `.cold`, `.isra.0`, `.constprop.0`.
pub(super) fn plain(function: &str) -> &str {
    function.split('.').next().unwrap_or(function)
}

/// The function of a kept frame: one with an offset, or the bare name of an inlined one.
fn function_of(text: &str) -> Option<&str> {
    let name = frame(text).map_or_else(|| text.split_whitespace().next(), |frame| Some(frame.function))?;
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    is_name.then(|| plain(name))
}

/// The function that names a bug: the innermost of md or dm if `wants_md` and there is one, else the
/// innermost that is no part of reporting, waiting, locking or entering the kernel.
pub(super) fn guilty(frames: &[String], wants_md: bool) -> Option<&str> {
    let of_md = || telling(frames).find(|(_, is_storage)| *is_storage).map(|(function, _)| function);
    let innermost = || telling(frames).next().map(|(function, _)| function);
    wants_md.then(of_md).flatten().or_else(innermost)
}

/// The functions that distinguish two reports with one title: those of md and dm, else the innermost that are
/// no helpers.
pub(super) fn telling_apart(frames: &[String]) -> Vec<&str> {
    const ENOUGH: usize = 3;
    let ours = telling(frames).filter(|(_, is_storage)| *is_storage);
    let ours: Vec<_> = ours.map(|(function, _)| function).take(ENOUGH).collect();
    if ours.is_empty() { telling(frames).map(|(function, _)| function).take(ENOUGH).collect() } else { ours }
}

/// The functions of a stack that are no helpers, and whether each is md's or dm's.
fn telling(frames: &[String]) -> impl Iterator<Item = (&str, bool)> {
    frames.iter().filter_map(|text| {
        let function = function_of(text)?;
        let is_storage = is_storage_frame(text);
        // A module of md may name a function of its own like a helper.
        let is_own = is_storage && text.contains(" [");
        (is_own || !is_generic(function)).then_some((function, is_storage))
    })
}

/// The frame as it is kept: clipped to [`FRAME_MAX`].
pub(super) fn kept(frame: &str) -> String {
    frame.chars().take(FRAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_from_guesses_and_words() {
        let whole = "stop_sync_thread+0x1b2/0x230 [md_mod]";
        let line = format!("  {whole}");
        let found = frame(&line).unwrap();
        assert_eq!((found.text, found.function), (whole, "stop_sync_thread"));
        assert_eq!(frame(" raid5_run.cold+0x1/0x2").unwrap().function, "raid5_run");
        assert_eq!(frame(" [<ffffffff81234567>] vfs_write+0x1/0x2").unwrap().function, "vfs_write");
        assert_eq!(frame(" ? vfs_write+0x1/0x2"), None);
        assert!(is_doubtful_frame("  ? vfs_write+0x1/0x2") && !is_doubtful_frame(" ? what"));
        assert_eq!(frame("md: md0 stopped."), None);
        assert_eq!(instruction_pointer("RIP: 0010:md_run+0x1/0x2 [md_mod]").unwrap().function, "md_run");
        assert_eq!(instruction_pointer("RIP: 0033:0x7f175a57f3a7"), None);
    }

    #[test]
    fn generic_functions_name_no_bug() {
        let frames = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| name.replacen(' ', "+0x1/0x2 ", 1)).collect()
        };
        let stuck = frames(&[
            "__schedule ",
            "schedule ",
            "blkdev_get ",
            "raid_ctr [dm_raid]",
            "dev_suspend [dm_mod]",
        ]);
        assert_eq!(guilty(&stuck, false), Some("blkdev_get"));
        assert_eq!(guilty(&stuck, true), Some("raid_ctr"));
        assert_eq!(guilty(&frames(&["dump_stack_lvl ", "do_syscall_64 "]), true), None);
    }
}
