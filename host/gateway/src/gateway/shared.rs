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
    /// What `make` gives, for who came at `came`. Many at once get the same: who waited here takes what was begun after he came, and
    /// with `patient` set what was begun up to half a second before.
    pub fn get<E>(
        &self,
        came: Instant,
        patient: bool,
        make: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = if patient { FRESH } else { Duration::ZERO };
        if let Some((begun, answer)) = &*kept
            && came.saturating_duration_since(*begun) < oldest.max(Duration::from_nanos(1))
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
    fn who_is_patient_shares_what_was_made_within_half_a_second() {
        let (shared, made) = (Shared::default(), Cell::new(0u8));
        let get = |came, patient| {
            let Ok(answer) = shared.get(came, patient, || {
                made.set(made.get() + 1);
                Ok::<_, Infallible>(Bytes::from(vec![made.get()]))
            });
            answer[0]
        };
        let start = Instant::now();
        assert_eq!(get(start, true), 1);
        let begun = Instant::now();
        assert_eq!(get(start, false), 1, "who came before shares");
        assert_eq!(get(start, true), 1);
        assert_eq!(get(begun, false), 2, "the newest for who asks for that");
        let soon = begun + Duration::from_millis(499);
        assert_eq!(get(soon, true), 2);
        assert_eq!(get(begun + Duration::from_secs(3600), true), 3);
    }
}
