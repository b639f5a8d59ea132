//! QMP: the little of QEMU's control protocol that we need. Unknown messages and fields are passed
//! over, so that any QEMU from 9.0 on will do. Pure.
//!
//! A command that is asked for its answer carries an id, by which the answer is known: nobody waits for
//! it, and one that never comes does no harm.

use std::path::Path;

use serde_json::{Value, json};

use super::{Access, Ask, HypervisorEvent, RunState, ShutdownCause};

/// First line to QEMU: it leaves negotiation, after which events come.
pub(crate) const CAPABILITIES: &[u8] = b"{\"execute\":\"qmp_capabilities\"}\n";

/// Puts the guest's state into a new file, all but its memory, which is a file by itself already.
pub(crate) fn save_to(file: &Path) -> Vec<u8> {
    let unlimited =
        json!({ "execute": "migrate-set-parameters", "arguments": { "max-bandwidth": i64::MAX } });
    lines(&[without_memory(), unlimited, migrate("migrate", file)])
}

/// Goes on from such a file; for a QEMU that was started with `-incoming defer`.
pub(crate) fn restore_from(file: &Path) -> Vec<u8> {
    lines(&[without_memory(), migrate("migrate-incoming", file)])
}

/// Plugs in a disk. Nothing is flushed to the host's disk: what the guest wrote has to outlive the
/// guest's crash, not the host's.
pub(crate) fn plug_disk(image: &Path, serial: &str, access: Access) -> Vec<u8> {
    let mut file = json!({ "driver": "file", "filename": image });
    let cache = json!({ "no-flush": true });
    if access == Access::Read {
        file["locking"] = json!("off");
    }
    let node = json!({ "driver": "raw", "node-name": serial, "file": file, "discard": "unmap", "cache": cache,
        "read-only": access == Access::Read });
    let device = json!({ "driver": "virtio-blk-pci", "id": serial, "drive": serial, "serial": serial,
        "werror": "stop", "rerror": "stop" });
    lines(&[
        json!({ "execute": "blockdev-add", "arguments": node }),
        json!({ "execute": "device_add", "arguments": device }),
    ])
}

/// A guest that is saved has its memory in a file that is shared with us, which QEMU then passes over; one
/// that is restored has it in a private mapping of that file's copy, of which QEMU expects nothing more then.
/// (QEMU's migration/ram.c, `migrate_ram_is_ignored` and `parse_ramblock`; Kata Containers' VM templates go
/// the same way.)
fn without_memory() -> Value {
    let capabilities = ["x-ignore-shared", "events"].map(|name| json!({ "capability": name, "state": true }));
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

/// The commands that ask for this.
pub(crate) fn ask(ask: &Ask) -> Vec<u8> {
    let with_id = |id: &str, mut command: Value| {
        command["id"] = json!(id);
        lines(&[command])
    };
    match ask {
        Ask::RunState => with_id("run-state", json!({ "execute": "query-status" })),
        Ask::Times => with_id("times", json!({ "execute": "query-cpus-fast" })),
        Ask::Registers => {
            let words = json!({ "command-line": "info registers -a" });
            with_id("registers", json!({ "execute": "human-monitor-command", "arguments": words }))
        }
        // The key follows when the break has been taken: the two go by different channels.
        Ask::SysRq(key) => {
            let console = json!({ "id": CONSOLE });
            let id = format!("{BREAK}{key}");
            with_id(&id, json!({ "execute": "chardev-send-break", "arguments": console }))
        }
        Ask::Nmi => {
            // What the kernel prints in such an interrupt it keeps until its panic is nearly over (printk):
            // QEMU must not end it before.
            let go_on = json!({ "execute": "set-action", "arguments": { "panic": "none" } });
            let nmi = json!({ "execute": "inject-nmi" });
            [with_id("action", go_on), with_id("nmi", nmi)].concat()
        }
        Ask::Dump(file) => {
            let to = json!({ "paging": false, "protocol": format!("file:{}", file.display()),
                "format": "kdump-zlib" });
            with_id("dump", json!({ "execute": "dump-guest-memory", "arguments": to }))
        }
        Ask::StopOnPanic => {
            with_id("action", json!({ "execute": "set-action", "arguments": { "panic": "pause" } }))
        }
    }
}

/// QEMU's name for the serial console's channel.
pub(crate) const CONSOLE: &str = "console";
/// Begins the id of a break; the key to send after it follows.
const BREAK: &str = "break-";

/// A line of QMP, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// An event, or the error of a command that nobody waits for.
    Event(HypervisorEvent),
    /// Does the guest run?
    RunState(RunState),
    /// Ids of the virtual processors' threads on the host.
    Vcpus(Vec<u32>),
    /// Text for people.
    Registers(String),
    /// The break has been taken: now this key.
    Broke(char),
    /// The guest's memory has been written, or not.
    Dumped(Result<(), String>),
}

/// Reads a line of QMP; `None` if it tells nothing that matters.
pub(crate) fn parse(line: &str) -> Option<Said> {
    let message: Value = serde_json::from_str(line).ok()?;
    let error = message
        .get("error")
        .map(|error| error.get("desc").and_then(Value::as_str).unwrap_or("no reason given").to_owned());
    match (message.get("id").and_then(Value::as_str), error) {
        (Some("dump"), error) => return Some(Said::Dumped(error.map_or(Ok(()), Err))),
        // An answer that does not come makes a report poorer, no more.
        (Some(_), Some(_)) => return None,
        (Some(id), None) => return answer(id, message.get("return")?),
        (None, Some(error)) => return Some(Said::Event(HypervisorEvent::Refused { error })),
        (None, None) => {}
    }
    event(&message).map(Said::Event)
}

fn answer(id: &str, value: &Value) -> Option<Said> {
    match id {
        "run-state" => Some(Said::RunState(run_state(value.get("status")?.as_str()?))),
        "times" => {
            let threads = value.as_array()?.iter().filter_map(|vcpu| vcpu.get("thread-id")?.as_u64());
            Some(Said::Vcpus(threads.filter_map(|id| id.try_into().ok()).collect()))
        }
        "registers" => Some(Said::Registers(value.as_str()?.replace('\r', ""))),
        _ => Some(Said::Broke(id.strip_prefix(BREAK)?.chars().next()?)),
    }
}

/// States in which QEMU executes the guest, or is told otherwise by an event (`RunState`, QEMU 10).
fn run_state(name: &str) -> RunState {
    let executes = matches!(name, "running" | "inmigrate" | "shutdown" | "guest-panicked");
    RunState { executes, name: name.to_owned() }
}

/// Reasons that begin with `guest` are the guest's doing, all others the host's (`ShutdownCause`, QEMU 10).
fn shutdown_cause(reason: &str) -> ShutdownCause {
    match reason {
        "guest-shutdown" => ShutdownCause::PoweredOff,
        other if other.starts_with("guest") => ShutdownCause::Guest,
        _ => ShutdownCause::Outside,
    }
}

fn event(message: &Value) -> Option<HypervisorEvent> {
    match message.get("event")?.as_str()? {
        "GUEST_PANICKED" => Some(HypervisorEvent::Panicked),
        "SHUTDOWN" => {
            let reason = message.pointer("/data/reason").and_then(Value::as_str).unwrap_or("unknown");
            Some(HypervisorEvent::Shutdown { cause: shutdown_cause(reason), reason: reason.to_owned() })
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

    fn check(line: &str, expect: Option<Said>) {
        assert_eq!(parse(line), expect, "{line}");
    }

    #[test]
    fn events_are_told_from_the_rest() {
        let event = |event| Some(Said::Event(event));
        check(
            r#"{"timestamp":{"seconds":1,"microseconds":2},"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-reset"}}"#,
            event(HypervisorEvent::Shutdown { cause: ShutdownCause::Guest, reason: "guest-reset".into() }),
        );
        check(r#"{"event":"GUEST_PANICKED","data":{"action":"pause"}}"#, event(HypervisorEvent::Panicked));
        check(r#"{"event":"STOP"}"#, event(HypervisorEvent::Stopped));
        check(r#"{"event":"MIGRATION","data":{"status":"completed"}}"#, event(HypervisorEvent::Migrated));
        check(
            r#"{"error":{"class":"GenericError","desc":"no such file"}}"#,
            event(HypervisorEvent::Refused { error: "no such file".to_owned() }),
        );
        for other in [
            r#"{"event":"MIGRATION","data":{"status":"active"}}"#,
            r#"{"return":{}}"#,
            r#"{"event":"RTC_CHANGE"}"#,
            "garbage",
            "",
        ] {
            check(other, None);
        }
    }

    #[test]
    fn whose_doing_an_end_is_and_whether_a_guest_runs() {
        let causes =
            ["guest-shutdown", "guest-reset", "guest-panic", "host-signal", "host-qmp-quit", "unknown"];
        use ShutdownCause::{Guest, Outside, PoweredOff};
        assert_eq!(causes.map(shutdown_cause), [PoweredOff, Guest, Guest, Outside, Outside, Outside]);
        let states =
            ["running", "inmigrate", "shutdown", "guest-panicked", "paused", "io-error", "internal-error"];
        let executes = states.map(|name| run_state(name).executes);
        assert_eq!(executes, [true, true, true, true, false, false, false]);
    }

    #[test]
    fn answers_are_known_by_their_ids() {
        check(
            r#"{"return":{"status":"io-error","running":false},"id":"run-state"}"#,
            Some(Said::RunState(RunState { executes: false, name: "io-error".into() })),
        );
        check(
            r#"{"return":[{"thread-id":71,"cpu-index":0},{"thread-id":72,"new":[]}],"id":"times"}"#,
            Some(Said::Vcpus(vec![71, 72])),
        );
        check(
            r#"{"return":"\r\nCPU#0\r\nRIP=1","id":"registers"}"#,
            Some(Said::Registers("\nCPU#0\nRIP=1".into())),
        );
        check(r#"{"return":{},"id":"break-w"}"#, Some(Said::Broke('w')));
        check(r#"{"return":{},"id":"dump"}"#, Some(Said::Dumped(Ok(()))));
        let full = r#"{"id":"dump","error":{"class":"GenericError","desc":"no space"}}"#;
        check(full, Some(Said::Dumped(Err("no space".into()))));
        // A QEMU that cannot answer is none that cannot run a guest.
        check(r#"{"id":"nmi","error":{"class":"GenericError","desc":"no"}}"#, None);
        for strange in [r#"{"return":7,"id":"times"}"#, r#"{"return":{},"id":7}"#, r#"{"id":"break-"}"#] {
            check(strange, None);
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
