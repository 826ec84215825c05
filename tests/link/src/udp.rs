//! A link in real time: a UDP relay between clients and a gateway, whose conditions tests change while it runs.

use crate::random::Random;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap},
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{net::UdpSocket, sync::Notify, task::AbortHandle, time::timeout_at};

/// Largest UDP packet in bytes.
const MAX_PACKET: usize = 65_535;
/// What IPv4 and UDP add to a packet, which counts for the rate, in bytes.
const HEADERS: usize = 28;
/// Packets that are due within this time are sent, since a timer is precise to a millisecond.
const EARLY: Duration = Duration::from_micros(500);
/// Buffers of the sockets in bytes, as far as the system permits, so that only the link itself loses packets.
const SOCKET_BUFFER: usize = 4 << 20;

/// Conditions of a link. The default is a link without limits, delay and loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    /// Rate towards the clients in bits per second, which they share. Headers of IP and UDP count.
    pub rate: Option<u64>,
    /// Capacity of the queue in front of that, as time at the rate. What finds it full is dropped.
    pub queue: Duration,
    /// One-way delay, in each direction.
    pub delay: Duration,
    /// Share of packets that are lost, in each direction.
    pub loss: f64,
    /// Share of packets that are held back, in each direction, so that later ones overtake them.
    pub reordered: f64,
    /// How long these are held back.
    pub held: Duration,
    /// Nothing passes.
    pub blocked: bool,
}

impl Default for Conditions {
    fn default() -> Conditions {
        Conditions {
            rate: None,
            queue: Duration::from_millis(300),
            delay: Duration::ZERO,
            loss: 0.0,
            reordered: 0.0,
            held: Duration::from_millis(10),
            blocked: false,
        }
    }
}

/// Packets of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packets {
    pub forwarded: u64,
    pub dropped: u64,
}

/// Packets of both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Towards the gateway.
    pub up: Packets,
    /// Towards the clients.
    pub down: Packets,
}

/// A UDP relay on a port of its own. Each client has a socket of its own towards the gateway, as behind a NAT.
///
/// It ends when this is dropped. Needs a tokio runtime with I/O and time.
pub struct UdpLink {
    address: SocketAddr,
    relay: Arc<Relay>,
    _tasks: [Task; 2],
}

/// A task that ends when this is dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Relay {
    gateway: SocketAddr,
    /// Where the clients send to.
    inside: UdpSocket,
    state: Mutex<State>,
    /// A packet was put first.
    earlier: Notify,
}

struct State {
    conditions: Conditions,
    /// Chance in each direction, so that packets of one do not change the fate of the other's.
    chance: [Random; 2],
    /// When the packets in the queue have left it.
    free: Instant,
    under_way: BinaryHeap<UnderWay>,
    /// Number of packets so far, to keep their order.
    number: u64,
    clients: HashMap<SocketAddr, Client>,
    counts: Counts,
}

/// A client's socket towards the gateway.
struct Client {
    outside: Arc<UdpSocket>,
    _receives: Task,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// A packet until it is due.
struct UnderWay {
    due: Instant,
    number: u64,
    direction: Direction,
    client: SocketAddr,
    packet: Box<[u8]>,
}

/// A packet that is due, with the socket towards the gateway if it goes there.
struct Due {
    packet: UnderWay,
    outside: Option<Arc<UdpSocket>>,
}

impl UdpLink {
    /// A link to the gateway's UDP port at this address, on this loopback port; 0 lets the system choose one. With the
    /// same seed, the packets of the same numbers are lost and held back.
    ///
    /// # Errors
    /// Those of the system.
    pub fn open(gateway: SocketAddr, port: u16, seed: u64) -> io::Result<UdpLink> {
        let inside = UdpSocket::from_std(socket(port)?.into())?;
        let address = inside.local_addr()?;
        let relay = Arc::new(Relay {
            gateway,
            inside,
            state: Mutex::new(State {
                conditions: Conditions::default(),
                chance: [Random::new(seed), Random::new(!seed)],
                free: Instant::now(),
                under_way: BinaryHeap::new(),
                number: 0,
                clients: HashMap::new(),
                counts: Counts::default(),
            }),
            earlier: Notify::new(),
        });
        let receives = tokio::spawn(from_clients(relay.clone()));
        let delivers = tokio::spawn(deliver(relay.clone()));
        Ok(UdpLink {
            address,
            relay,
            _tasks: [receives, delivers].map(|task| Task(task.abort_handle())),
        })
    }

    /// Where clients reach the gateway through this link.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn conditions(&self) -> Conditions {
        self.relay.state.lock().conditions
    }

    /// Changes the conditions, for packets that arrive from now on. What is under way keeps its time, but does not
    /// pass while the link is blocked.
    pub fn set(&self, change: impl FnOnce(&mut Conditions)) {
        change(&mut self.relay.state.lock().conditions);
    }

    /// Gives each client a new socket, so that the gateway sees it at another address, as after a change of network.
    /// What the gateway sends to the former address is lost.
    ///
    /// # Errors
    /// Those of the system.
    pub fn rebind(&self) -> io::Result<()> {
        for (address, client) in &mut self.relay.state.lock().clients {
            *client = self.relay.client(*address)?;
        }
        Ok(())
    }

    pub fn counts(&self) -> Counts {
        self.relay.state.lock().counts
    }
}

impl Drop for UdpLink {
    fn drop(&mut self) {
        // The tasks of clients refer to the state that holds them.
        self.relay.state.lock().clients.clear();
    }
}

/// A UDP socket on this loopback port; 0 lets the system choose one.
fn socket(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    Ok(socket)
}

async fn from_clients(relay: Arc<Relay>) {
    let mut buffer = vec![0; MAX_PACKET];
    loop {
        let Ok((length, client)) = relay.inside.recv_from(&mut buffer).await else {
            continue;
        };
        relay.take(Direction::Up, client, &buffer[..length]);
    }
}

async fn from_gateway(relay: Arc<Relay>, outside: Arc<UdpSocket>, client: SocketAddr) {
    let mut buffer = vec![0; MAX_PACKET];
    loop {
        // The system reports here that nobody listens at the gateway's port.
        let Ok(length) = outside.recv(&mut buffer).await else {
            continue;
        };
        relay.take(Direction::Down, client, &buffer[..length]);
    }
}

/// Sends each packet when it is due.
async fn deliver(relay: Arc<Relay>) {
    loop {
        let (due, next) = relay.state.lock().take_due(Instant::now());
        for Due { packet, outside } in due {
            // A socket whose buffer is full, or that nobody listens to, loses it.
            let _ = match outside {
                Some(outside) => outside.send(&packet.packet).await,
                None => relay.inside.send_to(&packet.packet, packet.client).await,
            };
        }
        match next {
            Some(next) => {
                let _ = timeout_at(next.into(), relay.earlier.notified()).await;
            }
            None => relay.earlier.notified().await,
        }
    }
}

impl Relay {
    /// Takes a packet of this client.
    fn take(self: &Arc<Relay>, direction: Direction, client: SocketAddr, packet: &[u8]) {
        let mut state = self.state.lock();
        if direction == Direction::Up && !state.clients.contains_key(&client) {
            let Ok(new) = self.client(client) else {
                state.packets(direction).dropped += 1;
                return;
            };
            state.clients.insert(client, new);
        }
        let Some(due) = state.pass(direction, packet.len(), Instant::now()) else {
            state.packets(direction).dropped += 1;
            return;
        };
        let number = state.number;
        state.number += 1;
        state.under_way.push(UnderWay {
            due,
            number,
            direction,
            client,
            packet: packet.into(),
        });
        if state
            .under_way
            .peek()
            .is_some_and(|first| first.number == number)
        {
            self.earlier.notify_one();
        }
    }

    /// A new socket towards the gateway for this client.
    fn client(self: &Arc<Relay>, client: SocketAddr) -> io::Result<Client> {
        let outside = socket(0)?;
        outside.connect(&self.gateway.into())?;
        let outside = Arc::new(UdpSocket::from_std(outside.into())?);
        let receives = tokio::spawn(from_gateway(self.clone(), outside.clone(), client));
        Ok(Client {
            outside,
            _receives: Task(receives.abort_handle()),
        })
    }
}

impl State {
    fn packets(&mut self, direction: Direction) -> &mut Packets {
        match direction {
            Direction::Up => &mut self.counts.up,
            Direction::Down => &mut self.counts.down,
        }
    }

    /// When a packet of this length that arrives now is delivered; `None` if it is dropped.
    fn pass(&mut self, direction: Direction, length: usize, now: Instant) -> Option<Instant> {
        let conditions = self.conditions;
        // Each packet has its numbers, so that the fate of later ones does not depend on the conditions until then.
        let chance = &mut self.chance[usize::from(direction == Direction::Down)];
        let (lost, held) = (chance.next(), chance.next());
        if conditions.blocked {
            return None;
        }
        let mut due = now;
        if direction == Direction::Down
            && let Some(rate) = conditions.rate
        {
            let start = self.free.max(now);
            if start - now > conditions.queue {
                return None;
            }
            let bits = (length + HEADERS) as f64 * 8.0;
            self.free = start + Duration::from_secs_f64(bits / rate.max(1) as f64);
            due = self.free;
        }
        if lost < conditions.loss {
            return None;
        }
        due += conditions.delay;
        if held < conditions.reordered {
            due += conditions.held;
        }
        Some(due)
    }

    /// The packets that are due now, and when the next one is.
    fn take_due(&mut self, now: Instant) -> (Vec<Due>, Option<Instant>) {
        let mut taken = Vec::new();
        while let Some(first) = self.under_way.peek() {
            if first.due > now + EARLY {
                return (taken, Some(first.due));
            }
            let Some(first) = self.under_way.pop() else {
                break;
            };
            if self.conditions.blocked {
                self.packets(first.direction).dropped += 1;
                continue;
            }
            self.packets(first.direction).forwarded += 1;
            let outside = match first.direction {
                Direction::Up => self
                    .clients
                    .get(&first.client)
                    .map(|client| client.outside.clone()),
                Direction::Down => None,
            };
            taken.push(Due {
                packet: first,
                outside,
            });
        }
        (taken, None)
    }
}

impl Ord for UnderWay {
    /// The first one is the greatest.
    fn cmp(&self, other: &UnderWay) -> Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

impl PartialOrd for UnderWay {
    fn partial_cmp(&self, other: &UnderWay) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for UnderWay {
    fn eq(&self, other: &UnderWay) -> bool {
        self.number == other.number
    }
}

impl Eq for UnderWay {}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{sleep, timeout};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A link between a client and a gateway, which are sockets.
    struct Ends {
        link: UdpLink,
        client: UdpSocket,
        gateway: UdpSocket,
        /// Where the gateway sees the client.
        seen: SocketAddr,
    }

    impl Ends {
        async fn new(change: impl FnOnce(&mut Conditions)) -> Ends {
            let end = || UdpSocket::from_std(socket(0).unwrap().into()).unwrap();
            let (client, gateway) = (end(), end());
            let link = UdpLink::open(gateway.local_addr().unwrap(), 0, 7).unwrap();
            client.connect(link.address()).await.unwrap();
            // So that the gateway has somebody to answer.
            client.send(b"hello").await.unwrap();
            let mut ends = Ends {
                seen: link.address(),
                link,
                client,
                gateway,
            };
            ends.seen = ends.at_gateway().await.1;
            ends.link.set(change);
            ends
        }

        /// Sends to the client, from the gateway.
        async fn answer(&self, packet: &[u8]) {
            self.gateway.send_to(packet, self.seen).await.unwrap();
        }

        async fn at_gateway(&self) -> (u16, SocketAddr) {
            let mut buffer = [0; 2000];
            let received = timeout(PATIENCE, self.gateway.recv_from(&mut buffer)).await;
            let (_, from) = received.unwrap().unwrap();
            (u16::from_be_bytes([buffer[0], buffer[1]]), from)
        }

        async fn at_client(&self) -> u16 {
            let mut buffer = [0; 2000];
            timeout(PATIENCE, self.client.recv(&mut buffer))
                .await
                .unwrap()
                .unwrap();
            u16::from_be_bytes([buffer[0], buffer[1]])
        }

        /// Waits until the link has decided about so many packets of a direction.
        async fn decided(&self, packets: impl Fn(Counts) -> Packets, count: u64) -> Packets {
            let decided = async {
                loop {
                    let packets = packets(self.link.counts());
                    if packets.forwarded + packets.dropped == count {
                        return packets;
                    }
                    sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(PATIENCE, decided).await.unwrap()
        }
    }

    /// A packet with this number that takes as much of the rate as so many bytes.
    fn packet(number: u16, bytes: usize) -> Vec<u8> {
        let mut packet = vec![0; bytes - HEADERS];
        packet[..2].copy_from_slice(&number.to_be_bytes());
        packet
    }

    #[tokio::test]
    async fn the_rate_towards_the_client_is_kept() {
        let ends = Ends::new(|link| link.rate = Some(20_000_000)).await;
        // 0.48 ms for each.
        for number in 0..500 {
            ends.answer(&packet(number, 1200)).await;
        }
        assert_eq!(ends.at_client().await, 0);
        let began = Instant::now();
        for number in 1..500 {
            assert_eq!(ends.at_client().await, number);
        }
        let took = began.elapsed();
        assert!(took > Duration::from_millis(230), "{took:?}");
        assert!(took < Duration::from_millis(480), "{took:?}");
    }

    #[tokio::test]
    async fn what_finds_the_queue_full_is_dropped() {
        let ends = Ends::new(|link| {
            link.rate = Some(1_000_000);
            link.queue = Duration::from_millis(95);
        })
        .await;
        // 10 ms for each.
        for number in 0..50 {
            ends.answer(&packet(number, 1250)).await;
        }
        let down = ends.decided(|counts| counts.down, 50).await;
        assert!((10..25).contains(&down.forwarded), "{down:?}");
        for number in 0..10 {
            assert_eq!(ends.at_client().await, number);
        }
    }

    #[tokio::test]
    async fn the_delay_holds_in_each_direction() {
        let delay = Duration::from_millis(25);
        let ends = Ends::new(|link| link.delay = delay).await;
        let mut fastest = PATIENCE;
        for number in 0..10 {
            let began = Instant::now();
            ends.client.send(&packet(number, 100)).await.unwrap();
            assert_eq!(ends.at_gateway().await.0, number);
            let up = began.elapsed();
            ends.answer(&packet(number, 100)).await;
            assert_eq!(ends.at_client().await, number);
            let (down, least) = (began.elapsed() - up, delay - EARLY);
            assert!(up >= least && down >= least, "{up:?} {down:?}");
            fastest = fastest.min(up + down);
        }
        assert!(
            fastest < 2 * delay + Duration::from_millis(10),
            "{fastest:?}"
        );
    }

    #[tokio::test]
    async fn the_same_packets_are_lost_with_the_same_seed() {
        let lost = async || {
            let ends = Ends::new(|link| link.loss = 0.3).await;
            for number in 0..200 {
                ends.client.send(&packet(number, 100)).await.unwrap();
            }
            // And the first one.
            let up = ends.decided(|counts| counts.up, 201).await;
            let mut arrived = Vec::new();
            for _ in 1..up.forwarded {
                arrived.push(ends.at_gateway().await.0);
            }
            assert!((40..80).contains(&up.dropped), "{up:?}");
            arrived
        };
        assert_eq!(lost().await, lost().await);
    }

    #[tokio::test]
    async fn packets_that_are_held_back_are_overtaken() {
        let ends = Ends::new(|link| {
            link.reordered = 0.2;
            link.held = Duration::from_millis(100);
        })
        .await;
        for number in 0..100 {
            ends.answer(&packet(number, 100)).await;
        }
        let mut arrived = Vec::new();
        for _ in 0..100 {
            arrived.push(ends.at_client().await);
        }
        let turns = arrived.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert!(turns > 0, "{arrived:?}");
        arrived.sort_unstable();
        assert!(arrived.into_iter().eq(0..100));
    }

    #[tokio::test]
    async fn nothing_passes_while_it_is_blocked() {
        let ends = Ends::new(|link| link.delay = Duration::from_millis(50)).await;
        // One is under way, the other comes when it is blocked.
        ends.client.send(&packet(1, 100)).await.unwrap();
        let taken = async {
            while ends.link.relay.state.lock().under_way.is_empty() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, taken).await.unwrap();
        ends.link.set(|link| link.blocked = true);
        ends.client.send(&packet(2, 100)).await.unwrap();
        let up = ends.decided(|counts| counts.up, 3).await;
        assert_eq!(up.dropped, 2);
        ends.link.set(|link| link.blocked = false);
        ends.client.send(&packet(3, 100)).await.unwrap();
        assert_eq!(ends.at_gateway().await.0, 3);
    }

    #[tokio::test]
    async fn a_client_has_another_address_after_rebinding() {
        let mut ends = Ends::new(|_| ()).await;
        ends.link.rebind().unwrap();
        ends.client.send(&packet(1, 100)).await.unwrap();
        let (number, from) = ends.at_gateway().await;
        assert_eq!(number, 1);
        assert_ne!(from, ends.seen);
        // To the former address, which is lost.
        ends.answer(&packet(2, 100)).await;
        ends.seen = from;
        ends.answer(&packet(3, 100)).await;
        assert_eq!(ends.at_client().await, 3);
    }
}
