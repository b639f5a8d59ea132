//! The members' data: which version of which logical block lies where, before, during and after a
//! reshape from two data disks to three. Parity is left out: nothing here fails a member that holds data.
//!
//! The smallest size that says something: six stripes, chunks of one block. The reshape is dm-raid's,
//! out of place: the old stripes lie [`OFFSET`] rows further down than the new ones (`data_offset`).

use crate::state::{MAX, Set, State};

/// Data disks before the reshape.
pub const OLD_DISKS: u8 = 2;
/// Data disks after it.
pub const NEW_DISKS: u8 = 3;
/// Stripes of the array before the reshape.
pub const STRIPES: u8 = 6;
/// Logical blocks of the array.
pub const BLOCKS: u8 = STRIPES * OLD_DISKS;
/// Rows by which the old layout is shifted.
pub const OFFSET: u8 = 2;
/// Cells on the members.
pub const N_CELLS: usize = (STRIPES + OFFSET) as usize * NEW_DISKS as usize + 1;
/// A cell that nobody has written.
pub const EMPTY: u8 = 0x0f;
/// Bit of a cell: the version that an IO task wrote.
pub const NEW_VERSION: u8 = 0x10;

/// Where a logical block lies (raid5.c `raid5_compute_sector`).
pub fn cell(block: u8, previous: bool) -> usize {
    let (row, disk) = if previous {
        (block / OLD_DISKS + OFFSET, block % OLD_DISKS)
    } else {
        (block / NEW_DISKS, block % NEW_DISKS)
    };
    row as usize * NEW_DISKS as usize + disk as usize
}

/// The members as they are when the reshape has come to a position.
pub fn reshaped_to(position: u8) -> [u8; N_CELLS] {
    let mut cells = [EMPTY; N_CELLS];
    for block in 0..BLOCKS {
        cells[cell(block, true)] = block;
    }
    for block in 0..BLOCKS {
        if position == MAX || block < position {
            cells[cell(block, false)] = block;
        }
    }
    cells
}

/// What a cell may say for a logical block: the acknowledged version, or the one in flight.
pub fn is_right(state: &State, block: u8, content: u8) -> bool {
    if content & EMPTY != block {
        return false;
    }
    let acked = state.acked & (1 << block) != 0;
    let in_flight = state.bios.iter().any(|bio| bio.phase == 1 && bio.write == 1 && bio.block == block);
    match content & NEW_VERSION != 0 {
        true => acked || in_flight,
        false => !acked,
    }
}

/// I7: whether every block that an IO could reach now through a raid_set says what was written last.
/// Blocks between `reshape_safe` and `reshape_progress` cannot be reached: IO waits there.
pub fn reads_right(state: &State, set: &Set) -> bool {
    (0..BLOCKS).all(|block| {
        let previous = if set.progress == MAX {
            set.layout == 0
        } else if block >= set.progress {
            true
        } else if block >= set.safe {
            return true;
        } else {
            false
        };
        is_right(state, block, state.cells[cell(block, previous)])
    })
}

/// I8: whether an array that is assembled from the members as they are now would read right.
pub fn restarts_right(state: &State) -> bool {
    let position = state.sb.reshape_position;
    (0..BLOCKS).all(|block| {
        let previous = if position == MAX { state.sb.layout == 0 } else { block >= position };
        is_right(state, block, state.cells[cell(block, previous)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_give_each_block_a_cell_of_its_own() {
        for previous in [true, false] {
            let mut cells: Vec<usize> = (0..BLOCKS).map(|block| cell(block, previous)).collect();
            cells.sort_unstable();
            cells.dedup();
            assert_eq!(cells.len(), BLOCKS as usize);
            assert!(cells.iter().all(|cell| *cell < N_CELLS));
        }
    }
}
