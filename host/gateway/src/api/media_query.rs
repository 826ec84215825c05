//! Reads what a viewer requests in path and query: `porch@mobile`, `?width=640&quality=60&fps=5`, `?reorder=0`. Pure.
//!
//! Only parameters that the gateway itself implements are read, and only for transports whose format they apply to;
//! others are passed to the component. Called by the handlers of `/live/`.

use sluicegate_capture::RawRequest;
use sluicegate_media::sample::Format;
use sluicegate_stream::{Variant, VariantOptions};
use std::{ops::RangeInclusive, time::Duration};

/// Permitted widths in pixels.
const WIDTH: RangeInclusive<f64> = 16.0..=8192.0;
/// Permitted JPEG qualities.
const QUALITY: RangeInclusive<f64> = 1.0..=100.0;
/// Permitted frame rates in frames per second.
const FPS: RangeInclusive<f64> = 0.1..=60.0;

/// Splits `NAME@RENDITION` into the names of stream and rendition.
pub fn split(name: &str) -> (&str, Option<&str>) {
    match name.split_once('@') {
        Some((stream, rendition)) => (stream, Some(rendition)),
        None => (name, None),
    }
}

/// The form of a stream that a viewer requests.
#[derive(Debug, PartialEq)]
pub struct MediaQuery {
    /// Rendition, or width and quality of JPEGs, or decode order.
    pub variant: Variant,
    /// Shortest time between two frames, if `fps` limits the rate.
    pub pace: Option<Duration>,
}

/// Reads the query of a request for a transport that takes `formats`. Parameters that the gateway does not know are the
/// component's.
///
/// # Errors
/// A value is out of range; the message says what to write.
pub fn read(rendition: &str, query: &str, formats: &[Format]) -> Result<MediaQuery, String> {
    let mut parsed = MediaQuery {
        variant: Variant {
            rendition: rendition.to_owned(),
            options: VariantOptions::default(),
        },
        pace: None,
    };
    match formats.first() {
        Some(Format::Jpeg) => {}
        Some(Format::H264AnnexB) => {
            parsed.variant.options.in_order = !reorders(query)?;
            return Ok(parsed);
        }
        _ => return Ok(parsed),
    }
    let (mut width, mut quality) = (None, None);
    for pair in query.split('&') {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("width", text) => width = Some(number("width", text, WIDTH, true)? as u32),
            ("quality", text) => quality = Some(number("quality", text, QUALITY, true)? as u8),
            ("fps", text) => {
                let rate = number("fps", text, FPS, false)?;
                parsed.pace = Some(Duration::from_secs_f64(1.0 / rate));
            }
            _ => {}
        }
    }
    parsed.variant.options = VariantOptions::new(width, quality);
    Ok(parsed)
}

/// Whether the client can reorder frames, so that decode order may differ from presentation order (B-frames): yes,
/// unless the query has `reorder=0`.
fn reorders(query: &str) -> Result<bool, String> {
    let mut all = query.split('&').filter_map(|pair| pair.split_once('='));
    match all.find(|(name, _)| *name == "reorder") {
        None | Some((_, "1")) => Ok(true),
        Some((_, "0")) => Ok(false),
        Some((_, text)) => {
            let shown: String = text.chars().take(32).collect();
            Err(format!(
                "`reorder={shown}` is not valid: write 0 for a stream without B-frames, or 1"
            ))
        }
    }
}

/// Reads the query of a request for a still image. Other parameters are ignored.
///
/// # Errors
/// A value is out of range; the message says what to write.
pub fn still(query: &str) -> Result<RawRequest, String> {
    let mut request = RawRequest::default();
    for pair in query.split('&') {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("width", text) => request.width = Some(number("width", text, WIDTH, true)? as u32),
            ("quality", text) => {
                request.quality = Some(number("quality", text, QUALITY, true)? as u32)
            }
            _ => {}
        }
    }
    Ok(request)
}

/// Reads a number in the range `good`, a whole one if `whole`.
fn number(name: &str, text: &str, good: RangeInclusive<f64>, whole: bool) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|number| good.contains(number) && (!whole || number.fract() == 0.0))
        .ok_or_else(|| {
            let kind = if whole { "a whole number" } else { "a number" };
            let shown: String = text.chars().take(32).collect();
            format!(
                "`{name}={shown}` is not valid: write {kind} from {} to {}",
                good.start(),
                good.end()
            )
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_query_is_read_for_jpegs_only() {
        let parsed = read("", "width=700&x=1&quality=61&fps=0.5", &[Format::Jpeg]).unwrap();
        assert_eq!(parsed.variant.to_string(), "?width=800&quality=60");
        assert_eq!(parsed.pace, Some(Duration::from_secs(2)));
        let parsed = read("mobile", "width=junk", &[Format::H264AnnexB]).unwrap();
        assert_eq!(
            (parsed.variant.to_string(), parsed.pace),
            ("@mobile".into(), None)
        );
    }

    #[test]
    fn reorder_is_read_for_annex_b_only() {
        let in_order = |query, format| {
            let parsed = read("", query, &[format]);
            parsed.map(|parsed| parsed.variant.options.in_order)
        };
        for (query, expected) in [
            ("", false),
            ("reorder=1", false),
            ("x=1&reorder=0", true),
            ("reorder", false),
        ] {
            assert_eq!(in_order(query, Format::H264AnnexB), Ok(expected), "{query}");
        }
        assert_eq!(in_order("reorder=0", Format::H264Avcc), Ok(false));
        assert_eq!(in_order("reorder=0", Format::Jpeg), Ok(false));
        let error = in_order("reorder=no", Format::H264AnnexB).unwrap_err();
        assert!(error.contains("write 0"), "{error}");
        let parsed = read("mobile", "reorder=0", &[Format::H264AnnexB]).unwrap();
        assert_eq!(parsed.variant.to_string(), "@mobile?reorder=0");
    }

    #[test]
    fn invalid_values_are_refused_with_advice() {
        for (query, what) in [
            ("width=0", "`width=0`"),
            ("width=", "`width=`"),
            ("width=1e9", "from 16 to 8192"),
            ("quality=50.5", "a whole number from 1 to 100"),
            ("fps=NaN", "a number from 0.1 to 60"),
            ("fps=-1", "`fps=-1`"),
        ] {
            let error = read("", query, &[Format::Jpeg]).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_query_is_answered(query in ".{0,80}") {
            let _ = read("", &query, &[Format::Jpeg]);
        }
    }
}
