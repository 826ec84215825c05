//! Wrong passwords slow down who sends them: each address, and each name that is tried.
//!
//! An attempt counts before it is verified, so that many at a time do not slip through, and is taken back if the
//! password was right. The count falls by one a minute. Names count whether they exist or not. A name that is attacked
//! from everywhere does not lock out its owner: where somebody has signed in before, only the address counts.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

/// Entries of each of the two tables.
pub(crate) const MAX_ENTRIES: usize = 16_384;
/// Seconds after which one wrong password is forgotten.
const FORGET: u64 = 60;
/// Wrong passwords of an address without a delay, and the longest delay in seconds.
const ADDRESS: (u32, u64) = (5, 900);
/// The same of a name.
const NAME: (u32, u64) = (10, 60);

/// A network of which all addresses count as one: an IPv4 address or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place(IpAddr);

impl Place {
    pub(crate) fn of(address: IpAddr) -> Place {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() >> 64 << 64;
                Place(Ipv6Addr::from_bits(network).into())
            }
            address => Place(address),
        }
    }

    /// Its bytes, of which no two places have the same.
    pub(crate) fn bytes(self) -> Vec<u8> {
        match self.0 {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        }
    }
}

/// Both tables. Times are Unix times in seconds.
#[derive(Default)]
pub(crate) struct Throttle {
    places: Mutex<HashMap<Place, Wrong>>,
    names: Mutex<HashMap<u64, Wrong>>,
}

#[derive(Clone, Copy, Debug)]
struct Wrong {
    count: u32,
    last: u64,
}

impl Wrong {
    /// The count, without what is forgotten.
    fn count(&self, now: u64) -> u32 {
        let forgotten = now.saturating_sub(self.last) / FORGET;
        self.count
            .saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }

    /// Seconds until the next attempt may be made.
    fn wait(&self, (free, longest): (u32, u64), now: u64) -> u64 {
        let over = self.count.saturating_sub(free);
        let delay = match over {
            0 => 0,
            over => (1_u64 << over.min(32)).min(longest),
        };
        let until = self.last.saturating_add(delay);
        // A clock that was set back makes nobody wait for longer.
        until.saturating_sub(now).min(delay)
    }
}

impl Throttle {
    /// Whether an attempt may be made. `name` is a keyed hash; `None` if only the address counts.
    ///
    /// # Errors
    /// How long to wait before the next attempt.
    pub(crate) fn check(&self, place: Place, name: Option<u64>, now: u64) -> Result<(), Duration> {
        check(&self.places.lock(), &place, ADDRESS, now)?;
        match name {
            Some(name) => check(&self.names.lock(), &name, NAME, now),
            None => Ok(()),
        }
    }

    /// As [`Throttle::check`], and counts the attempt as wrong, until [`Throttle::take_back`].
    ///
    /// # Errors
    /// How long to wait before the next attempt.
    pub(crate) fn admit(&self, place: Place, name: Option<u64>, now: u64) -> Result<(), Duration> {
        let mut places = self.places.lock();
        let mut names = self.names.lock();
        check(&places, &place, ADDRESS, now)?;
        if let Some(name) = name {
            check(&names, &name, NAME, now)?;
            count(&mut names, name, now);
        }
        count(&mut places, place, now);
        Ok(())
    }

    /// Takes the attempt back that was admitted last: its password was right, or was not verified.
    pub(crate) fn take_back(&self, place: Place, name: Option<u64>) {
        uncount(&mut self.places.lock(), &place);
        if let Some(name) = name {
            uncount(&mut self.names.lock(), &name);
        }
    }
}

fn check<K: Eq + Hash>(
    table: &HashMap<K, Wrong>,
    key: &K,
    limit: (u32, u64),
    now: u64,
) -> Result<(), Duration> {
    match table.get(key).map_or(0, |wrong| wrong.wait(limit, now)) {
        0 => Ok(()),
        wait => Err(Duration::from_secs(wait)),
    }
}

fn count<K: Copy + Eq + Hash>(table: &mut HashMap<K, Wrong>, key: K, now: u64) {
    if table.len() >= MAX_ENTRIES && !table.contains_key(&key) {
        table.retain(|_, wrong| wrong.count(now) > 0);
        if table.len() >= MAX_ENTRIES {
            let oldest = table.iter().min_by_key(|(_, wrong)| wrong.last);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                table.remove(&oldest);
            }
        }
    }
    let wrong = table.entry(key).or_insert(Wrong {
        count: 0,
        last: now,
    });
    // What is forgotten must not be forgotten twice.
    *wrong = Wrong {
        count: wrong.count(now).saturating_add(1),
        last: now,
    };
}

fn uncount<K: Eq + Hash>(table: &mut HashMap<K, Wrong>, key: &K) {
    if let Some(wrong) = table.get_mut(key) {
        wrong.count = wrong.count.saturating_sub(1);
        if wrong.count == 0 {
            table.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(text: &str) -> Place {
        Place::of(text.parse().unwrap())
    }

    #[test]
    fn an_ipv6_network_is_one_place() {
        assert_eq!(place("2001:db8::1"), place("2001:db8::2:3"));
        assert_ne!(place("2001:db8::1"), place("2001:db8:0:1::1"));
        assert_eq!(place("::ffff:10.0.0.1"), place("10.0.0.1"));
        assert_ne!(place("10.0.0.1"), place("10.0.0.2"));
    }

    #[test]
    fn an_address_waits_for_longer_after_each_wrong_password() {
        let throttle = Throttle::default();
        let (from, mut now) = (place("10.0.0.1"), 1_000);
        for _ in 0..6 {
            throttle.admit(from, None, now).unwrap();
        }
        for seconds in [2, 4, 8, 16, 32] {
            let wait = throttle.admit(from, None, now).unwrap_err();
            assert_eq!(wait, Duration::from_secs(seconds));
            now += seconds;
            throttle.admit(from, None, now).unwrap();
        }
        // Others do not wait, and after some time the address does not either.
        throttle.admit(place("10.0.0.2"), None, now).unwrap();
        throttle.admit(from, None, now + 12 * FORGET).unwrap();
    }

    #[test]
    fn a_name_waits_that_is_tried_from_everywhere() {
        let throttle = Throttle::default();
        for nth in 0..11 {
            throttle
                .admit(place(&format!("10.0.1.{nth}")), Some(7), 1_000)
                .unwrap();
        }
        let other = place("10.0.2.1");
        assert!(throttle.admit(other, Some(7), 1_000).is_err());
        throttle.admit(other, Some(8), 1_000).unwrap();
        throttle.admit(other, None, 1_000).unwrap();
    }

    #[test]
    fn right_passwords_make_nobody_wait() {
        let throttle = Throttle::default();
        for _ in 0..100 {
            throttle.admit(place("10.0.0.1"), Some(7), 1_000).unwrap();
            throttle.take_back(place("10.0.0.1"), Some(7));
        }
        assert!(throttle.places.lock().is_empty());
    }

    #[test]
    fn the_tables_are_bounded() {
        let throttle = Throttle::default();
        for nth in 0..MAX_ENTRIES as u64 + 10 {
            let from = Place(IpAddr::V4((nth as u32).into()));
            throttle.admit(from, Some(nth), 1_000 + nth).unwrap();
        }
        assert!(throttle.places.lock().len() <= MAX_ENTRIES);
        assert!(throttle.names.lock().len() <= MAX_ENTRIES);
    }

    proptest! {
        #[test]
        fn nobody_waits_longer_than_the_longest_delay(count: u32, last: u64, now: u64) {
            let wrong = Wrong { count, last };
            prop_assert!(wrong.wait(ADDRESS, now) <= ADDRESS.1);
            prop_assert!(wrong.wait(NAME, now) <= NAME.1);
        }
    }
}
