//! Prints the gateway's URLs at start: one for this machine and, if other machines may connect, one per network
//! address.
//!
//! On a terminal a QR code of the first network URL follows, so that a phone can open it. Called once by `run` in
//! [`super`], after the socket listens.

use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};
use sluicegate_config::machine;
use std::{
    io::{IsTerminal, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Black on white regardless of the terminal's colours, which cameras read best.
const COLOURS: &str = "\x1b[38;5;16;48;5;231m";
const OWN_COLOURS: &str = "\x1b[0m";

/// Prints the URLs of a gateway that listens on `local`.
pub(super) fn announce(scheme: &str, local: SocketAddr) {
    let mut out = std::io::stdout();
    let text = announcement(
        scheme,
        local,
        &machine::addresses(local.ip()),
        out.is_terminal(),
    );
    // Standard output may be closed.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The text to print; for a terminal with the QR code of the first address in `network`.
fn announcement(scheme: &str, local: SocketAddr, network: &[IpAddr], terminal: bool) -> String {
    let url = |address: IpAddr| format!("{scheme}://{}/", SocketAddr::new(address, local.port()));
    // A browser cannot open the unspecified address.
    let here = match local.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    let mut text = format!("sluicegate is at {}\n", url(here));
    for address in network.iter().filter(|address| **address != here) {
        text += &format!("  for other machines: {}\n", url(*address));
    }
    if let Some(first) = network.first().filter(|_| terminal) {
        text += &code(&url(*first)).unwrap_or_default();
    }
    text
}

/// The QR code of a text in half blocks, with the quiet zone that readers need; `None` if the text is too long for one.
fn code(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let blocks = code.render::<Dense1x2>().quiet_zone(true).build();
    let lines = blocks.lines();
    Some(
        lines
            .map(|line| format!("{COLOURS}{line}{OWN_COLOURS}\n"))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn loopback_is_printed_alone_and_a_network_with_all_its_addresses() {
        let network = ["192.168.0.7", "fd00::7"].map(|address| address.parse().unwrap());
        for (listen, network, lines) in [
            (
                "127.0.0.1:8080",
                &[][..],
                "sluicegate is at http://127.0.0.1:8080/\n",
            ),
            (
                "[::]:80",
                &network,
                "sluicegate is at http://[::1]:80/\n  for other machines: http://192.168.0.7:80/\n  \
                 for other machines: http://[fd00::7]:80/\n",
            ),
            (
                "192.168.0.7:1",
                &network[..1],
                "sluicegate is at http://192.168.0.7:1/\n",
            ),
        ] {
            let local = listen.parse().unwrap();
            assert_eq!(announcement("http", local, network, false), lines);
        }
    }

    #[test]
    fn a_terminal_gets_a_code_with_every_module_of_the_address() {
        let network = ["192.168.0.7".parse().unwrap()];
        let text = announcement("https", "0.0.0.0:8443".parse().unwrap(), &network, true);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        let rows: Vec<Vec<bool>> = lines
            .iter()
            .flat_map(|line| {
                let blocks = line.strip_prefix(COLOURS).unwrap();
                let blocks = blocks.strip_suffix(OWN_COLOURS).unwrap();
                // Whether the upper and the lower half are dark.
                let pairs = blocks.chars().map(|block| match block {
                    ' ' => (false, false),
                    '▀' => (true, false),
                    '▄' => (false, true),
                    '█' => (true, true),
                    other => panic!("{other:?}"),
                });
                let (above, below): (Vec<bool>, Vec<bool>) = pairs.unzip();
                [above, below]
            })
            .collect();
        let url = "https://192.168.0.7:8443/";
        let code = QrCode::with_error_correction_level(url, EcLevel::L).unwrap();
        // The quiet zone is four modules wide.
        let dark = |x: usize, y: usize| rows[y][x];
        for at in 0..code.width() + 8 {
            assert!((0..4).all(|edge| !dark(edge, at) && !dark(at, edge)));
        }
        for y in 0..code.width() {
            for x in 0..code.width() {
                let wanted = code[(x, y)] == qrcode::Color::Dark;
                assert_eq!(dark(x + 4, y + 4), wanted, "{x} {y}");
            }
        }
    }
}
