//! Capabilities as `v4l2-ctl --list-formats-ext` prints them for real devices.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use proptest::prelude::*;

const YUYV: Format = Format::Raw("yuyv422");
const NV12: Format = Format::Raw("nv12");
const UYVY: Format = Format::Raw("uyvy422");

fn listed(format: Format, modes: &[((u32, u32), &[f64])]) -> Vec<Capability> {
    let of = |((width, height), rates): &((u32, u32), &[f64])| Capability {
        format,
        sizes: Sizes::One(*width, *height),
        rates: Rates::Some(rates.to_vec()),
    };
    modes.iter().map(of).collect()
}

const ALL: &[f64] = &[30.0, 24.0, 20.0, 15.0, 10.0, 7.5, 5.0];

/// Logitech C920 of the first kind, with an H.264 encoder inside.
fn c920() -> Vec<Capability> {
    let small: &[((u32, u32), &[f64])] = &[
        ((640, 480), ALL),
        ((160, 90), ALL),
        ((320, 240), ALL),
        ((640, 360), ALL),
        ((864, 480), ALL),
        ((1024, 576), ALL),
        ((1280, 720), ALL),
        ((1920, 1080), ALL),
    ];
    let raw: &[((u32, u32), &[f64])] = &[
        ((640, 480), ALL),
        ((640, 360), ALL),
        ((1280, 720), &[10.0, 7.5, 5.0]),
        ((1920, 1080), &[5.0]),
        ((2304, 1536), &[2.0]),
    ];
    [
        listed(YUYV, raw),
        listed(Format::H264, small),
        listed(Format::Mjpeg, small),
    ]
    .concat()
}

/// A cheap UVC camera.
fn cheap() -> Vec<Capability> {
    [
        listed(
            Format::Mjpeg,
            &[
                ((1280, 720), &[30.0]),
                ((640, 480), &[30.0]),
                ((320, 240), &[30.0]),
            ],
        ),
        listed(
            YUYV,
            &[
                ((640, 480), &[30.0]),
                ((1280, 720), &[10.0]),
                ((320, 240), &[30.0]),
            ],
        ),
    ]
    .concat()
}

/// An HDMI capture card: one size, that of the signal.
fn capture_card() -> Vec<Capability> {
    [
        listed(NV12, &[((1920, 1080), &[60.0])]),
        listed(UYVY, &[((1920, 1080), &[60.0])]),
    ]
    .concat()
}

/// The Raspberry Pi's camera through bcm2835-v4l2: any size, any rate, an H.264 encoder.
fn pi() -> Vec<Capability> {
    let of = |format| Capability {
        format,
        sizes: Sizes::Range {
            least: (32, 32),
            most: (2592, 1944),
            step: (2, 2),
        },
        rates: Rates::UpTo(90.0),
    };
    [Format::Raw("yuv420p"), YUYV, Format::Mjpeg, Format::H264]
        .map(of)
        .to_vec()
}

/// A CSI receiver without an ISP: it does not list its rates.
fn silent_driver() -> Vec<Capability> {
    vec![Capability {
        format: UYVY,
        sizes: Sizes::One(800, 600),
        rates: Rates::Unknown,
    }]
}

fn chosen(list: &[Capability], width: u32, height: u32, frame_rate: u32) -> String {
    let encode = Encode {
        width,
        height,
        frame_rate,
        ..Encode::default()
    };
    choose(list, &encode).unwrap().to_string()
}

#[test]
fn every_camera_delivers_the_mode_closest_to_the_settings() {
    for (list, wish, wanted) in [
        // H.264 if it fits, at the lowest sufficient rate.
        (c920(), (1280, 720, 15), "h264 1280x720 at 15/s"),
        (c920(), (1920, 1080, 25), "h264 1920x1080 at 30/s"),
        (c920(), (1600, 900, 10), "h264 1280x720 at 10/s"),
        // No mode has 60 frames per second: the nearest size at the highest rate.
        (c920(), (640, 360, 60), "yuyv422 640x360 at 30/s"),
        // No mode is that large.
        (c920(), (3840, 2160, 30), "h264 1920x1080 at 30/s"),
        (cheap(), (1280, 720, 15), "mjpeg 1280x720 at 30/s"),
        (cheap(), (640, 480, 30), "mjpeg 640x480 at 30/s"),
        (cheap(), (1920, 1080, 15), "mjpeg 1280x720 at 30/s"),
        // JPEGs that are much smaller than requested lose to raw frames that are scaled; these do not.
        (cheap(), (960, 540, 30), "mjpeg 640x480 at 30/s"),
        (cheap(), (240, 180, 10), "yuyv422 320x240 at 30/s"),
        (capture_card(), (1280, 720, 15), "nv12 1920x1080 at 60/s"),
        (capture_card(), (1920, 1080, 60), "nv12 1920x1080 at 60/s"),
        (pi(), (1280, 720, 15), "h264 1280x720 at 15/s"),
        (pi(), (4096, 2160, 30), "h264 2592x1944 at 30/s"),
        (silent_driver(), (1280, 720, 15), "uyvy422 800x600"),
    ] {
        assert_eq!(chosen(&list, wish.0, wish.1, wish.2), wanted, "{wish:?}");
    }
    assert_eq!(choose(&[], &Encode::default()), None);
}

#[test]
fn formats_are_known_by_their_fourcc() {
    for (fourcc, name) in [(b"H264", "h264"), (b"MJPG", "mjpeg"), (b"NV12", "nv12")] {
        assert_eq!(Format::of_fourcc(*fourcc).unwrap().name(), name);
    }
    // Depth of an Intel RealSense; metadata.
    for fourcc in [b"Z16 ", b"UVCH"] {
        assert_eq!(Format::of_fourcc(*fourcc), None);
    }
}

fn capability() -> impl Strategy<Value = Capability> {
    let format = prop_oneof![
        Just(Format::H264),
        Just(Format::Mjpeg),
        Just(YUYV),
        Just(NV12)
    ];
    let side = || (0u32..9000, 0u32..9000);
    let sizes = prop_oneof![
        side().prop_map(|(width, height)| Sizes::One(width, height)),
        (side(), side(), side()).prop_map(|(least, most, step)| Sizes::Range { least, most, step }),
    ];
    let rates = prop_oneof![
        Just(Rates::Unknown),
        (0.0..120.0).prop_map(Rates::UpTo),
        proptest::collection::vec(0.0..120.0, 0..5).prop_map(Rates::Some),
    ];
    (format, sizes, rates).prop_map(|(format, sizes, rates)| Capability {
        format,
        sizes,
        rates,
    })
}

proptest! {
    #[test]
    fn whatever_a_driver_lists_the_choice_is_on_the_list(
        list in proptest::collection::vec(capability(), 1..8),
        width in 64u32..8192, height in 64u32..8192, frame_rate in 1u32..240,
    ) {
        let choice = choose(&list, &Encode { width, height, frame_rate, ..Encode::default() }).unwrap();
        let listed = list.iter().any(|known| known.format == choice.format && match known.sizes {
            Sizes::One(width, height) => choice.size == (width, height),
            Sizes::Range { least, .. } => choice.size.0 >= least.0 && choice.size.1 >= least.1,
        } && match (&known.rates, choice.rate) {
            (Rates::Some(rates), Some(rate)) => rates.contains(&rate),
            (Rates::Some(rates), None) => rates.is_empty(),
            (Rates::UpTo(most), Some(rate)) => rate <= *most,
            (Rates::Unknown, None) => true,
            _ => false,
        });
        prop_assert!(listed, "{choice:?}");
    }
}
