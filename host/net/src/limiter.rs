//! Limits of connections: in total, and per client address.
//!
//! Called by `listener` for each accepted connection. The total is bounded by the config and by the files that the
//! process may open.

use crate::auth::Peer;
use parking_lot::{Mutex, MutexGuard};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sluicegate_config::{Network, Server, TrustedProxy};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    pin::pin,
    sync::Arc,
};
use thiserror::Error;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// File descriptors that are reserved for everything except connections, in total and per stream: sources, pipes,
/// components, pages.
const OTHER_FILES: u64 = 64;
const STREAM_FILES: u64 = 4;

/// Reason why a connection is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// The limit of all connections is reached.
    #[error(
        "{0} connections are open, which is the limit; raise `connections` under [server], or `ulimit -n`"
    )]
    Full(usize),
    /// The limit of one address is reached.
    #[error(
        "{1} has {0} connections, which is the limit per address; raise `connections-per-address` under [server]"
    )]
    Address(u32, IpAddr),
}

/// Counts open connections.
#[derive(Debug)]
pub struct ConnectionLimiter {
    most: usize,
    slots: Arc<Semaphore>,
    /// Notified when a connection has ended.
    ended: Arc<Notify>,
    by_address: Arc<AddressLimiter>,
}

impl ConnectionLimiter {
    /// A limiter with the configured limits, lowered to the files that the process may open with this many `streams`;
    /// raises that limit if it can.
    pub fn new(server: &Server, streams: usize) -> Arc<ConnectionLimiter> {
        let other = OTHER_FILES + STREAM_FILES * streams as u64;
        let files = open_files();
        let room = files.saturating_sub(other).max(1);
        let most = room.min(server.connections.into());
        if most < server.connections.into() {
            tracing::info!(
                "at most {most} connections: the process may have {files} files open (`ulimit -n`)"
            );
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let exempt = server.trusted_proxies.iter();
        let exempt = exempt.filter_map(TrustedProxy::network).collect();
        Arc::new(ConnectionLimiter {
            most,
            slots: Arc::new(Semaphore::new(most)),
            ended: Arc::default(),
            by_address: AddressLimiter::new(server.connections_per_address, exempt),
        })
    }

    /// Admits a connection until the permit is dropped. Loopback, Unix sockets and trusted proxies have no limit per
    /// address.
    ///
    /// # Errors
    ///
    /// A limit is reached.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Permit, Refused> {
        let slots = self.slots.clone();
        let slot = slots
            .try_acquire_owned()
            .map_err(|_| Refused::Full(self.most))?;
        let limit = |most| Refused::Address(most, address.to_canonical());
        Ok(Permit {
            _address: self.by_address.enter(address).map_err(limit)?,
            _slot: slot,
            _ended: Ended(self.ended.clone()),
        })
    }

    /// A limiter of something else for each address, with the same exceptions.
    pub(crate) fn for_each_address(&self, most: u32) -> Arc<AddressLimiter> {
        AddressLimiter::new(most, self.by_address.exempt.clone())
    }

    /// Waits until all connections have ended. Others are admitted meanwhile.
    pub async fn empty(&self) {
        loop {
            let mut ended = pin!(self.ended.notified());
            ended.as_mut().enable();
            if self.slots.available_permits() >= self.most {
                return;
            }
            ended.await;
        }
    }
}

/// Permit of one open connection.
#[derive(Debug)]
pub struct Permit {
    _address: AddressPermit,
    _slot: OwnedSemaphorePermit,
    /// Dropped last, in this order.
    _ended: Ended,
}

/// Notifies when it is dropped.
#[derive(Debug)]
struct Ended(Arc<Notify>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
}

/// Limits what one client address may have.
#[derive(Debug)]
pub(crate) struct AddressLimiter {
    most: u32,
    /// Trusted proxies, which have no limit since each stands for many clients.
    exempt: Vec<Network>,
    /// Counts by address. IPv6 addresses count by their /64 network, since one client may have all of it.
    counts: Mutex<HashMap<IpAddr, u32>>,
}

impl AddressLimiter {
    fn new(most: u32, exempt: Vec<Network>) -> Arc<AddressLimiter> {
        Arc::new(AddressLimiter {
            most,
            exempt,
            counts: Mutex::default(),
        })
    }

    /// Counts one for the address until the permit is dropped. Fails with the limit if it is reached.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Result<AddressPermit, u32> {
        let counted = self.counted(address);
        if let Some(client_network) = counted {
            let mut counts = self.lock();
            let count = counts.entry(client_network).or_default();
            if *count >= self.most {
                return Err(self.most);
            }
            *count += 1;
        }
        Ok(AddressPermit {
            counted,
            limiter: self.clone(),
        })
    }

    /// How many are counted for the address.
    pub fn count(&self, address: IpAddr) -> u32 {
        let counted = self.counted(address);
        counted.map_or(0, |network| self.lock().get(&network).copied().unwrap_or(0))
    }

    /// What the address counts as; `None` if it has no limit.
    fn counted(&self, address: IpAddr) -> Option<IpAddr> {
        let address = address.to_canonical();
        let exempt = address.is_loopback()
            || address == Peer::UNIX.ip()
            || self.exempt.iter().any(|own| own.contains(address));
        (!exempt).then(|| client_network(address))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.counts.lock()
    }
}

/// One that is counted for an address.
#[derive(Debug)]
pub(crate) struct AddressPermit {
    counted: Option<IpAddr>,
    limiter: Arc<AddressLimiter>,
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let Some(client_network) = self.counted else {
            return;
        };
        let mut counts = self.limiter.lock();
        if let Some(count) = counts.get_mut(&client_network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&client_network);
            }
        }
    }
}

fn client_network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

/// Files that the process may open, after raising the soft limit to the hard limit.
fn open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    let now = limit.current.unwrap_or(u64::MAX);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match now < most && setrlimit(Resource::Nofile, raised).is_ok() {
        true => most,
        false => now,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::{future::poll_fn, pin::Pin, task::Poll};

    fn limiter(connections: u32, per_address: u32, proxies: &[&str]) -> Arc<ConnectionLimiter> {
        let server = Server {
            connections,
            connections_per_address: per_address,
            trusted_proxies: proxies.iter().map(|own| own.parse().unwrap()).collect(),
            ..Server::default()
        };
        ConnectionLimiter::new(&server, 1)
    }

    #[test]
    fn each_address_has_its_share_and_a_place_is_free_when_somebody_leaves() {
        let limiter = limiter(100, 2, &["10.0.0.0/8"]);
        let enter = |address: &str| limiter.enter(address.parse().unwrap());
        let first = enter("192.0.2.1").unwrap();
        let _second = enter("::ffff:192.0.2.1").unwrap();
        let refused = enter("192.0.2.1").unwrap_err();
        assert_eq!(refused, Refused::Address(2, "192.0.2.1".parse().unwrap()));
        let _other = enter("192.0.2.2").unwrap();
        drop(first);
        let _third = enter("192.0.2.1").unwrap();
        // One IPv6 /64 network counts as one client.
        let _six = enter("2001:db8::1").unwrap();
        let _seven = enter("2001:db8::ffff:1").unwrap();
        assert!(enter("2001:db8::2").is_err());
        let _eight = enter("2001:db8:0:1::2").unwrap();
        let exempt: Vec<_> = ["127.0.0.1", "::1", "10.1.2.3", "0.0.0.0"]
            .iter()
            .flat_map(|address| [enter(address), enter(address), enter(address)])
            .collect();
        assert!(exempt.iter().all(Result::is_ok));
        drop((exempt, _eight, _seven, _six, _third, _other, _second));
        assert!(limiter.by_address.lock().is_empty());
    }

    #[test]
    fn handshakes_are_counted_apart_from_connections() {
        let limiter = limiter(100, 1, &["10.0.0.0/8"]);
        let handshakes = limiter.for_each_address(2);
        let address = "192.0.2.1".parse().unwrap();
        let _connection = limiter.enter(address).unwrap();
        let first = handshakes.enter(address).unwrap();
        let _second = handshakes.enter(address).unwrap();
        assert_eq!(
            (
                handshakes.enter(address).unwrap_err(),
                handshakes.count(address)
            ),
            (2, 2)
        );
        drop(first);
        assert_eq!(handshakes.count(address), 1);
        let proxy = "10.0.0.1".parse().unwrap();
        let _proxies = [(); 3].map(|()| handshakes.enter(proxy).unwrap());
        assert_eq!(handshakes.count(proxy), 0);
    }

    #[tokio::test]
    async fn others_get_in_while_somebody_waits_for_all_to_end() {
        let limiter = limiter(2, 9, &[]);
        let enter = || limiter.enter("127.0.0.1".parse().unwrap());
        let first = enter().unwrap();
        let mut empty = pin!(limiter.empty());
        assert!(poll_once(empty.as_mut()).await.is_pending());
        let second = enter().unwrap();
        drop(first);
        assert!(poll_once(empty.as_mut()).await.is_pending());
        drop(second);
        empty.await;
    }

    async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
        poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
    }

    #[test]
    fn nobody_gets_in_when_it_is_full() {
        let limiter = limiter(2, 9, &[]);
        let enter = || limiter.enter("127.0.0.1".parse().unwrap());
        let first = enter().unwrap();
        let _second = enter().unwrap();
        assert_eq!(enter().unwrap_err(), Refused::Full(2));
        drop(first);
        assert!(enter().is_ok());
    }
}
