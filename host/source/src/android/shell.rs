//! Output of a shell on a device: parses adb's shell protocol and explains scrcpy's errors. Pure; `device::Shell` feeds
//! it.

use sluicegate_config::ScrcpyVersion;

/// Largest amount of output that is kept, in bytes (the end of it).
const MAX_OUTPUT_BYTES: usize = 4096;
/// Largest number of characters of it shown in a message.
const MAX_MESSAGE_CHARS: usize = 300;
/// The oldest Android version that scrcpy supports: API level 21, Android 5.0.
const OLDEST: u32 = 21;

/// The output of a shell so far.
#[derive(Debug)]
pub struct Output {
    /// Whether the output is packets of id, size and data (AOSP, `adb/shell_protocol.h`); otherwise it is plain bytes.
    packets: bool,
    header: Vec<u8>,
    /// The packet being read: its id, and the number of bytes still to come.
    packet: Option<(u8, u32)>,
    said: Vec<u8>,
    exit: Option<u8>,
    sdk: Option<u32>,
}

impl Output {
    /// Empty output. `packets`: the service was `shell,v2`.
    pub fn new(packets: bool) -> Output {
        Output {
            packets,
            header: Vec::new(),
            packet: None,
            said: Vec::new(),
            exit: None,
            sdk: None,
        }
    }

    /// Adds received bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        const HEAD: usize = 5;
        if !self.packets {
            return self.say(bytes);
        }
        while !bytes.is_empty() {
            let Some((id, left)) = self.packet else {
                let (head, rest) = bytes.split_at((HEAD - self.header.len()).min(bytes.len()));
                self.header.extend_from_slice(head);
                bytes = rest;
                if let [id, a, b, c, d] = self.header[..] {
                    self.packet = Some((id, u32::from_le_bytes([a, b, c, d])));
                    self.header.clear();
                    self.end_packet();
                }
                continue;
            };
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let (body, rest) = bytes.split_at(most.min(bytes.len()));
            bytes = rest;
            match id {
                1 | 2 => self.say(body),
                3 => self.exit = body.first().copied(),
                _ => {}
            }
            self.packet = Some((id, left.saturating_sub(body.len() as u32)));
            self.end_packet();
        }
    }

    /// Whether the command has exited.
    pub fn has_ended(&self) -> bool {
        self.exit.is_some()
    }

    fn end_packet(&mut self) {
        if matches!(self.packet, Some((_, 0))) {
            self.packet = None;
        }
    }

    fn say(&mut self, bytes: &[u8]) {
        self.said.extend_from_slice(bytes);
        if self.sdk.is_none() && self.said.contains(&b'\n') {
            let text = String::from_utf8_lossy(&self.said);
            let sdk = text.lines().find_map(|line| line.strip_prefix("sdk="));
            self.sdk = sdk.and_then(|sdk| sdk.trim().parse().ok());
        }
        let more = self.said.len().saturating_sub(MAX_OUTPUT_BYTES);
        self.said.drain(..more);
    }

    /// Explains why a scrcpy of this version ended, from its output, and what to do if that is known.
    pub fn explain_exit(&self, version: &ScrcpyVersion) -> String {
        let text = String::from_utf8_lossy(&self.said);
        let has = |part: &str| text.contains(part);
        if let Some(real) = between(&text, "The server version (", ")") {
            return format!(
                "`server` under [android] is scrcpy {real}, not {version}: write version = \"{real}\" there"
            );
        }
        if let Some(sdk) = self.sdk.filter(|sdk| *sdk < OLDEST) {
            return format!(
                "the device is too old: its Android has API level {sdk}, and scrcpy needs {OLDEST}, which is Android 5.0"
            );
        }
        let said = summary(&text);
        if has("ClassNotFoundException") || has("Could not find class") {
            return format!(
                "`server` under [android] is not a scrcpy-server, or was not pushed completely: {said}"
            );
        }
        if has("encoder for ") || has("ncoding error") || has("CodecException") {
            return format!(
                "the device's encoder failed: {said}; try a smaller max-size, frame-rate or bitrate for it under [android.devices]"
            );
        }
        match self.exit {
            _ if !said.is_empty() => format!("scrcpy ended: {said}"),
            Some(0) | None => "scrcpy ended without a message".into(),
            Some(code) => format!("scrcpy ended with code {code}, without a message"),
        }
    }
}

/// The errors, otherwise the last lines of output; as one line, without escapes and stack traces.
fn summary(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| {
        let trace = line.starts_with("at ") || line.starts_with("... ");
        !line.is_empty() && !trace && !line.starts_with("sdk=")
    });
    let lines: Vec<&str> = lines
        .map(|line| line.strip_prefix("[server] ").unwrap_or(line))
        .collect();
    let complaint = lines.iter().position(|line| line.starts_with("ERROR"));
    let from = complaint.unwrap_or(lines.len().saturating_sub(2));
    let words = lines.get(from..).unwrap_or_default().join(": ");
    let words = words.strip_prefix("ERROR: ").unwrap_or(&words);
    let clean = words.chars().filter(|c| !c.is_control());
    clean.take(MAX_MESSAGE_CHARS).collect()
}

fn between<'a>(text: &'a str, before: &str, behind: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    let (found, _) = rest.split_once(behind)?;
    let is_version = |c: char| c.is_ascii_alphanumeric() || "-.+".contains(c);
    let good = !found.is_empty() && found.len() <= 32 && found.chars().all(is_version);
    good.then_some(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn packet(id: u8, data: &[u8]) -> Vec<u8> {
        [&[id], &(data.len() as u32).to_le_bytes()[..], data].concat()
    }

    fn explain_exit(text: &str) -> String {
        let mut output = Output::new(true);
        output.push(&packet(1, text.as_bytes()));
        output.push(&packet(3, &[1]));
        output.explain_exit(&"3.3.4".parse().unwrap())
    }

    #[test]
    fn every_end_has_a_reason_that_says_what_to_do() {
        let mismatch = "sdk=34\n[server] ERROR: The server version (3.3.1) does not match the client (3.3.4)\n\
                        java.lang.IllegalArgumentException: The server version (3.3.1) does not match the client (3.3.4)\n\tat com.genymobile\n";
        let encoder = "[server] INFO: Device: x\n[server] ERROR: Could not create default video encoder for h264\nList of video encoders:\n";
        for (text, reason) in [
            (mismatch, "write version = \"3.3.1\""),
            ("sdk=19\nCANNOT LINK EXECUTABLE\n", "API level 19"),
            (encoder, "the device's encoder failed: Could not create"),
            (
                "Error: java.lang.ClassNotFoundException: com.x\n",
                "is not a scrcpy-server",
            ),
            (
                "[server] INFO: a\n[server] INFO: b\nKilled\n",
                "scrcpy ended: INFO: b: Killed",
            ),
            ("sdk=30\n", "scrcpy ended with code 1, without a message"),
        ] {
            let told = explain_exit(text);
            assert!(told.contains(reason), "{text}: {told}");
        }
        assert!(explain_exit(&"x".repeat(100_000)).len() < 400);
        assert!(!explain_exit("a\u{1b}[31mred\n").contains('\u{1b}'));
        assert!(!explain_exit("The server version (\u{1b}) does").contains("write version"));
    }

    proptest! {
        #[test]
        fn packets_are_read_however_they_are_cut(
            packets in proptest::collection::vec((0u8..6, proptest::collection::vec(any::<u8>(), 0..50)), 0..20),
            step in 1usize..60,
        ) {
            let stream: Vec<u8> = packets.iter().flat_map(|(id, data)| packet(*id, data)).collect();
            let mut output = Output::new(true);
            for piece in stream.chunks(step) {
                output.push(piece);
            }
            let said: Vec<u8> = packets.iter().filter(|(id, _)| matches!(id, 1 | 2)).flat_map(|(_, data)| data.clone()).collect();
            prop_assert_eq!(&output.said, &said);
            let ended = packets.iter().any(|(id, data)| *id == 3 && !data.is_empty());
            prop_assert_eq!(output.has_ended(), ended);
        }

        #[test]
        fn no_output_panics_and_little_of_it_is_kept(bytes in proptest::collection::vec(any::<u8>(), 0..9000), packets in any::<bool>()) {
            let mut output = Output::new(packets);
            for piece in bytes.chunks(700) {
                output.push(piece);
            }
            let _ = output.explain_exit(&"3.0".parse().unwrap());
            prop_assert!(output.said.len() <= MAX_OUTPUT_BYTES);
        }
    }
}
