//! A [`UdpLink`] for the browser tests.
//!
//! `sluicegate-link GATEWAY [PORT]` relays to the gateway's UDP port at the address `GATEWAY`, from the loopback port
//! `PORT` or one that the system chooses. It prints its address. Then it takes lines on stdin, each of which changes
//! one condition, and answers each with the packets so far, as JSON, once the change is made. It ends when stdin does.
//!
//! | line | |
//! |---|---|
//! | `rate 5000000`, `rate off` | rate towards clients in bits per second |
//! | `queue 300` | capacity of the queue in front of that, in ms |
//! | `delay 25` | one-way delay in ms |
//! | `loss 0.02` | share of packets that are lost |
//! | `reorder 0.1 10` | share of packets that are held back, and for how many ms |
//! | `block on`, `block off` | whether nothing passes |
//! | `rebind` | the clients' addresses change |
//! | `count` | nothing changes |

use sluicegate_link::UdpLink;
use std::{
    env,
    error::Error,
    io::{Write, stdin, stdout},
    time::Duration,
};

const USAGE: &str = "usage: sluicegate-link GATEWAY [PORT], e.g. sluicegate-link 127.0.0.1:8080";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let gateway = arguments.next().ok_or(USAGE)?;
    let port = arguments.next().map_or(Ok(0), |port| port.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    let link = UdpLink::open(gateway.parse().map_err(|_| USAGE)?, port, 1)?;
    println!("{}", link.address());
    for line in stdin().lines() {
        let line = line?;
        let words: Vec<_> = line.split_whitespace().collect();
        change(&link, &words).map_err(|error| format!("{line:?}: {error}"))?;
        let counts = link.counts();
        let [up, down] = [counts.up, counts.down].map(|packets| {
            format!(
                "{{\"forwarded\":{},\"dropped\":{}}}",
                packets.forwarded, packets.dropped
            )
        });
        println!("{{\"up\":{up},\"down\":{down}}}");
        stdout().flush()?;
    }
    Ok(())
}

fn change(link: &UdpLink, words: &[&str]) -> Result<(), Box<dyn Error>> {
    match *words {
        ["rate", "off"] => link.set(|link| link.rate = None),
        ["rate", rate] => {
            let rate = rate.parse()?;
            link.set(|link| link.rate = Some(rate));
        }
        ["queue", ms] => {
            let queue = milliseconds(ms)?;
            link.set(|link| link.queue = queue);
        }
        ["delay", ms] => {
            let delay = milliseconds(ms)?;
            link.set(|link| link.delay = delay);
        }
        ["loss", share] => {
            let loss = share.parse()?;
            link.set(|link| link.loss = loss);
        }
        ["reorder", share, ms] => {
            let (reordered, held) = (share.parse()?, milliseconds(ms)?);
            link.set(|link| (link.reordered, link.held) = (reordered, held));
        }
        ["block", "on"] => link.set(|link| link.blocked = true),
        ["block", "off"] => link.set(|link| link.blocked = false),
        ["rebind"] => link.rebind()?,
        ["count"] => {}
        _ => return Err("no such condition".into()),
    }
    Ok(())
}

fn milliseconds(text: &str) -> Result<Duration, Box<dyn Error>> {
    Ok(Duration::try_from_secs_f64(text.parse::<f64>()? / 1000.0)?)
}
