//! Which transport a client gets that does not run our player, such as an `<img>` element, VLC or curl. Pure.
//!
//! Such a client cannot say what it can play, so a table of signs in its request headers decides; the first match wins.
//! `api/choice.rs` turns the result into a redirect.

use super::ClientRequest;
use sluicegate_plugin::Embed;

/// Where a client is redirected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectTarget {
    /// The player page.
    Page,
    /// A transport whose entry it can use, the most suitable kind first.
    Embed(&'static [Embed]),
}

/// A sign in the request headers.
enum Sign {
    /// Value of `Sec-Fetch-Dest`: what the browser will use the response for.
    Dest(&'static str),
    /// Part of `User-Agent`, compared without regard to case.
    Agent(&'static str),
    /// Part of `Accept`.
    Accept(&'static str),
}

const IMAGE: RedirectTarget = RedirectTarget::Embed(&[Embed::Image]);
const PLAYLIST: RedirectTarget =
    RedirectTarget::Embed(&[Embed::Playlist, Embed::File, Embed::Image]);
/// A video element without HLS support plays a file without an end.
const FILE: RedirectTarget = RedirectTarget::Embed(&[Embed::File, Embed::Playlist, Embed::Image]);

/// The first match wins.
const TABLE: &[(Sign, RedirectTarget)] = &[
    (Sign::Dest("image"), IMAGE),
    (Sign::Dest("document"), RedirectTarget::Page),
    (Sign::Dest("iframe"), RedirectTarget::Page),
    (Sign::Agent("applecoremedia"), PLAYLIST),
    (Sign::Agent("vlc/"), PLAYLIST),
    (Sign::Agent("libvlc"), PLAYLIST),
    (Sign::Agent("lavf/"), PLAYLIST),
    (Sign::Agent("gstreamer"), PLAYLIST),
    (Sign::Agent("exoplayer"), PLAYLIST),
    (Sign::Agent("kodi"), PLAYLIST),
    (Sign::Dest("video"), FILE),
    (Sign::Accept("mpegurl"), PLAYLIST),
    (Sign::Accept("multipart/x-mixed-replace"), IMAGE),
    (Sign::Accept("text/html"), RedirectTarget::Page),
];

/// Where this client is redirected; a transport that embeds as an image if no sign matches.
pub fn redirect_target(request: &ClientRequest<'_>) -> RedirectTarget {
    let agent = request.agent().to_ascii_lowercase();
    let dest = request.header("sec-fetch-dest").unwrap_or_default();
    let accept = request.header("accept").unwrap_or_default();
    let fitting = TABLE.iter().find(|(sign, _)| match sign {
        Sign::Dest(wanted) => dest == *wanted,
        Sign::Agent(part) => agent.contains(part),
        Sign::Accept(part) => accept.contains(part),
    });
    // Almost every client can show MJPEG.
    fitting.map_or(IMAGE, |(_, redirect_target)| *redirect_target)
}

/// Whether the client accepts JSON, as our player and API clients do.
pub fn wants_json(request: &ClientRequest<'_>) -> bool {
    request
        .header("accept")
        .is_some_and(|accept| accept.contains("application/json"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use hyper::HeaderMap;

    #[test]
    fn plain_clients_get_what_they_can_play() {
        let chromium = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36";
        for (agent, dest, accept, expected) in [
            (chromium, "image", "image/avif,image/webp,*/*", IMAGE),
            (chromium, "document", "text/html,*/*", RedirectTarget::Page),
            (chromium, "iframe", "text/html,*/*", RedirectTarget::Page),
            (chromium, "video", "*/*", FILE),
            // No fetch metadata over plain HTTP on a LAN address.
            (
                chromium,
                "",
                "text/html,application/xhtml+xml,*/*",
                RedirectTarget::Page,
            ),
            (chromium, "", "image/avif,image/webp,*/*", IMAGE),
            ("VLC/3.0.21 LibVLC/3.0.21", "", "*/*", PLAYLIST),
            ("Lavf/61.7.100", "", "*/*", PLAYLIST),
            (
                "GStreamer souphttpsrc 1.22.0 libsoup/3.2.3",
                "",
                "*/*",
                PLAYLIST,
            ),
            (
                "AppleCoreMedia/1.0.0.21A329 (iPhone; U; CPU OS 17_0 like Mac OS X)",
                "",
                "*/*",
                PLAYLIST,
            ),
            ("AppleCoreMedia/1.0.0.21A329", "video", "*/*", PLAYLIST),
            (
                "MyApp/1 (Linux;Android 14) ExoPlayerLib/2.19",
                "",
                "*/*",
                PLAYLIST,
            ),
            ("curl/8.5.0", "", "*/*", IMAGE),
            ("", "", "", IMAGE),
            ("x", "", "application/vnd.apple.mpegurl", PLAYLIST),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [
                ("user-agent", agent),
                ("sec-fetch-dest", dest),
                ("accept", accept),
            ] {
                if !value.is_empty() {
                    headers.insert(name, value.parse().unwrap());
                }
            }
            let request = ClientRequest {
                address: [127, 0, 0, 1].into(),
                headers: &headers,
                query: "",
                stream: "x",
            };
            assert_eq!(
                redirect_target(&request),
                expected,
                "{agent} {dest} {accept}"
            );
        }
    }
}
