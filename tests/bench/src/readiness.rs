//! Which of many connections have something to read.

use anyhow::Result;
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    io::Errno,
};
use std::{os::fd::OwnedFd, time::Duration};

/// Waits for so long at most; `events` are then those that came, as many as it has room for.
pub fn wait(poll: &OwnedFd, events: &mut Vec<epoll::Event>, most: Duration) -> Result<()> {
    let most = Timespec::try_from(most)?;
    events.clear();
    match epoll::wait(poll, spare_capacity(events), Some(&most)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
