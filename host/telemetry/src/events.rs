//! The event ring behind `/api/events`: recent events, formatted once as server-sent events, for any number of readers.
//!
//! Each event is about one stream or about the gateway, so that a reader can leave out streams that its client may not
//! view. A writer never waits for a reader. The ring is bounded in events and bytes; a reader that falls behind it gets
//! a `missed` event with the number of events it lost. All parts of the gateway publish; the HTTP handler in
//! `host/gateway/src/api/events.rs` polls one [`Reader`] per connection.

use crate::{Sequence, Size};
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};

/// Limits of the ring: number of events, and their total size in bytes.
const MAX_EVENTS: usize = 1024;
const MAX_BYTES: usize = 1 << 20;
/// Largest number of bytes that a reader gets per poll, unless a single event is larger.
const BATCH: usize = 16 << 10;
/// Delay before a client reconnects, sent as the `retry` field.
const RETRY: Duration = Duration::from_secs(2);

/// The events of one run of the gateway, numbered from 1. The id of an event on the wire is `{run}-{number}`.
#[derive(Debug)]
pub struct Events {
    /// Identifies this run of the gateway; different after every start.
    run: u64,
    started: SystemTime,
    ring: Mutex<Ring>,
    next_reader: AtomicU64,
}

#[derive(Debug)]
struct Ring {
    /// The events at their numbers.
    events: Sequence<Event>,
    waiting: BTreeMap<u64, Waker>,
}

/// What an event is about, on which it depends who may get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About<'a> {
    /// The stream of this name.
    Stream(&'a str),
    /// The gateway as a whole.
    Gateway,
    /// The configuration of the gateway.
    Config,
}

/// An event in the ring.
#[derive(Debug)]
struct Event {
    /// Name of the stream that it is about; `None` if it is about the gateway.
    stream: Option<Box<str>>,
    /// Whether it is about the gateway's configuration.
    about_config: bool,
    /// As sent on the wire.
    text: Bytes,
}

impl Event {
    fn about(&self) -> About<'_> {
        match &self.stream {
            Some(stream) => About::Stream(stream),
            None if self.about_config => About::Config,
            None => About::Gateway,
        }
    }
}

impl Size for Event {
    fn size(&self) -> usize {
        self.text.len() + self.stream.as_ref().map_or(0, |stream| stream.len())
    }
}

#[derive(Serialize)]
struct TimedEvent<'a, T> {
    /// Unix time in milliseconds.
    at: u64,
    #[serde(flatten)]
    data: &'a T,
}

impl Default for Events {
    fn default() -> Self {
        let started = SystemTime::now();
        let run = started
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |passed| passed.as_micros());
        Events {
            run: u64::try_from(run).unwrap_or(u64::MAX),
            started,
            ring: Mutex::new(Ring {
                events: Sequence::starting_at(1),
                waiting: BTreeMap::new(),
            }),
            next_reader: AtomicU64::new(0),
        }
    }
}

impl Events {
    /// Publishes an event about this stream, or about the gateway. `data` must be a struct without a field `at`.
    pub fn publish(&self, name: &'static str, stream: Option<&str>, data: &impl Serialize) {
        let about = stream.map_or(About::Gateway, About::Stream);
        self.publish_about(name, about, data);
    }

    /// Publishes an event. `data` must be a struct without a field `at`.
    pub fn publish_about(&self, name: &'static str, about: About<'_>, data: &impl Serialize) {
        let at = super::unix_ms(SystemTime::now());
        // Published data are plain structs, which always have a JSON form.
        let Ok(data) = serde_json::to_string(&TimedEvent { at, data }) else {
            return;
        };
        let mut ring = self.lock();
        let text = self.wire(name, ring.events.end(), &data);
        ring.events.push(Event {
            stream: match about {
                About::Stream(stream) => Some(stream.into()),
                About::Gateway | About::Config => None,
            },
            about_config: about == About::Config,
            text,
        });
        while ring.events.len() > MAX_EVENTS || ring.events.bytes() > MAX_BYTES {
            ring.events.pop();
        }
        let waiting = std::mem::take(&mut ring.waiting);
        drop(ring);
        waiting.into_values().for_each(Waker::wake);
    }

    /// Creates a reader of future events. With the id of the last event that a client has (`Last-Event-ID`), it starts
    /// with the events after that, as far as they are still in the ring.
    pub fn reader(self: &Arc<Events>, last: Option<&str>) -> Reader {
        let end = self.lock().events.end();
        let known = last.map(|last| self.number(last).filter(|number| *number < end));
        let position = known.flatten().unwrap_or(end - 1);
        let mut first = format!("retry: {}\n", RETRY.as_millis()).into_bytes();
        first.extend_from_slice(
            &self.wire(
                "hello",
                position,
                &serde_json::json!({
                    "at": super::unix_ms(SystemTime::now()),
                    "run": self.run.to_string(),
                    "started": super::unix_ms(self.started),
                    "version": env!("CARGO_PKG_VERSION"),
                })
                .to_string(),
            ),
        );
        if known == Some(None) {
            first.extend_from_slice(&self.missed(position, None));
        }
        Reader {
            events: self.clone(),
            id: self.next_reader.fetch_add(1, Ordering::Relaxed),
            first: Some(first.into()),
            position,
        }
    }

    /// Number in an event id; `None` if the id is not from this run.
    fn number(&self, id: &str) -> Option<u64> {
        let (run, number) = id.split_once('-')?;
        (run.parse() == Ok(self.run)).then(|| number.parse().ok())?
    }

    fn missed(&self, position: u64, count: Option<u64>) -> Bytes {
        let reason = match count {
            Some(_) => "the events are no longer kept",
            None => "the last event ID is not from this run of the gateway",
        };
        let data = serde_json::json!({
            "at": super::unix_ms(SystemTime::now()),
            "count": count,
            "reason": reason,
        });
        self.wire("missed", position, &data.to_string())
    }

    /// Formats an event for the wire
    /// (<https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>).
    fn wire(&self, name: &str, number: u64, data: &str) -> Bytes {
        format!("id: {}-{number}\nevent: {name}\ndata: {data}\n\n", self.run).into()
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock()
    }
}

/// A cursor into the event ring.
#[derive(Debug)]
pub struct Reader {
    events: Arc<Events>,
    id: u64,
    first: Option<Bytes>,
    /// Number of the newest event that was read.
    position: u64,
}

impl Reader {
    /// Returns new events in wire format, about 16 KiB at most; only those that `shows` admits. Without new events, the
    /// task is woken when there are some.
    pub fn poll(
        &mut self,
        context: &mut Context<'_>,
        mut shows: impl FnMut(About<'_>) -> bool,
    ) -> Poll<Bytes> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(first);
        }
        let mut ring = self.events.lock();
        let missed = ring.events.first().saturating_sub(self.position + 1);
        self.position += missed;
        let mut text = Vec::new();
        if missed > 0 {
            text.extend_from_slice(&self.events.missed(self.position, Some(missed)));
        }
        for event in ring.events.since(self.position + 1) {
            if shows(event.about()) {
                if !text.is_empty() && text.len() + event.text.len() > BATCH {
                    break;
                }
                text.extend_from_slice(&event.text);
            }
            self.position += 1;
        }
        if text.is_empty() {
            ring.waiting.insert(self.id, context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(text.into())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.events.lock().waiting.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use std::{
        sync::atomic::AtomicUsize,
        task::{Wake, Waker},
    };

    #[derive(Serialize)]
    struct TestEvent {
        text: String,
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn say(events: &Events, text: &str) {
        events.publish("said", None, &TestEvent { text: text.into() });
    }

    /// Names and ids of the available events, and their complete text.
    fn read(reader: &mut Reader) -> (Vec<(String, String)>, String) {
        let mut context = Context::from_waker(Waker::noop());
        let mut all = String::new();
        while let Poll::Ready(text) = reader.poll(&mut context, |_| true) {
            all.push_str(std::str::from_utf8(&text).unwrap());
        }
        let field = |event: &str, name: &str| {
            let line = event.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().to_owned()
        };
        let events = all
            .split("\n\n")
            .filter(|event| !event.is_empty())
            .map(|event| (field(event, "event: "), field(event, "id: ")))
            .collect();
        (events, all)
    }

    fn names(events: &[(String, String)]) -> Vec<&str> {
        events.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn a_new_reader_is_greeted_and_gets_what_follows() {
        let events = Arc::<Events>::default();
        say(&events, "before");
        let mut reader = events.reader(None);
        let (first, text) = read(&mut reader);
        assert_eq!(names(&first), ["hello"]);
        assert!(text.starts_with("retry: 2000\nid: "), "{text}");
        say(&events, "a\nb");
        let (then, text) = read(&mut reader);
        assert_eq!(then, [("said".into(), format!("{}-2", events.run))]);
        assert!(text.contains("\"text\":\"a\\nb\"}\n\n"), "{text}");
    }

    #[test]
    fn a_returning_reader_gets_what_it_missed_and_no_more() {
        let events = Arc::<Events>::default();
        for n in 0..5 {
            say(&events, &n.to_string());
        }
        let last = format!("{}-3", events.run);
        let (got, _) = read(&mut events.reader(Some(&last)));
        let run = events.run;
        assert_eq!(
            got,
            [
                ("hello".into(), last),
                ("said".into(), format!("{run}-4")),
                ("said".into(), format!("{run}-5"))
            ]
        );
    }

    #[test]
    fn a_reader_gets_the_events_about_streams_that_it_may_see_only() {
        let events = Arc::<Events>::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut reader = events.reader(None);
        let mut next = |reader: &mut Reader| {
            reader.poll(&mut context, |about| about == About::Stream("porch"))
        };
        assert!(next(&mut reader).is_ready());
        let about = |stream| {
            let text = format!("{stream:?}");
            events.publish("said", stream, &TestEvent { text });
        };
        about(Some("garden"));
        about(None);
        assert!(next(&mut reader).is_pending());
        about(Some("porch"));
        about(Some("garden"));
        let Poll::Ready(text) = next(&mut reader) else {
            panic!("no event");
        };
        let text = std::str::from_utf8(&text).unwrap();
        assert_eq!(text.matches("event: ").count(), 1, "{text}");
        assert!(text.contains("porch") && text.contains("-3\n"), "{text}");
        assert!(next(&mut reader).is_pending());
    }

    #[test]
    fn an_id_of_another_run_or_of_none_replays_nothing_and_says_so() {
        let events = Arc::<Events>::default();
        say(&events, "x");
        let later = format!("{}-2", events.run);
        for id in [
            "1-1",
            "",
            "x",
            "1",
            "-",
            &later,
            "99999999999999999999999-1",
        ] {
            let (got, text) = read(&mut events.reader(Some(id)));
            assert_eq!(names(&got), ["hello", "missed"], "{id}");
            assert!(text.contains("\"count\":null"), "{text}");
        }
    }

    #[test]
    fn a_reader_further_behind_than_the_ring_learns_how_many_it_missed() {
        let events = Arc::<Events>::default();
        let mut slow = events.reader(None);
        for n in 0..3 * MAX_EVENTS {
            say(&events, &n.to_string());
        }
        let (got, text) = read(&mut slow);
        assert_eq!(names(&got)[..3], ["hello", "missed", "said"]);
        assert_eq!(got.len(), 2 + MAX_EVENTS);
        assert!(text.contains(&format!("\"count\":{}", 2 * MAX_EVENTS)));
        let ids: Vec<u64> = got[2..]
            .iter()
            .map(|(_, id)| events.number(id).unwrap())
            .collect();
        assert!(ids.windows(2).all(|two| two[1] == two[0] + 1), "{ids:?}");
    }

    #[test]
    fn large_events_are_bounded_in_bytes() {
        let events = Arc::<Events>::default();
        for _ in 0..100 {
            say(&events, &"x".repeat(100_000));
        }
        let ring = events.lock();
        assert!(ring.events.bytes() <= MAX_BYTES && ring.events.len() == 10);
    }

    #[test]
    fn waiting_readers_are_woken_once_and_forgotten_when_they_go() {
        let events = Arc::<Events>::default();
        let woken = Arc::<Woken>::default();
        let waker = woken.clone().into();
        let mut context = Context::from_waker(&waker);
        let (mut stays, mut goes) = (events.reader(None), events.reader(None));
        for reader in [&mut stays, &mut goes] {
            assert!(reader.poll(&mut context, |_| true).is_ready());
            assert!(reader.poll(&mut context, |_| true).is_pending());
        }
        assert_eq!(events.lock().waiting.len(), 2);
        drop(goes);
        say(&events, "x");
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(events.lock().waiting.is_empty());
    }
}
