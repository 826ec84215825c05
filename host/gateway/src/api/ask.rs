//! What a viewer asks of a stream in the path and the query: `porch@mobile`, `?width=640&quality=60&fps=5`, `?reorder=0`. Pure.

use sluicegate_capture::RawRequest;
use sluicegate_media::sample::Format;
use sluicegate_stream::{Variant, VariantOptions};
use std::{ops::RangeInclusive, time::Duration};

/// What may be asked for.
const WIDTH: RangeInclusive<f64> = 16.0..=8192.0;
const QUALITY: RangeInclusive<f64> = 1.0..=100.0;
const FPS: RangeInclusive<f64> = 0.1..=60.0;

/// A stream's name, and its rendition's if there is one.
pub fn split(name: &str) -> (&str, Option<&str>) {
    match name.split_once('@') {
        Some((stream, rendition)) => (stream, Some(rendition)),
        None => (name, None),
    }
}

/// What of the stream is wanted, and the time from one picture to the next at least.
#[derive(Debug, PartialEq)]
pub struct MediaQuery {
    /// Which rendition, or which width and quality.
    pub variant: Variant,
    /// The shortest time between two pictures, where `fps` asks for fewer.
    pub pace: Option<Duration>,
}

/// Reads the query of a request for a transport that takes `formats`; other parameters than the host's are the
/// component's. The error says what to write.
pub fn read(rendition: &str, query: &str, formats: &[Format]) -> Result<MediaQuery, String> {
    let mut asked = MediaQuery {
        variant: Variant {
            rendition: rendition.to_owned(),
            ask: VariantOptions::default(),
        },
        pace: None,
    };
    match formats.first() {
        Some(Format::Jpeg) => {}
        Some(Format::H264AnnexB) => {
            asked.variant.ask.in_order = !reorders(query)?;
            return Ok(asked);
        }
        _ => return Ok(asked),
    }
    let (mut width, mut quality) = (None, None);
    for pair in query.split('&') {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("width", text) => width = Some(number("width", text, WIDTH, true)? as u32),
            ("quality", text) => quality = Some(number("quality", text, QUALITY, true)? as u8),
            ("fps", text) => {
                let rate = number("fps", text, FPS, false)?;
                asked.pace = Some(Duration::from_secs_f64(1.0 / rate));
            }
            _ => {}
        }
    }
    asked.variant.ask = VariantOptions::new(width, quality);
    Ok(asked)
}

/// Whether pictures may come in another order than they are shown: unless `reorder=0` says that the client cannot put them in order.
fn reorders(query: &str) -> Result<bool, String> {
    let mut all = query.split('&').filter_map(|pair| pair.split_once('='));
    match all.find(|(name, _)| *name == "reorder") {
        None | Some((_, "1")) => Ok(true),
        Some((_, "0")) => Ok(false),
        Some((_, text)) => {
            let shown: String = text.chars().take(32).collect();
            Err(format!(
                "`reorder={shown}` cannot be served: write 0 for a stream without B pictures, or 1"
            ))
        }
    }
}

/// Reads the query of a request for a single picture; what else is in it does not matter. The error says what to write.
pub fn still(query: &str) -> Result<RawRequest, String> {
    let mut asked = RawRequest::default();
    for pair in query.split('&') {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("width", text) => asked.width = Some(number("width", text, WIDTH, true)? as u32),
            ("quality", text) => {
                asked.quality = Some(number("quality", text, QUALITY, true)? as u32)
            }
            _ => {}
        }
    }
    Ok(asked)
}

fn number(name: &str, text: &str, good: RangeInclusive<f64>, whole: bool) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|number| good.contains(number) && (!whole || number.fract() == 0.0))
        .ok_or_else(|| {
            let kind = if whole { "a whole number" } else { "a number" };
            let shown: String = text.chars().take(32).collect();
            format!(
                "`{name}={shown}` cannot be served: write {kind} from {} to {}",
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
        let asked = read("", "width=700&x=1&quality=61&fps=0.5", &[Format::Jpeg]).unwrap();
        assert_eq!(asked.variant.to_string(), "?width=800&quality=60");
        assert_eq!(asked.pace, Some(Duration::from_secs(2)));
        let asked = read("mobile", "width=junk", &[Format::H264AnnexB]).unwrap();
        assert_eq!(
            (asked.variant.to_string(), asked.pace),
            ("@mobile".into(), None)
        );
    }

    #[test]
    fn who_cannot_reorder_says_so_and_only_of_bare_h264() {
        let in_order = |query, format| {
            let asked = read("", query, &[format]);
            asked.map(|asked| asked.variant.ask.in_order)
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
        let asked = read("mobile", "reorder=0", &[Format::H264AnnexB]).unwrap();
        assert_eq!(asked.variant.to_string(), "@mobile?reorder=0");
    }

    #[test]
    fn what_cannot_be_served_is_told() {
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
