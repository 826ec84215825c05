//! Follows the Android devices, on a thread of its own, and tells their streams.

use super::Gateway;
use crate::{
    source::{Attached, Spec, Stop, stream_name},
    stream::Stream,
};
use std::{
    collections::BTreeSet,
    io,
    sync::Arc,
    thread::{self, JoinHandle},
};

/// The thread that follows the devices; ends when dropped.
#[derive(Debug)]
pub(super) struct Devices {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

/// Begins, if there may be devices.
pub(super) fn follow(gateway: &Arc<Gateway>) -> io::Result<Option<Devices>> {
    if !gateway.fleet.is_wanted() {
        return Ok(None);
    }
    let stop = Stop::default();
    let (followed, until) = (gateway.clone(), stop.clone());
    let thread = thread::Builder::new()
        .name("android devices".into())
        .spawn(move || {
            let mut refused = BTreeSet::new();
            let mut tell = |attached: &Attached| present(&followed, attached, &mut refused);
            followed.fleet.follow(&until, &mut tell);
        })?;
    Ok(Some(Devices {
        stop,
        thread: Some(thread),
    }))
}

/// Tells the streams of a device how it is; one that no stream of the config names becomes a stream of its own.
fn present(gateway: &Gateway, attached: &Attached, refused: &mut BTreeSet<String>) {
    let Attached {
        serial, presence, ..
    } = attached;
    let shows =
        |stream: &Arc<Stream>| matches!(&stream.source, Spec::Android(shown) if shown == serial);
    let mut streams = gateway.streams.list();
    streams.retain(shows);
    let name = stream_name(serial).filter(|_| streams.is_empty() && gateway.fleet.discovers());
    if let Some(name) = name {
        let settings = gateway.fleet.settings().stream(serial);
        let (source, events, fleet) = (
            Spec::Android(serial.clone()),
            &gateway.events,
            &gateway.fleet,
        );
        let stream = gateway.streams.get_or_add(&name, || {
            Stream::new(&name, source, &settings, events, fleet)
        });
        if shows(&stream) {
            streams.push(stream);
        } else if refused.insert(serial.clone()) {
            tracing::warn!(
                "the Android device {serial} is left out: a stream of the config has the name {name}; call that otherwise, or                  add a stream with source = \"android:{serial}\""
            );
        }
    }
    for stream in streams {
        stream.present(presence);
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
