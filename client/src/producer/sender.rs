//! Sends one partition's batches, in order, over a stream of its own to the partition's leader.
//!
//! A failure that may pass brings all batches under way back, in order, under the sequence numbers that they had, so the
//! broker recognises those that it has. When one must be given up, those behind it that may have been written are given
//! up with it (their outcome is unknown, and sending them under new numbers could write them twice); those that were
//! refused for the gap it left go on under a new producer id.
//!
//! It sends to one topic by id. When that topic is gone, everything that waits fails and the sender ends.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use vltava_model::batch::{self, ProducerStamp};
use vltava_model::{
    ErrorClass, ErrorCode, LeaderEpoch, NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence,
};
use vltava_proto::v1::{self, InitProducerRequest, ProduceRequest, ProduceResponse, produce_request};

use super::accumulator::{Accumulator, Next, Ready};
use super::options::{Acks, ProducerOptions};
use crate::backoff::Backoff;
use crate::cluster::Client;
use crate::doubt::{LATE, Silence, WITNESSES};
use crate::error::{Certainty, ClientError};
use crate::pin::Pin;

/// A batch on its way.
struct Batch {
    ready: Box<Ready>,
    /// Its bytes, once they are made.
    encoded: Option<batch::Batch>,
    /// Whether its bytes bear the numbers under which it is recognised.
    is_numbered: bool,
    /// By what the answer to the last attempt names it.
    correlation: u64,
    /// Whether an attempt may have written it: it was handed to a connection, and no answer said that this did nothing.
    sent: bool,
    /// Whether that was so before the attempt that is under way.
    again: bool,
}

impl Batch {
    fn new(ready: Box<Ready>) -> Self {
        Self { ready, encoded: None, is_numbered: false, correlation: 0, sent: false, again: false }
    }
}

/// Why what is under way has to be sent anew, or given up.
enum Trouble {
    /// The leader's answer to the oldest batch.
    Refused(ClientError),
    /// There is no connection, or it is of no use any more.
    Broken(ClientError),
}

impl Trouble {
    fn error(&self) -> &ClientError {
        match self {
            Self::Refused(error) | Self::Broken(error) => error,
        }
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        Self::Broken(error)
    }
}

impl From<tonic::Status> for Trouble {
    fn from(status: tonic::Status) -> Self {
        Self::Broken(status.into())
    }
}

/// Under which numbers batches are sent.
#[derive(Default)]
struct Identity {
    id: Option<ProducerId>,
    next: Sequence,
}

struct Sender {
    client: Client,
    options: Arc<ProducerOptions>,
    pin: Pin,
    partition: PartitionIndex,
    accumulator: Arc<Accumulator>,
    identity: Identity,
    /// To be sent, oldest first.
    queue: VecDeque<Batch>,
    /// Sent on the current stream, oldest first.
    under_way: VecDeque<Batch>,
    correlation: u64,
}

/// A stream to a leader.
struct Connection {
    out: mpsc::Sender<ProduceRequest>,
    answers: Streaming<ProduceResponse>,
    node: NodeId,
    epoch: LeaderEpoch,
}

pub(super) async fn run(
    client: Client,
    options: Arc<ProducerOptions>,
    pin: Pin,
    partition: PartitionIndex,
    accumulator: Arc<Accumulator>,
) {
    let mut backoff = Backoff::new(options.retry_backoff, std::time::Duration::from_secs(1));
    let mut sender = Sender {
        client,
        options,
        pin,
        partition,
        accumulator,
        identity: Identity::default(),
        queue: VecDeque::new(),
        under_way: VecDeque::new(),
        correlation: 0,
    };
    while sender.wait_for_work().await {
        match sender.connect().await {
            Ok(connection) => {
                let trouble = match sender.stream(connection, &mut backoff).await {
                    Ok(()) => return,
                    Err(trouble) => trouble,
                };
                let error = trouble.error();
                tracing::debug!(topic = sender.pin.name(), %partition, %error, "sending again");
                sender.bring_back(&trouble);
            }
            Err(error) => sender.bring_back(&error.into()),
        }
        sender.expire();
        backoff.wait().await;
        sender.look_around().await;
    }
}

impl Sender {
    /// Waits until there is something to send; false when nothing will come any more.
    async fn wait_for_work(&mut self) -> bool {
        while self.queue.is_empty() {
            match self.accumulator.next() {
                Next::Batch(ready) => self.queue.push_back(Batch::new(ready)),
                Next::Closed => return false,
                Next::Wait(until) => wait(&self.accumulator, until).await,
            }
        }
        true
    }

    /// Asks for the leader anew. Without an answer the old metadata does; the next attempt asks again.
    async fn look_around(&mut self) {
        if let Err(gone) = self.client.look_after(&mut self.pin).await {
            self.give_up_all(&gone);
        }
    }

    /// Nothing that waits can be written any more, nor can anything that comes.
    fn give_up_all(&mut self, gone: &ClientError) {
        self.accumulator.close();
        let message = format!("the record was not acknowledged before {}", gone.message());
        let error = ClientError::new(gone.code(), message);
        while let Some(batch) = self.queue.pop_front() {
            self.fail(batch, &error);
        }
        while let Next::Batch(ready) = self.accumulator.next() {
            self.fail(Batch::new(ready), &error);
        }
    }

    /// A batch will not be tried again.
    fn fail(&self, batch: Batch, error: &ClientError) {
        let certainty = if batch.sent { Certainty::Unknown } else { Certainty::NotDone };
        batch.ready.fail(&error.clone().with_certainty(certainty));
        self.accumulator.settled();
    }

    async fn connect(&mut self) -> Result<Connection, ClientError> {
        let mut leader = self.client.leader(&self.pin, self.partition)?;
        let (leads, limit) = ((leader.node, leader.epoch), self.options.request_timeout);
        if self.options.idempotence && self.identity.id.is_none() {
            let mut client = leader.client.clone();
            let asking = client.init_producer(InitProducerRequest {});
            let answer = self.client.answered(&mut self.pin, self.partition, leads, limit, asking).await?;
            let answer = answer.into_inner();
            self.identity = Identity { id: Some(ProducerId::new(answer.producer_id)), next: Sequence::ZERO };
        }
        let (out, requests) = mpsc::channel(self.options.max_in_flight.max(1));
        let opening = leader.client.produce(ReceiverStream::new(requests));
        let answers = self.client.answered(&mut self.pin, self.partition, leads, limit, opening).await?;
        let answers = answers.into_inner();
        Ok(Connection { out, answers, node: leader.node, epoch: leader.epoch })
    }

    /// Sends and takes answers until something fails; `Ok` when nothing will come any more.
    async fn stream(&mut self, mut connection: Connection, backoff: &mut Backoff) -> Result<(), Trouble> {
        let mut silence = Silence::begins(Instant::now(), LATE);
        loop {
            let mut wake = None;
            let mut closed = false;
            while self.under_way.len() < self.options.max_in_flight.max(1) {
                if self.queue.is_empty() {
                    match self.accumulator.next() {
                        Next::Batch(ready) => self.queue.push_back(Batch::new(ready)),
                        Next::Wait(until) => {
                            wake = until;
                            break;
                        }
                        Next::Closed => {
                            closed = true;
                            break;
                        }
                    }
                }
                self.send_front(&connection)?;
            }
            if closed && self.under_way.is_empty() {
                return Ok(());
            }
            let room = self.under_way.len() < self.options.max_in_flight.max(1);
            if self.under_way.is_empty() {
                silence.broken(Instant::now());
            }
            tokio::select! {
                answer = connection.answers.message(), if !self.under_way.is_empty() => {
                    let answer = answer?.ok_or_else(|| ClientError::new(ErrorCode::NetworkException, "the leader closed the stream"))?;
                    self.take(answer)?;
                    backoff.reset();
                    silence.broken(Instant::now());
                }
                () = wait(&self.accumulator, wake), if room && !closed => {}
                () = tokio::time::sleep_until(silence.ask_at()), if !self.under_way.is_empty() => {
                    if silence.lasts(Instant::now()) > self.options.request_timeout {
                        return Err(ClientError::new(ErrorCode::RequestTimedOut, "the leader does not answer").into());
                    }
                    let leads = (connection.node, connection.epoch);
                    self.client.still_leads(&mut self.pin, self.partition, leads, WITNESSES).await?;
                    silence.asked(Instant::now());
                }
            }
        }
    }

    fn send_front(&mut self, connection: &Connection) -> Result<(), ClientError> {
        let Some(mut batch) = self.queue.pop_front() else { return Ok(()) };
        let bytes = self.encode(&mut batch);
        self.correlation += 1;
        let request = ProduceRequest {
            correlation_id: self.correlation,
            topic_id: self.pin.wire_id(),
            topic: self.pin.name().to_owned(),
            partition: self.partition.get(),
            acks: match self.options.acks {
                Acks::All => v1::Acks::All,
                Acks::Leader => v1::Acks::Leader,
                Acks::None => v1::Acks::None,
            }
            .into(),
            timeout_ms: u32::try_from(self.options.request_timeout.as_millis()).unwrap_or(u32::MAX),
            payload: Some(produce_request::Payload::Batch(bytes)),
            leader_epoch: Some(connection.epoch.get()),
        };
        batch.correlation = self.correlation;
        batch.again = batch.sent;
        batch.sent = true;
        self.under_way.push_back(batch);
        connection
            .out
            .try_send(request)
            .map_err(|_| ClientError::new(ErrorCode::NetworkException, "the connection takes no more"))
    }

    /// Gives a batch its numbers and its bytes, unless it has them.
    fn encode(&mut self, batch: &mut Batch) -> bytes::Bytes {
        if let Some(encoded) = batch.encoded.as_ref().filter(|_| batch.is_numbered) {
            return encoded.bytes().clone();
        }
        let builder = &mut batch.ready.builder;
        let count = batch.encoded.as_ref().map_or(builder.record_count(), |made| made.header().record_count);
        let stamp = self.identity.id.map(|id| {
            let base_sequence = self.identity.next;
            self.identity.next = base_sequence.advance(count);
            ProducerStamp { id, epoch: ProducerEpoch::ZERO, base_sequence }
        });
        // The records are not kept beside their bytes, which can be numbered anew.
        let encoded = match batch.encoded.take() {
            Some(encoded) => match stamp {
                Some(stamp) => encoded.with_producer(stamp),
                None => encoded,
            },
            None => {
                let records = std::mem::replace(builder, batch::BatchBuilder::new(self.options.compression));
                match stamp {
                    Some(stamp) => records.producer(stamp).build_batch(),
                    None => records.build_batch(),
                }
            }
        };
        let bytes = encoded.bytes().clone();
        (batch.encoded, batch.is_numbered) = (Some(encoded), true);
        bytes
    }

    /// One answer, for the oldest batch under way. One that is for another says nothing of any: whom it refuses may not be
    /// whom it is taken for, and a batch that was written would be numbered anew and written twice.
    fn take(&mut self, answer: ProduceResponse) -> Result<(), Trouble> {
        if self.under_way.front().is_none_or(|oldest| oldest.correlation != answer.correlation_id) {
            let message = format!("the leader answered request {} out of turn", answer.correlation_id);
            return Err(ClientError::new(ErrorCode::NetworkException, message).into());
        }
        match answer.error {
            None => {
                if let Some(batch) = self.under_way.pop_front() {
                    batch.ready.succeed(self.partition, answer.base_offset.map(Offset::new));
                    self.accumulator.settled();
                }
                Ok(())
            }
            Some(error) => Err(Trouble::Refused(ClientError::from(error))),
        }
    }

    /// After a failure: what was under way is queued again, in order; the oldest is given up when it must be.
    fn bring_back(&mut self, trouble: &Trouble) {
        while let Some(batch) = self.under_way.pop_back() {
            self.queue.push_front(batch);
        }
        if let (Trouble::Refused(error), Some(front)) = (trouble, self.queue.front_mut())
            && error.certainty() == Certainty::NotDone
        {
            front.sent = front.again;
        }
        let error = trouble.error();
        match error.code() {
            ErrorCode::DuplicateSequenceNumber => self.succeed_front(),
            // A gap behind a batch that was given up, or a broker that forgot this producer: nothing of it was written.
            ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId
                if self.front_may_be_renumbered() =>
            {
                self.renumber();
            }
            _ if error.class() == ErrorClass::GiveUp => self.give_up_front(error),
            _ => {}
        }
    }

    /// The broker has the oldest batch, but no longer knows where.
    fn succeed_front(&mut self) {
        if let Some(batch) = self.queue.pop_front() {
            batch.ready.succeed(self.partition, None);
            self.accumulator.settled();
        }
    }

    /// Whether the refused batch bears the current numbers, and was never written: then a new id is safe. One that an earlier
    /// attempt may have written is refused alike when the broker has forgotten that.
    fn front_may_be_renumbered(&self) -> bool {
        let never_written = |batch: &Batch| batch.is_numbered && !batch.sent;
        self.options.idempotence && self.queue.front().is_some_and(never_written)
    }

    /// Forgets all numbers: queued batches get new ones under a new producer id.
    fn renumber(&mut self) {
        self.identity = Identity::default();
        for batch in &mut self.queue {
            batch.is_numbered = false;
            batch.sent = false;
            batch.again = false;
        }
    }

    /// The oldest batch was refused for good. The broker refused those behind it too, for the gap: they were not written.
    /// When an attempt may have written it those behind followed without a gap: nothing is known of them, and they are given
    /// up with it.
    fn give_up_front(&mut self, error: &ClientError) {
        let open = self.queue.front().is_some_and(|batch| batch.sent);
        let error = &told(error, open);
        let mut first = true;
        while first || (open && self.queue.front().is_some_and(|batch| batch.sent)) {
            first = false;
            if let Some(batch) = self.queue.pop_front() {
                self.fail(batch, error);
            }
        }
        if self.options.idempotence {
            self.renumber();
        }
    }

    /// Gives up batches whose time is over, and with them those whose outcome is unknown.
    fn expire(&mut self) {
        let now = Instant::now();
        let expired = |batch: &Batch| now >= batch.ready.created + self.options.delivery_timeout;
        if !self.queue.front().is_some_and(expired) {
            return;
        }
        let message = "the record was not acknowledged within delivery.timeout.ms";
        let late = ClientError::new(ErrorCode::RequestTimedOut, message);
        let open = format!("{message}; it may have been written");
        let open = ClientError::new(ErrorCode::RequestTimedOut, open);
        while let Some(batch) = self.queue.pop_front_if(|batch| expired(batch) || batch.sent) {
            let error = if batch.sent { &open } else { &late };
            self.fail(batch, error);
        }
        if self.options.idempotence {
            self.renumber();
        }
    }
}

/// What is said of a batch that was refused for good: where an attempt may have written it, that its outcome is not known.
fn told(refusal: &ClientError, open: bool) -> ClientError {
    if !open {
        return refusal.clone();
    }
    let message = format!("the record was given up ({refusal}); an attempt may have written it");
    ClientError::new(ErrorCode::RequestTimedOut, message)
}

async fn wait(accumulator: &Accumulator, until: Option<Instant>) {
    match until {
        Some(until) => {
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                () = accumulator.news() => {}
            }
        }
        None => accumulator.news().await,
    }
}

#[cfg(test)]
mod tests {
    use super::super::accumulator::Waiting;
    use super::super::{Delivery, Record};
    use super::*;

    #[test]
    fn a_refusal_after_an_earlier_attempt_leaves_the_outcome_open() {
        let refusal = ClientError::new(ErrorCode::InvalidTimestamp, "too far ahead");
        assert_eq!(told(&refusal, false).code(), ErrorCode::InvalidTimestamp);
        let open = told(&refusal, true);
        assert_eq!(open.code(), ErrorCode::RequestTimedOut);
        assert!(open.to_string().contains("too far ahead"), "{open}");
    }

    fn sender(client: Client) -> Sender {
        let options = Arc::new(ProducerOptions::default());
        Sender {
            client,
            options: options.clone(),
            pin: Pin::new("t", vltava_model::TopicId::new(1), 0),
            partition: PartitionIndex::new(3),
            accumulator: Arc::new(Accumulator::new(options)),
            identity: Identity { id: Some(ProducerId::new(5)), next: Sequence::ZERO },
            queue: VecDeque::new(),
            under_way: VecDeque::new(),
            correlation: 0,
        }
    }

    /// A record that was handed over, alone in a batch that is under way, and its outcome.
    fn under_way(sender: &mut Sender, again: bool) -> Delivery {
        let (tell, outcome) = tokio::sync::oneshot::channel();
        let room = Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap();
        let record = Record::new("t").value("v");
        assert!(sender.accumulator.append(&record, Waiting::Delivery(tell), room).is_ok());
        sender.accumulator.flush();
        let Next::Batch(ready) = sender.accumulator.next() else { panic!("a batch is ready") };
        let mut batch = Batch { sent: true, again, ..Batch::new(ready) };
        sender.encode(&mut batch);
        sender.under_way.push_back(batch);
        Delivery { outcome }
    }

    #[tokio::test]
    async fn a_duplicate_whose_place_is_forgotten_is_written_at_no_known_offset() {
        let mut sender = sender(Client::connect("127.0.0.1:1").unwrap());
        let outcome = under_way(&mut sender, true);
        let duplicate = ClientError::new(ErrorCode::DuplicateSequenceNumber, "older than what is remembered");
        sender.bring_back(&Trouble::Refused(duplicate));
        let written = outcome.await.unwrap();
        assert_eq!((written.partition, written.offset), (PartitionIndex::new(3), None));
        assert!(sender.queue.is_empty());
    }

    #[tokio::test]
    async fn an_answer_out_of_turn_renumbers_nothing() {
        let mut sender = sender(Client::connect("127.0.0.1:1").unwrap());
        let _outcome = under_way(&mut sender, false);
        let error = vltava_proto::status::detail(ErrorCode::OutOfOrderSequenceNumber, "it leaves a gap");
        for correlation_id in [1, 0] {
            let answer = ProduceResponse { correlation_id, error: Some(error.clone()), ..Default::default() };
            let trouble = sender.take(answer).unwrap_err();
            let is_own = correlation_id == 0;
            assert_eq!(matches!(trouble, Trouble::Refused(_)), is_own);
            sender.bring_back(&trouble);
            let batch = sender.queue.pop_front().unwrap();
            assert_eq!(batch.is_numbered && batch.sent, !is_own);
            sender.under_way.push_back(batch);
        }
    }

    #[tokio::test]
    async fn only_what_was_never_written_gets_new_numbers() {
        for code in [ErrorCode::OutOfOrderSequenceNumber, ErrorCode::UnknownProducerId] {
            let refused = Trouble::Refused(ClientError::new(code, "no"));
            let mut first = sender(Client::connect("127.0.0.1:1").unwrap());
            let _outcome = under_way(&mut first, false);
            first.bring_back(&refused);
            assert!(first.queue.front().is_some_and(|batch| !batch.is_numbered), "{code}");
            // The broker can't tell a batch that it has forgotten from one that leaves a gap.
            let mut again = sender(Client::connect("127.0.0.1:1").unwrap());
            let outcome = under_way(&mut again, true);
            again.bring_back(&refused);
            assert!(again.queue.is_empty(), "{code}");
            assert_eq!(outcome.await.unwrap_err().code(), ErrorCode::RequestTimedOut, "{code}");
        }
    }

    /// What a record is told after some trouble, when its time is over.
    async fn certainty(trouble: &[Trouble]) -> Certainty {
        let options =
            ProducerOptions { delivery_timeout: std::time::Duration::ZERO, ..ProducerOptions::default() };
        let mut sender = sender(Client::connect("127.0.0.1:1").unwrap());
        let outcome = under_way(&mut sender, false);
        for trouble in trouble {
            if let Some(mut batch) = sender.queue.pop_front() {
                batch.again = batch.sent;
                batch.sent = true;
                sender.under_way.push_back(batch);
            }
            sender.bring_back(trouble);
        }
        sender.options = Arc::new(options);
        sender.expire();
        outcome.await.unwrap_err().certainty()
    }

    #[tokio::test]
    async fn a_record_is_said_to_have_failed_for_certain_when_every_attempt_did_nothing() {
        let refused = |code| Trouble::Refused(ClientError::new(code, "no"));
        let broken = |code| Trouble::Broken(ClientError::new(code, "broken"));
        let nothing = ErrorCode::NotEnoughReplicas;
        assert_eq!(certainty(&[refused(nothing)]).await, Certainty::NotDone);
        assert_eq!(certainty(&[refused(nothing), refused(nothing)]).await, Certainty::NotDone);
        assert_eq!(certainty(&[refused(ErrorCode::MessageTooLarge)]).await, Certainty::NotDone);
        assert_eq!(certainty(&[refused(ErrorCode::NotLeaderOrFollower)]).await, Certainty::Unknown);
        assert_eq!(
            certainty(&[refused(ErrorCode::NotLeaderOrFollower), refused(nothing)]).await,
            Certainty::Unknown
        );
        assert_eq!(certainty(&[broken(ErrorCode::NetworkException)]).await, Certainty::Unknown);
        // A connection's error is no answer, whatever its code: the topic was found to be gone, say.
        assert_eq!(certainty(&[broken(ErrorCode::UnknownTopicId)]).await, Certainty::Unknown);
        assert_eq!(certainty(&[broken(ErrorCode::InvalidRequest)]).await, Certainty::Unknown);
    }
}
