//! Stream names for serials. Pure.

use sluicegate_config as config;
use std::fmt::Write as _;

/// The stream name of a device with this serial; different serials have different names.
///
/// Characters that stream names may contain are kept; each byte of any other, and of `=`, becomes `=` and two
/// hexadecimal digits. `None` for an empty serial, and for one whose name would be too long.
pub fn stream_name(serial: &str) -> Option<String> {
    let means_a_folder = matches!(serial, "." | "..");
    let last = serial.chars().count().saturating_sub(1);
    let mut name = String::with_capacity(serial.len());
    for (at, c) in serial.chars().enumerate() {
        let mut bytes = [0; 4];
        let text = &*c.encode_utf8(&mut bytes);
        let at_an_end = at == 0 || at == last;
        let stays = c != '='
            && !means_a_folder
            // With a letter before and after, so that only the character itself is checked.
            && config::check_stream_name(&format!("x{text}x")).is_ok()
            && !(at == 0 && c == '~')
            && !(at_an_end && c.is_whitespace());
        if stays {
            name.push(c);
            continue;
        }
        for byte in text.bytes() {
            // Writing to a String cannot fail.
            let _ = write!(name, "={byte:02X}");
        }
    }
    config::check_stream_name(&name).is_ok().then_some(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_name_may_have_stays_and_the_rest_is_written_in_hexadecimal() {
        for (serial, name) in [
            ("emulator-5554", "emulator-5554"),
            ("192.168.0.7:5555", "192.168.0.7:5555"),
            ("a_1", "a_1"),
            ("a:1", "a:1"),
            ("a=1", "a=3D1"),
            ("a/1", "a=2F1"),
            ("~x~", "=7Ex~"),
            (" x y ", "=20x y=20"),
            (".", "=2E"),
            ("..", "=2E=2E"),
            ("...", "..."),
            ("[::1%2]:5555", "[::1=252]:5555"),
            ("\u{202e}", "=E2=80=AE"),
            ("门", "门"),
        ] {
            assert_eq!(stream_name(serial).as_deref(), Some(name), "{serial:?}");
        }
        assert_eq!(stream_name(""), None);
        assert!(stream_name(&"x".repeat(128)).is_some());
        assert_eq!(stream_name(&"x".repeat(129)), None);
        assert_eq!(stream_name(&"/".repeat(43)), None);
    }

    /// Decodes the serial from a name.
    fn serial_of(name: &str) -> String {
        let (mut bytes, mut rest) = (Vec::new(), name.as_bytes());
        while let Some((first, behind)) = rest.split_first() {
            match first {
                b'=' => {
                    let hex = std::str::from_utf8(&behind[..2]).unwrap();
                    bytes.push(u8::from_str_radix(hex, 16).unwrap());
                    rest = &behind[2..];
                }
                byte => {
                    bytes.push(*byte);
                    rest = behind;
                }
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    proptest! {
        // A name that can be decoded belongs to one serial only.
        #[test]
        fn a_name_is_valid_and_tells_its_serial(serial in "\\PC{1,40}|[ -~]{1,40}|[=/.~ %2F]{1,12}|.{1,40}") {
            if let Some(name) = stream_name(&serial) {
                prop_assert_eq!(config::check_stream_name(&name), Ok(()));
                prop_assert_eq!(serial_of(&name), serial);
            }
        }
    }
}
