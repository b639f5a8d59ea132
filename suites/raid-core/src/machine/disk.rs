//! The members' data: which version of which logical block lies where, before, during and after a
//! reshape. Parity is left out: nothing here reads through it.
//!
//! The smallest size that says something: twelve blocks, chunks of one block, from two data disks to
//! three ([`Reshape::Grow`], forward) or from three to two ([`Reshape::Shrink`], backwards). The reshape
//! is dm-raid's, out of place: the layout that is further down the disks (`data_offset`) lies [`OFFSET`]
//! rows lower, the old one when growing, the new one when shrinking.

/// `MaxSector`: no position.
pub const MAX: u8 = 0xff;
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

/// The two kinds of reshape.
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
