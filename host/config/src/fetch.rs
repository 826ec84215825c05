//! What a stream says of how its URL is fetched.

use super::{HostName, Span, Stream};
use std::time::Duration;

/// How a source's URL is fetched.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetch {
    /// How often one that gives a single JPEG is asked for the next.
    pub every: Duration,
    /// Other hosts that it may redirect to.
    pub redirects: Vec<HostName>,
}

impl Fetch {
    /// The default of `every`: twice a second.
    pub const EVERY: Span = Span::from_duration(Duration::from_millis(500));
    /// The shortest and the longest that `every` may be.
    pub(super) const RANGE: (Span, Span) = (
        Span::from_duration(Duration::from_millis(20)),
        Span::from_duration(Duration::from_secs(3600)),
    );
}

impl Default for Fetch {
    fn default() -> Fetch {
        Stream::default().fetch()
    }
}
