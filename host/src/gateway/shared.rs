//! One answer for all who do not mind that it is a moment old.

use bytes::Bytes;
use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How old an answer is at most that was made for somebody else.
const FRESH: Duration = Duration::from_millis(500);

/// The newest answer to a question that many ask.
#[derive(Debug, Default)]
pub struct Shared(Mutex<Option<(Instant, Bytes)>>);

impl Shared {
    /// What `make` gives. Who asks with `patient` set takes what was made for others up to half a second before; who asks
    /// meanwhile waits for the one that is being made.
    pub fn get<E>(
        &self,
        now: Instant,
        patient: bool,
        make: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, answer)) = &*kept
            && patient
            && now.saturating_duration_since(*made) < FRESH
        {
            return Ok(answer.clone());
        }
        let answer = make()?;
        *kept = Some((Instant::now().max(now), answer.clone()));
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::Cell, convert::Infallible};

    #[test]
    fn who_is_patient_shares_what_was_made_within_half_a_second() {
        let (shared, made) = (Shared::default(), Cell::new(0u8));
        let start = Instant::now();
        let get = |ms, patient| {
            let Ok(answer) = shared.get(start + Duration::from_millis(ms), patient, || {
                made.set(made.get() + 1);
                Ok::<_, Infallible>(Bytes::from(vec![made.get()]))
            });
            answer[0]
        };
        // Made long after the start by this test's clock, not by that of a slow machine.
        let at = 3_600_000;
        assert_eq!((get(at, true), get(at + 499, true)), (1, 1));
        assert_eq!(get(at + 499, false), 2, "the newest for who asks for that");
        assert_eq!((get(at + 900, true), get(at + 1000, true)), (2, 3));
    }
}
