//! Polls as a low-latency player does: it requests each playlist with the next part in the query, and at the same time
//! the part that the previous playlist hinted. Everything received is checked.

use super::{
    Session, Violation, check_multivariant, multivariant,
    parse::{Playlist, parse},
};
use crate::{AwakeClock, client::http_get, within};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// A client of one rendition.
pub struct Player {
    pub address: SocketAddr,
    /// Directory of the media playlist, with a trailing "/".
    pub base: String,
    pub session: Session,
    /// Violations so far, each with the playlist in which it was found.
    pub wrong: Vec<(Violation, String)>,
    /// Bytes of every fetched part, by name.
    pub parts: BTreeMap<String, Vec<u8>>,
    /// Number of responses other than 200, by status.
    pub refused: BTreeMap<u16, u32>,
    clock: AwakeClock,
    polls: u32,
}

/// Fetches the multivariant playlist, which must have no violations; returns the resolved URIs of its variants.
pub async fn variants(address: SocketAddr, base: &str) -> Vec<String> {
    let (status, _, body) = get(address, &format!("{base}index.m3u8")).await;
    let text = String::from_utf8(body).unwrap();
    assert_eq!(status, 200, "{text}");
    let wrong = check_multivariant(&text);
    super::assert_no_violations("multivariant playlist", &text, &wrong);
    let (variants, _) = multivariant(&text);
    let uris = variants.into_iter().filter_map(|variant| variant.uri);
    uris.map(|uri| resolve(base, &uri)).collect()
}

/// Resolves a relative URI against a base with a trailing "/" (RFC 3986 5.2, the subset needed here).
pub fn resolve(base: &str, uri: &str) -> String {
    let mut segments: Vec<&str> = base.trim_end_matches('/').split('/').collect();
    for segment in uri.split('/') {
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    segments.join("/")
}

/// Sends a GET on a connection of its own.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String, Vec<u8>) {
    within(&format!("GET {path}"), http_get(address, path, &[]))
        .await
        .unwrap()
}

impl Player {
    /// Creates a client of the media playlist at this path.
    pub fn new(address: SocketAddr, playlist: &str) -> Player {
        let (base, _) = playlist.rsplit_once('/').unwrap();
        Player {
            address,
            base: format!("{base}/"),
            session: Session::default(),
            wrong: Vec::new(),
            parts: BTreeMap::new(),
            refused: BTreeMap::new(),
            clock: AwakeClock::new(),
            polls: 0,
        }
    }

    /// Polls once for the next part; every second poll accepts a delta update. Returns false if the request was refused
    /// and may be repeated.
    pub async fn poll(&mut self) -> bool {
        self.polls += 1;
        let delta = self.polls.is_multiple_of(2) && self.session.playlist().is_some();
        let asked = self.session.newest().map(|(msn, part)| (msn, part + 1));
        let mut path = format!("{}media.m3u8", self.base);
        if let Some((msn, part)) = asked {
            path += &format!("?_HLS_msn={msn}&_HLS_part={part}");
            if delta {
                path += "&_HLS_skip=YES";
            }
        }
        let hint = self.session.playlist().and_then(hint);
        let playlist = get(self.address, &path);
        let (answer, part) = tokio::join!(playlist, self.hinted(hint));
        if let Some((name, bytes)) = part {
            self.parts.insert(name, bytes);
        }
        let (status, _, body) = answer;
        let text = String::from_utf8(body).unwrap();
        if status != 200 {
            *self.refused.entry(status).or_default() += 1;
            return false;
        }
        // A part after the last one of a segment is the first part of the next segment.
        let asked = asked.map(|(msn, part)| (msn, Some(part)));
        let at = self.clock.passed();
        let found = match delta {
            true => self.session.delta(&text, at, asked),
            false => self.session.full(&text, at, asked),
        };
        self.wrong
            .extend(found.into_iter().map(|violation| (violation, text.clone())));
        true
    }

    /// Polls for this time.
    pub async fn play(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.poll().await;
        }
    }

    /// Fails the test if there was any violation.
    pub fn assert_no_violations(&self) {
        let what = &self.base;
        if let Some((violation, text)) = self.wrong.first() {
            let all: Vec<String> = self.wrong.iter().map(|(one, _)| one.to_string()).collect();
            panic!("{what}: {violation}; all: {all:#?}\nthe first in\n{text}");
        }
    }

    /// Total duration in seconds of the complete segments seen.
    pub fn seconds(&self) -> f64 {
        let all = self
            .session
            .segments()
            .filter_map(|segment| segment.duration);
        all.sum::<u64>() as f64 / 100_000.0
    }

    /// Number of polls so far.
    pub fn polls(&self) -> u32 {
        self.polls
    }

    async fn hinted(&self, hint: Option<String>) -> Option<(String, Vec<u8>)> {
        let name = hint?;
        let (status, head, body) = get(self.address, &format!("{}{name}", self.base)).await;
        if status != 200 {
            return None;
        }
        assert!(head.contains("immutable"), "{head}");
        Some((name, body))
    }
}

/// The part that the playlist hints.
pub fn hint(playlist: &Playlist) -> Option<String> {
    let (_, hint) = playlist.hints.first()?;
    hint.get("URI").cloned()
}

/// Fetches the media playlist, repeatedly until it exists.
pub async fn playlist(address: SocketAddr, path: &str) -> (Playlist, String) {
    let mut last = String::new();
    for _ in 0..5 {
        let (status, _, body) = get(address, path).await;
        last = String::from_utf8_lossy(&body).into_owned();
        if status == 200 {
            return (parse(&last).0, last);
        }
        assert_eq!(status, 503, "{last}");
    }
    panic!("no playlist at {path}: {last}");
}

/// NAL units in the `mdat` boxes of a fragment or segment that has only video.
pub fn nals(mp4: &[u8]) -> Vec<Bytes> {
    let mut found = Vec::new();
    for (kind, mut data) in boxes(mp4) {
        if kind != *b"mdat" {
            continue;
        }
        while let Some((length, rest)) = data.split_first_chunk::<4>() {
            let (unit, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
            found.push(Bytes::copy_from_slice(unit));
            data = rest;
        }
    }
    found
}

/// Top-level boxes with their types.
pub fn boxes(mut mp4: &[u8]) -> Vec<([u8; 4], &[u8])> {
    let mut found = Vec::new();
    while let Some((size, rest)) = mp4.split_first_chunk::<4>() {
        let (kind, _) = rest.split_first_chunk::<4>().unwrap();
        let (whole, rest) = mp4.split_at(u32::from_be_bytes(*size) as usize);
        found.push((*kind, &whole[8..]));
        mp4 = rest;
    }
    found
}
