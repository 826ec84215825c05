//! Cost of a guest call: `push` in the sandbox, called as by the gateway, compared with the same source linked
//! natively.

use crate::{
    bench::{Bench, Measured, Pair, Transport, get},
    clock::{Histogram, now},
    native::{Mjpeg, Nal},
    report::Table,
};
use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use sluicegate_media::{
    geometry::Geometry,
    group::Group,
    sample::{Codec, Format, Sample, Times, Video},
};
use sluicegate_plugin::{Engine, Instance, Limits, Usage};
use sluicegate_sdk as sdk;
use sluicegate_stream::Info;
use std::{hint::black_box, net::SocketAddr, path::Path, sync::Arc, time::Duration};

/// Number of calls timed together: a single call takes no longer than a few readings of the clock.
const BATCH: usize = 32;
/// Target share of the process's time at 300 viewers, in percent.
const AIM: f64 = 2.0;

/// Measures both transports; `components` is the directory of their `.wasm` files.
pub fn run(bench: &Bench, components: &Path) -> Result<Table> {
    let mut table = Table::new(
        "sandbox",
        &[
            "<transport",
            "bytes per frame",
            "sandbox p50 µs",
            "p99",
            "native p50 µs",
            "p99",
            "sandbox overhead, µs",
            "viewers",
            "gateway, µs per call",
            "share of gateway CPU",
        ],
    );
    let viewers = bench.pick(20, 300);
    let mut aims = Vec::new();
    let transports = [
        (Transport::Nal, native::<Nal> as Native),
        (Transport::Mjpeg, native::<Mjpeg>),
    ];
    for (transport, native) in transports {
        let frames: Vec<Bytes> = match transport {
            Transport::Nal | Transport::Mse => (0..bench.film.frames() as u64)
                .map(|number| {
                    bench
                        .film
                        .message(crate::film::Stamp { number, sent: 0 })
                        .into()
                })
                .collect(),
            Transport::Mjpeg => bench.album.jpegs.clone(),
        };
        let size = frames.iter().map(Bytes::len).sum::<usize>() / frames.len();
        let batches = bench.pick(500, 20_000);
        let inside = sandboxed(
            &components.join(format!("{}.wasm", transport.name())),
            transport,
            &frames,
            batches,
        )?;
        let outside = native(transport, &frames, batches)?;
        let (each, share) = share(bench, transport, viewers)?;
        let us =
            |times: &Histogram, part: f64| times.quantile(part).as_secs_f64() * 1e6 / BATCH as f64;
        table.row([
            transport.name().to_owned(),
            size.to_string(),
            format!("{:.2}", us(&inside, 0.5)),
            format!("{:.2}", us(&inside, 0.99)),
            format!("{:.2}", us(&outside, 0.5)),
            format!("{:.2}", us(&outside, 0.99)),
            format!("{:.2}", us(&inside, 0.5) - us(&outside, 0.5)),
            viewers.to_string(),
            format!("{each:.2}"),
            format!("{:.2} %", share * 100.0),
        ]);
        aims.push((transport, share * 100.0));
    }
    for (transport, share) in aims {
        table.aim(
            &format!(
                "{} at {viewers} viewers, all calls of the component",
                transport.name()
            ),
            share,
            AIM,
            |share| format!("{share:.2} %"),
        );
    }
    table.note(
        "The p50 and p99 columns are of calls in a loop, with warm caches. In the gateway there is one call every 33 or 100 ms, with cold caches. \
         Linked natively, `mjpeg` copies each frame to join it with its header; in the sandbox the host joins them by reference.",
    );
    Ok(table)
}

/// Runs batches of calls of a natively linked transport.
type Native = fn(Transport, &[Bytes], usize) -> Result<Histogram>;

fn format(transport: Transport) -> Format {
    match transport {
        Transport::Nal => Format::H264AnnexB,
        Transport::Mse => Format::H264Avcc,
        Transport::Mjpeg => Format::Jpeg,
    }
}

/// Runs batches of calls of a component, after a tenth as many for warming up.
fn sandboxed(
    component: &Path,
    transport: Transport,
    frames: &[Bytes],
    batches: usize,
) -> Result<Histogram> {
    let engine = Engine::new()?;
    let plugin = engine
        .load_file(component, Limits::default())
        .with_context(|| format!("{}: run plugins/build", component.display()))?;
    let (mut instance, _) = Instance::open(&plugin, "bench", "{}", Arc::<Usage>::default())?;
    let codec = format(transport).codec();
    let video = Video {
        codec,
        codec_string: String::new(),
        config: Bytes::new(),
        width: 1280,
        height: 720,
        geometry: Geometry::default(),
        frame_rate: 30.0,
        keyframe_ms: 2000,
    };
    instance.configure(
        &Info {
            video: Some(video),
            ..Info::default()
        },
        format(transport),
        &[],
        0,
    )?;
    let samples: Vec<Sample> = (0..)
        .zip(frames)
        .map(|(nth, frame)| {
            let times = Times {
                decode_time: nth * 3000,
                duration: 3000,
                ..Times::default()
            };
            match codec {
                Codec::Jpeg => Sample::jpeg(times, frame.clone()),
                _ => Sample::h264(
                    times,
                    nth % 60 == 0,
                    sluicegate_media::h264::annexb::split(frame),
                ),
            }
        })
        .collect();
    // Packaging is done once for all transports, so it is not part of the call.
    for sample in &samples {
        sample.packaged(format(transport));
    }
    let mut samples = samples.iter().cycle();
    timed(batches, || {
        let sample = samples.next().context("no samples")?;
        let group = Group {
            number: sample.decode_time / 180_000,
            ..Group::default()
        };
        let chunks = instance.push(sample, group)?;
        black_box(&chunks);
        Ok(())
    })
}

fn native<T: sdk::Transport>(
    transport: Transport,
    frames: &[Bytes],
    batches: usize,
) -> Result<Histogram> {
    let (mut muxer, _) = T::open("{}").map_err(|refusal| anyhow!(refusal))?;
    muxer.configure(&sdk::mock::video(format(transport).name(), "", &[]));
    let frames = frames.iter().enumerate().map(|(nth, frame)| {
        (
            nth % 60 == 0 || transport == Transport::Mjpeg,
            frame.to_vec(),
        )
    });
    let samples = sdk::mock::samples(2000, frames);
    let mut samples = samples.iter().cycle();
    timed(batches, || {
        let sample = samples.next().context("no samples")?;
        let chunks = muxer.push(sample.clone());
        black_box(&chunks);
        Ok(())
    })
}

fn timed(batches: usize, mut call: impl FnMut() -> Result<()>) -> Result<Histogram> {
    let mut times = Histogram::default();
    for batch in 0..batches + batches / 10 {
        let began = now();
        for _ in 0..BATCH {
            call()?;
        }
        if batch >= batches / 10 {
            times.add(now() - began);
        }
    }
    Ok(times)
}

/// Microseconds per call in a gateway with this number of viewers, and the share of all calls in its processor time.
fn share(bench: &Bench, transport: Transport, viewers: usize) -> Result<(f64, f64)> {
    let pair = Pair::start(bench, transport)?;
    let mut load = crate::load::Load::watching(pair.show.clone(), 10)?;
    load.open(pair.gateway.address, &pair.path, viewers)?;
    load.settled(Duration::from_secs(20))?;
    std::thread::sleep(Duration::from_millis(700));
    let before = calls(pair.gateway.address, transport)?;
    let measured = Measured::of(
        pair.gateway.id(),
        &load,
        bench.pick(Duration::from_secs(1), Duration::from_secs(6)),
    )?;
    let after = calls(pair.gateway.address, transport)?;
    let spent = after.1 - before.1;
    Ok((
        spent / (after.0 - before.0).max(1.0),
        spent / 1e6 / measured.used.running.as_secs_f64(),
    ))
}

/// Number of the transport's calls so far, and their total duration in microseconds.
fn calls(address: SocketAddr, transport: Transport) -> Result<(f64, f64)> {
    let body = get(address, "/api/plugins")?;
    let plugins: serde_json::Value = serde_json::from_str(&body).context(body)?;
    let plugins = plugins.as_array().context("/api/plugins is not a list")?;
    let plugin = plugins
        .iter()
        .find(|plugin| plugin["name"] == transport.name())
        .context("no such transport")?;
    let calls = plugin["calls"].as_f64().context("no number of calls")?;
    Ok((
        calls,
        calls * plugin["us_per_call"].as_f64().context("no time")?,
    ))
}
