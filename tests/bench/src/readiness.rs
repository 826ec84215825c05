//! Waits until any of many connections can be read.

use anyhow::Result;
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    io::Errno,
};
use std::{os::fd::OwnedFd, time::Duration};

/// Waits for at most this time; `events` then has the ready connections, as many as fit.
pub fn wait(poll: &OwnedFd, events: &mut Vec<epoll::Event>, most: Duration) -> Result<()> {
    let most = Timespec::try_from(most)?;
    events.clear();
    match epoll::wait(poll, spare_capacity(events), Some(&most)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
