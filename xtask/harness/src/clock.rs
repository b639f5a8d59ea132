//! The wall clock in the format of records.

/// The current time in RFC 3339 format, to the second: `2026-11-30T22:05:03Z`.
pub fn rfc3339_now() -> String {
    let format = &time::format_description::well_known::Rfc3339;
    let now = time::OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now).format(format).unwrap_or_default()
}
