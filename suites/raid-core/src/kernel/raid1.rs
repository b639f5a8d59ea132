//! raid1.c and raid10.c: the barrier between writes and the sync thread. Not there yet: no scenario
//! runs on raid1.

use crate::cpu::{Cpu, Flow};

pub(super) fn raid1d(_c: &mut Cpu<'_>, _at: u8) -> Flow {
    unreachable!("no scenario runs on raid1")
}

pub(super) fn raid1_sync_request(_c: &mut Cpu<'_>, _at: u8) -> Flow {
    unreachable!("no scenario runs on raid1")
}

pub(super) fn raid1_write_request(_c: &mut Cpu<'_>, _at: u8) -> Flow {
    unreachable!("no scenario runs on raid1")
}
