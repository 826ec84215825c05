//! A response that is expensive to make, shared by clients that accept one which is slightly old.
//!
//! Dashboards poll the list of devices every second. Concurrent requests wait for the lock and take the response that
//! was made meanwhile, so the work per second is bounded however many clients there are. Used by `/api/devices`.

use bytes::Bytes;
use parking_lot::Mutex;
use sluicegate_config::BasePath;
use std::time::{Duration, Instant};

/// Largest age of a shared response.
const MAX_AGE: Duration = Duration::from_millis(500);

/// The newest response.
#[derive(Debug, Default)]
pub struct SharedResponse(Mutex<Option<Kept>>);

#[derive(Debug)]
struct Kept {
    /// When making it began.
    begun: Instant,
    /// What its paths begin with. There is one at a time, except where a gateway is reached in several ways.
    base_path: BasePath,
    answer: Bytes,
}

impl SharedResponse {
    /// Returns the response for a request that arrived at `arrived`, with this base path in it. A kept one is returned if
    /// it has that, and if making it began
    /// after `arrived`, or with `accepts_shared` less than half a second before; otherwise `make` makes a new one.
    /// Blocks while another caller makes one.
    ///
    /// # Errors
    /// Those of `make`; nothing is kept then.
    pub fn get<E>(
        &self,
        arrived: Instant,
        accepts_shared: bool,
        base_path: &BasePath,
        make: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        let mut kept = self.0.lock();
        let oldest = if accepts_shared {
            MAX_AGE
        } else {
            Duration::ZERO
        };
        if let Some(kept) = &*kept
            && kept.base_path == *base_path
            && arrived.saturating_duration_since(kept.begun) < oldest.max(Duration::from_nanos(1))
        {
            return Ok(kept.answer.clone());
        }
        let begun = Instant::now();
        let answer = make()?;
        *kept = Some(Kept {
            begun,
            base_path: base_path.clone(),
            answer: answer.clone(),
        });
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{cell::Cell, convert::Infallible};

    #[test]
    fn requests_share_a_response_for_half_a_second() {
        let (shared, count) = (SharedResponse::default(), Cell::new(0u8));
        let (root, below) = (BasePath::default(), "/cams".parse().unwrap());
        let get_below = |base_path, arrived, accepts_shared| {
            let Ok(answer) = shared.get(arrived, accepts_shared, base_path, || {
                count.set(count.get() + 1);
                Ok::<_, Infallible>(Bytes::from(vec![count.get()]))
            });
            answer[0]
        };
        let get = |arrived, accepts_shared| get_below(&root, arrived, accepts_shared);
        let start = Instant::now();
        assert_eq!(get(start, true), 1);
        let begun = Instant::now();
        assert_eq!(get(start, false), 1, "an earlier request shares");
        assert_eq!(get(start, true), 1);
        assert_eq!(get(begun, false), 2, "a later request gets a new response");
        let soon = begun + Duration::from_millis(499);
        assert_eq!(get(soon, true), 2);
        assert_eq!(get(begun + Duration::from_secs(3600), true), 3);
        assert_eq!(get_below(&below, start, true), 4, "other paths");
        assert_eq!(get_below(&below, start, true), 4);
    }
}
