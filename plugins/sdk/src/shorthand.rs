//! What most transports say in the same words: the usual profile, the video track, a chunk that is the sample as it is,
//! and the refusal of viewers at paths that do not exist. A transport writes down only what is its own.

use crate::{Chunk, Kind, Lane, Profile, Sample, StreamInfo, Track, Video};

impl Default for Profile {
    /// No carriers, formats, lanes, uplink, entry, label or embeds. Each independent sample starts a group, and a new
    /// instance needs one group (`history` is 1). No frame is repeated, and the latency is 0 ms. A transport adds at
    /// least carriers and formats.
    fn default() -> Self {
        Profile {
            carriers: vec![],
            formats: vec![],
            uplink: None,
            lanes: vec![],
            group_ms: 0,
            history: 1,
            repeat_ms: 0,
            latency_ms: 0,
            entry: String::new(),
            label: String::new(),
            embeds: vec![],
        }
    }
}

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

impl From<Sample> for Chunk {
    /// The sample's data as it is, on lane 0.
    fn from(sample: Sample) -> Self {
        Chunk {
            payload: sample.data.into(),
            lane: 0,
            independent: sample.independent,
            leading: sample.leading,
        }
    }
}

/// Refuses viewers anywhere but at the transport itself, whose path is empty. For
/// [`Transport::join`](crate::Transport::join); `name` is the transport's, for people.
///
/// # Errors
/// The text for a viewer at any other path.
pub fn only_at_root(name: &str, path: &str) -> Result<(), String> {
    match path {
        "" => Ok(()),
        _ => Err(format!("{name} has nothing at \"{path}\"")),
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

    #[test]
    fn viewers_at_other_paths_are_told_whose_they_are_not() {
        assert_eq!(only_at_root("nal", ""), Ok(()));
        assert_eq!(
            only_at_root("nal", "x"),
            Err("nal has nothing at \"x\"".into())
        );
    }
}
