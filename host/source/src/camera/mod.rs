//! V4L2 cameras: lists them with their capabilities, and opens one in the most suitable format.
//!
//! Capabilities are read here; [`choose`] decides without I/O; the camera itself is opened by libavdevice (`device`).

mod choice;

pub use choice::{Capability, CaptureMode, Format, Rates, Sizes, choose};

use rscam::{IntervalInfo, ResolutionInfo};
use rustix::io::Errno;
use sluicegate_config::Encode;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Directory in which the kernel lists video devices.
const LIST: &str = "/sys/class/video4linux";
/// Largest number of formats, sizes or rates read from a driver.
const MAX_MODES: usize = 256;

/// For drivers that do not list sizes.
const ANY_SIZE: Sizes = Sizes::Range {
    least: (2, 2),
    most: (8192, 8192),
    step: (2, 2),
};

/// A camera of this machine.
#[derive(Debug)]
pub struct Camera {
    /// Device file, `/dev/videoN`.
    pub path: PathBuf,
    /// Name given by its driver.
    pub name: String,
    /// Its capabilities, or why they cannot be read.
    pub capabilities: Result<Vec<Capability>, String>,
}

/// All cameras. Devices that do not capture video, such as encoders and metadata nodes, are omitted.
pub fn cameras() -> Vec<Camera> {
    let mut nodes: Vec<(u32, PathBuf)> = fs::read_dir(LIST)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((name.strip_prefix("video")?.parse().ok()?, entry.path()))
        })
        .collect();
    nodes.sort();
    nodes
        .into_iter()
        .filter_map(|(number, node)| {
            let name = fs::read_to_string(node.join("name")).unwrap_or_default();
            let path = PathBuf::from(format!("/dev/video{number}"));
            let capabilities = capabilities(&path).map_err(|error| explain(&error));
            let gives_nothing = capabilities.as_ref().is_ok_and(Vec::is_empty);
            (!gives_nothing).then(|| Camera {
                path,
                name: name.trim().to_owned(),
                capabilities,
            })
        })
        .collect()
}

/// The cameras as text: the source string and the capabilities of each.
pub fn listing(cameras: &[Camera]) -> String {
    let mut text = String::new();
    for camera in cameras {
        text += &format!("v4l2:{}  {}\n", camera.path.display(), camera.name);
        let capabilities = match &camera.capabilities {
            Ok(capabilities) => capabilities,
            Err(reason) => {
                text += &format!("    {reason}\n");
                continue;
            }
        };
        for (at, capability) in capabilities.iter().enumerate() {
            let format = capability.format;
            if at == 0 || capabilities[at - 1].format != format {
                text += &format!("    {}\n", format.name());
            }
            text += &format!("        {capability}\n");
        }
    }
    if cameras.is_empty() {
        text += "no camera found: no device in /sys/class/video4linux captures video\n";
    }
    text
}

/// The device file of a camera and the mode that suits `encode` best; otherwise the reason and what to do.
pub(super) fn choose_for(path: &Path, encode: &Encode) -> Result<(PathBuf, CaptureMode), String> {
    // Stable names, such as /dev/v4l/by-id/…, are links.
    let path = fs::canonicalize(path).map_err(|error| explain(&error))?;
    if !path.to_string_lossy().starts_with("/dev/video") {
        return Err(
            "it is not a camera; cameras are /dev/videoN, and `sluicegate sources` lists them"
                .into(),
        );
    }
    let capabilities = capabilities(&path).map_err(|error| explain(&error))?;
    let choice = choose(&capabilities, encode).ok_or(
        "it captures no video in a supported format; `sluicegate sources` lists the cameras",
    )?;
    Ok((path, choice))
}

/// The modes that a driver lists, in its order.
fn capabilities(path: &Path) -> io::Result<Vec<Capability>> {
    let camera = rscam::Camera::new(&path.to_string_lossy())?;
    let mut found = Vec::new();
    for listed in camera.formats().take(MAX_MODES) {
        // A device that does not capture video has no list.
        let Ok(listed) = listed else { break };
        let Some(format) = Format::of_fourcc(listed.format) else {
            continue;
        };
        let sizes = match camera.resolutions(&listed.format) {
            Ok(ResolutionInfo::Discretes(sizes)) => sizes
                .into_iter()
                .take(MAX_MODES)
                .map(|(width, height)| Sizes::One(width, height))
                .collect(),
            Ok(ResolutionInfo::Stepwise { min, max, step }) if max.0 > 0 => vec![Sizes::Range {
                least: min,
                most: max,
                step,
            }],
            // The driver lists no sizes, and takes the nearest to the requested one.
            _ => vec![ANY_SIZE],
        };
        for sizes in sizes {
            let (Sizes::One(width, height)
            | Sizes::Range {
                most: (width, height),
                ..
            }) = sizes;
            // The frame interval, as numerator and denominator.
            let rate = |(time, by): (u32, u32)| (time > 0).then(|| f64::from(by) / f64::from(time));
            let rates = match camera.intervals(&listed.format, (width, height)) {
                Ok(IntervalInfo::Discretes(times)) => {
                    Rates::Some(times.into_iter().take(MAX_MODES).filter_map(rate).collect())
                }
                Ok(IntervalInfo::Stepwise { min, .. }) => {
                    rate(min).map_or(Rates::Unknown, Rates::UpTo)
                }
                Err(_) => Rates::Unknown,
            };
            found.push(Capability {
                format,
                sizes,
                rates,
            });
        }
    }
    Ok(found)
}

/// Advice for a camera that cannot be opened.
pub(super) fn advice(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => {
            "is the camera plugged in? `sluicegate sources` lists the cameras"
        }
        Errno::ACCESS | Errno::PERM => {
            "this user may not open cameras; add it to the group `video` (sudo usermod -aG video $USER) and log in again"
        }
        Errno::BUSY => "another program uses the camera; close that one",
        _ => return None,
    })
}

fn explain(error: &io::Error) -> String {
    match Errno::from_io_error(error).and_then(advice) {
        Some(todo) => format!("{error}; {todo}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_camera_that_cannot_be_opened_comes_with_what_to_do() {
        for (errno, todo) in [
            (Errno::NOENT, "plugged in"),
            (Errno::ACCESS, "group `video`"),
            (Errno::BUSY, "another program"),
            (Errno::IO, "Input/output error"),
        ] {
            let text = explain(&errno.into());
            assert!(text.contains(todo), "{text}");
        }
    }

    #[test]
    fn every_camera_is_listed_with_its_modes_or_why_it_cannot_be_queried() {
        let of = |format, sizes, rates| Capability {
            format,
            sizes,
            rates,
        };
        let cameras = [
            Camera {
                path: "/dev/video0".into(),
                name: "HD Pro Webcam C920".into(),
                capabilities: Ok(vec![
                    of(
                        Format::Mjpeg,
                        Sizes::One(640, 480),
                        Rates::Some(vec![30.0, 7.5]),
                    ),
                    of(Format::Mjpeg, Sizes::One(1280, 720), Rates::UpTo(60.0)),
                    of(Format::Raw("nv12"), ANY_SIZE, Rates::Unknown),
                ]),
            },
            Camera {
                path: "/dev/video2".into(),
                name: "HDMI".into(),
                capabilities: Err(explain(&Errno::ACCESS.into())),
            },
        ];
        assert_eq!(
            listing(&cameras),
            "v4l2:/dev/video0  HD Pro Webcam C920\n    mjpeg\n        640x480 at 30, 7.5/s\n        1280x720 at up to 60/s\n    nv12\n        2x2 to 8192x8192\nv4l2:/dev/video2  HDMI\n    Permission denied (os error 13); this user may not open cameras; add it to the group `video` (sudo usermod -aG video $USER) and log in again\n"
        );
        assert!(listing(&[]).starts_with("no camera found"));
    }

    #[test]
    fn a_device_that_is_no_camera_is_reported_as_such() {
        let open = |path: &str| choose_for(Path::new(path), &Encode::default()).unwrap_err();
        assert!(open("/dev/video99999").contains("plugged in"));
        assert!(open("/dev/null").contains("not a camera"));
    }
}
