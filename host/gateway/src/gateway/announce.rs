//! Prints the gateway's URLs at start: one for each address on this machine and, if other machines may connect, one per
//! network address; and its Unix sockets.
//!
//! On a terminal a QR code of the first network URL follows, so that a phone can open it. Called once by `run` in
//! [`super`], after the sockets listen.

use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};
use sluicegate_config::{BasePath, ListenAddress, Secret, Server, machine};
use std::{
    io::{IsTerminal, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

/// Black on white regardless of the terminal's colours, which cameras read best.
const COLOURS: &str = "\x1b[38;5;16;48;5;231m";
const OWN_COLOURS: &str = "\x1b[0m";

/// Prints the URLs of a gateway that listens.
pub(super) fn announce(scheme: &str, server: &Server) {
    let mut out = std::io::stdout();
    let all = server.tcp_addresses();
    let network = all.flat_map(|local| {
        let reached = machine::addresses(local.ip());
        let reached = reached.into_iter();
        reached.map(move |address| SocketAddr::new(address, local.port()))
    });
    let network: Vec<SocketAddr> = network.collect();
    let text = announcement(
        scheme,
        &server.base_path,
        &server.listen,
        &network,
        out.is_terminal(),
    );
    // Standard output may be closed.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints name and password of the first administrator. They go nowhere else.
pub(super) fn admit_admin(password: &Secret, config: Option<&Path>) {
    let config = config.map_or_else(String::new, |file| format!(" --config {}", file.display()));
    let text = format!(
        "sluicegate: nobody could sign in yet, so there is a user now, who may do everything:\n  name: admin\n  \
         password: {}\n  This is shown once. Change it with: sluicegate user passwd admin{config}\n",
        password.expose()
    );
    // Standard error may be closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// The text to print; for a terminal with the QR code of the first address in `network`. URLs come before Unix sockets.
fn announcement(
    scheme: &str,
    base_path: &BasePath,
    listen: &[ListenAddress],
    network: &[SocketAddr],
    terminal: bool,
) -> String {
    let url = |address: &SocketAddr| format!("{scheme}://{address}{base_path}/");
    // A browser cannot open the unspecified address.
    let openable = |local: SocketAddr| {
        let here: IpAddr = match local.ip() {
            IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            other => other,
        };
        SocketAddr::new(here, local.port())
    };
    let here = listen.iter().filter_map(ListenAddress::tcp).map(openable);
    let here: Vec<SocketAddr> = here.collect();
    let sockets = listen.iter().filter(|address| address.tcp().is_none());
    let own = here.iter().map(url);
    let own = own.chain(sockets.map(ToString::to_string));
    let mut text = String::new();
    for (nth, place) in own.enumerate() {
        let words = if nth == 0 { "sluicegate is" } else { "  and" };
        text += &format!("{words} at {place}\n");
    }
    let mut told = Vec::new();
    for address in network {
        if !here.contains(address) && !told.contains(address) {
            text += &format!("  for other machines: {}\n", url(address));
            told.push(*address);
        }
    }
    if let Some(first) = network.first().filter(|_| terminal) {
        text += &code(&url(first)).unwrap_or_default();
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

    fn announced(base_path: &str, listen: &[&str], network: &[&str], terminal: bool) -> String {
        let listen: Vec<_> = listen.iter().map(|at| at.parse().unwrap()).collect();
        let network: Vec<_> = network.iter().map(|at| at.parse().unwrap()).collect();
        let scheme = if terminal { "https" } else { "http" };
        let base_path = base_path.parse().unwrap();
        announcement(scheme, &base_path, &listen, &network, terminal)
    }

    #[test]
    fn loopback_is_printed_alone_and_a_network_with_all_its_addresses() {
        for (base_path, listen, network, lines) in [
            (
                "",
                &["127.0.0.1:8080"][..],
                &[][..],
                "sluicegate is at http://127.0.0.1:8080/\n",
            ),
            (
                "",
                &["[::]:80"],
                &["192.168.0.7:80", "[fd00::7]:80"],
                "sluicegate is at http://[::1]:80/\n  for other machines: http://192.168.0.7:80/\n  \
                 for other machines: http://[fd00::7]:80/\n",
            ),
            (
                "",
                &["192.168.0.7:1"],
                &["192.168.0.7:1"],
                "sluicegate is at http://192.168.0.7:1/\n",
            ),
            (
                "/cams",
                &["unix:/run/a.sock", "127.0.0.1:80", "[::1]:81"],
                &[],
                "sluicegate is at http://127.0.0.1:80/cams/\n  and at http://[::1]:81/cams/\n  \
                 and at unix:/run/a.sock\n",
            ),
            (
                "/cams",
                &["unix:/run/a.sock"],
                &[],
                "sluicegate is at unix:/run/a.sock\n",
            ),
            (
                "",
                &["0.0.0.0:80", "[::]:80"],
                &["10.0.0.7:80", "10.0.0.7:80", "[fd00::7]:80"],
                "sluicegate is at http://127.0.0.1:80/\n  and at http://[::1]:80/\n  \
                 for other machines: http://10.0.0.7:80/\n  for other machines: http://[fd00::7]:80/\n",
            ),
        ] {
            assert_eq!(announced(base_path, listen, network, false), lines);
        }
    }

    #[test]
    fn a_terminal_gets_a_code_with_every_module_of_the_address() {
        let text = announced("", &["0.0.0.0:8443"], &["192.168.0.7:8443"], true);
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
