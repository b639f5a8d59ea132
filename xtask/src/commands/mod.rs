//! One file for each command: it turns parsed options into calls, and shows the results.

pub(crate) mod bisect;
pub(crate) mod bisect_step;
pub(crate) mod clean;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod image;
pub(crate) mod kernel;
pub(crate) mod list;
pub(crate) mod matrix;
pub(crate) mod model;
pub(crate) mod replay;
pub(crate) mod selftest;
pub(crate) mod series;
pub(crate) mod shell;
pub(crate) mod test;
pub(crate) mod tidy;
pub(crate) mod trial_options;
pub(crate) mod update;
