//! Follows the Android devices, on a thread of its own, and tells their streams.

use super::Gateway;
use sluicegate_source::{Attached, DeviceObserver, Spec, Stop, stream_name};
use sluicegate_stream::Stream;
use sluicegate_telemetry::{contain, panic_point};
use std::{
    collections::BTreeSet,
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

/// Before the devices are followed again, after a panic.
const PAUSE: Duration = Duration::from_secs(5);

/// The thread that follows the devices.
#[derive(Debug)]
pub(super) struct Devices {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Devices {
    /// Tells it to end; gives it, to be waited for.
    pub fn stop(mut self) -> Option<JoinHandle<()>> {
        self.stop.stop();
        self.thread.take()
    }
}

/// Begins, if there may be devices.
pub(super) fn follow(gateway: &Arc<Gateway>) -> io::Result<Option<Devices>> {
    if !gateway.fleet.must_follow() {
        return Ok(None);
    }
    let stop = Stop::default();
    let (followed, until) = (gateway.clone(), stop.clone());
    let thread = thread::Builder::new()
        .name("android devices".into())
        .spawn(move || {
            let mut host = Host {
                gateway: &followed,
                refused: BTreeSet::new(),
            };
            while !until.is_stopped() {
                let ended = contain(|| {
                    panic_point("devices");
                    followed.fleet.follow(&until, &mut host);
                });
                let Err(panicked) = ended else { return };
                tracing::error!("following the Android devices {panicked}; it begins again");
                until.wait(PAUSE);
            }
        })?;
    Ok(Some(Devices {
        stop,
        thread: Some(thread),
    }))
}

/// Gives devices their streams.
struct Host<'a> {
    gateway: &'a Gateway,
    /// Serials of devices that could not be given one, which was told.
    refused: BTreeSet<String>,
}

impl DeviceObserver for Host<'_> {
    /// Tells the streams of a device how it is; one that no stream of the config names becomes a stream of its own.
    fn present(&mut self, device: &Attached) {
        let Host { gateway, refused } = self;
        let Attached {
            serial, presence, ..
        } = device;
        let mut streams = streams_of(gateway, serial);
        let name =
            stream_name(serial).filter(|_| streams.is_empty() && gateway.fleet.is_discovering());
        if let Some(name) = name {
            let settings = gateway.fleet.settings().stream(serial);
            let (source, events, fleet) = (
                Arc::new(Spec::Android(serial.clone())),
                &gateway.events,
                &gateway.fleet,
            );
            let stream = gateway.streams.get_or_add(&name, || {
                Stream::new(&name, source, &settings, events, fleet)
            });
            if shows(&stream, serial) {
                streams.push(stream);
            } else if refused.insert(serial.clone()) {
                tracing::warn!(
                    "the Android device {serial} is left out: a stream of the config has the name {name}; call that otherwise, or \
                     add a stream with source = \"android:{serial}\""
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

fn streams_of(gateway: &Gateway, serial: &str) -> Vec<Arc<Stream>> {
    let mut streams = gateway.streams.list();
    streams.retain(|stream| shows(stream, serial));
    streams
}

fn shows(stream: &Stream, serial: &str) -> bool {
    stream.source.android_serial() == Some(serial)
}

impl Drop for Devices {
    fn drop(&mut self) {
        self.stop.stop();
    }
}
