//! A list that is expensive to make, shared by clients that accept one which is slightly old.
//!
//! Dashboards poll the list of devices every second. Concurrent requests wait for the lock and take the list that was
//! made meanwhile, so the work per second is bounded however many clients there are. What a client may not view is left
//! out of its copy. Used by `/api/devices`.

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use sluicegate_config::BasePath;
use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

/// Largest age of a shared list.
const MAX_AGE: Duration = Duration::from_millis(500);

/// A JSON array with an object for each stream.
#[derive(Clone, Debug)]
pub struct JsonList {
    whole: Bytes,
    /// Name of each stream, and where its object is.
    items: Arc<[(String, Range<usize>)]>,
}

impl JsonList {
    /// The array of these values, each with the name of its stream.
    ///
    /// # Errors
    /// A value has no JSON form.
    pub fn new<T: Serialize>(
        values: impl Iterator<Item = (String, T)>,
    ) -> serde_json::Result<JsonList> {
        let (mut whole, mut items) = (vec![b'['], Vec::new());
        for (name, value) in values {
            if !items.is_empty() {
                whole.push(b',');
            }
            let start = whole.len();
            serde_json::to_writer(&mut whole, &value)?;
            items.push((name, start..whole.len()));
        }
        whole.push(b']');
        let (whole, items) = (whole.into(), items.into());
        Ok(JsonList { whole, items })
    }

    /// The array of those values whose stream `may_view` admits.
    pub fn visible(&self, may_view: impl Fn(&str) -> bool) -> Bytes {
        let visible: Vec<_> = self
            .items
            .iter()
            .filter(|(name, _)| may_view(name))
            .collect();
        if visible.len() == self.items.len() {
            return self.whole.clone();
        }
        let parts: Vec<&[u8]> = visible
            .iter()
            .filter_map(|(_, range)| self.whole.get(range.clone()))
            .collect();
        [b"[".as_slice(), &parts.join(&b','), b"]"].concat().into()
    }
}

/// The newest list.
#[derive(Debug, Default)]
pub struct SharedList(Mutex<Option<Kept>>);

#[derive(Debug)]
struct Kept {
    /// When making it began.
    begun: Instant,
    /// What its paths begin with. There is one at a time, except where a gateway is reached in several ways.
    base_path: BasePath,
    list: JsonList,
}

impl SharedList {
    /// Returns the list for a request that arrived at `arrived`, with this base path in it. A kept list is returned if it
    /// has that, and if making it began after `arrived`, or with `accepts_shared` less than half a second before;
    /// otherwise `make` makes a new one. Blocks while another caller makes one.
    ///
    /// # Errors
    /// Those of `make`; nothing is kept then.
    pub fn get<E>(
        &self,
        arrived: Instant,
        accepts_shared: bool,
        base_path: &BasePath,
        make: impl FnOnce() -> Result<JsonList, E>,
    ) -> Result<JsonList, E> {
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
            return Ok(kept.list.clone());
        }
        let begun = Instant::now();
        let list = make()?;
        *kept = Some(Kept {
            begun,
            base_path: base_path.clone(),
            list: list.clone(),
        });
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_list_has_only_what_its_client_may_view() {
        let all = ["a", "b", "c"].map(|name| (name.to_owned(), name));
        let list = JsonList::new(all.into_iter()).unwrap();
        for (visible, expected) in [
            ("abc", r#"["a","b","c"]"#),
            ("ac", r#"["a","c"]"#),
            ("b", r#"["b"]"#),
            ("", "[]"),
        ] {
            assert_eq!(list.visible(|name| visible.contains(name)), expected);
        }
    }

    #[test]
    fn requests_share_a_list_for_half_a_second() {
        let (shared, count) = (SharedList::default(), Cell::new(0u8));
        let (root, below) = (BasePath::default(), "/cams".parse().unwrap());
        let get_below = |base_path, arrived, accepts_shared| {
            let list = shared.get(arrived, accepts_shared, base_path, || {
                count.set(count.get() + 1);
                JsonList::new([(String::new(), count.get())].into_iter())
            });
            let text = list.unwrap().visible(|_| true);
            text[1] - b'0'
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
