//! Reads debug information, and maps frames of backtraces to source lines. Pure: bytes in.
//!
//! A kernel is linked: its addresses are final. A module is relocatable: each section begins at 0, and its
//! debug information needs relocations. Here its code sections are laid out one after another, and relocated
//! accordingly. The address at which the kernel loads it does not matter, because frames are function and
//! offset.

use std::collections::HashMap;
use std::sync::Arc;

use gimli::{EndianArcSlice, LittleEndian};
use object::read::{Object, ObjectSection, ObjectSymbol, ReadRef, RelocationKind, RelocationTarget};
use object::{ObjectKind, SectionIndex, SectionKind, SymbolKind};
use protocol::event::Place;

/// Maximum number of inlined callers of a frame.
const PLACES_MAX: usize = 8;
/// Largest difference between the kernel's size of a function and ours, bytes. The kernel's reaches to the
/// next symbol (kernel/kallsyms.c, `get_symbol_pos`), so it includes alignment, up to 64, and 16 of padding
/// for calls. That of the last function reaches to the end of the module.
const PADDING_MAX: u64 = 80;
/// Address of a module's first section. It is not 0, which means "removed" in debug information.
const FIRST_BASE: u64 = 0x1_0000;

/// Top folders of a kernel tree, in the order in which a path is searched for them.
const TREE_FOLDERS: [&str; 13] = [
    "drivers", "arch", "include", "block", "kernel", "fs", "mm", "io_uring", "init", "crypto", "security",
    "net", "lib",
];

/// Why a file has no usable line information.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DebugInfoError {
    /// The file is no ELF file, or damaged.
    #[error("cannot be read: {0}")]
    Object(#[from] object::Error),
    /// The line information is invalid.
    #[error("its debug information cannot be read: {0}")]
    Dwarf(#[from] gimli::Error),
    /// The file was stripped.
    #[error("holds no debug information")]
    Stripped,
}

/// A frame of a backtrace, `md_stop+0x1b/0x40 [md_mod]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// Name of the function as the kernel prints it, with suffixes of the compiler: `md_do_sync.cold`.
    pub(crate) function: &'a str,
    /// Distance from the function's beginning, bytes.
    pub(crate) offset: u64,
    /// Size of the function up to the next symbol, bytes.
    pub(crate) size: u64,
    /// Name of the module, `md_mod`; `None` for built-in code.
    pub(crate) module: Option<&'a str>,
}

impl<'a> Frame<'a> {
    /// Parses a frame; `None` if the text is none.
    pub(crate) fn parse(text: &'a str) -> Option<Frame<'a>> {
        let mut words = text.split_whitespace();
        let mut parts = words.next()?.split('+');
        let (function, position) = (parts.next()?, parts.next()?);
        let (offset, size) = position.split_once('/')?;
        let hex = |number: &str| u64::from_str_radix(number.strip_prefix("0x")?, 16).ok();
        let module = match words.next() {
            None => None,
            // `[md_mod be1…]` has a build id.
            Some(word) => Some(word.strip_prefix('[')?.trim_end_matches(']')),
        };
        Some(Frame { function, offset: hex(offset)?, size: hex(size)?, module })
    }
}

/// Functions and lines of one ELF file.
pub(crate) struct DebugInfo {
    lines: addr2line::Context<EndianArcSlice<LittleEndian>>,
    /// Functions by name; one name may have several.
    functions: HashMap<String, Vec<Function>>,
}

/// A function of an ELF file.
#[derive(Clone, Copy, Debug)]
struct Function {
    address: u64,
    size: u64,
    /// True if nothing follows it in its section.
    is_last: bool,
}

impl Function {
    /// True if `frame` may be in this function.
    fn fits(&self, frame: &Frame<'_>) -> bool {
        frame.offset <= self.size
            && frame.size >= self.size
            && (self.is_last || frame.size - self.size <= PADDING_MAX)
    }
}

impl DebugInfo {
    /// Parses an ELF file.
    pub(crate) fn parse<'data>(data: impl ReadRef<'data>) -> Result<DebugInfo, DebugInfoError> {
        let file = object::File::parse(data)?;
        let bases = bases(&file);
        let mut sections: HashMap<&'static str, Arc<[u8]>> = HashMap::new();
        let mut load = |id: gimli::SectionId| -> Result<_, DebugInfoError> {
            let bytes = match file.section_by_name(id.name()) {
                Some(section) => relocated(&file, &section, &bases)?,
                None => Vec::new(),
            };
            let bytes: Arc<[u8]> = bytes.into();
            sections.insert(id.name(), bytes.clone());
            Ok(EndianArcSlice::new(bytes, LittleEndian))
        };
        let dwarf = gimli::Dwarf::load(&mut load)?;
        if sections.get(gimli::SectionId::DebugInfo.name()).is_none_or(|bytes| bytes.is_empty()) {
            return Err(DebugInfoError::Stripped);
        }
        let lines = addr2line::Context::from_dwarf(dwarf)?;
        Ok(DebugInfo { lines, functions: functions(&file, &bases) })
    }

    /// Source places of a frame, the innermost inlined function first. `None` if the file does not have this
    /// very function: a line from another build would mislead.
    ///
    /// `is_exact` is true for a frame that faulted. Other frames hold the return address, which is after the
    /// call.
    pub(crate) fn locate(&self, frame: &Frame<'_>, is_exact: bool) -> Option<Vec<Place>> {
        let mut found = self.functions.get(frame.function)?.iter().filter(|function| function.fits(frame));
        // If two functions of this name fit, nobody can tell which one it is.
        let (function, None) = (found.next()?, found.next()) else { return None };
        let probe = function.address.wrapping_add(frame.offset).checked_sub(u64::from(!is_exact))?;
        let mut frames = self.lines.find_frames(probe).skip_all_loads().ok()?;
        let mut places = Vec::new();
        while let (true, Ok(Some(inlined))) = (places.len() < PLACES_MAX, frames.next()) {
            let Some((file, line)) =
                inlined.location.and_then(|location| Some((location.file?, location.line?)))
            else {
                continue;
            };
            let name = inlined.function.as_ref().and_then(|function| function.raw_name().ok());
            let function = name.map_or_else(|| frame.function.to_owned(), |name| name.into_owned());
            places.push(Place { function, file: in_tree(file), line });
        }
        (!places.is_empty()).then_some(places)
    }
}

/// All functions of a file, by name.
fn functions<'data>(
    file: &impl Object<'data>,
    bases: &HashMap<SectionIndex, u64>,
) -> HashMap<String, Vec<Function>> {
    let symbols: Vec<_> = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text).collect();
    let mut last: HashMap<SectionIndex, u64> = HashMap::new();
    for symbol in &symbols {
        if let Some(section) = symbol.section_index() {
            let end = last.entry(section).or_default();
            *end = symbol.address().max(*end);
        }
    }
    let mut functions: HashMap<String, Vec<Function>> = HashMap::new();
    for symbol in symbols {
        if let (Ok(name), Some(section)) = (symbol.name(), symbol.section_index()) {
            let address = base_of(Some(section), bases).wrapping_add(symbol.address());
            let is_last = last.get(&section) == Some(&symbol.address());
            let function = Function { address, size: symbol.size(), is_last };
            functions.entry(name.to_owned()).or_default().push(function);
        }
    }
    functions
}

/// The address given to each code section of a file that is not linked.
fn bases<'data>(file: &impl Object<'data>) -> HashMap<SectionIndex, u64> {
    let mut bases = HashMap::new();
    if file.kind() != ObjectKind::Relocatable {
        return bases;
    }
    let mut next = FIRST_BASE;
    for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
        let align = section.align().max(1);
        next = next.next_multiple_of(align);
        bases.insert(section.index(), next);
        next = next.saturating_add(section.size()).saturating_add(1);
    }
    bases
}

/// The address to add in a section: 0 in a linked file, and for sections without code.
fn base_of(section: Option<SectionIndex>, bases: &HashMap<SectionIndex, u64>) -> u64 {
    section.and_then(|section| bases.get(&section)).copied().unwrap_or(0)
}

/// The bytes of a section, decompressed and relocated.
fn relocated<'data>(
    file: &impl Object<'data>,
    section: &impl ObjectSection<'data>,
    bases: &HashMap<SectionIndex, u64>,
) -> Result<Vec<u8>, object::Error> {
    let mut bytes = section.uncompressed_data()?.into_owned();
    if file.kind() != ObjectKind::Relocatable {
        return Ok(bytes);
    }
    for (offset, relocation) in section.relocations() {
        if relocation.kind() != RelocationKind::Absolute {
            continue;
        }
        let RelocationTarget::Symbol(symbol) = relocation.target() else { continue };
        let symbol = file.symbol_by_index(symbol)?;
        let base = base_of(symbol.section_index(), bases);
        let value = base.wrapping_add(symbol.address()).wrapping_add(relocation.addend().cast_unsigned());
        let n_bytes = usize::from(relocation.size() / 8).min(8);
        let hole = usize::try_from(offset).ok().and_then(|start| bytes.get_mut(start..)?.get_mut(..n_bytes));
        if let Some(hole) = hole {
            hole.copy_from_slice(&value.to_le_bytes()[..n_bytes]);
        }
    }
    Ok(bytes)
}

/// A path within the kernel tree, wherever it was built:
/// `/build/linux-6.12/debian/build/x/../../../drivers/md/md.c` → `drivers/md/md.c`.
fn in_tree(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match part {
            ".." if !parts.is_empty() => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let start = TREE_FOLDERS.iter().find_map(|folder| parts.iter().rposition(|part| part == folder));
    parts[start.unwrap_or(0)..].join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &[u8] = include_bytes!("../../testdata/symbols/module.o");
    const LINKED: &[u8] = include_bytes!("../../testdata/symbols/linked");

    /// Lines `file:line function`, innermost first.
    fn located(bytes: &[u8], frame: &str, is_exact: bool) -> Option<Vec<String>> {
        let info = DebugInfo::parse(bytes).unwrap();
        let places = info.locate(&Frame::parse(frame).unwrap(), is_exact)?;
        Some(places.iter().map(|place| format!("{}:{} {}", place.file, place.line, place.function)).collect())
    }

    #[test]
    fn frames_are_taken_apart() {
        let frame = Frame::parse("md_do_sync.cold+0x5b0/0x988 [md_mod be10]").unwrap();
        assert_eq!((frame.function, frame.offset, frame.size), ("md_do_sync.cold", 0x5b0, 0x988));
        assert_eq!(frame.module, Some("md_mod"));
        assert_eq!(Frame::parse("kthread+0xd7/0x100").unwrap().module, None);
        for bad in ["", "kthread", "kthread+0xd7", "0xffffffff81000000", "f+x/y", "f+0x1/0x2 md_mod"] {
            assert_eq!(Frame::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn lines_are_found_with_and_without_relocations() {
        for bytes in [MODULE, LINKED] {
            let check = |frame: &str, expect: &[&str]| {
                assert_eq!(located(bytes, frame, false).unwrap(), expect, "{frame}");
            };
            // The lines after the call in the inlined function, and after its caller's own call.
            let inlined = ["drivers/md/module.c:9 raise_barrier", "drivers/md/module.c:14 sync_request"];
            check("sync_request+0x9/0x20 [module]", &inlined);
            check("sync_request+0x11/0x20 [module]", &["drivers/md/module.c:16 sync_request"]);
            // The second section begins at 0, too.
            check("module_start+0xd/0x1000 [module]", &["drivers/md/module.c:21 module_start"]);
            check("twice+0x9/0x10 [module]", &["drivers/md/module.c:26 twice"]);
        }
    }

    #[test]
    fn the_address_that_faulted_is_taken_as_it_is() {
        // The next line's code begins here.
        let first = |is_exact| located(MODULE, "sync_request+0xc/0x20 [module]", is_exact).unwrap().remove(0);
        assert_eq!(first(true), "drivers/md/module.c:16 sync_request");
        assert_eq!(first(false), "drivers/md/module.c:9 raise_barrier");
    }

    #[test]
    fn another_build_s_function_is_not_guessed_at() {
        for frame in [
            // A size that is smaller, and one that is much larger, than the file's.
            "sync_request+0x9/0x10 [module]",
            "sync_request+0x9/0x120 [module]",
            "sync_request+0x30/0x40 [module]",
            "no_such+0x1/0x2 [module]",
        ] {
            assert_eq!(located(MODULE, frame, false), None, "{frame}");
        }
    }

    #[test]
    fn what_is_no_debug_information_is_refused() {
        let error = |bytes: &[u8]| DebugInfo::parse(bytes).err().unwrap().to_string();
        assert!(error(b"no ELF").starts_with("cannot be read: "));
        let mut stripped = MODULE.to_vec();
        let name = b".debug_info";
        for at in 0..stripped.len() - name.len() {
            if stripped[at..].starts_with(name) {
                stripped[at + 1] = b'x';
            }
        }
        assert_eq!(error(&stripped), "holds no debug information");
    }

    #[test]
    fn paths_are_those_of_the_tree() {
        for (path, expect) in [
            ("/build/linux-6.12/debian/build/x/../../../drivers/md/md.c", "drivers/md/md.c"),
            ("/usr/src/linux-headers-6.12/arch/x86/include/asm/bitops.h", "arch/x86/include/asm/bitops.h"),
            ("/home/kernel/src/kernel/kthread.c", "kernel/kthread.c"),
            ("./include/linux/wait.h", "include/linux/wait.h"),
            ("/tmp/x.c", "tmp/x.c"),
        ] {
            assert_eq!(in_tree(path), expect);
        }
    }
}
