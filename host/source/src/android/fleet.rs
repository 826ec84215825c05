//! The attached devices, as listed by the adb server.
//!
//! One thread follows the list ([`Fleet::follow`]) and tells a [`DeviceObserver`], the gateway, about each change.
//! Sources of devices wait here until their device is ready ([`Fleet::ready`]) and find out here whether it was
//! detached ([`Fleet::gone`]).

use super::{
    super::Stop,
    adb::{AdbError, Connection},
    list::{self, AttachedDevice, Presence},
    name::stream_name,
};
use parking_lot::{Mutex, MutexGuard};
use sluicegate_config as config;
use sluicegate_telemetry::Backoff;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread::{self, Thread},
    time::{Duration, Instant},
};

/// Wait between attempts to reach the adb server.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
/// Interval at which the list is requested while a listed device is not ready or has no room: adb servers do not report
/// every change of a device that is connected by network (seen with 29.0.6, when its link breaks).
const RELIST_INTERVAL: Duration = Duration::from_secs(2);
/// Interval at which a waiting source checks again, although it is also woken.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Largest number of refused serials that are logged; others are refused silently.
const MAX_REFUSED: usize = 256;

/// Receives changes of the devices.
pub trait DeviceObserver {
    /// A device appeared, or its state changed.
    fn present(&mut self, device: &AttachedDevice);

    /// A detached device has to make room for others. Returns false if it is in use and must stay.
    fn forget(&mut self, serial: &str) -> bool;
}

/// The devices of one adb server. Shared by the thread that follows its list, the streams and their sources.
#[derive(Debug)]
pub struct Fleet {
    settings: config::Android,
    configured: bool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Devices by serial: those that were listed, and those that streams name.
    devices: BTreeMap<String, DeviceEntry>,
    /// Some thread follows the list.
    followed: bool,
    /// A source suspects that the list is outdated.
    is_suspect: bool,
    /// A listed device is not ready, or there is no room for it.
    has_unready: bool,
    /// Threads that wait for a change.
    waiting: Vec<Thread>,
    /// Number of lists received.
    lists: u64,
    /// Serials that were refused, and whether the limit on devices has been logged.
    refused: BTreeSet<String>,
    too_many: bool,
}

#[derive(Debug, Default)]
struct DeviceEntry {
    /// Whether a stream of the config names it.
    named: bool,
    /// State; unknown before the first list.
    presence: Option<Presence>,
    model: Option<String>,
    /// Number of the last list that contained it.
    listed: u64,
    /// Number of times that it stopped being ready.
    gone: u64,
}

impl Fleet {
    /// The devices of the adb server in `[android]`, or of the default one. No request is sent before
    /// [`Fleet::follow`].
    pub fn new(settings: &Option<config::Android>) -> Arc<Fleet> {
        Arc::new(Fleet {
            settings: settings.clone().unwrap_or_default(),
            configured: settings.is_some(),
            inner: Mutex::default(),
        })
    }

    /// `[android]`, or its defaults.
    pub fn settings(&self) -> &config::Android {
        &self.settings
    }

    /// Whether devices that no stream names become streams, too.
    pub fn is_discovering(&self) -> bool {
        self.configured && self.settings.discover
    }

    /// Whether the adb server's list has to be followed: devices may be discovered, or a stream names one.
    pub fn must_follow(&self) -> bool {
        self.is_discovering() || self.lock().devices.values().any(|known| known.named)
    }

    /// Registers devices that streams name, besides those before: changes of them are reported even while they are not
    /// attached.
    pub fn expect_also(&self, serials: &BTreeSet<String>) {
        let mut inner = self.lock();
        for serial in serials {
            inner.devices.entry(serial.clone()).or_default().named = true;
        }
    }

    /// Whether a stream names the device, so that it does not become another one.
    pub fn is_named(&self, serial: &str) -> bool {
        let inner = self.lock();
        inner.devices.get(serial).is_some_and(|known| known.named)
    }

    /// Registers the devices that streams name, as [`Fleet::expect_also`], in the place of those before.
    pub fn expect(&self, serials: &BTreeSet<String>) {
        self.expect_also(serials);
        let mut inner = self.lock();
        let mut released = Vec::new();
        for (serial, known) in &mut inner.devices {
            if known.named && !serials.contains(serial) {
                known.named = false;
                // If it may be discovered, the next list reports it like a new one.
                known.presence = None;
                released.push(serial.clone());
            }
        }
        inner.is_suspect |= !released.is_empty();
        for serial in released {
            if !self.may_discover(&serial) {
                inner.devices.remove(&serial);
            }
        }
    }

    /// State of a device; `None` if the list is not followed or has not arrived yet.
    pub fn presence(&self, serial: &str) -> Option<Presence> {
        let inner = self.lock();
        inner.devices.get(serial)?.presence.clone()
    }

    /// Model name that the device reports, if it was ever attached.
    pub fn model(&self, serial: &str) -> Option<String> {
        self.lock().devices.get(serial)?.model.clone()
    }

    /// Follows the adb server's list until stopped, across restarts of the server. `audience` gets every device that is
    /// or may become a stream, when it appears and at each change. While there is no adb server, all devices are
    /// offline.
    ///
    /// Blocks, so call it on a thread of its own.
    pub fn follow(&self, stop: &Stop, audience: &mut dyn DeviceObserver) {
        stop.attach();
        self.lock().followed = true;
        let mut backoff = BACKOFF;
        let mut told = String::new();
        while !stop.is_stopped() {
            let mut answered = false;
            let Err(error) = self.track(stop, &mut answered, audience) else {
                return;
            };
            if stop.is_stopped() {
                return;
            }
            let reason = match &error {
                AdbError::Broken(_) => format!(
                    "the adb server at {} closed the connection; start it with `adb start-server`",
                    self.settings.adb
                ),
                error => error.to_string(),
            };
            // A server that had answered is retried soon; each reason is logged once.
            if answered {
                backoff.reset();
                told.clear();
            }
            if told != reason {
                tracing::warn!("{reason}; Android devices are offline until then");
                told.clone_from(&reason);
            }
            self.mark_all_offline(&reason, audience);
            stop.wait(backoff.next_delay());
        }
    }

    /// Waits until a device is ready; returns how often it had been lost before. Returns at once if the list is not
    /// followed, and `None` if stopped.
    pub(super) fn ready(&self, serial: &str, stop: &Stop) -> Option<u64> {
        self.wait(stop, None, |inner| match inner.devices.get(serial) {
            _ if !inner.followed => Some(0),
            Some(known) if known.presence == Some(Presence::Ready) => Some(known.gone),
            _ => None,
        })
    }

    /// Why a device that was ready, after `before` losses, is lost again; `None` if it is not. Waits briefly, because
    /// the list may lag behind the event.
    pub(super) fn gone(&self, serial: &str, before: u64, stop: &Stop) -> Option<String> {
        const MOMENT: Duration = Duration::from_millis(500);
        self.lock().is_suspect = true;
        let deadline = Instant::now() + MOMENT;
        self.wait(stop, Some(deadline), |inner| {
            let known = inner.devices.get(serial).filter(|_| inner.followed)?;
            match &known.presence {
                Some(Presence::Offline(reason) | Presence::Unauthorized(reason)) => {
                    Some(reason.clone())
                }
                _ => (known.gone != before).then(|| "it was detached briefly".into()),
            }
        })
    }

    fn wait<T>(
        &self,
        stop: &Stop,
        deadline: Option<Instant>,
        look: impl Fn(&Inner) -> Option<T>,
    ) -> Option<T> {
        let me = thread::current();
        loop {
            let mut inner = self.lock();
            inner.waiting.retain(|other| other.id() != me.id());
            let found = look(&inner);
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if found.is_some() || stop.is_stopped() || left.is_some_and(|left| left.is_zero()) {
                return found.filter(|_| !stop.is_stopped());
            }
            inner.waiting.push(me.clone());
            drop(inner);
            thread::park_timeout(left.unwrap_or(POLL_INTERVAL).min(POLL_INTERVAL));
        }
    }

    fn track(
        &self,
        stop: &Stop,
        answered: &mut bool,
        audience: &mut dyn DeviceObserver,
    ) -> Result<(), AdbError> {
        let address = &self.settings.adb;
        let mut server = Connection::open(address, stop)?;
        if let Err(error) = server.request("host:track-devices-l") {
            let AdbError::Refused(_) = error else {
                return Err(error);
            };
            server = Connection::open(address, stop)?;
            server.request("host:track-devices")?;
        }
        let mut asked = Instant::now();
        while !stop.is_stopped() {
            let list = if server.has_more()? {
                server.text()?
            } else if self.needs_refresh(asked) {
                asked = Instant::now();
                let mut server = Connection::open(address, stop)?;
                server.request("host:devices-l")?;
                server.text()?
            } else {
                continue;
            };
            tracing::debug!("the adb server at {address} lists {list:?}");
            self.update(list::parse(&list), audience);
            *answered = true;
        }
        Ok(())
    }

    /// Whether to request the list again, given the time of the last request.
    fn needs_refresh(&self, asked: Instant) -> bool {
        let mut inner = self.lock();
        let is_suspect = std::mem::take(&mut inner.is_suspect);
        is_suspect || (inner.has_unready && asked.elapsed() >= RELIST_INTERVAL)
    }

    /// Applies a new list.
    fn update(&self, list: Vec<AttachedDevice>, audience: &mut dyn DeviceObserver) {
        self.evict_detached(&list, audience);
        let mut inner = self.lock();
        let mut changed = Vec::new();
        inner.has_unready = false;
        inner.lists += 1;
        let now = inner.lists;
        for one in list {
            if self.takes(&mut inner, &one.serial) {
                inner.has_unready |= one.presence != Presence::Ready;
                changed.extend(inner.set(&one.serial, one.presence, one.model));
                if let Some(known) = inner.devices.get_mut(&one.serial) {
                    known.listed = now;
                }
            }
        }
        let absent = inner.devices.iter().filter(|(_, known)| known.listed < now);
        let absent: Vec<String> = absent.map(|(serial, _)| serial.clone()).collect();
        for serial in absent {
            let reason =
                "the device is not attached: plug it in, or connect to it with `adb connect`";
            changed.extend(inner.set(&serial, Presence::Offline(reason.into()), None));
        }
        self.notify(inner, &changed, audience);
    }

    /// Forgets detached devices if there is not enough room for those on the list, the one detached for longest first.
    fn evict_detached(&self, list: &[AttachedDevice], audience: &mut dyn DeviceObserver) {
        let serials: BTreeSet<&str> = list.iter().map(|one| one.serial.as_str()).collect();
        let inner = self.lock();
        let strangers = serials
            .iter()
            .filter(|serial| !inner.devices.contains_key(**serial) && self.may_discover(serial));
        let all = inner.found() + strangers.count();
        let mut over = all.saturating_sub(self.settings.max_devices);
        if over == 0 {
            return;
        }
        let away = inner
            .devices
            .iter()
            .filter(|(serial, known)| !known.named && !serials.contains(serial.as_str()));
        let mut away: Vec<(u64, String)> = away
            .map(|(serial, known)| (known.listed, serial.clone()))
            .collect();
        away.sort_unstable();
        // The lock is released, because the audience may call back.
        drop(inner);
        for (_, serial) in away {
            if over > 0 && audience.forget(&serial) {
                self.lock().devices.remove(&serial);
                over -= 1;
            }
        }
    }

    fn mark_all_offline(&self, reason: &str, audience: &mut dyn DeviceObserver) {
        let mut inner = self.lock();
        let all: Vec<String> = inner.devices.keys().cloned().collect();
        let mut changed = Vec::new();
        for serial in all {
            changed.extend(inner.set(&serial, Presence::Offline(reason.to_owned()), None));
        }
        self.notify(inner, &changed, audience);
    }

    /// Whether a device that no stream names may become a stream.
    fn may_discover(&self, serial: &str) -> bool {
        self.is_discovering() && self.settings.allows(serial)
    }

    /// Whether a listed device is tracked.
    fn takes(&self, inner: &mut Inner, serial: &str) -> bool {
        if inner.devices.contains_key(serial) {
            return true;
        }
        if !self.may_discover(serial) {
            return false;
        }
        let most = self.settings.max_devices;
        if inner.found() >= most {
            inner.has_unready = true;
            if !std::mem::replace(&mut inner.too_many, true) {
                tracing::warn!(
                    "there are more than {most} Android devices: {serial} and later ones are ignored; raise `max-devices` under \
                     [android], or select devices with `allow` and `deny`"
                );
            }
            return false;
        }
        if stream_name(serial).is_none() {
            if inner.refused.len() < MAX_REFUSED && inner.refused.insert(serial.to_owned()) {
                let shown: String = serial.chars().take(150).collect();
                tracing::warn!(
                    "the Android device {shown:?} is ignored: its serial is too long for a stream name"
                );
            }
            return false;
        }
        true
    }

    fn notify(
        &self,
        inner: MutexGuard<'_, Inner>,
        changed: &[AttachedDevice],
        audience: &mut dyn DeviceObserver,
    ) {
        let waiting: Vec<Thread> = inner.waiting.clone();
        drop(inner);
        // Streams are updated first, so that woken sources see their new state.
        changed.iter().for_each(|device| audience.present(device));
        waiting.iter().for_each(Thread::unpark);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

impl Inner {
    /// Number of devices that no stream names.
    fn found(&self) -> usize {
        self.devices.values().filter(|known| !known.named).count()
    }

    /// Sets a device's state; returns the device if that is a change.
    fn set(
        &mut self,
        serial: &str,
        presence: Presence,
        model: Option<String>,
    ) -> Option<AttachedDevice> {
        let known = self.devices.entry(serial.to_owned()).or_default();
        let before = known.presence.replace(presence.clone());
        if before == Some(Presence::Ready) && presence != Presence::Ready {
            known.gone += 1;
        }
        let renamed = model.is_some() && model != known.model;
        if renamed {
            known.model = model;
        }
        (before.as_ref() != Some(&presence) || renamed).then(|| AttachedDevice {
            serial: serial.to_owned(),
            presence,
            model: known.model.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn settings(text: &str) -> Option<config::Android> {
        let text = format!("[android]\n{text}");
        let file = std::path::Path::new("x.toml");
        config::Config::parse(&text, file).unwrap().android
    }

    /// Records each change; refuses to forget devices in `used`.
    #[derive(Default)]
    struct Log {
        told: Vec<String>,
        used: Vec<&'static str>,
    }

    impl DeviceObserver for Log {
        fn present(&mut self, device: &AttachedDevice) {
            let state = match device.presence {
                Presence::Ready => "ready",
                Presence::Unauthorized(_) => "unauthorized",
                Presence::Offline(_) => "offline",
            };
            self.told.push(format!("{} {state}", device.serial));
        }

        fn forget(&mut self, serial: &str) -> bool {
            let forgotten = !self.used.contains(&serial);
            if forgotten {
                self.told.push(format!("{serial} forgotten"));
            }
            forgotten
        }
    }

    fn names(serials: &[&str]) -> BTreeSet<String> {
        serials.iter().map(|serial| (*serial).to_owned()).collect()
    }

    fn update(fleet: &Fleet, list: &str) -> Vec<String> {
        let mut log = Log::default();
        fleet.update(list::parse(list), &mut log);
        log.told
    }

    #[test]
    fn each_change_is_notified_once() {
        let fleet = Fleet::new(&settings(""));
        fleet.expect(&names(&["named"]));
        assert_eq!(update(&fleet, ""), ["named offline"]);
        assert_eq!(
            update(&fleet, "a\tdevice\nb\tunauthorized\n"),
            ["a ready", "b unauthorized"]
        );
        assert_eq!(update(&fleet, "a\tdevice\nb\tdevice\n"), ["b ready"]);
        assert_eq!(
            update(&fleet, "b\tdevice\nnamed\tdevice\n"),
            ["named ready", "a offline"]
        );
        assert_eq!(
            update(&fleet, "b\tdevice\nnamed\tdevice\n"),
            Vec::<String>::new()
        );
        assert!(matches!(fleet.presence("a"), Some(Presence::Offline(_))));
        assert_eq!(fleet.presence("x"), None);
    }

    #[test]
    fn a_device_that_no_stream_names_any_more_is_reported_like_a_new_one() {
        let list = "a\tdevice\nb\tdevice\n";
        let fleet = Fleet::new(&settings("allow = ['a']"));
        fleet.expect(&names(&["a", "b"]));
        assert_eq!(update(&fleet, list), ["a ready", "b ready"]);
        fleet.expect(&names(&["b"]));
        assert_eq!(update(&fleet, list), ["a ready"]);
        fleet.expect(&names(&[]));
        assert_eq!(update(&fleet, list), Vec::<String>::new());
        assert_eq!(fleet.presence("b"), None);
    }

    #[test]
    fn what_is_not_allowed_is_not_there_unless_a_stream_names_it() {
        let list = "tv-1\tdevice\nphone-1\tdevice\nphone-2\tdevice\nown\tdevice\n";
        let fleet = Fleet::new(&settings("allow = ['phone-*']\ndeny = ['*-2', 'own']"));
        fleet.expect(&names(&["own"]));
        assert_eq!(update(&fleet, list), ["phone-1 ready", "own ready"]);
        let fleet = Fleet::new(&settings("discover = false"));
        fleet.expect(&names(&["own"]));
        assert_eq!(update(&fleet, list), ["own ready"]);
        let fleet = Fleet::new(&None);
        assert!(!fleet.must_follow() && update(&fleet, list).is_empty());
    }

    #[test]
    fn no_more_devices_are_known_than_the_bound_and_none_that_has_no_name() {
        let fleet = Fleet::new(&settings(""));
        let many: String = (0..300).map(|nth| format!("d{nth}\tdevice\n")).collect();
        assert_eq!(update(&fleet, &many).len(), 256);
        let fleet = Fleet::new(&settings(""));
        assert!(update(&fleet, &format!("{}\tdevice\n", "x".repeat(200))).is_empty());
    }

    #[test]
    fn new_devices_replace_the_longest_absent_ones_that_are_not_in_use() {
        let fleet = Fleet::new(&settings("max-devices = 3"));
        fleet.expect(&names(&["named"]));
        update(&fleet, "a\tdevice\nb\tdevice\nc\tdevice\n");
        update(&fleet, "a\tdevice\nc\tdevice\n");
        update(&fleet, "c\tdevice\n");
        // There is enough room while no device is new.
        assert!(update(&fleet, "c\tdevice\n").is_empty());
        assert_eq!(
            update(&fleet, "c\tdevice\nd\tdevice\n"),
            ["b forgotten", "d ready"]
        );
        let mut log = Log {
            used: vec!["a"],
            ..Log::default()
        };
        fleet.update(list::parse("d\tdevice\ne\tdevice\n"), &mut log);
        assert_eq!(log.told, ["c forgotten", "e ready"]);
        // A device that may not be forgotten stays, and so do attached ones.
        log.told.clear();
        fleet.update(list::parse("d\tdevice\ne\tdevice\nf\tdevice\n"), &mut log);
        assert!(log.told.is_empty() && fleet.presence("f").is_none());
        // A forgotten device is like a new one.
        assert_eq!(
            update(&fleet, "d\tdevice\nb\tdevice\n"),
            ["a forgotten", "b ready", "e offline"]
        );
    }

    #[test]
    fn a_waiter_for_a_device_is_woken_when_it_appears_and_learns_when_it_goes() {
        let fleet = Fleet::new(&settings(""));
        fleet.lock().followed = true;
        let stop = Stop::default();
        let (waits, ends) = (fleet.clone(), stop.clone());
        let waiting = thread::spawn(move || waits.ready("a", &ends));
        update(&fleet, "a\tdevice\n");
        assert_eq!(waiting.join().unwrap(), Some(0));
        assert_eq!(fleet.gone("a", 0, &stop), None);
        update(&fleet, "");
        assert!(fleet.gone("a", 0, &stop).unwrap().contains("not attached"));
        update(&fleet, "a\tdevice\n");
        assert!(fleet.gone("a", 0, &stop).is_some());
        assert_eq!(fleet.ready("a", &stop), Some(1));
        assert!(fleet.lock().waiting.is_empty());
        stop.stop();
        assert_eq!(fleet.ready("b", &stop), None);
    }
}
