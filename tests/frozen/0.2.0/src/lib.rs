//! Uses all that interface 0.2.0 has: each import, each export, and each kind of answer.

use sluicegate_sdk::{
    Buffer, Chunk, Lane, MediaTime, Message, Payload, Profile, Reply, Response, Sample, StreamInfo,
    Transport, Viewer, log, request_keyframe,
    serde_json::{Value, json},
};

struct Frozen {
    options: Value,
    about: Option<Value>,
    viewers: u32,
    pushed: u32,
}

impl Transport for Frozen {
    fn open(options: &str) -> Result<(Self, Profile), String> {
        let options: Value = sluicegate_sdk::serde_json::from_str(options).map_err(|e| e.to_string())?;
        if options["refuse"] == true {
            return Err("refused as told".into());
        }
        let profile = Profile {
            carriers: vec!["http".into(), "websocket".into(), "rtc".into()],
            protocols: vec!["frozen".into()],
            formats: vec!["h264/annexb;reorder=0".into(), "aac".into()],
            lanes: vec![Lane::new(2000), Lane::new(2000)],
            group_ms: 0,
            history: 2,
            repeat_ms: 500,
            latency_ms: 100,
            entry: String::new(),
            label: "Frozen".into(),
            embeds: vec!["access-units".into()],
            output: "frozen/1".into(),
            ..Profile::default()
        };
        let (about, viewers, pushed) = (None, 0, 0);
        Ok((Frozen { options, about, viewers, pushed }, profile))
    }

    fn configure(&mut self, info: &StreamInfo) -> Vec<Payload> {
        self.about = info.video().map(|(track, video)| {
            json!({
                "started_at": info.started_at, "epoch": info.epoch, "longest": info.longest_group_ms,
                "codec": track.codec, "config": track.config.len(), "timescale": track.timescale,
                "width": video.width, "height": video.height, "aspect": [video.pixel_aspect.0, video.pixel_aspect.1],
                "rotation": video.rotation, "mirrored": video.mirrored, "rate": video.frame_rate,
                "renditions": info.renditions.len(), "options": self.options,
            })
        });
        vec![Payload::Text("header".into())]
    }

    fn push(&mut self, sample: Sample) -> Vec<Chunk> {
        self.pushed += 1;
        if sample.track != 1 {
            return vec![];
        }
        let head = sample.data.read(0, 4);
        let joined = Buffer::new([head.as_slice().into(), sample.data.slice(4, sample.size - 4)]);
        assert_eq!(joined.size(), sample.size);
        let presentation = sample.decode_time.saturating_add_signed(sample.composition_offset.into());
        vec![
            Chunk {
                time: Some(MediaTime { track: sample.track, presentation }),
                leading: sample.leading,
                ..Chunk::new(joined, sample.independent)
            },
            Chunk { lane: 1, ..Chunk::new(Payload::Text(sample.group.to_string()), true) },
        ]
    }

    fn stop(&mut self, reason: &str, last: bool) -> Vec<Chunk> {
        log::info(format!("stopped: {reason}, {last}"));
        vec![Chunk { lane: 1, ..Chunk::new(Payload::Text("stopped".into()), true) }]
    }

    fn request(&self, path: &str, query: &str) -> Reply {
        match (path, &self.about) {
            ("", _) => Reply::Follow("video/h264".into()),
            ("about", None) => Reply::Pending,
            ("about", Some(about)) => {
                let text = json!({ "about": about, "query": query, "viewers": self.viewers }).to_string();
                let mut response = Response::new(200, "application/json", 1, Buffer::from(text.into_bytes()));
                response.headers = vec![("etag".into(), "\"frozen\"".into())];
                Reply::Done(response)
            }
            _ => Reply::not_found(path),
        }
    }

    fn join(&mut self, viewer: Viewer) -> Result<(), String> {
        if viewer.query() == "refuse" {
            return Err("not you".into());
        }
        self.viewers += 1;
        let talked = viewer.talk("aac", Buffer::from(vec![1, 2, 3])).is_err();
        viewer.stream_head(0, b"head");
        viewer.reply(1, Buffer::from(vec![4]), true);
        let text = json!({
            "id": viewer.id(), "carrier": viewer.carrier(), "path": viewer.path(), "query": viewer.query(),
            "protocol": viewer.protocol(), "view": viewer.may("view"), "fly": viewer.may("fly"), "talked": talked,
        });
        viewer.send(Payload::Text(text.to_string()));
        if viewer.query() == "lane" {
            viewer.choose(&[1]);
        }
        request_keyframe();
        Ok(())
    }

    fn received(&mut self, viewer: &Viewer, message: Message) {
        let found = Viewer::find(viewer.id()).is_some();
        match message {
            Message::Text(text) if text == "bye" => viewer.close("as you say"),
            Message::Text(text) => viewer.send(Payload::Text(format!("{text} {found}"))),
            Message::Binary(bytes) => viewer.send(bytes),
            _ => {}
        }
    }

    fn leave(&mut self, viewer: u64) {
        self.viewers -= 1;
        log::info(format!("viewer {viewer} has left after {} samples", self.pushed));
    }
}

sluicegate_sdk::export!(Frozen);
