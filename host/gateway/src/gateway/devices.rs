//! Follows Android devices on a thread of its own and updates the streams that show them.
//!
//! The [`Fleet`](sluicegate_source::Fleet) talks to adb and calls the [`DeviceObserver`] here. A device that no stream
//! of the config names becomes a stream of its own if discovery is on, and is forgotten when the fleet needs room.
//! After a panic, following starts again. `run` in [`super`] starts the thread and stops it at shutdown.

use super::Gateway;
use sluicegate_source::{
    AttachedDevice, ConfiguredSource, DeviceObserver, Spec, Stop, stream_name,
};
use sluicegate_stream::Stream;
use sluicegate_telemetry::{contain, panic_point};
use std::{
    collections::BTreeSet,
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

/// Wait between a panic and following the devices again.
const RESTART_DELAY: Duration = Duration::from_secs(5);

/// The thread that follows the devices.
#[derive(Debug)]
pub(super) struct Devices {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Devices {
    /// Requests the thread to end and returns it, to be joined.
    pub fn stop(mut self) -> Option<JoinHandle<()>> {
        self.stop.stop();
        self.thread.take()
    }
}

/// Starts the thread, unless it runs or the config allows no devices.
///
/// # Errors
/// The system starts no thread.
pub(super) fn follow(gateway: &Arc<Gateway>) -> io::Result<()> {
    let mut following = gateway.following.lock();
    if following.is_some() || !gateway.fleet.must_follow() || gateway.is_draining() {
        return Ok(());
    }
    let stop = Stop::default();
    let (followed, until) = (gateway.clone(), stop.clone());
    let thread = thread::Builder::new()
        .name("android devices".into())
        .spawn(move || {
            let mut host = Observer {
                gateway: &followed,
                refused: BTreeSet::new(),
            };
            while !until.is_stopped() {
                let ended = contain(|| {
                    panic_point("devices");
                    followed.fleet.follow(&until, &mut host);
                });
                let Err(panicked) = ended else { return };
                tracing::error!("following the Android devices {panicked}; it restarts in 5 s");
                until.wait(RESTART_DELAY);
            }
        })?;
    *following = Some(Devices {
        stop,
        thread: Some(thread),
    });
    Ok(())
}

/// Connects devices with their streams.
struct Observer<'a> {
    gateway: &'a Gateway,
    /// Serial numbers of devices without a stream because of a name conflict, which was logged.
    refused: BTreeSet<String>,
}

impl DeviceObserver for Observer<'_> {
    /// Passes the device's presence to its streams; adds a stream if none shows it and discovery is on.
    fn present(&mut self, device: &AttachedDevice) {
        let Observer { gateway, refused } = self;
        let AttachedDevice {
            serial, presence, ..
        } = device;
        let mut streams = streams_of(gateway, serial);
        let name =
            stream_name(serial).filter(|_| streams.is_empty() && may_be_added(gateway, serial));
        if let Some(name) = name {
            let settings = gateway.fleet.settings().stream(serial);
            let source = ConfiguredSource::new(Spec::Android(serial.clone()), &gateway.fleet);
            let stream = gateway.streams.get_or_add(&name, || {
                Stream::new(&name, Arc::new(source), &settings, &gateway.events)
            });
            if shows(&stream, serial) {
                streams.push(stream);
            } else if refused.insert(serial.clone()) {
                tracing::warn!(
                    "no stream for the Android device {serial}: a stream in the config already has the name {name}; rename that, \
                     or add a stream with source = \"android:{serial}\""
                );
            }
        }
        for stream in streams {
            stream.present(presence);
        }
    }

    fn forget(&mut self, serial: &str) -> bool {
        let streams = streams_of(self.gateway, serial);
        streams.iter().all(|stream| self.gateway.forget(stream))
    }
}

/// Whether the device may become a stream of its own.
fn may_be_added(gateway: &Gateway, serial: &str) -> bool {
    gateway.fleet.is_discovering() && !gateway.fleet.is_named(serial)
}

fn streams_of(gateway: &Gateway, serial: &str) -> Vec<Arc<Stream>> {
    let mut streams = gateway.streams.list();
    streams.retain(|stream| shows(stream, serial));
    streams
}

fn shows(stream: &Stream, serial: &str) -> bool {
    stream.source().android_serial() == Some(serial)
}

impl Drop for Devices {
    fn drop(&mut self) {
        self.stop.stop();
    }
}
