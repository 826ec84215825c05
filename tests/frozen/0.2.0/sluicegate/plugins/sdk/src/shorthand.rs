//! What most transports say in the same words: the usual profile, the video track, and a chunk that is the sample as it
//! is. A transport writes down only what is its own.

use crate::{
    Buffer, Chunk, Kind, Lane, MediaTime, Payload, Profile, Response, Sample, StreamInfo, Track,
    Video,
};

impl Default for Profile {
    /// No carriers, protocols, formats, lanes, entry, label, embeds or output. Each independent sample starts a group,
    /// and a new instance needs one group (`history` is 1). No frame is repeated, the latency is 0 ms, and client
    /// streams come whole. A transport adds at least carriers and formats.
    fn default() -> Self {
        Profile {
            carriers: vec![],
            protocols: vec![],
            formats: vec![],
            lanes: vec![],
            group_ms: 0,
            history: 1,
            repeat_ms: 0,
            latency_ms: 0,
            partial_streams: false,
            entry: String::new(),
            label: String::new(),
            embeds: vec![],
            output: String::new(),
            more: vec![],
        }
    }
}

impl PartialEq for MediaTime {
    fn eq(&self, other: &Self) -> bool {
        (self.track, self.presentation) == (other.track, other.presentation)
    }
}

impl Eq for MediaTime {}

impl Lane {
    /// A lane without datagrams. A viewer that is further behind than `stale_ms` milliseconds jumps to the newest
    /// independent chunk; 0: whenever there is a newer one.
    pub fn new(stale_ms: u32) -> Self {
        Lane {
            stale_ms,
            datagrams: false,
        }
    }
}

impl StreamInfo {
    /// The first video track with its properties; `None` if the stream has no video.
    pub fn video(&self) -> Option<(&Track, &Video)> {
        self.tracks.iter().find_map(|track| match &track.kind {
            Kind::Video(video) => Some((track, video)),
            _ => None,
        })
    }
}

impl Chunk {
    /// A chunk on lane 0 that is not leading and has the time of the sample that was pushed.
    pub fn new(payload: impl Into<Payload>, independent: bool) -> Self {
        Chunk {
            payload: payload.into(),
            lane: 0,
            independent,
            leading: false,
            time: None,
        }
    }
}

impl Response {
    /// A response without further headers.
    pub fn new(status: u16, content_type: &str, max_age: u32, body: impl Into<Buffer>) -> Self {
        Response {
            status,
            content_type: content_type.into(),
            max_age,
            headers: vec![],
            body: body.into(),
        }
    }
}

impl From<Sample> for Chunk {
    /// The sample's data as it is, on lane 0.
    fn from(sample: Sample) -> Self {
        Chunk {
            leading: sample.leading,
            ..Chunk::new(sample.data, sample.independent)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Payload, mock};

    #[test]
    fn the_video_track_is_found_among_others() {
        let mut info = mock::video("jpeg", "", &[]);
        let mut data = info.tracks[0].clone();
        (data.id, data.kind) = (7, Kind::Data);
        info.tracks.insert(0, data);
        let found = info.video().map(|(track, video)| (track.id, video.width));
        assert_eq!(found, Some((1, 640)));
        info.tracks.truncate(1);
        assert!(info.video().is_none());
    }

    #[test]
    fn a_sample_becomes_a_chunk_as_it_is() {
        let mut sample = mock::samples(0, [(true, b"data".to_vec())]).remove(0);
        sample.leading = true;
        let chunk = Chunk::from(sample.clone());
        assert_eq!(chunk.payload, Payload::Binary(sample.data));
        assert_eq!(
            (chunk.lane, chunk.independent, chunk.leading),
            (0, true, true)
        );
    }
}
