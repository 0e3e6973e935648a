//! The network between simulated machines: connections as ordered pipes of bytes, over links that are slow, stall or cut.
//!
//! Whatever one machine does reaches another as an event that is due at a time of the other's clock, at least one step
//! later; so the order in which machines are stepped decides nothing. What is said over connections is not known here.

mod link;
mod stream;
mod stuck;

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use rand::RngExt;

use crate::clock::{self, Millis};
use crate::host::{self, HostId};
use crate::random::{self, Random};
use crate::trace;

pub use link::{Link, Traffic};
pub use stream::{SimListener, install};
use stuck::Stuck;
pub use stuck::{stick_connections, unstick_connections};

/// Bytes that a connection holds in one direction before its writer has to wait.
const WINDOW: usize = 1 << 20;

static NET: OnceLock<Mutex<Net>> = OnceLock::new();

/// A connection's number.
type ConnId = u64;

/// One of the two ends of a connection: 0 dialled, 1 accepted.
type Side = usize;

/// Whom to wake once the network's lock is given back: a waker may drop what it wakes, and that may own connections.
type Wakers = Vec<Waker>;

/// The whole network.
struct Net {
    random: Random,
    habits: Habits,
    links: BTreeMap<(HostId, HostId), Link>,
    conns: BTreeMap<ConnId, Conn>,
    last_conn: ConnId,
    last_event: u64,
    /// What is under way to each machine, by its number.
    inboxes: Vec<Inbox>,
    listeners: BTreeMap<(HostId, u16), Backlog>,
    stuck: Stuck,
}

/// What is under way to a machine, by when it is due and the order in which it was sent.
type Inbox = BTreeMap<(Millis, u64), Event>;

/// Connections that wait to be accepted.
#[derive(Default)]
struct Backlog {
    waiting: VecDeque<ConnId>,
    waker: Option<Waker>,
}

struct Conn {
    port: u16,
    /// Once an end is gone, its system says nothing when something arrives for it.
    mute: bool,
    ends: [End; 2],
}

struct End {
    host: HostId,
    stage: Stage,
    /// Arrived and not yet read.
    arrived: VecDeque<Bytes>,
    /// The other end has said all.
    finished: bool,
    /// This end has said all.
    shut: bool,
    /// Sent by this end and not yet read by the other.
    outstanding: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// When the last thing that this end sent is due.
    last_due: Millis,
    /// How many things this end sent, and how many of the other's came to pass here.
    sent: u64,
    came: u64,
}

/// How far one end of a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Being connected.
    Opening,
    Open,
    /// It can not be used any more.
    Broken(ErrorKind),
    /// Its process has let go of it.
    Dropped,
}

/// What reaches an end.
#[derive(Debug)]
struct Event {
    conn: ConnId,
    /// The end that it reaches.
    side: Side,
    /// How many the other end had sent before: a connection never changes their order.
    number: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    /// Somebody dials.
    Dial,
    /// The other side accepted.
    Accepted,
    /// Nobody listens.
    Refused,
    Bytes(Bytes),
    /// No more bytes will come.
    Finish,
    /// The other end is gone.
    Reset,
}

impl What {
    fn number(&self) -> u64 {
        match self {
            Self::Dial => 1,
            Self::Accepted => 2,
            Self::Refused => 3,
            Self::Bytes(bytes) => u64::from(crc32c::crc32c(bytes)) << 32 | bytes.len() as u64,
            Self::Finish => 4,
            Self::Reset => 5,
        }
    }
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            other => write!(f, "{other:?}"),
        }
    }
}

/// How the network behaves, by the seed.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// The quickest link's latency; no step may be longer.
    pub latency_min: Millis,
    /// The slowest link's.
    pub latency_max: Millis,
}

/// Makes the network of this process.
pub fn create(seed: u64, habits: Habits) {
    let net = Net {
        random: random::stream(seed, "network"),
        habits,
        links: BTreeMap::new(),
        conns: BTreeMap::new(),
        last_conn: 0,
        last_event: 0,
        inboxes: Vec::new(),
        listeners: BTreeMap::new(),
        stuck: Stuck::default(),
    };
    assert!(NET.set(Mutex::new(net)).is_ok(), "there is one network");
}

fn net() -> MutexGuard<'static, Net> {
    NET.get().expect("created before any machine runs").lock().unwrap_or_else(PoisonError::into_inner)
}

/// When something is due for a machine.
pub fn next_delivery(host: HostId) -> Option<Millis> {
    net().inboxes.get(host.0 as usize)?.first_key_value().map(|((due, _), _)| *due)
}

/// Hands a machine all that is due for it by `now`.
pub fn deliver(host: HostId, now: Millis) {
    loop {
        let wakers = {
            let mut net = net();
            let Some(event) = net.take_due(host, now) else { return };
            net.arrive(host, event)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Loses what is due by `now` for a machine that has no power.
pub fn discard(host: HostId, now: Millis) {
    let mut net = net();
    while net.take_due(host, now).is_some() {}
}

/// Changes the link from one machine to another.
pub fn change_link(from: HostId, to: HostId, change: impl FnOnce(&mut Link)) {
    let mut net = net();
    let link = net.link(from, to);
    change(link);
    let passing = link.release();
    trace::note(
        "link",
        &[from.0, to.0, passing.len() as u64],
        format_args!("{from} to {to}: {:?}, {} held", link.traffic, passing.len()),
    );
    for event in passing {
        net.transmit(from, to, event);
    }
}

/// Breaks each connection between two machines with some chance; what was under way on it is lost.
pub fn reset_connections(one: HostId, other: HostId, permille: u64) {
    let mut wakers = Wakers::new();
    {
        let mut net = net();
        for id in net.some_between(one, other, permille) {
            trace::note("reset", &[id], format_args!("connection {id} between {one} and {other}"));
            wakers.extend(net.break_both(id));
        }
    }
    wakers.into_iter().for_each(Waker::wake);
}

/// How a process leaves its connections behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Farewell {
    /// The system lives on and tells the other ends.
    Told,
    /// The machine lost its power: nobody is told before somebody asks it, when it is back.
    Silent,
    /// Nobody is ever told: what is sent on its connections goes nowhere.
    Forgotten,
}

/// The process of a machine is gone, and with it its ends and listeners.
pub fn leave(host: HostId, farewell: Farewell) {
    let mut dropped = Vec::new();
    {
        let mut net = net();
        let listening: Vec<_> = net.listeners.keys().filter(|(of, _)| *of == host).copied().collect();
        dropped.extend(listening.iter().filter_map(|key| net.listeners.remove(key)));
        let sides = |(id, conn): (&ConnId, &Conn)| {
            let own = [0, 1].map(|side| (*id, side, conn.ends[side].host == host));
            own.into_iter().filter(|(.., is_own)| *is_own)
        };
        let own: Vec<(ConnId, Side, bool)> = net.conns.iter().flat_map(sides).collect();
        for (id, side, _) in own {
            if !net.conns.contains_key(&id) || net.end(id, side).stage == Stage::Dropped {
                continue;
            }
            net.end(id, side).stage = Stage::Dropped;
            match farewell {
                Farewell::Told => net.send(id, side, What::Reset),
                Farewell::Silent => {}
                Farewell::Forgotten => net.mute(id),
            }
            net.tidy(id);
        }
        if farewell != Farewell::Told {
            net.inbox(host).clear();
        }
    }
}

impl Net {
    fn inbox(&mut self, host: HostId) -> &mut Inbox {
        let place = host.0 as usize;
        if self.inboxes.len() <= place {
            self.inboxes.resize_with(place + 1, Inbox::new);
        }
        &mut self.inboxes[place]
    }

    fn take_due(&mut self, host: HostId, now: Millis) -> Option<Event> {
        let first = self.inbox(host).first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    fn end(&mut self, id: ConnId, side: Side) -> &mut End {
        let conn = self.conns.get_mut(&id).expect("a connection is kept as long as one of its ends");
        &mut conn.ends[side]
    }

    fn mute(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.mute = true;
        }
    }

    fn link(&mut self, from: HostId, to: HostId) -> &mut Link {
        let (random, habits) = (&mut self.random, self.habits);
        self.links.entry((from, to)).or_insert_with(|| Link::new(random, habits))
    }

    /// Sends from one end to the other.
    fn send(&mut self, id: ConnId, from: Side, what: What) {
        let sender = self.end(id, from).host;
        let receiver = self.end(id, 1 - from).host;
        // What a process does after it ended itself has no effect, but its system says goodbye for it.
        if host::is_dying(sender) && !matches!(what, What::Reset | What::Refused) {
            return;
        }
        let end = self.end(id, from);
        let number = end.sent;
        end.sent += 1;
        self.transmit(sender, receiver, Event { conn: id, side: 1 - from, number, what });
    }

    fn transmit(&mut self, from: HostId, to: HostId, event: Event) {
        // The link first: what it holds was sent before what it lets through to a connection that is stuck.
        let Some(event) = self.link(from, to).hold(event) else { return };
        let Some(event) = self.stuck.pass(event) else { return };
        let (random, habits) = (&mut self.random, self.habits);
        let link = self.links.entry((from, to)).or_insert_with(|| Link::new(random, habits));
        let delay = link.delay(&mut self.random);
        let Some(conn) = self.conns.get_mut(&event.conn) else { return };
        let sender = &mut conn.ends[1 - event.side];
        sender.last_due = sender.last_due.max(clock::now() + delay);
        self.last_event += 1;
        let place = (sender.last_due, self.last_event);
        self.inbox(to).insert(place, event);
    }

    /// Lets an event happen; gives back whom to wake.
    fn arrive(&mut self, host: HostId, event: Event) -> Wakers {
        let Event { conn: id, side, number, what } = event;
        trace::note(
            "arrive",
            &[host.0, id, side as u64, what.number()],
            format_args!("{host} connection {id}.{side} {what}"),
        );
        if !self.conns.contains_key(&id) {
            return Wakers::new();
        }
        let end = self.end(id, side);
        assert!(
            number >= end.came,
            "connection {id} gave {side} what was sent as {number} after {}",
            end.came
        );
        end.came = number + 1;
        if end.stage == Stage::Dropped {
            let mute = self.conns.get(&id).is_some_and(|conn| conn.mute);
            if matches!(what, What::Bytes(_) | What::Accepted) && !mute {
                self.send(id, side, What::Reset);
            }
            return Wakers::new();
        }
        match what {
            What::Dial => return self.admit(host, id),
            What::Accepted => end.stage = Stage::Open,
            What::Refused => return self.break_end(id, side, ErrorKind::ConnectionRefused),
            What::Reset => return self.break_end(id, side, ErrorKind::ConnectionReset),
            What::Bytes(bytes) => end.arrived.push_back(bytes),
            What::Finish => end.finished = true,
        }
        end.reader.take().into_iter().collect()
    }

    /// Puts a new connection into its listener's queue.
    fn admit(&mut self, host: HostId, id: ConnId) -> Wakers {
        let port = self.conns.get(&id).map_or(0, |conn| conn.port);
        let Some(backlog) = self.listeners.get_mut(&(host, port)) else {
            self.send(id, 1, What::Refused);
            self.end(id, 1).stage = Stage::Dropped;
            self.tidy(id);
            return Wakers::new();
        };
        backlog.waiting.push_back(id);
        let waker = backlog.waker.take();
        self.end(id, 1).stage = Stage::Open;
        self.send(id, 1, What::Accepted);
        waker.into_iter().collect()
    }

    fn break_end(&mut self, id: ConnId, side: Side, kind: ErrorKind) -> Wakers {
        let end = self.end(id, side);
        if end.stage == Stage::Dropped {
            return Wakers::new();
        }
        end.stage = Stage::Broken(kind);
        end.arrived.clear();
        end.reader.take().into_iter().chain(end.writer.take()).collect()
    }

    /// Connections between two machines, each with some chance.
    fn some_between(&mut self, one: HostId, other: HostId, permille: u64) -> Vec<ConnId> {
        let joins = |conn: &Conn| {
            let hosts = [conn.ends[0].host, conn.ends[1].host];
            hosts == [one, other] || hosts == [other, one]
        };
        let mut between: Vec<ConnId> =
            self.conns.iter().filter(|(_, conn)| joins(conn)).map(|(id, _)| *id).collect();
        between.retain(|_| self.random.random_range(0..1000) < permille);
        between
    }

    /// Breaks a connection for both ends; what was under way is lost.
    fn break_both(&mut self, id: ConnId) -> Wakers {
        self.forget_events(id);
        if !self.conns.contains_key(&id) {
            return Wakers::new();
        }
        let [one, other] = [0, 1].map(|side| self.break_end(id, side, ErrorKind::ConnectionReset));
        one.into_iter().chain(other).collect()
    }

    fn forget_events(&mut self, id: ConnId) {
        for inbox in &mut self.inboxes {
            inbox.retain(|_, event| event.conn != id);
        }
        for link in self.links.values_mut() {
            link.forget(id);
        }
        self.stuck.forget(id);
    }

    /// Forgets a connection when both ends are gone. The wakers that may be left in it are those of processes that were
    /// killed: they are dropped with their runtimes, not here.
    fn tidy(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(&id) else { return };
        if conn
            .ends
            .iter()
            .all(|end| end.stage == Stage::Dropped && end.reader.is_none() && end.writer.is_none())
        {
            self.conns.remove(&id);
        }
    }
}

impl End {
    fn new(host: HostId) -> Self {
        Self {
            host,
            stage: Stage::Opening,
            arrived: VecDeque::new(),
            finished: false,
            shut: false,
            outstanding: 0,
            reader: None,
            writer: None,
            last_due: 0,
            sent: 0,
            came: 0,
        }
    }
}
