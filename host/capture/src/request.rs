//! Capture requests and errors, and their form on the wire. Pure.
//!
//! A [`RawRequest`] is what a client sends, by WebSocket or HTTP. Checked and completed with the config's defaults it
//! becomes a [`CaptureRequest`]. What fails does so with a [`Code`] and a message for people; the code determines the
//! HTTP status. The schemas in the OpenAPI document come from these types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluicegate_codec::StillFormat;
use std::ops::RangeInclusive;

/// Range of widths that can be requested, in pixels.
pub const WIDTH: RangeInclusive<u32> = 16..=8192;
/// Range of JPEG and WebP qualities that can be requested.
pub const QUALITY: RangeInclusive<u8> = 1..=100;

/// A request as a client sends it: a message of `WS /api/ws/capture/{serial}`, or the body of a POST.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "CaptureRequest")]
pub struct RawRequest {
    /// "capture"; optional in a POST.
    #[schemars(extend("enum" = ["capture", null]))]
    pub r#type: Option<String>,
    /// "jpeg" (the default), "png" or "webp".
    #[schemars(extend("enum" = ["jpeg", "png", "webp", null]))]
    pub format: Option<String>,
    /// Quality, 1 to 100; the default is in the config. Ignored for PNG.
    #[schemars(range(min = 1, max = 100))]
    pub quality: Option<u32>,
    /// Maximum width in pixels, 16 to 8192. The aspect ratio is kept, and nothing is scaled up.
    #[schemars(range(min = 16, max = 8192))]
    pub width: Option<u32>,
    /// Whether the gateway saves the image in `capture.dir`.
    pub save: bool,
}

/// A request that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureRequest {
    /// Format of the image.
    pub format: StillFormat,
    /// Quality, 1 to 100.
    pub quality: u8,
    /// Maximum width in pixels.
    pub max_width: u32,
    /// Whether the image is saved.
    pub save: bool,
}

/// Why a capture failed, by its name on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schemars(rename = "CaptureErrorCode")]
pub enum Code {
    /// No frame was available within `capture.timeout`.
    CaptureTimeout,
    /// Too many captures of this device or this client are waiting; try again.
    CaptureBusy,
    /// The request cannot be parsed, or has an invalid value.
    BadRequest,
    /// This gateway has no encoder for that format.
    UnsupportedFormat,
    /// There is no stream of that name.
    UnknownDevice,
    /// The device is offline, or its source failed; the message says why.
    DeviceOffline,
    /// Captures are disabled: the config has `decoder = false` under `[capture]`.
    DecoderDisabled,
    /// The stream cannot be decoded, and there is no undamaged frame from before.
    DecodeFailed,
    /// The image was encoded, but could not be written to `capture.dir`.
    SaveFailed,
}

impl Code {
    /// Every code, in the order in which the documentation lists them.
    pub const ALL: [Code; 9] = [
        Code::CaptureTimeout,
        Code::CaptureBusy,
        Code::BadRequest,
        Code::UnsupportedFormat,
        Code::UnknownDevice,
        Code::DeviceOffline,
        Code::DecoderDisabled,
        Code::DecodeFailed,
        Code::SaveFailed,
    ];

    /// Status of the HTTP response (RFC 9110 15).
    pub fn status(self) -> u16 {
        match self {
            Code::BadRequest => 400,
            Code::UnknownDevice => 404,
            Code::UnsupportedFormat => 415,
            Code::DecodeFailed => 500,
            Code::DecoderDisabled => 501,
            Code::CaptureBusy | Code::DeviceOffline => 503,
            Code::CaptureTimeout => 504,
            Code::SaveFailed => 507,
        }
    }
}

/// Value of `type` in a failure.
// A type of its own, since a serde tag would also name the schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ErrorType {
    /// "error": the capture failed.
    #[default]
    Error,
}

/// A capture that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "CaptureError")]
pub struct Failure {
    /// Always "error".
    pub r#type: ErrorType,
    /// What kind of failure it is; programs decide by this.
    pub code: Code,
    /// For people: what was wrong and what to do.
    pub message: String,
    /// Identifier of the capture.
    pub capture_id: String,
}

impl CaptureRequest {
    /// Checks a request. `quality` is the default.
    ///
    /// # Errors
    /// The code and what to write instead.
    pub fn read(raw: &RawRequest, quality: u8) -> Result<CaptureRequest, (Code, String)> {
        let bad = |text: String| Err((Code::BadRequest, text));
        if let Some(kind) = &raw.r#type
            && kind != "capture"
        {
            let kind: String = kind.chars().take(32).collect();
            return bad(format!(
                "`type`: \"{kind}\" is not supported; write \"capture\""
            ));
        }
        let format = match raw.format.as_deref() {
            None => StillFormat::Jpeg,
            Some(name) => match StillFormat::ALL
                .into_iter()
                .find(|still| still.name() == name)
            {
                Some(still) => still,
                None => {
                    let name: String = name.chars().take(32).collect();
                    let text =
                        format!("`format`: \"{name}\" is not supported; write jpeg, png or webp");
                    return Err((Code::UnsupportedFormat, text));
                }
            },
        };
        let quality = match raw.quality.map(u8::try_from) {
            None => quality,
            Some(Ok(quality)) if QUALITY.contains(&quality) => quality,
            Some(_) => return bad("`quality`: write a whole number from 1 to 100".into()),
        };
        let max_width = match raw.width {
            None => u32::MAX,
            Some(width) if WIDTH.contains(&width) => width,
            Some(_) => return bad("`width`: write a whole number of pixels from 16 to 8192".into()),
        };
        Ok(CaptureRequest {
            format,
            quality,
            max_width,
            save: raw.save,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<CaptureRequest, (Code, String)> {
        CaptureRequest::read(&serde_json::from_str(text).unwrap(), 77)
    }

    #[test]
    fn a_request_says_what_it_wants_and_the_config_the_rest() {
        let request = |format, quality, max_width, save| CaptureRequest {
            format,
            quality,
            max_width,
            save,
        };
        for (text, expected) in [
            ("{}", request(StillFormat::Jpeg, 77, u32::MAX, false)),
            (
                r#"{"type":"capture","format":"jpeg","quality":80,"save":true}"#,
                request(StillFormat::Jpeg, 80, u32::MAX, true),
            ),
            (
                r#"{"format":"png","width":640,"quality":null}"#,
                request(StillFormat::Png, 77, 640, false),
            ),
        ] {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn invalid_values_are_refused_with_the_valid_ones() {
        for (text, code, what) in [
            (
                r#"{"type":"catpure"}"#,
                Code::BadRequest,
                "write \"capture\"",
            ),
            (
                r#"{"format":"bmp"}"#,
                Code::UnsupportedFormat,
                "jpeg, png or webp",
            ),
            (r#"{"quality":0}"#, Code::BadRequest, "from 1 to 100"),
            (r#"{"quality":256}"#, Code::BadRequest, "from 1 to 100"),
            (r#"{"width":9000}"#, Code::BadRequest, "from 16 to 8192"),
        ] {
            let (found, message) = read(text).unwrap_err();
            assert_eq!(found, code, "{text}");
            assert!(message.contains(what), "{text}: {message}");
        }
    }

    #[test]
    fn codes_are_written_as_the_contract_has_them() {
        let names = Code::ALL.map(|code| serde_json::to_value(code).unwrap());
        assert_eq!(
            names,
            [
                "CAPTURE_TIMEOUT",
                "CAPTURE_BUSY",
                "BAD_REQUEST",
                "UNSUPPORTED_FORMAT",
                "UNKNOWN_DEVICE",
                "DEVICE_OFFLINE",
                "DECODER_DISABLED",
                "DECODE_FAILED",
                "SAVE_FAILED"
            ]
        );
        let failure = Failure {
            r#type: ErrorType::Error,
            code: Code::CaptureBusy,
            message: "m".into(),
            capture_id: "1".into(),
        };
        assert_eq!(
            serde_json::to_value(failure).unwrap(),
            serde_json::json!({"type": "error", "code": "CAPTURE_BUSY", "message": "m", "capture_id": "1"})
        );
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".{0,60}") {
            if let Ok(raw) = serde_json::from_str::<RawRequest>(&text) {
                let _ = CaptureRequest::read(&raw, 80);
            }
        }
    }
}
