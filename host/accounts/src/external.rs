//! People whom somebody else vouches for: a trusted proxy, or the issuer of JSON Web Tokens. Their rights are those of
//! the groups that `group-map` makes of theirs; other groups give nothing.

use super::state::{Owner, Remote};
use super::ticket::short_tag;
use parking_lot::Mutex;
use ring::hmac;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Most people that are remembered.
pub(crate) const MAX_EXTERNALS: usize = 4_096;
/// Most groups of one of them that are read.
pub(crate) const MAX_GROUPS: usize = 200;
/// Longest name of one of them, in bytes.
const MAX_NAME: usize = 128;

/// One of these people, as of one request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct External {
    /// By which a ticket names it.
    pub key: u64,
    pub owner: Owner,
    /// Unix time in seconds at which the JSON Web Token ends.
    pub until: Option<u64>,
    /// Fingerprint of what it was believed by: the proxy's secret, or issuer and audience.
    pub trust: u64,
    /// Print of the key that signed the JSON Web Token.
    pub signed_by: Option<u64>,
}

/// Those who were seen last, so that tickets can name them.
#[derive(Default)]
pub(crate) struct Externals {
    known: Mutex<HashMap<u64, (Arc<External>, u64)>>,
}

impl Externals {
    /// The one with these properties, from now on remembered.
    pub(crate) fn of(
        &self,
        key: &hmac::Key,
        owner: Owner,
        until: Option<u64>,
        trust: u64,
        signed_by: Option<u64>,
        now: u64,
    ) -> Arc<External> {
        let external = External {
            key: tag(key, &owner, until, trust, signed_by),
            owner,
            until,
            trust,
            signed_by,
        };
        let mut known = self.known.lock();
        if let Some((found, seen)) = known.get_mut(&external.key) {
            *seen = now;
            return Arc::clone(found);
        }
        if known.len() >= MAX_EXTERNALS {
            known.retain(|_, (known, _)| known.until.is_none_or(|until| until > now));
        }
        if known.len() >= MAX_EXTERNALS {
            let oldest = known.iter().min_by_key(|(_, (_, seen))| *seen);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                known.remove(&oldest);
            }
        }
        let external = Arc::new(external);
        known.insert(external.key, (Arc::clone(&external), now));
        external
    }

    pub(crate) fn get(&self, key: u64, now: u64) -> Option<Arc<External>> {
        let mut known = self.known.lock();
        let (found, seen) = known.get_mut(&key)?;
        *seen = now;
        Some(Arc::clone(found))
    }

    /// When the next of them ends, after a time.
    pub(crate) fn next_end(&self, after: u64) -> Option<u64> {
        let known = self.known.lock();
        let ends = known.values().filter_map(|(known, _)| known.until);
        ends.filter(|until| *until > after).min()
    }
}

fn tag(
    key: &hmac::Key,
    owner: &Owner,
    until: Option<u64>,
    trust: u64,
    signed_by: Option<u64>,
) -> u64 {
    let (kind, remote): (&[u8], _) = match owner {
        Owner::Jwt(remote) => (b"jwt", Some(remote)),
        _ => (b"proxy", remote(owner)),
    };
    let until = until.unwrap_or_default().to_be_bytes();
    let trust = trust.to_be_bytes();
    let signed_by = signed_by.unwrap_or_default().to_be_bytes();
    let mut parts: Vec<&[u8]> = vec![b"external", kind, &until, &trust, &signed_by];
    parts.push(owner.name().as_bytes());
    let groups = remote.map_or(&[][..], |remote| &remote.groups);
    parts.extend(groups.iter().map(String::as_bytes));
    short_tag(key, &parts)
}

/// The user and groups of somebody else's; `None` for one of our own.
pub(crate) fn remote(owner: &Owner) -> Option<&Remote> {
    match owner {
        Owner::Proxy(remote) | Owner::Jwt(remote) => Some(remote),
        Owner::Account(_) | Owner::Local => None,
    }
}

/// A user with those of its groups that are in the map; `None` if the name can be none.
pub(crate) fn known<'a>(
    user: &str,
    groups: impl Iterator<Item = &'a str>,
    map: &BTreeMap<String, String>,
) -> Option<Remote> {
    let user = user.trim();
    if user.is_empty() || user.len() > MAX_NAME || user.contains(char::is_control) {
        return None;
    }
    let groups = groups.take(MAX_GROUPS).map(str::trim);
    let mut groups: Vec<String> = groups
        .filter(|group| map.contains_key(*group))
        .map(str::to_owned)
        .collect();
    // In whichever order they come, it is the same user.
    groups.sort();
    groups.dedup();
    Some(Remote {
        user: user.to_owned(),
        groups,
    })
}

/// The groups in a header of a proxy or a claim that is a text: separated by commas, as by Authelia, or `|`, as by
/// authentik.
pub(crate) fn split(groups: &str) -> impl Iterator<Item = &str> {
    groups.split([',', '|'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> BTreeMap<String, String> {
        let pairs = [("staff", "all"), ("Cam Viewers", "viewers")];
        pairs.map(|(from, to)| (from.into(), to.into())).into()
    }

    #[test]
    fn groups_that_are_not_in_the_map_are_left_out() {
        let groups = |text| known("kim", split(text), &map()).unwrap().groups;
        assert_eq!(groups("staff"), ["staff"]);
        assert_eq!(
            groups("Cam Viewers | staff,all, staff"),
            ["Cam Viewers", "staff"]
        );
        assert!(groups("all,Staff,staf,,").is_empty());
        assert!(groups("").is_empty());
        let many = "x,".repeat(MAX_GROUPS) + "staff";
        assert!(groups(&many).is_empty());
    }

    #[test]
    fn a_name_is_not_empty_and_short() {
        let user = |name: &str| known(name, [].into_iter(), &map()).map(|remote| remote.user);
        assert_eq!(user(" kim "), Some("kim".into()));
        for bad in ["", " ", "k\nim", &"x".repeat(129)] {
            assert_eq!(user(bad), None, "{bad}");
        }
    }

    #[test]
    fn somebody_is_found_again_until_too_many_came() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
        let externals = Externals::default();
        let owner = |user: &str| {
            Owner::Proxy(Remote {
                user: user.into(),
                groups: Vec::new(),
            })
        };
        let kim = externals.of(&key, owner("kim"), None, 1, None, 1_000);
        let again = externals.of(&key, owner("kim"), None, 1, None, 1_000);
        assert!(Arc::ptr_eq(&kim, &again));
        assert_eq!(externals.get(kim.key, 1_000), Some(Arc::clone(&kim)));
        for other in [
            externals.of(&key, owner("kim"), None, 2, None, 1_000),
            externals.of(&key, owner("kim"), None, 1, Some(1), 1_000),
            externals.of(&key, owner("kim"), Some(2_000), 1, None, 1_000),
            externals.of(&key, owner("eva"), None, 1, None, 1_000),
        ] {
            assert_ne!(other.key, kim.key);
        }
        assert_eq!(externals.next_end(1_000), Some(2_000));
        assert_eq!(externals.next_end(2_000), None);
        for nth in 0..MAX_EXTERNALS {
            externals.of(&key, owner(&nth.to_string()), None, 1, None, 2_001);
        }
        assert_eq!(externals.known.lock().len(), MAX_EXTERNALS);
        assert_eq!(externals.get(kim.key, 2_001), None);
    }
}
