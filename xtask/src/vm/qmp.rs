//! QMP: the little of QEMU's control protocol that we need. Unknown messages and fields are passed
//! over, so that any QEMU from 9.0 on will do.

use serde_json::Value;

use super::HypervisorEvent;

/// What the harness says first: leaves negotiation, after which events come.
pub(crate) const CAPABILITIES: &[u8] = b"{\"execute\":\"qmp_capabilities\"}\n";

/// What a line of QMP tells about the guest, if anything.
pub(crate) fn parse_event(line: &str) -> Option<HypervisorEvent> {
    let message: Value = serde_json::from_str(line).ok()?;
    match message.get("event")?.as_str()? {
        "GUEST_PANICKED" => Some(HypervisorEvent::Panicked),
        "SHUTDOWN" => {
            let reason = message.pointer("/data/reason").and_then(Value::as_str).unwrap_or("unknown");
            Some(HypervisorEvent::Shutdown { reason: reason.to_owned() })
        }
        "STOP" => Some(HypervisorEvent::Stopped),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_from_the_rest() {
        let shutdown = r#"{"timestamp":{"seconds":1,"microseconds":2},"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-reset"}}"#;
        assert_eq!(parse_event(shutdown), Some(HypervisorEvent::Shutdown { reason: "guest-reset".into() }));
        let panicked = r#"{"event":"GUEST_PANICKED","data":{"action":"pause"}}"#;
        assert_eq!(parse_event(panicked), Some(HypervisorEvent::Panicked));
        assert_eq!(parse_event(r#"{"event":"STOP"}"#), Some(HypervisorEvent::Stopped));
        for other in [r#"{"return":{}}"#, r#"{"event":"RTC_CHANGE"}"#, "garbage", ""] {
            assert_eq!(parse_event(other), None);
        }
    }
}
