//! A response that is expensive to make, shared by clients that accept one which is slightly old.
//!
//! Dashboards poll the list of devices every second. Concurrent requests wait for the lock and take the response that
//! was made meanwhile, so the work per second is bounded however many clients there are. Used by `/api/devices`.

use bytes::Bytes;
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Largest age of a shared response.
const MAX_AGE: Duration = Duration::from_millis(500);

/// The newest response, with the time when making it began.
#[derive(Debug, Default)]
pub struct SharedResponse(Mutex<Option<(Instant, Bytes)>>);

impl SharedResponse {
    /// Returns the response for a request that arrived at `arrived`. A kept response is returned if making it began
    /// after `arrived`, or with `accepts_shared` less than half a second before; otherwise `make` makes a new one.
    /// Blocks while another caller makes one.
    ///
    /// # Errors
    /// Those of `make`; nothing is kept then.
    pub fn get<E>(
        &self,
        arrived: Instant,
        accepts_shared: bool,
        make: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        let mut kept = self.0.lock();
        let oldest = if accepts_shared {
            MAX_AGE
        } else {
            Duration::ZERO
        };
        if let Some((begun, answer)) = &*kept
            && arrived.saturating_duration_since(*begun) < oldest.max(Duration::from_nanos(1))
        {
            return Ok(answer.clone());
        }
        let begun = Instant::now();
        let answer = make()?;
        *kept = Some((begun, answer.clone()));
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::Cell, convert::Infallible};

    #[test]
    fn requests_share_a_response_for_half_a_second() {
        let (shared, count) = (SharedResponse::default(), Cell::new(0u8));
        let get = |arrived, accepts_shared| {
            let Ok(answer) = shared.get(arrived, accepts_shared, || {
                count.set(count.get() + 1);
                Ok::<_, Infallible>(Bytes::from(vec![count.get()]))
            });
            answer[0]
        };
        let start = Instant::now();
        assert_eq!(get(start, true), 1);
        let begun = Instant::now();
        assert_eq!(get(start, false), 1, "an earlier request shares");
        assert_eq!(get(start, true), 1);
        assert_eq!(get(begun, false), 2, "a later request gets a new response");
        let soon = begun + Duration::from_millis(499);
        assert_eq!(get(soon, true), 2);
        assert_eq!(get(begun + Duration::from_secs(3600), true), 3);
    }
}
