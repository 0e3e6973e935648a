//! Streams between followers and leaders: in order within one, in any order across them, and cut at any time, with some of
//! what was under way arriving late.

use std::collections::BTreeMap;

use rand::RngExt;
use vltava_model::{LeaderEpoch, NodeId, Offset};
use vltava_partition::{
    Event, FollowerProgress, FollowerSubscribe, FollowerSuspended, LeaderData, ReplicaIdentity, StreamNumber,
    SubscribeReply, Token,
};

use crate::disk::Record;
use crate::oracle::Checked;
use crate::world::{Happening, MS, Micros, Process, World};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StreamId(u64);

/// What goes over a stream.
#[derive(Clone, Debug)]
pub enum Message {
    Subscribe(FollowerSubscribe),
    Suspended(FollowerSuspended),
    Progress(FollowerProgress),
    Reply(SubscribeReply),
    Data { data: LeaderData, records: Vec<Record> },
    Watermark { high_watermark: Offset, log_start: Offset },
}

impl Message {
    fn is_from_follower(&self) -> bool {
        matches!(self, Self::Subscribe(_) | Self::Suspended(_) | Self::Progress(_))
    }
}

#[derive(Debug)]
struct Stream {
    follower: Process,
    leader: NodeId,
    leader_process: Option<Process>,
    leader_epoch: LeaderEpoch,
    subscription: Option<Token>,
    /// When the last message of each direction arrives.
    to_leader: Micros,
    to_follower: Micros,
    /// What would arrive later does not, or should not.
    cut: Option<Micros>,
    /// One of its ends let go of it in order: all that the follower said arrives, as long as it lives.
    is_closed: bool,
    /// What the follower says arrives no sooner.
    stuck_until: Micros,
}

/// All streams there ever were, and who cannot reach whom.
#[derive(Debug, Default)]
pub struct Network {
    streams: BTreeMap<StreamId, Stream>,
    /// (from, to).
    pub blocked: Vec<(NodeId, NodeId)>,
    /// How long what goes from one to the other may take, where that is long.
    pub slow: BTreeMap<(NodeId, NodeId), Micros>,
}

impl World {
    /// A follower's new stream takes the place of its last one.
    pub fn open_stream(
        &mut self,
        follower: Process,
        leader: NodeId,
        leader_epoch: LeaderEpoch,
        first: Message,
    ) {
        if let Some(old) = self.nodes[&follower.node].stream {
            self.cut(old, false);
        }
        let id = StreamId(self.number());
        let stream = Stream {
            follower,
            leader,
            leader_process: self.nodes[&leader].process(),
            leader_epoch,
            subscription: None,
            to_leader: self.now,
            to_follower: self.now,
            cut: None,
            is_closed: false,
            stuck_until: 0,
        };
        self.network.streams.insert(id, stream);
        self.nodes.get_mut(&follower.node).expect("known").stream = Some(id);
        self.send(id, first);
    }

    /// Sends on a stream. A message that cannot get through breaks it.
    pub fn send(&mut self, id: StreamId, message: Message) {
        let stream = &self.network.streams[&id];
        let (from, to) = match message.is_from_follower() {
            true => (stream.follower.node, stream.leader),
            false => (stream.leader, stream.follower.node),
        };
        let dead =
            stream.leader_process.is_none() || stream.leader_process != self.nodes[&stream.leader].process();
        let blocked = self.network.blocked.contains(&(from, to));
        let lost = self.faults.are_on && self.rng.random_bool(self.faults.loss / 20.0);
        if dead || blocked || lost {
            self.cut(id, true);
            return;
        }
        let slow = self.faults.are_on && self.rng.random_bool(0.02);
        let most = if slow { 150 * MS } else { 4 * MS };
        let at = self.now + self.delay(most.max(self.network.slow.get(&(from, to)).copied().unwrap_or(0)));
        let stream = self.network.streams.get_mut(&id).expect("streams are never forgotten");
        let last = if message.is_from_follower() { &mut stream.to_leader } else { &mut stream.to_follower };
        *last = at.max(*last).max(if message.is_from_follower() { stream.stuck_until } else { 0 });
        let at = *last;
        if self.faults.are_on && self.rng.random_bool(self.faults.duplication) {
            self.later(300 * MS, Happening::Message { stream: id, message: message.clone() });
        }
        self.at(at, Happening::Message { stream: id, message });
    }

    /// Breaks a stream; both ends hear of it some time, unless the follower did it itself.
    pub fn cut(&mut self, id: StreamId, tell_follower: bool) {
        let cut_at = self.now + self.delay(30 * MS);
        let stream = self.network.streams.get_mut(&id).expect("streams are never forgotten");
        if stream.cut.is_some() {
            return;
        }
        stream.cut = Some(cut_at);
        stream.is_closed = !tell_follower;
        let (follower, leader_epoch) = (stream.follower, stream.leader_epoch);
        let gone = stream.leader_process.zip(stream.subscription);
        if tell_follower {
            let event = Event::StreamLost { leader_epoch };
            self.later(100 * MS, Happening::StreamLost { process: follower, event });
        }
        if let Some((process, subscription)) = gone {
            let follower = follower.node;
            self.later(200 * MS, Happening::FollowerGone { process, follower, subscription });
        }
    }

    /// What the follower says over a stream takes until then, whatever becomes of the stream.
    pub fn hold(&mut self, follower: NodeId, leader: NodeId, until: Micros) {
        let streams = self.network.streams.values_mut().filter(|stream| stream.cut.is_none());
        for stream in streams.filter(|stream| (stream.follower.node, stream.leader) == (follower, leader)) {
            stream.stuck_until = until;
        }
    }

    /// The leader lets go of a follower: what that says may have been on the way.
    pub fn let_go(&mut self, id: StreamId) {
        self.cut(id, true);
        self.network.streams.get_mut(&id).expect("streams are never forgotten").is_closed = true;
    }

    /// All streams that are open now.
    pub fn open_streams(&self) -> Vec<StreamId> {
        let open = self.network.streams.iter().filter(|(_, stream)| stream.cut.is_none());
        open.map(|(id, _)| *id).collect()
    }

    pub fn stream_ends(&self, id: StreamId) -> (NodeId, NodeId) {
        let stream = &self.network.streams[&id];
        (stream.follower.node, stream.leader)
    }

    /// The leader took this stream's subscription under a name.
    pub fn subscribed(&mut self, id: StreamId, subscription: Token) {
        let stream = self.network.streams.get_mut(&id).expect("streams are never forgotten");
        stream.subscription = Some(subscription);
        // A stream that broke before could not tell by this name.
        if let (Some(_), Some(process)) = (stream.cut, stream.leader_process) {
            let follower = stream.follower.node;
            self.later(200 * MS, Happening::FollowerGone { process, follower, subscription });
        }
    }

    pub fn message(&mut self, id: StreamId, message: Message) -> Checked {
        let stream = &self.network.streams[&id];
        let receiver = if message.is_from_follower() { stream.leader_process } else { Some(stream.follower) };
        let Some(receiver) = receiver.filter(|receiver| self.lives(*receiver)) else {
            self.cut(id, true);
            return Ok(());
        };
        let was_said = stream.is_closed && message.is_from_follower() && self.lives(stream.follower);
        let is_late = stream.cut.is_some_and(|cut| cut < self.now) && !was_said;
        if is_late && !(self.faults.are_on && self.rng.random_bool(self.faults.lateness)) {
            return Ok(());
        }
        let stream = &self.network.streams[&id];
        let leader_epoch = stream.leader_epoch;
        let follower = stream.follower;
        match message {
            Message::Subscribe(mut request) => {
                request.token = Token::new(self.number());
                request.stream = StreamNumber::new(id.0);
                self.nodes.get_mut(&receiver.node).expect("known").asked.insert(request.token, id);
                self.step(receiver.node, Event::FollowerSubscribe(request), Vec::new())
            }
            Message::Suspended(word) => self.step(receiver.node, Event::FollowerSuspended(word), Vec::new()),
            Message::Progress(report) => {
                self.step(receiver.node, Event::FollowerProgress(report), Vec::new())
            }
            Message::Data { data, records } => self.step(receiver.node, Event::LeaderData(data), records),
            Message::Watermark { high_watermark, log_start } => {
                let event = Event::LeaderWatermark { leader_epoch, high_watermark, log_start };
                self.step(receiver.node, event, Vec::new())
            }
            Message::Reply(reply) => match reply {
                SubscribeReply::Accepted { high_watermark, log_start, .. } => {
                    let event = Event::LeaderWatermark { leader_epoch, high_watermark, log_start };
                    self.step(receiver.node, event, Vec::new())
                }
                SubscribeReply::Diverging { epoch, end } => {
                    self.step(receiver.node, Event::LeaderDiverging { leader_epoch, epoch, end }, Vec::new())
                }
                SubscribeReply::StartAt(log_start) => {
                    self.step(receiver.node, Event::LeaderStartAt { leader_epoch, log_start }, Vec::new())
                }
                SubscribeReply::Refused(_) => {
                    let event = Event::StreamLost { leader_epoch };
                    let at = self.now + 20 * MS;
                    self.at(at, Happening::StreamLost { process: follower, event });
                    Ok(())
                }
            },
        }
    }

    /// A follower's report goes over the stream that it opened last.
    pub fn report(
        &mut self,
        from: ReplicaIdentity,
        leader_epoch: LeaderEpoch,
        log_end: Offset,
        durable_end: Offset,
    ) {
        if let Some(id) = self.nodes[&from.node].stream
            && self.network.streams[&id].leader_epoch == leader_epoch
        {
            let report = FollowerProgress { follower: from, leader_epoch, log_end, durable_end };
            self.send(id, Message::Progress(report));
        }
    }
}
