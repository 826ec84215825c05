//! The keys of a stream that control how its URL is fetched.

use super::{HostName, Span, Stream};
use std::time::Duration;

/// How a source's URL is fetched.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetch {
    /// Interval between requests to a URL that returns a single JPEG.
    pub every: Duration,
    /// Other hosts that the URL may redirect to.
    pub redirects: Vec<HostName>,
}

impl Fetch {
    /// Default of `every`: 500 ms.
    pub const EVERY: Span = Span::from_duration(Duration::from_millis(500));
    /// Shortest and longest value of `every`.
    pub const RANGE: (Span, Span) = (
        Span::from_duration(Duration::from_millis(20)),
        Span::from_duration(Duration::from_secs(3600)),
    );
}

impl Default for Fetch {
    fn default() -> Fetch {
        Stream::default().fetch()
    }
}
