//! The wall clock and durations in the format of records.

use std::time::Duration;

/// A duration in whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The current time in RFC 3339 format, to the second: `2026-11-30T22:05:03Z`.
pub fn rfc3339_now() -> String {
    in_rfc3339(time::OffsetDateTime::now_utc())
}

/// A time in RFC 3339 format, of seconds since the epoch; empty if it is none.
pub fn rfc3339(epoch_s: u64) -> String {
    let seconds = i64::try_from(epoch_s).unwrap_or(i64::MAX);
    time::OffsetDateTime::from_unix_timestamp(seconds).map(in_rfc3339).unwrap_or_default()
}

fn in_rfc3339(time: time::OffsetDateTime) -> String {
    let format = &time::format_description::well_known::Rfc3339;
    time.replace_nanosecond(0).unwrap_or(time).format(format).unwrap_or_default()
}
