//! H.264 passes unchanged: every NAL unit that goes in comes out of `nal` once and in order, whatever the stream, the
//! container or the input; and the frames are the ones that went in.

use bytes::Bytes;
use sluicegate_media::h264::nal;
use sluicegate_tests::{
    Feeder, Gateway, Nal,
    client::is_header,
    feeder::{free_port, write_in_chunks},
    media::{
        NumberReader, annexb_of, cut, encode_pattern, footage, frames, nals_of, packets_of,
        with_start_codes,
    },
    within,
};
use std::{path::Path, process::Stdio};
use tokio::{io::AsyncWriteExt, net::TcpStream};

const SIZE: (u32, u32) = (320, 192);
const COUNT: u64 = 60;
const X264: [&str; 6] = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "28"];
const BASELINE: [&str; 2] = ["-profile:v", "baseline"];
const MAIN: [&str; 6] = [
    "-profile:v",
    "main",
    "-bf",
    "2",
    "-x264-params",
    "b-adapt=0",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn baseline_passes() {
    passes(&nals_of(&h264("a.h264", &BASELINE)), COUNT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn main_with_b_frames_passes() {
    let nals = nals_of(&h264("a.h264", &MAIN));
    let unreferenced = nals
        .iter()
        .filter(|unit| unit[0] & 0x60 == 0 && nal::unit_type(unit) == nal::SLICE);
    assert!(unreferenced.count() > 10, "the stream has no B-frames");
    passes(&nals, COUNT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_slices_pass() {
    let nals = nals_of(&h264("a.h264", &["-x264-params", "slices=8:bframes=0"]));
    assert!(
        nals.len() as u64 > 8 * COUNT,
        "{} NAL units are not 8 slices per frame",
        nals.len()
    );
    passes(&nals, COUNT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn intra_refresh_passes() {
    let refresh = ["-x264-params", "intra-refresh=1:keyint=20:bframes=0"];
    let nals = nals_of(&h264("a.h264", &refresh));
    let idr = nals.iter().filter(|unit| nal::unit_type(unit) == nal::IDR);
    assert_eq!(idr.count(), 1, "intra refresh has one IDR frame, the first");
    passes(&nals, COUNT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_of_ten_seconds_pass() {
    let gop = ["-g", "300", "-sc_threshold", "0", "-bf", "0"];
    let file = encode_pattern("a.h264", SIZE, 0, 330, &[&X264[..], &gop].concat());
    passes(&nals_of(&file), 330).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_of_size_passes() {
    let arguments = [&X264[..], &BASELINE].concat();
    let mut nals = nals_of(&encode_pattern("a.h264", SIZE, 0, 30, &arguments));
    nals.extend(nals_of(&encode_pattern(
        "b.h264",
        (640, 384),
        30,
        30,
        &arguments,
    )));
    nals.extend(nals_of(&encode_pattern("c.h264", SIZE, 60, 30, &arguments)));
    passes(&nals, 90).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_codes_of_three_and_four_bytes_and_padding_pass() {
    let nals = nals_of(&h264("a.h264", &MAIN));
    let lengths: [fn(usize) -> usize; 3] = [|_| 3, |_| 4, |at| [3, 4, 7, 3, 5][at % 5]];
    for length in lengths {
        let got = through_tcp(&nals, length).await;
        assert_same(&got.nals, &nals);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_input_passes() {
    let nals = nals_of(&h264("a.h264", &MAIN));
    let arguments = ["serve", "--listen", "127.0.0.1:0", "annexb:-"];
    let (gateway, input) = Gateway::start(&arguments, Stdio::piped()).await;
    let mut viewer = connect(&gateway, "annexb").await;
    let mut input = input.unwrap();
    let got = feed(&mut viewer, &mut input, &nals, |_| 4).await;
    assert_same(&got.nals, &nals);
    in_order(&numbers(&got.messages), COUNT);
    // The end of standard input is final: it cannot be reopened.
    drop(input);
    let ended = gateway
        .api_until("/api/devices", "standard input ended", |devices| {
            devices[0]["state"] == "failed"
        })
        .await;
    assert_eq!(ended[0]["reason"], "annexb:- ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_to_a_listening_source_passes() {
    let nals = nals_of(&h264("a.h264", &MAIN));
    let port = free_port().await;
    let gateway = Gateway::serve(&[&format!("annexb:listen:{port}")]).await;
    let mut viewer = connect(&gateway, "annexb").await;
    // The port is opened for the first viewer.
    let place = format!("waiting for a sender to connect to 127.0.0.1:{port}");
    let opened = |devices: &serde_json::Value| devices[0]["reason"] == place;
    gateway
        .api_until("/api/devices", "the port is open", opened)
        .await;
    let mut sender = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    sender.set_nodelay(true).unwrap();
    let got = feed(&mut viewer, &mut sender, &nals, |_| 3).await;
    assert_same(&got.nals, &nals);
    in_order(&numbers(&got.messages), COUNT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_pass_over_their_loop() {
    let arguments = [&X264[..], &MAIN].concat();
    let files = ["in-mp4.mp4", "in-ts.ts", "in-mkv.mkv", "raw.h264"]
        .map(|name| encode_pattern(name, SIZE, 0, COUNT, &arguments));
    let sources: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let gateway = Gateway::serve(&sources).await;
    let loops = files.iter().map(|file| {
        let (address, file) = (gateway.address, file.clone());
        tokio::spawn(async move {
            let mut viewer = Nal::connect(address, stem(&file)).await.unwrap();
            let nals = match stem(&file) {
                "raw" => nals_of(&file),
                _ => packets_of(&file),
            };
            // One loop and the first frames of the next.
            let mut got = Got::default();
            collect(&mut viewer, &mut got, nals.len() + 20).await;
            loops_of(&got, &nals);
            let numbers = numbers(&got.messages);
            let (first, second) = numbers.split_at(COUNT as usize);
            in_order(first, COUNT);
            in_order(second, 10);
        })
    });
    for one in loops.collect::<Vec<_>>() {
        within("two loops", one).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_footage_passes_over_its_loop() {
    let files = ["bigbuckbunny.mp4", "bikes.mp4"].map(footage);
    let sources: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let gateway = Gateway::serve(&sources).await;
    let loops = files.iter().map(|file| {
        let (address, file) = (gateway.address, file.clone());
        tokio::spawn(async move {
            let mut viewer = Nal::connect(address, stem(&file)).await.unwrap();
            let nals = packets_of(&file);
            // The ffmpeg program adds parameter sets at keyframes; the rest comes from the file.
            assert_same(
                &without_sets(&nals),
                &without_sets(&nals_of(&annexb_of(&file))),
            );
            let mut got = Got::default();
            collect(&mut viewer, &mut got, nals.len() + 20).await;
            loops_of(&got, &nals);
        })
    });
    for one in loops.collect::<Vec<_>>() {
        within("two loops", one).await.unwrap();
    }
}

/// Through a TCP source, in chunks of irregular size: NAL units and numbers come out as they went in.
async fn passes(nals: &[Bytes], count: u64) {
    // Start codes of both lengths.
    let got = through_tcp(nals, |at| if at % 3 == 0 { 4 } else { 3 }).await;
    assert_same(&got.nals, nals);
    assert_eq!(got.frames, count, "a message for each frame");
    in_order(&numbers(&got.messages), count);
}

async fn through_tcp(nals: &[Bytes], length: impl Fn(usize) -> usize) -> Got {
    let feeder = Feeder::bind().await;
    let gateway = Gateway::serve(&[&feeder.source()]).await;
    let mut viewer = connect(&gateway, "annexb").await;
    let mut source = feeder.accept().await;
    feed(&mut viewer, &mut source, nals, length).await
}

/// What a viewer received.
#[derive(Default)]
struct Got {
    /// NAL units without those of headers, which the gateway adds itself.
    nals: Vec<Bytes>,
    /// All messages.
    messages: Vec<Bytes>,
    /// Number of messages that are not headers.
    frames: u64,
}

/// Sends the first frame alone, because viewers start at the newest keyframe; when it has arrived, sends the rest.
async fn feed(
    viewer: &mut Nal,
    source: &mut (impl AsyncWriteExt + Unpin),
    nals: &[Bytes],
    length: impl Fn(usize) -> usize,
) -> Got {
    let mut got = Got::default();
    let first = frames(nals)[0].len();
    let start = with_start_codes(&nals[..first], &length);
    write_in_chunks(source, &start).await;
    collect(viewer, &mut got, first).await;
    let rest = with_start_codes(&nals[first..], |at| length(at + first));
    tokio::join!(
        write_in_chunks(source, &rest),
        collect(viewer, &mut got, nals.len())
    );
    got
}

/// Receives messages until there are `least` NAL units.
async fn collect(viewer: &mut Nal, got: &mut Got, least: usize) {
    while got.nals.len() < least {
        let what = format!("NAL unit {} of {least}", got.nals.len());
        let message = within(&what, viewer.next()).await.unwrap();
        let nals = cut(&message);
        if !is_header(&nals) {
            got.nals.extend(nals);
            got.frames += 1;
        }
        got.messages.push(message);
    }
}

fn loops_of(got: &Got, nals: &[Bytes]) {
    let again = nals.iter().cycle().take(got.nals.len());
    assert_same(&got.nals, &again.cloned().collect::<Vec<_>>());
}

/// Numbers in the frames, in display order.
fn numbers(messages: &[Bytes]) -> Vec<u32> {
    let mut reader = NumberReader::default();
    messages
        .iter()
        .flat_map(|message| reader.feed(message))
        .collect()
}

/// Fails unless all numbers from 0 are there, except the last few, which a decoder holds back for reordering.
fn in_order(numbers: &[u32], count: u64) {
    let expected: Vec<u32> = (0..).take(numbers.len()).collect();
    assert_eq!(numbers, expected);
    assert!(
        numbers.len() as u64 + 3 >= count,
        "only {} of {count} frames",
        numbers.len()
    );
}

fn assert_same(out: &[Bytes], expected: &[Bytes]) {
    if let Some(at) = out
        .iter()
        .zip(expected)
        .position(|(one, other)| one != other)
    {
        let kinds = |nals: &[Bytes]| {
            nals.iter()
                .map(|unit| (nal::unit_type(unit), unit.len()))
                .collect::<Vec<_>>()
        };
        let end = |nals: &[Bytes]| (at + 5).min(nals.len());
        panic!(
            "NAL unit {at} differs: (type, length) {:?}, not {:?}",
            kinds(&out[at..end(out)]),
            kinds(&expected[at..end(expected)])
        );
    }
    assert_eq!(out.len(), expected.len(), "NAL units");
}

fn without_sets(nals: &[Bytes]) -> Vec<Bytes> {
    let set = |unit: &&Bytes| matches!(nal::unit_type(unit), nal::SPS | nal::PPS);
    nals.iter().filter(|unit| !set(unit)).cloned().collect()
}

async fn connect(gateway: &Gateway, stream: &str) -> Nal {
    within("connect", Nal::connect(gateway.address, stream))
        .await
        .unwrap()
}

fn h264(name: &str, arguments: &[&str]) -> std::path::PathBuf {
    encode_pattern(name, SIZE, 0, COUNT, &[&X264[..], arguments].concat())
}

fn stem(file: &Path) -> &str {
    file.file_stem().unwrap().to_str().unwrap()
}
