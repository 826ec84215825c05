//! Where decoded frames wait for the threads that make something of them, and the state that captures look at.
//!
//! The decoding thread (`worker`) puts each frame into the mailbox of every [`Follower`] and unparks the follower's
//! thread. A mailbox is bounded, since a decoded frame takes megabytes. A full one loses frames, but those that begin a
//! group last, and the decoder waits a bounded time before one of these is lost. Encoders follow through [`Follower`],
//! captures look at the newest good frame through [`Frames::wait_for`].

use super::{Decoded, DecoderState, Event, Frames};
use crate::info::Info;
use parking_lot::{Condvar, Mutex, MutexGuard};
use sluicegate_codec::Counts;
use sluicegate_media::time::TIMESCALE;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, atomic::Ordering},
    thread::{self, Thread},
    time::{Duration, Instant},
};

/// How long to wait for an encoder whose mailbox has only group starts.
pub(super) const GROUP_START_WAIT: Duration = Duration::from_millis(250);
/// Group starts that are closer together than this are not worth waiting for, in ticks.
const MIN_START_DISTANCE: u64 = TIMESCALE as u64 / 2;

/// What the decoding thread and its consumers share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Notified when `state` changes.
    changed: Condvar,
    /// Notified when a follower took an event out of its mailbox.
    taken: Condvar,
    pub(super) counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct State {
    followers: BTreeMap<u64, Mailbox>,
    next: u64,
    info: Option<Arc<Info>>,
    newest: Option<Arc<Decoded>>,
    state: DecoderState,
}

#[derive(Debug)]
struct Mailbox {
    thread: Thread,
    events: VecDeque<Event>,
    /// Most frames that may wait. At the bound the oldest that begins no group is dropped: what is made from the frames
    /// has its groups where the source has them.
    limit: usize,
    /// Whether it takes frames as they come, as opposed to catching up with the past first.
    is_live: bool,
    /// Number of frames taken. On the first one an encoder is probed and opened, which does not count as slow.
    taken: u64,
}

/// One thread's subscription to the frames.
#[derive(Debug)]
pub struct Follower {
    frames: Arc<Frames>,
    id: u64,
}

impl Follower {
    /// See [`Frames::follow`].
    pub(super) fn new(frames: Arc<Frames>, limit: usize) -> Follower {
        let mut state = frames.shared.lock();
        let id = state.next;
        state.next += 1;
        let known = state.info.clone().map(Event::Configure);
        let newest = state.newest.clone().map(Event::Frame);
        state.followers.insert(
            id,
            Mailbox {
                thread: thread::current(),
                events: known.into_iter().chain(newest).collect(),
                limit,
                is_live: false,
                taken: 0,
            },
        );
        drop(state);
        Follower { frames, id }
    }

    /// Takes the next event, if there is one.
    pub fn next(&self) -> Option<Event> {
        let mut state = self.frames.shared.lock();
        let mailbox = state.followers.get_mut(&self.id)?;
        let event = mailbox.events.pop_front();
        mailbox.taken += u64::from(matches!(event, Some(Event::Frame(_))));
        drop(state);
        self.frames.shared.taken.notify_one();
        event
    }

    /// Declares that it takes frames as they come from now on: the decoder then waits a little for it during bursts.
    pub fn go_live(&self) {
        if let Some(mailbox) = self.frames.shared.lock().followers.get_mut(&self.id) {
            mailbox.is_live = true;
        }
    }

    /// The next event, without taking it.
    pub fn peek(&self) -> Option<Event> {
        let state = self.frames.shared.lock();
        state.followers.get(&self.id)?.events.front().cloned()
    }

    /// Whether the mailbox is empty.
    pub fn is_caught_up(&self) -> bool {
        let state = self.frames.shared.lock();
        state
            .followers
            .get(&self.id)
            .is_none_or(|mailbox| mailbox.events.is_empty())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.frames.shared.lock().followers.remove(&self.id);
        self.frames.shared.taken.notify_one();
    }
}

impl Shared {
    /// Nothing is decoded yet, and nobody follows. Frames that a follower loses are counted in `counts`.
    pub(super) fn new(counts: Arc<Counts>) -> Shared {
        Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            taken: Condvar::new(),
            counts,
        }
    }

    /// See [`Frames::wait_for`].
    pub(super) fn wait_for(
        &self,
        until: Instant,
        wanted: impl Fn(&DecoderState) -> bool,
    ) -> DecoderState {
        let mut state = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || wanted(&state.state) {
                return state.state.clone();
            }
            self.changed.wait_for(&mut state, left);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Whether anything is made from every frame.
    pub(super) fn is_followed(&self) -> bool {
        !self.lock().followers.is_empty()
    }

    /// Delivers `event` to all followers. Waits for slow ones up to `patience`, and for the start of a group up to
    /// `GROUP_START_WAIT` if that is zero. Returns whether a follower that needs every frame lost one, and how long was
    /// waited.
    pub(super) fn deliver_event(&self, event: Event, patience: Duration) -> (bool, Duration) {
        let mut wake = Vec::new();
        let mut state = self.lock();
        let mut waited = Duration::ZERO;
        if let Event::Frame(decoded) = &event {
            let full = |state: &mut State| {
                let mut mailboxes = state.followers.values();
                mailboxes.any(|mailbox| match patience.is_zero() {
                    true => decoded.starts_group && mailbox.is_full_of_starts(decoded.time),
                    false => mailbox.is_full(),
                })
            };
            let limit = if patience.is_zero() {
                GROUP_START_WAIT
            } else {
                patience
            };
            if full(&mut state) {
                let began = Instant::now();
                self.taken.wait_while_for(&mut state, full, limit);
                waited = began.elapsed();
            }
        }
        match &event {
            Event::Configure(info) => {
                state.info = Some(info.clone());
                state.newest = None;
                state.state.good = None;
                state.state.old = None;
                state.state.damage_reason = None;
            }
            Event::Frame(decoded) => state.newest = Some(decoded.clone()),
            // Frames from before the loss do not show the present.
            Event::Stop(_) => {
                state.state.good = None;
                state.state.old = None;
            }
        }
        let (mut dropped, mut slow) = (0, false);
        for mailbox in state.followers.values_mut() {
            if mailbox.push(event.clone()) {
                dropped += 1;
                slow |= mailbox.taken > 1;
            }
            wake.push(mailbox.thread.clone());
        }
        drop(state);
        self.counts.dropped.fetch_add(dropped, Ordering::Relaxed);
        wake.iter().for_each(Thread::unpark);
        (slow, waited)
    }

    /// Changes what captures see, and wakes those that wait for it.
    pub(super) fn update_state(&self, change: impl FnOnce(&mut DecoderState)) {
        change(&mut self.lock().state);
        self.changed.notify_all();
    }
}

impl Mailbox {
    /// Whether a follower of more than the newest frame has no room for another group start, presented at `time`. If
    /// every frame is a group start, the next ones follow soon and this is false.
    fn is_full_of_starts(&self, time: u64) -> bool {
        let mut starts = self.events.iter().filter_map(|event| match event {
            Event::Frame(decoded) if decoded.starts_group => Some(decoded.time),
            _ => None,
        });
        let apart = |last: u64| time.saturating_sub(last) >= MIN_START_DISTANCE;
        self.limit > 1
            && starts.clone().count() >= self.limit
            && starts.next_back().is_some_and(apart)
    }

    /// Whether a live follower of more than the newest frame has no room for another.
    fn is_full(&self) -> bool {
        let frames = self
            .events
            .iter()
            .filter(|event| matches!(event, Event::Frame(_)));
        self.is_live && self.limit > 1 && frames.count() >= self.limit
    }

    /// Adds an event; returns whether a frame was dropped. A follower of only the newest frame loses nothing by that.
    fn push(&mut self, event: Event) -> bool {
        let is_frame = |event: &Event| matches!(event, Event::Frame(_));
        let is_other =
            |event: &Event| matches!(event, Event::Frame(decoded) if !decoded.starts_group);
        let mut dropped = false;
        match &event {
            Event::Frame(decoded) => {
                let waiting = self.events.iter().filter(|event| is_frame(event)).count();
                if waiting >= self.limit.max(1) {
                    dropped = self.limit > 1;
                    let other = self.events.iter().position(is_other).filter(|_| dropped);
                    // Only group starts wait, and this frame is none.
                    if dropped && other.is_none() && !decoded.starts_group {
                        return true;
                    }
                    if let Some(spare) = other.or(self.events.iter().position(is_frame)) {
                        self.events.remove(spare);
                    }
                }
            }
            // Frames from before a discontinuity are of no use.
            Event::Configure(_) => self.events.clear(),
            Event::Stop(_) => {}
        }
        self.events.push_back(event);
        dropped
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing;

    fn waiting(mailbox: &Mailbox) -> Vec<u64> {
        let events = mailbox.events.iter();
        let times = events.filter_map(|event| match event {
            Event::Frame(decoded) => Some(decoded.time / testing::FRAME_TICKS),
            _ => None,
        });
        times.collect()
    }

    #[test]
    fn a_slow_follower_loses_frames_but_group_starts_last() {
        let frames = testing::decoded(100);
        let mut mailbox = Mailbox {
            thread: thread::current(),
            events: VecDeque::new(),
            limit: 4,
            is_live: false,
            taken: 0,
        };
        let mut lost = 0;
        for decoded in &frames {
            lost += usize::from(mailbox.push(Event::Frame(decoded.clone())));
        }
        // Every thirtieth frame is a keyframe.
        assert_eq!(waiting(&mailbox), [0, 30, 60, 90]);
        let last = frames
            .iter()
            .rfind(|decoded| decoded.starts_group)
            .unwrap()
            .time;
        assert!(mailbox.is_full_of_starts(last + MIN_START_DISTANCE));
        // If every frame begins a group, there is nothing to wait for.
        assert!(!mailbox.is_full_of_starts(last + MIN_START_DISTANCE - 1));
        assert_eq!(lost, 96);
        mailbox.events.pop_front();
        for decoded in &frames[97..] {
            mailbox.push(Event::Frame(decoded.clone()));
        }
        assert_eq!(waiting(&mailbox), [30, 60, 90, 99]);

        // A follower of the newest frame gets that one.
        mailbox.limit = 1;
        mailbox.events.clear();
        for decoded in &frames {
            assert!(!mailbox.push(Event::Frame(decoded.clone())));
        }
        assert_eq!(waiting(&mailbox), [99]);
        assert!(!mailbox.is_full_of_starts(last + MIN_START_DISTANCE));
    }
}
