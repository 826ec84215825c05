//! Parses the adb server's list of devices. Pure.

/// Whether a device can be mirrored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It can be mirrored.
    Ready,
    /// It has not authorised this computer: reason, and what to do.
    Unauthorized(String),
    /// It is not attached or does not respond: reason, and what to do.
    Offline(String),
}

/// A device and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedDevice {
    /// Serial, as `adb devices` shows it.
    pub serial: String,
    /// Whether it can be mirrored.
    pub presence: Presence,
    /// Model name that it reports, if it was ever attached.
    pub model: Option<String>,
}

/// States as the adb server names them (AOSP, `adb/transport.cpp`, `atransport::connection_state_name`).
const STATES: [&str; 12] = [
    "device",
    "unauthorized",
    "authorizing",
    "offline",
    "connecting",
    "recovery",
    "bootloader",
    "sideload",
    "rescue",
    "host",
    "no permissions",
    "unknown",
];

/// Parses a list, short or long: a serial, a state, and fields such as `model:…`.
pub fn parse(list: &str) -> Vec<AttachedDevice> {
    list.lines().filter_map(device).collect()
}

fn device(line: &str) -> Option<AttachedDevice> {
    // A serial may contain spaces; the state is the first known state name that is followed by a space or the end.
    let gaps = line.char_indices().filter(|(_, c)| c.is_whitespace());
    let (serial, rest) = gaps
        .map(|(at, _)| line.split_at(at))
        .map(|(serial, rest)| (serial.trim_end(), rest.trim_start()))
        .find(|(serial, rest)| !serial.is_empty() && state(rest).is_some())?;
    let state = state(rest)?;
    let model = rest
        .split_whitespace()
        .find_map(|word| word.strip_prefix("model:"));
    Some(AttachedDevice {
        serial: serial.to_owned(),
        presence: presence(state, rest),
        model: model.map(|model| model.replace('_', " ")),
    })
}

fn state(text: &str) -> Option<&'static str> {
    STATES.into_iter().find(|state| {
        let behind = text.strip_prefix(state);
        behind.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', ';']))
    })
}

fn presence(state: &str, text: &str) -> Presence {
    match state {
        "device" => Presence::Ready,
        "unauthorized" => Presence::Unauthorized(
            "the device has not allowed this computer: unlock it and confirm USB debugging".into(),
        ),
        "authorizing" => Presence::Unauthorized(
            "the device is being asked whether it allows this computer".into(),
        ),
        "offline" => Presence::Offline(
            "the adb server cannot reach the device: reconnect it, or run `adb reconnect offline`"
                .into(),
        ),
        "no permissions" => Presence::Offline(format!(
            "the adb server may not use the device: {}",
            text.chars().take(200).collect::<String>()
        )),
        other => Presence::Offline(format!("the device is attached, but not ready (`{other}`)")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_lists_are_read() {
        let long = "R58M1234               device usb:1-2 product:x model:SM_G970F device:b transport_id:3\n\
                    emulator-5554          offline transport_id:1\n\
                    my phone               unauthorized usb:1-3 transport_id:2\n\
                    0123                   no permissions (user in plugdev group; are your udev rules wrong?); see [http://x]\n\
                    127.0.0.1:40001        recovery\n\
                    (no serial number)     device\n\
                    broken line\n\n";
        let devices = parse(long);
        let serials: Vec<&str> = devices.iter().map(|one| one.serial.as_str()).collect();
        let all = [
            "R58M1234",
            "emulator-5554",
            "my phone",
            "0123",
            "127.0.0.1:40001",
            "(no serial number)",
        ];
        assert_eq!(serials, all);
        assert_eq!(devices[0].presence, Presence::Ready);
        assert_eq!(devices[0].model.as_deref(), Some("SM G970F"));
        assert!(matches!(devices[2].presence, Presence::Unauthorized(_)));
        for (nth, words) in [(1, "reconnect"), (3, "udev rules"), (4, "`recovery`")] {
            let Presence::Offline(reason) = &devices[nth].presence else {
                panic!("{:?}", devices[nth])
            };
            assert!(reason.contains(words), "{reason}");
        }
        assert_eq!(parse("a:1\tdevice\na_1\tunauthorized\n").len(), 2);
    }

    proptest! {
        #[test]
        fn no_list_panics(list in ".{0,200}", lines in "([a-z ]{0,9}(device|offline|no permissions)[ \t]?model:\n?){0,5}") {
            parse(&list);
            parse(&lines);
        }
    }
}
