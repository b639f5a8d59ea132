//! The model of md's and dm-raid's control logic (`suites/raid-core`): explored on all processors, and run as
//! a suite of tests.

pub mod explore;
pub mod suite;
