//! Follows the Android devices, on a thread of its own, and tells their streams.

use super::Gateway;
use crate::source::{Attached, Spec, Stop};
use std::{
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
            let mut tell = |attached: &Attached| {
                for stream in followed.streams.values() {
                    if matches!(&stream.source, Spec::Android(serial) if *serial == attached.serial)
                    {
                        stream.present(&attached.presence);
                    }
                }
            };
            followed.fleet.follow(&until, &mut tell);
        })?;
    Ok(Some(Devices {
        stop,
        thread: Some(thread),
    }))
}

impl Drop for Devices {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
