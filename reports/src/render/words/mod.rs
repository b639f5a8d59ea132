//! Lines that several reports share: plain text that may hold a guest's words as they came. Each report makes
//! them fit to show in a terminal, in XML, in Markdown or in a mail.

pub(crate) mod findings;
pub mod reproduce;
pub(crate) mod storage;
