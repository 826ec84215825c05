//! Delivery directives: what a client requests of a media playlist in its query (draft-pantos-hls-rfc8216bis, 6.2.5).

/// Delivery directives of one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// `_HLS_msn`: respond when the playlist contains this segment.
    pub msn: Option<u64>,
    /// `_HLS_part`: respond when the playlist contains this part of that segment.
    pub part: Option<u64>,
    /// `_HLS_skip`: a delta update is acceptable.
    pub skip: bool,
}

impl Directives {
    /// Parses a query. Unknown parameters are ignored.
    ///
    /// # Errors
    /// States which parameter is wrong, for the client.
    pub fn read(query: &str) -> Result<Directives, String> {
        let mut directives = Directives::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "_HLS_msn" => directives.msn = Some(number(name, value)?),
                "_HLS_part" => directives.part = Some(number(name, value)?),
                "_HLS_skip" => directives.skip = matches!(value, "YES" | "v2"),
                _ => {}
            }
        }
        if directives.part.is_some() && directives.msn.is_none() {
            return Err(
                "_HLS_part requires _HLS_msn, the segment that the part belongs to.".into(),
            );
        }
        Ok(directives)
    }
}

fn number(name: &str, text: &str) -> Result<u64, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.ok_or_else(|| {
        let shown: String = text.chars().take(32).collect();
        format!("{name}={shown} is not a valid number; write a decimal integer.")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn directives_are_read_and_others_left_alone() {
        let read = |query| Directives::read(query).unwrap();
        assert_eq!(read(""), Directives::default());
        assert_eq!(read("client=tv&_HLS_future=1"), Directives::default());
        let all = Directives {
            msn: Some(7),
            part: Some(0),
            skip: true,
        };
        assert_eq!(read("_HLS_msn=7&_HLS_part=0&_HLS_skip=YES"), all);
        assert!(read("_HLS_skip=v2").skip);
        assert!(!read("_HLS_skip=NO").skip);
    }

    #[test]
    fn nonsense_is_refused() {
        for query in [
            "_HLS_part=1",
            "_HLS_msn=",
            "_HLS_msn=-1",
            "_HLS_msn=+1",
            "_HLS_msn=1&_HLS_part=x",
            "_HLS_msn=18446744073709551616",
        ] {
            assert!(Directives::read(query).is_err(), "{query}");
        }
    }
}
