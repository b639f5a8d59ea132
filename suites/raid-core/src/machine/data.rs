//! Checks the members' data against what was written last: each block that an IO could reach now (I7), and an
//! array that is assembled anew from the superblocks (I8).

use crate::machine::disk::{BLOCKS, EMPTY, MAX, NEW_VERSION, Reshape};
use crate::machine::state::{Set, State};

/// True if a cell's content is right for a logical block: it is the acknowledged version, or the one in
/// flight.
pub fn is_right(state: &State, block: u8, content: u8) -> bool {
    if content & EMPTY != block {
        return false;
    }
    let acked = state.acked & (1 << block) != 0;
    // A write that failed may have been done or not; one that was given back is made again.
    let in_flight = state.bios.iter().any(|bio| {
        let undecided = bio.write == 1 && (bio.phase != 2 || bio.error != 0);
        undecided && (bio.block..bio.block + bio.len).contains(&block)
    });
    match content & NEW_VERSION != 0 {
        true => acked || in_flight,
        false => !acked,
    }
}

/// I7: true if every block that an IO could reach now through a raid_set has the content that was written
/// last. Blocks between `reshape_safe` and `reshape_progress` cannot be reached: IO waits there.
pub fn reads_right(state: &State, set: &Set, reshape: Reshape) -> bool {
    (0..BLOCKS).all(|block| {
        let previous = if set.progress == MAX {
            set.layout == 0
        } else if reshape.is_ahead(block, set.progress) {
            true
        } else if reshape.is_ahead(block, set.safe) {
            return true;
        } else {
            false
        };
        is_right(state, block, state.cells[reshape.cell(block, previous)])
    })
}

/// I8: true if an array that is assembled from the members as they are now would read right.
pub fn restarts_right(state: &State, reshape: Reshape) -> bool {
    let position = state.sb.reshape_position;
    (0..BLOCKS).all(|block| {
        let previous = if position == MAX { state.sb.layout == 0 } else { reshape.is_ahead(block, position) };
        is_right(state, block, state.cells[reshape.cell(block, previous)])
    })
}
