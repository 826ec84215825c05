//! Test transport `lanes`: video on lane 0, and on lane 1, which may go as datagrams, a note for each sample, `note
//! GROUP DECODE-TIME`. The header is `head`. What a viewer sends comes back: a datagram as a message, a stream as an
//! answer on it if it is bidirectional, and otherwise as a message. A viewer at `refuse` is refused; one at `named` has
//! a stream head with its id on lane 0, after a message `hello ID`.

use sluicegate_sdk::{
    Buffer, Chunk, Lane, Message, Millis, Payload, Profile, Sample, StreamInfo, Transport, Viewer,
    options, serde::Deserialize,
};

#[derive(Deserialize)]
#[serde(
    crate = "sluicegate_sdk::serde",
    deny_unknown_fields,
    default,
    rename_all = "kebab-case"
)]
struct Options {
    /// Of lane 0.
    stale: Millis,
    /// Format of the video.
    format: String,
    /// Bytes that are added to each note.
    padding: usize,
    /// Client streams come piece by piece.
    partial_streams: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            stale: Millis(1000),
            format: "h264/annexb".into(),
            padding: 0,
            partial_streams: false,
        }
    }
}

struct Lanes {
    padding: usize,
}

impl Transport for Lanes {
    fn open(json: &str) -> Result<(Self, Profile), String> {
        let options: Options = options(json)?;
        let notes = Lane {
            datagrams: true,
            ..Lane::new(1000)
        };
        let profile = Profile {
            carriers: vec!["webtransport".into(), "websocket".into()],
            formats: vec![options.format],
            lanes: vec![Lane::new(options.stale.0), notes],
            latency_ms: 60,
            label: "Lanes".into(),
            partial_streams: options.partial_streams,
            ..Profile::default()
        };
        let padding = options.padding;
        Ok((Lanes { padding }, profile))
    }

    fn configure(&mut self, _: &StreamInfo) -> Vec<Payload> {
        vec![Buffer::from(b"head".to_vec()).into()]
    }

    fn push(&mut self, sample: Sample) -> Vec<Chunk> {
        let note = format!("note {} {} ", sample.group, sample.decode_time);
        let note = [note.into_bytes(), vec![b'.'; self.padding]].concat();
        let note = Chunk {
            lane: 1,
            ..Chunk::new(Buffer::from(note), true)
        };
        vec![sample.into(), note]
    }

    fn join(&mut self, viewer: Viewer) -> Result<(), String> {
        match viewer.path().as_str() {
            "" => {}
            "named" => {
                let id = viewer.id();
                viewer.send(Buffer::from(format!("hello {id}").into_bytes()));
                viewer.stream_head(0, format!("[{id}]").as_bytes());
            }
            path => return Err(format!("this transport has nothing at \"{path}\"")),
        }
        Ok(())
    }

    fn received(&mut self, viewer: &Viewer, message: Message) {
        let back = |what: &str, data: &Buffer| {
            let data = data.read(0, data.size());
            Buffer::from([what.as_bytes(), &data].concat())
        };
        match message {
            Message::Datagram(data) => viewer.send(back("datagram ", &data)),
            Message::ClientStream(stream) if stream.bidirectional => {
                viewer.reply(stream.id, back("", &stream.data), stream.last);
            }
            Message::ClientStream(stream) => viewer.send(back("stream ", &stream.data)),
            Message::Text(_) | Message::Binary(_) => {}
        }
    }
}

sluicegate_sdk::export!(Lanes);
