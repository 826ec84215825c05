//! What is asked of a capture, what can go wrong with it, and how both are said on the wire. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluicegate_codec::Still;
use std::ops::RangeInclusive;

/// Pixels across that may be asked for.
pub const WIDTH: RangeInclusive<u32> = 16..=8192;
/// JPEG and WebP qualities that may be asked for.
pub const QUALITY: RangeInclusive<u8> = 1..=100;

/// A request as it is written: a message of `WS /api/ws/capture/{serial}`, or the body of a POST.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "CaptureRequest")]
pub struct RawRequest {
    /// "capture"; may be left out of a POST.
    #[schemars(extend("enum" = ["capture", null]))]
    pub r#type: Option<String>,
    /// "jpeg" (the default), "png" or "webp".
    #[schemars(extend("enum" = ["jpeg", "png", "webp", null]))]
    pub format: Option<String>,
    /// 1 to 100; as configured if absent. PNG has none.
    #[schemars(range(min = 1, max = 100))]
    pub quality: Option<u32>,
    /// Pixels across at most, 16 to 8192; the shape stays, and nothing is made larger than it is.
    #[schemars(range(min = 16, max = 8192))]
    pub width: Option<u32>,
    /// Whether the gateway keeps the picture in `capture.dir`.
    pub save: bool,
}

/// A request that can be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureRequest {
    /// As what.
    pub format: Still,
    /// 1 to 100.
    pub quality: u8,
    /// Pixels across at most.
    pub max_width: u32,
    /// Whether it is kept.
    pub save: bool,
}

/// What went wrong, by the name of it on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schemars(rename = "CaptureErrorCode")]
pub enum Code {
    /// No picture came within `capture.timeout`.
    CaptureTimeout,
    /// Too many captures wait, of this device or this client; try again.
    CaptureBusy,
    /// The request cannot be read, or asks for what cannot be.
    BadRequest,
    /// This gateway makes no pictures of that format.
    UnsupportedFormat,
    /// There is no stream of that name.
    UnknownDevice,
    /// The device is not there, or its source failed; the message says why.
    DeviceOffline,
    /// The config has `decoder = false` under `[capture]`.
    DecoderDisabled,
    /// The stream cannot be decoded, and no good picture is left from before.
    DecodeFailed,
    /// The picture was made, but could not be written to `capture.dir`.
    SaveFailed,
}

impl Code {
    /// Every code.
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

    /// The status of an HTTP response that says so (RFC 9110 15).
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

/// What a failure says it is. A type of its own, as a tag by serde would name the schema, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum IsError {
    /// Always.
    #[default]
    Error,
}

/// A capture that was not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "CaptureError")]
pub struct Failure {
    /// "error".
    pub r#type: IsError,
    /// Which of them.
    pub code: Code,
    /// For people: what was wrong and what to do.
    pub message: String,
    /// Of the request.
    pub capture_id: String,
}

impl CaptureRequest {
    /// What `asked` comes to, where `quality` is what is meant by none.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn read(asked: &RawRequest, quality: u8) -> Result<CaptureRequest, (Code, String)> {
        let bad = |text: String| Err((Code::BadRequest, text));
        if let Some(kind) = &asked.r#type
            && kind != "capture"
        {
            let kind: String = kind.chars().take(32).collect();
            return bad(format!(
                "`type`: \"{kind}\" is not spoken here; write \"capture\""
            ));
        }
        let format = match asked.format.as_deref() {
            None => Still::Jpeg,
            Some(name) => match Still::ALL.into_iter().find(|still| still.name() == name) {
                Some(still) => still,
                None => {
                    let name: String = name.chars().take(32).collect();
                    let text =
                        format!("`format`: \"{name}\" is not made here; write jpeg, png or webp");
                    return Err((Code::UnsupportedFormat, text));
                }
            },
        };
        let quality = match asked.quality.map(u8::try_from) {
            None => quality,
            Some(Ok(quality)) if QUALITY.contains(&quality) => quality,
            Some(_) => return bad("`quality`: write a whole number from 1 to 100".into()),
        };
        let max_width = match asked.width {
            None => u32::MAX,
            Some(width) if WIDTH.contains(&width) => width,
            Some(_) => return bad("`width`: write a whole number of pixels from 16 to 8192".into()),
        };
        Ok(CaptureRequest {
            format,
            quality,
            max_width,
            save: asked.save,
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
            ("{}", request(Still::Jpeg, 77, u32::MAX, false)),
            (
                r#"{"type":"capture","format":"jpeg","quality":80,"save":true}"#,
                request(Still::Jpeg, 80, u32::MAX, true),
            ),
            (
                r#"{"format":"png","width":640,"quality":null}"#,
                request(Still::Png, 77, 640, false),
            ),
        ] {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_is_told_with_what_can() {
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
            r#type: IsError::Error,
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
            if let Ok(asked) = serde_json::from_str::<RawRequest>(&text) {
                let _ = CaptureRequest::read(&asked, 80);
            }
        }
    }
}
