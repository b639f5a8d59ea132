//! QMP: the little of QEMU's control protocol that we need. Unknown messages and fields are passed
//! over, so that any QEMU from 9.0 on will do.

use std::path::Path;

use serde_json::{Value, json};

use super::HypervisorEvent;

/// What the harness says first: leaves negotiation, after which events come.
pub(crate) const CAPABILITIES: &[u8] = b"{\"execute\":\"qmp_capabilities\"}\n";

/// Puts the guest's state into a new file: each page of memory at its own place (`mapped-ram`), so
/// that the file is sparse and is read back in one go.
pub(crate) fn save_to(file: &Path) -> Vec<u8> {
    let unlimited =
        json!({ "execute": "migrate-set-parameters", "arguments": { "max-bandwidth": i64::MAX } });
    lines(&[mapped_ram(), unlimited, migrate("migrate", file)])
}

/// Goes on from such a file; for a QEMU that was started with `-incoming defer`.
pub(crate) fn restore_from(file: &Path) -> Vec<u8> {
    lines(&[mapped_ram(), migrate("migrate-incoming", file)])
}

/// Plugs in a disk. Nothing is flushed to the host's disk: what the guest wrote has to outlive the
/// guest's crash, not the host's.
pub(crate) fn plug_disk(image: &Path, serial: &str) -> Vec<u8> {
    let file = json!({ "driver": "file", "filename": image });
    let cache = json!({ "no-flush": true });
    let node =
        json!({ "driver": "raw", "node-name": serial, "file": file, "discard": "unmap", "cache": cache });
    let device = json!({ "driver": "virtio-blk-pci", "id": serial, "drive": serial, "serial": serial,
        "werror": "stop", "rerror": "stop" });
    lines(&[
        json!({ "execute": "blockdev-add", "arguments": node }),
        json!({ "execute": "device_add", "arguments": device }),
    ])
}

fn mapped_ram() -> Value {
    let capabilities = ["mapped-ram", "events"].map(|name| json!({ "capability": name, "state": true }));
    json!({ "execute": "migrate-set-capabilities", "arguments": { "capabilities": capabilities } })
}

/// The structured form of an address: no path needs quoting.
fn migrate(command: &str, file: &Path) -> Value {
    let address = json!({ "transport": "file", "filename": file, "offset": 0 });
    let channels = json!([{ "channel-type": "main", "addr": address }]);
    json!({ "execute": command, "arguments": { "channels": channels } })
}

fn lines(commands: &[Value]) -> Vec<u8> {
    commands.iter().flat_map(|command| format!("{command}\n").into_bytes()).collect()
}

/// What a line of QMP tells about the guest, if anything.
pub(crate) fn parse_event(line: &str) -> Option<HypervisorEvent> {
    let message: Value = serde_json::from_str(line).ok()?;
    if let Some(error) = message.get("error") {
        let error = error.get("desc").and_then(Value::as_str).unwrap_or("no reason given").to_owned();
        return Some(HypervisorEvent::Refused { error });
    }
    match message.get("event")?.as_str()? {
        "GUEST_PANICKED" => Some(HypervisorEvent::Panicked),
        "SHUTDOWN" => {
            let reason = message.pointer("/data/reason").and_then(Value::as_str).unwrap_or("unknown");
            Some(HypervisorEvent::Shutdown { reason: reason.to_owned() })
        }
        "BLOCK_IO_ERROR" => {
            let text =
                |key: &str| message.pointer(&format!("/data/{key}")).and_then(Value::as_str).unwrap_or("?");
            let full = message.pointer("/data/nospace") == Some(&Value::Bool(true));
            let why = if full { "no space left on device" } else { text("reason") };
            let error = format!("the host cannot {} `{}`: {why}", text("operation"), text("node-name"));
            Some(HypervisorEvent::Refused { error })
        }
        "STOP" => Some(HypervisorEvent::Stopped),
        "MIGRATION" => match message.pointer("/data/status").and_then(Value::as_str)? {
            "completed" => Some(HypervisorEvent::Migrated),
            "failed" => Some(HypervisorEvent::Refused { error: "the migration failed".into() }),
            _ => None,
        },
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
        let migrated = r#"{"event":"MIGRATION","data":{"status":"completed"}}"#;
        assert_eq!(parse_event(migrated), Some(HypervisorEvent::Migrated));
        let refused = r#"{"id":1,"error":{"class":"GenericError","desc":"no such file"}}"#;
        let error = "no such file".to_owned();
        assert_eq!(parse_event(refused), Some(HypervisorEvent::Refused { error }));
        for other in [
            r#"{"event":"MIGRATION","data":{"status":"active"}}"#,
            r#"{"return":{}}"#,
            r#"{"event":"RTC_CHANGE"}"#,
            "garbage",
            "",
        ] {
            assert_eq!(parse_event(other), None);
        }
    }
    #[test]
    fn a_path_needs_no_quoting() {
        let commands = String::from_utf8(restore_from(Path::new("/a,offset=1 \"b\""))).unwrap();
        let last: Value = serde_json::from_str(commands.lines().last().unwrap()).unwrap();
        assert_eq!(last["execute"], "migrate-incoming");
        assert_eq!(last["arguments"]["channels"][0]["addr"]["filename"], "/a,offset=1 \"b\"");
    }
}
