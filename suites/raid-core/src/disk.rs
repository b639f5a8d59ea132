//! The members' data: which version of which logical block lies where, before, during and after a
//! reshape. Parity is left out: nothing here reads through it.
//!
//! The smallest size that says something: twelve blocks, chunks of one block, from two data disks to
//! three ([`Reshape::Grow`], forward) or from three to two ([`Reshape::Shrink`], backwards). The reshape
//! is dm-raid's, out of place: the layout that is further down the disks (`data_offset`) lies [`OFFSET`]
//! rows lower, the old one when growing, the new one when shrinking.

use crate::state::{MAX, Set, State};

/// Logical blocks of the array.
pub const BLOCKS: u8 = 12;
/// Rows by which one layout is shifted.
pub const OFFSET: u8 = 2;
/// Disks that hold data, at most.
const DISKS: u8 = 3;
/// Rows of the narrow layout.
const ROWS: u8 = BLOCKS / 2;
/// Cells on the members.
pub const N_CELLS: usize = (ROWS + OFFSET) as usize * DISKS as usize;
/// A cell that nobody has written.
pub const EMPTY: u8 = 0x0f;
/// Bit of a cell: the version that an IO task wrote.
pub const NEW_VERSION: u8 = 0x10;

/// What a reshape does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reshape {
    /// From two data disks to three, from the first block on.
    Grow,
    /// From three data disks to two, from the last block down (`reshape_backwards`).
    Shrink,
}

impl Reshape {
    /// Data disks before it.
    pub const fn old_disks(self) -> u8 {
        match self {
            Self::Grow => 2,
            Self::Shrink => 3,
        }
    }

    /// Data disks after it.
    pub const fn new_disks(self) -> u8 {
        match self {
            Self::Grow => 3,
            Self::Shrink => 2,
        }
    }

    /// `mddev->reshape_backwards`.
    pub const fn is_backwards(self) -> bool {
        matches!(self, Self::Shrink)
    }

    /// `reshape_progress` of a reshape that has not begun.
    pub const fn begin(self) -> u8 {
        if self.is_backwards() { BLOCKS } else { 0 }
    }

    /// `ahead_of_reshape` (raid5.c): the block has not been reshaped yet.
    pub const fn is_ahead(self, block: u8, position: u8) -> bool {
        if self.is_backwards() { block < position } else { block >= position }
    }

    /// Chunks that a position is away from the beginning.
    pub const fn chunks_done(self, position: u8) -> u8 {
        let blocks = if self.is_backwards() { BLOCKS - position } else { position };
        blocks / self.new_disks()
    }

    /// The row of the new layout that is reshaped next.
    pub const fn next_row(self, progress: u8) -> u8 {
        if self.is_backwards() { progress / self.new_disks() - 1 } else { progress / self.new_disks() }
    }

    /// Where a logical block lies (raid5.c `raid5_compute_sector`).
    pub const fn cell(self, block: u8, previous: bool) -> usize {
        let disks = if previous { self.old_disks() } else { self.new_disks() };
        let lower = previous != self.is_backwards();
        let row = block / disks + if lower { OFFSET } else { 0 };
        row as usize * DISKS as usize + (block % disks) as usize
    }

    /// The members as they are when the reshape has come to a position.
    pub fn reshaped_to(self, position: u8) -> [u8; N_CELLS] {
        let mut cells = [EMPTY; N_CELLS];
        for block in 0..BLOCKS {
            cells[self.cell(block, true)] = block;
        }
        // In the order of the reshape, because the two layouts share rows.
        for step in 0..BLOCKS {
            let block = if self.is_backwards() { BLOCKS - 1 - step } else { step };
            if position != MAX && !self.is_ahead(block, position) {
                cells[self.cell(block, false)] = block;
            }
        }
        cells
    }
}

/// What a cell may say for a logical block: the acknowledged version, or the one in flight.
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

/// I7: whether every block that an IO could reach now through a raid_set says what was written last.
/// Blocks between `reshape_safe` and `reshape_progress` cannot be reached: IO waits there.
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

/// I8: whether an array that is assembled from the members as they are now would read right.
pub fn restarts_right(state: &State, reshape: Reshape) -> bool {
    let position = state.sb.reshape_position;
    (0..BLOCKS).all(|block| {
        let previous = if position == MAX { state.sb.layout == 0 } else { reshape.is_ahead(block, position) };
        is_right(state, block, state.cells[reshape.cell(block, previous)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_give_each_block_a_cell_of_its_own() {
        for reshape in [Reshape::Grow, Reshape::Shrink] {
            for previous in [true, false] {
                let mut cells: Vec<usize> = (0..BLOCKS).map(|block| reshape.cell(block, previous)).collect();
                cells.sort_unstable();
                cells.dedup();
                assert_eq!(cells.len(), BLOCKS as usize);
                assert!(cells.iter().all(|cell| *cell < N_CELLS));
            }
        }
    }

    #[test]
    fn a_reshape_that_has_come_to_a_position_reads_right_on_both_sides() {
        for reshape in [Reshape::Grow, Reshape::Shrink] {
            for position in (0..=BLOCKS).step_by(reshape.new_disks() as usize) {
                let cells = reshape.reshaped_to(position);
                for block in 0..BLOCKS {
                    let cell = reshape.cell(block, reshape.is_ahead(block, position));
                    assert_eq!(cells[cell], block, "{reshape:?} at {position}");
                }
            }
        }
    }
}
