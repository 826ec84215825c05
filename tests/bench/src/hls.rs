//! The requests of a low-latency HLS player (draft-pantos-hls-rfc8216bis): the playlist with the next part in the
//! query, then each part that is new in it, without end. Pure: responses in, paths out.

use anyhow::{Context, Result, bail, ensure};
use std::{collections::VecDeque, str::FromStr};

/// Name of the media playlist.
pub const MEDIA: &str = "media.m3u8";

/// Position of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Media sequence number of the segment.
    pub msn: u64,
    /// Index of the part in its segment.
    pub part: u64,
}

impl Place {
    /// Whether `next` is the next part of the same segment or the first of the following one.
    fn followed_by(self, next: Place) -> bool {
        let in_it = next.msn == self.msn && next.part == self.part + 1;
        in_it || (next.msn == self.msn + 1 && next.part == 0)
    }
}

impl FromStr for Place {
    type Err = anyhow::Error;

    /// Parses the URI of a part, `RUN-MSN.PART.m4s`.
    fn from_str(uri: &str) -> Result<Place> {
        let place = || {
            let (_, rest) = uri.strip_suffix(".m4s")?.rsplit_once('-')?;
            let (msn, part) = rest.split_once('.')?;
            Some(Place {
                msn: msn.parse().ok()?,
                part: part.parse().ok()?,
            })
        };
        place().with_context(|| format!("{uri:?} is not the name of a part"))
    }
}

/// The newest parts of a media playlist.
struct Playlist<'a> {
    text: &'a str,
}

impl<'a> Playlist<'a> {
    fn read(body: &'a [u8]) -> Result<Playlist<'a>> {
        let text = std::str::from_utf8(body).context("the playlist is not UTF-8")?;
        ensure!(text.starts_with("#EXTM3U\n"), "not a playlist: {text:.80}");
        Ok(Playlist { text })
    }

    /// URI of the next part (`EXT-X-PRELOAD-HINT`).
    fn hint(&self) -> Result<&'a str> {
        let mut lines = self.text.lines().rev();
        let hint = lines.find_map(|line| line.strip_prefix("#EXT-X-PRELOAD-HINT:TYPE=PART,"));
        hint.and_then(uri)
            .context("the playlist has no preload hint")
    }

    /// URIs of the listed parts, newest first.
    fn newest_parts(&self) -> impl Iterator<Item = &'a str> {
        let lines = self.text.lines().rev();
        lines.filter_map(|line| uri(line.strip_prefix("#EXT-X-PART:")?))
    }

    /// URI of the newest init segment.
    fn map(&self) -> Option<&'a str> {
        let mut lines = self.text.lines().rev();
        lines.find_map(|line| uri(line.strip_prefix("#EXT-X-MAP:")?))
    }
}

/// Value of the attribute `URI`.
fn uri(attributes: &str) -> Option<&str> {
    attributes.split("URI=\"").nth(1)?.split('"').next()
}

/// Kind of a response.
#[derive(Debug, PartialEq, Eq)]
pub enum ResponseKind {
    /// A playlist.
    Playlist,
    /// An init segment.
    Init,
    /// The part at this position.
    Part(Place),
}

/// State of a player.
#[derive(Debug)]
pub struct Player {
    asked: RequestKind,
    /// Whether the init segment is needed first, and its URI.
    wants_init: bool,
    init: Option<String>,
    /// Listed parts that have not been requested yet.
    parts: VecDeque<String>,
    /// The newest listed part.
    newest: Option<Place>,
    next: Option<Place>,
}

#[derive(Debug)]
enum RequestKind {
    Playlist,
    Init,
    Part(Place),
}

impl Player {
    /// Creates a player that starts with the playlist.
    pub fn new() -> Player {
        Player {
            asked: RequestKind::Playlist,
            wants_init: false,
            init: None,
            parts: VecDeque::new(),
            newest: None,
            next: None,
        }
    }

    /// Creates a player that requests the init segment before the first part.
    pub fn with_init() -> Player {
        Player {
            wants_init: true,
            ..Player::new()
        }
    }

    /// The next request as a path below the playlist's directory, and whether the server will hold it back until a part
    /// exists.
    ///
    /// # Errors
    ///
    /// If the name of a part is not valid.
    pub fn ask(&mut self) -> Result<(String, bool)> {
        if let Some(init) = self.init.take() {
            self.asked = RequestKind::Init;
            return Ok((init, false));
        }
        if let Some(part) = self.parts.pop_front() {
            self.asked = RequestKind::Part(part.parse()?);
            return Ok((part, false));
        }
        self.asked = RequestKind::Playlist;
        Ok(match self.next {
            None => (MEDIA.to_owned(), false),
            Some(Place { msn, part }) => (format!("{MEDIA}?_HLS_msn={msn}&_HLS_part={part}"), true),
        })
    }

    /// Takes the response to the last request; returns its kind.
    ///
    /// # Errors
    ///
    /// If the response does not match the request, or parts are missing.
    pub fn answered(&mut self, status: u16, body: &[u8]) -> Result<ResponseKind> {
        if status != 200 {
            let said = String::from_utf8_lossy(body.get(..200).unwrap_or(body));
            bail!("{:?} was answered with {status}: {said}", self.asked);
        }
        match self.asked {
            RequestKind::Playlist => {
                let playlist = Playlist::read(body)?;
                self.read(&playlist)?;
                if std::mem::take(&mut self.wants_init) {
                    let map = playlist.map().context("a playlist without `EXT-X-MAP`")?;
                    self.init = Some(map.to_owned());
                }
                Ok(ResponseKind::Playlist)
            }
            RequestKind::Init => Ok(ResponseKind::Init),
            RequestKind::Part(place) => Ok(ResponseKind::Part(place)),
        }
    }

    fn read(&mut self, playlist: &Playlist) -> Result<()> {
        let mut parts = playlist.newest_parts();
        let Some(known) = self.newest else {
            let newest = parts.next().context("a playlist without parts")?;
            self.newest = Some(newest.parse()?);
            self.next = Some(playlist.hint()?.parse()?);
            return Ok(());
        };
        let mut found = false;
        for part in parts {
            if part.parse::<Place>()? == known {
                found = true;
                break;
            }
            self.parts.push_front(part.to_owned());
        }
        ensure!(found, "{known:?} is not listed any more");
        let mut last = known;
        for part in &self.parts {
            let place = part.parse()?;
            ensure!(
                last.followed_by(place),
                "{place:?} is listed after {last:?}"
            );
            last = place;
        }
        ensure!(
            last != known,
            "a playlist without the part that was waited for"
        );
        self.newest = Some(last);
        self.next = Some(playlist.hint()?.parse()?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn playlist(parts: &[&str], hint: &str) -> Vec<u8> {
        let parts: String = parts
            .iter()
            .map(|part| format!("#EXT-X-PART:DURATION=0.2,URI=\"r-{part}.m4s\",INDEPENDENT=YES\n"))
            .collect();
        format!("#EXTM3U\n#EXT-X-MAP:URI=\"init.mp4\"\n{parts}#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"r-{hint}.m4s\"\n").into()
    }

    fn ask(player: &mut Player) -> String {
        player.ask().unwrap().0
    }

    #[test]
    fn it_asks_for_the_playlist_and_then_each_new_part_for_ever() {
        let mut player = Player::new();
        assert_eq!(player.ask().unwrap(), (MEDIA.to_owned(), false));
        let got = player
            .answered(200, &playlist(&["7.0", "7.1"], "7.2"))
            .unwrap();
        assert_eq!(got, ResponseKind::Playlist);
        let waiting = player.ask().unwrap();
        assert_eq!(
            waiting,
            ("media.m3u8?_HLS_msn=7&_HLS_part=2".to_owned(), true)
        );
        player
            .answered(200, &playlist(&["7.0", "7.1", "7.2"], "8.0"))
            .unwrap();
        assert_eq!(player.ask().unwrap(), ("r-7.2.m4s".to_owned(), false));
        let part = Place { msn: 7, part: 2 };
        assert_eq!(
            player.answered(200, b"media").unwrap(),
            ResponseKind::Part(part)
        );
        assert_eq!(ask(&mut player), "media.m3u8?_HLS_msn=8&_HLS_part=0");
        // Two parts at once, because the player was late.
        player
            .answered(200, &playlist(&["7.2", "8.0", "8.1"], "8.2"))
            .unwrap();
        assert_eq!(
            [ask(&mut player), ask(&mut player)],
            ["r-8.0.m4s", "r-8.1.m4s"]
        );
        assert_eq!(ask(&mut player), "media.m3u8?_HLS_msn=8&_HLS_part=2");
    }

    #[test]
    fn the_init_segment_comes_first_where_requested() {
        let mut player = Player::with_init();
        ask(&mut player);
        player.answered(200, &playlist(&["1.0"], "1.1")).unwrap();
        assert_eq!(ask(&mut player), "init.mp4");
        assert_eq!(player.answered(200, b"ftyp").unwrap(), ResponseKind::Init);
        assert_eq!(ask(&mut player), "media.m3u8?_HLS_msn=1&_HLS_part=1");
    }

    #[test]
    fn refusals_and_gaps_are_errors() {
        let after = |second: &[u8], status| {
            let mut player = Player::new();
            ask(&mut player);
            player.answered(200, &playlist(&["3.0"], "3.1")).unwrap();
            ask(&mut player);
            player.answered(status, second)
        };
        assert!(after(&playlist(&["3.0", "3.1"], "3.2"), 200).is_ok());
        for (body, status) in [
            (playlist(&["3.0", "3.1"], "3.2"), 404),
            // Nothing new, a skipped part, the last one removed.
            (playlist(&["3.0"], "3.1"), 200),
            (playlist(&["3.0", "3.2"], "3.3"), 200),
            (playlist(&["3.1", "3.2"], "3.3"), 200),
            (playlist(&["3.0", "3.x"], "3.3"), 200),
            (b"#EXTM3U\n".to_vec(), 200),
            (b"nothing".to_vec(), 200),
        ] {
            assert!(after(&body, status).is_err());
        }
    }
}
