//! Levels (ISO/IEC 14496-10 A.3): the lowest level that fits a stream whose SPS names none that exists. Some encoders
//! write 0, which browsers reject.

/// What a stream requires of a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirements {
    /// Width of a frame in macroblocks.
    pub width: u32,
    /// Height of a frame in macroblocks.
    pub height: u32,
    /// Number of frames in the decoded picture buffer, for reference or later output.
    pub frames: u32,
    /// Frames may be coded as fields or in macroblock pairs.
    pub interlaced: bool,
}

/// Table A-1: `level_idc`, macroblocks per second, macroblocks per frame, macroblocks in the decoded picture buffer.
const LEVELS: [(u8, u32, u32, u32); 19] = [
    (10, 1485, 99, 396),
    (11, 3000, 396, 900),
    (12, 6000, 396, 2376),
    (13, 11_880, 396, 2376),
    (20, 11_880, 396, 2376),
    (21, 19_800, 792, 4752),
    (22, 20_250, 1620, 8100),
    (30, 40_500, 1620, 8100),
    (31, 108_000, 3600, 18_000),
    (32, 216_000, 5120, 20_480),
    (40, 245_760, 8192, 32_768),
    (41, 245_760, 8192, 32_768),
    (42, 522_240, 8704, 34_816),
    (50, 589_824, 22_080, 110_400),
    (51, 983_040, 36_864, 184_320),
    (52, 2_073_600, 36_864, 184_320),
    (60, 4_177_920, 139_264, 696_320),
    (61, 8_355_840, 139_264, 696_320),
    (62, 16_711_680, 139_264, 696_320),
];
/// Level 1b as the high profiles write it.
const LEVEL_1B: u8 = 9;
/// Frame rate assumed if the stream states none.
const ASSUMED_FRAME_RATE: f32 = 30.0;
/// Upper limit of `MaxDpbFrames` (A.3.1).
const MAX_FRAMES: u32 = 16;
/// Levels that allow interlaced coding (A.3.3).
const INTERLACED: std::ops::RangeInclusive<u8> = 21..=41;

/// Whether the standard has such a level.
pub fn exists(level_idc: u8) -> bool {
    level_idc == LEVEL_1B || LEVELS.iter().any(|level| level.0 == level_idc)
}

/// Lowest level with room for `requirements` at `rate` frames per second (0: unknown); the highest level if none has
/// room.
pub fn lowest(requirements: Requirements, rate: f32) -> u8 {
    let Requirements { width, height, .. } = requirements;
    let size = width.saturating_mul(height);
    let rate = if rate > 0.0 { rate } else { ASSUMED_FRAME_RATE };
    let speed = f64::from(size) * f64::from(rate);
    let kept = requirements.frames.min(MAX_FRAMES).saturating_mul(size);
    let fits = |level: &&(u8, u32, u32, u32)| {
        let (_, most_speed, most, most_kept) = **level;
        // A side may be at most the square root of eight times the frame size.
        let side = u64::from(width.max(height));
        size <= most
            && side * side <= 8 * u64::from(most)
            && speed <= f64::from(most_speed)
            && kept <= most_kept
    };
    let suits =
        |level: &&(u8, u32, u32, u32)| !requirements.interlaced || INTERLACED.contains(&level.0);
    let mut levels = LEVELS.iter().filter(fits);
    let lowest = levels.clone().find(suits).or(levels.next());
    lowest.map_or(LEVELS[LEVELS.len() - 1].0, |level| level.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_level_has_room_for_size_rate_and_frames() {
        let requirements = |width, height, frames| Requirements {
            width,
            height,
            frames,
            interlaced: false,
        };
        for (what, requirements, rate, level) in [
            ("176x144", requirements(11, 9, 1), 15.0, 10),
            ("320x240, 25 a second", requirements(20, 15, 1), 25.0, 13),
            (
                "the same with four frames",
                requirements(20, 15, 8),
                25.0,
                21,
            ),
            ("640x480", requirements(40, 30, 4), 30.0, 30),
            ("720p", requirements(80, 45, 4), 30.0, 31),
            ("720p, 60 a second", requirements(80, 45, 4), 60.0, 32),
            ("1080p, of unknown rate", requirements(120, 68, 4), 0.0, 40),
            ("1080p, 60 a second", requirements(120, 68, 4), 60.0, 42),
            (
                "1080p with as many frames as can be",
                requirements(120, 68, 99),
                30.0,
                51,
            ),
            ("2160p", requirements(240, 135, 3), 30.0, 51),
            ("one row of a thousand", requirements(1000, 1, 1), 1.0, 60),
            ("more than there is", requirements(1024, 1024, 1), 300.0, 62),
        ] {
            assert_eq!(lowest(requirements, rate), level, "{what}");
        }
        let interlaced = Requirements {
            interlaced: true,
            ..requirements(11, 9, 1)
        };
        assert_eq!(lowest(interlaced, 25.0), 21);
    }
}
