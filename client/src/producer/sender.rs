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
use vltava_model::batch::ProducerStamp;
use vltava_model::{
    ErrorClass, ErrorCode, LeaderEpoch, NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence,
};
use vltava_proto::v1::{self, InitProducerRequest, ProduceRequest, ProduceResponse, produce_request};

use super::accumulator::{Accumulator, Next, Ready};
use super::options::{Acks, ProducerOptions};
use crate::backoff::Backoff;
use crate::cluster::Client;
use crate::error::ClientError;
use crate::pin::Pin;

/// A batch on its way.
struct Batch {
    ready: Box<Ready>,
    /// Its bytes, with the numbers under which it is recognised.
    encoded: Option<bytes::Bytes>,
    /// Whether it was ever handed to a connection: then its outcome is unknown until an answer comes.
    sent: bool,
    /// Whether that was so before its last attempt: then the attempt's refusal says nothing of what the earlier one did.
    again: bool,
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

/// An answer that is this late makes the sender ask who leads: a leader that is silent is not waited for to the end.
const LATE: std::time::Duration = std::time::Duration::from_secs(1);

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
                let error = match sender.stream(connection, &mut backoff).await {
                    Ok(()) => return,
                    Err(error) => error,
                };
                tracing::debug!(topic = sender.pin.name(), %partition, %error, "sending again");
                sender.bring_back(&error);
            }
            Err(error) => sender.bring_back(&error),
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
                Next::Batch(ready) => {
                    self.queue.push_back(Batch { ready, encoded: None, sent: false, again: false })
                }
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
        let fail = |accumulator: &Accumulator, ready: Ready| {
            ready.fail(&error);
            accumulator.settled();
        };
        for batch in self.queue.drain(..) {
            fail(&self.accumulator, *batch.ready);
        }
        while let Next::Batch(ready) = self.accumulator.next() {
            fail(&self.accumulator, *ready);
        }
    }

    async fn connect(&mut self) -> Result<Connection, ClientError> {
        let mut leader = self.client.leader(&self.pin, self.partition)?;
        if self.options.idempotence && self.identity.id.is_none() {
            let answer = leader.client.init_producer(InitProducerRequest {}).await?.into_inner();
            self.identity = Identity { id: Some(ProducerId::new(answer.producer_id)), next: Sequence::ZERO };
        }
        let (out, requests) = mpsc::channel(self.options.max_in_flight.max(1));
        let opening = leader.client.produce(ReceiverStream::new(requests));
        let answers = tokio::time::timeout(self.options.request_timeout, opening)
            .await
            .map_err(|_| ClientError::new(ErrorCode::RequestTimedOut, "the leader does not answer"))??
            .into_inner();
        Ok(Connection { out, answers, node: leader.node, epoch: leader.epoch })
    }

    /// Sends and takes answers until something fails; `Ok` when nothing will come any more.
    async fn stream(&mut self, mut connection: Connection, backoff: &mut Backoff) -> Result<(), ClientError> {
        let mut waited_since = Instant::now();
        loop {
            let mut wake = None;
            let mut closed = false;
            while self.under_way.len() < self.options.max_in_flight.max(1) {
                if self.queue.is_empty() {
                    match self.accumulator.next() {
                        Next::Batch(ready) => {
                            self.queue.push_back(Batch { ready, encoded: None, sent: false, again: false })
                        }
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
                waited_since = Instant::now();
            }
            tokio::select! {
                answer = connection.answers.message(), if !self.under_way.is_empty() => {
                    let answer = answer?.ok_or_else(|| ClientError::new(ErrorCode::NetworkException, "the leader closed the stream"))?;
                    self.take(answer)?;
                    backoff.reset();
                    waited_since = Instant::now();
                }
                () = wait(&self.accumulator, wake), if room && !closed => {}
                () = tokio::time::sleep(LATE), if !self.under_way.is_empty() => {
                    if waited_since.elapsed() > self.options.request_timeout {
                        return Err(ClientError::new(ErrorCode::RequestTimedOut, "the leader does not answer"));
                    }
                    let leads = (connection.node, connection.epoch);
                    self.client.still_leads(&mut self.pin, self.partition, leads).await?;
                }
            }
        }
    }

    fn send_front(&mut self, connection: &Connection) -> Result<(), ClientError> {
        let Some(mut batch) = self.queue.pop_front() else { return Ok(()) };
        let bytes = match &batch.encoded {
            Some(encoded) => encoded.clone(),
            None => self.encode(&mut batch),
        };
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
        batch.again = batch.sent;
        batch.sent = true;
        self.under_way.push_back(batch);
        connection
            .out
            .try_send(request)
            .map_err(|_| ClientError::new(ErrorCode::NetworkException, "the connection takes no more"))
    }

    /// Gives a batch its numbers and its bytes.
    fn encode(&mut self, batch: &mut Batch) -> bytes::Bytes {
        let count = batch.ready.builder.record_count();
        let empty = vltava_model::batch::BatchBuilder::new(self.options.compression);
        // Kept beside the bytes only while it may have to be numbered anew.
        let mut builder = match self.identity.id {
            Some(_) => batch.ready.builder.clone(),
            None => std::mem::replace(&mut batch.ready.builder, empty),
        };
        if let Some(id) = self.identity.id {
            let base_sequence = self.identity.next;
            builder = builder.producer(ProducerStamp { id, epoch: ProducerEpoch::ZERO, base_sequence });
            self.identity.next = base_sequence.advance(count);
        }
        let bytes = builder.build();
        batch.encoded = Some(bytes.clone());
        bytes
    }

    /// One answer, for the oldest batch under way.
    fn take(&mut self, answer: ProduceResponse) -> Result<(), ClientError> {
        match answer.error {
            None => {
                if let Some(batch) = self.under_way.pop_front() {
                    batch.ready.succeed(self.partition, answer.base_offset.map(Offset::new));
                    self.accumulator.settled();
                }
                Ok(())
            }
            Some(error) => Err(ClientError::from(error)),
        }
    }

    /// After a failure: what was under way is queued again, in order; the oldest is given up when it must be.
    fn bring_back(&mut self, error: &ClientError) {
        while let Some(batch) = self.under_way.pop_back() {
            self.queue.push_front(batch);
        }
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

    /// Whether the refused batch bears the current numbers, and was never sent before: then a new id is safe, since it was
    /// never written. One that an earlier attempt may have written is refused alike when the broker has forgotten that.
    fn front_may_be_renumbered(&self) -> bool {
        let never_written = |batch: &Batch| batch.encoded.is_some() && !batch.again;
        self.options.idempotence && self.queue.front().is_some_and(never_written)
    }

    /// Forgets all numbers: queued batches get new ones under a new producer id.
    fn renumber(&mut self) {
        self.identity = Identity::default();
        for batch in &mut self.queue {
            batch.encoded = None;
            batch.sent = false;
            batch.again = false;
        }
    }

    /// The oldest batch was refused for good. The broker refused those behind it too, for the gap: they were not written.
    /// After an error without a name nothing is known of them, nor when an earlier attempt may have written it: then those
    /// behind followed without a gap. They are given up with it.
    fn give_up_front(&mut self, error: &ClientError) {
        let again = self.queue.front().is_some_and(|batch| batch.again);
        let all_sent = again || error.code() == ErrorCode::UnknownServerError;
        let error = &told(error, again);
        let mut first = true;
        while first || (all_sent && self.queue.front().is_some_and(|batch| batch.sent)) {
            first = false;
            if let Some(batch) = self.queue.pop_front() {
                batch.ready.fail(error);
                self.accumulator.settled();
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
        let message = "the record was not acknowledged within delivery.timeout.ms; it may have been written";
        let error = ClientError::new(ErrorCode::RequestTimedOut, message);
        while self.queue.front().is_some_and(|batch| expired(batch) || batch.sent) {
            if let Some(batch) = self.queue.pop_front() {
                batch.ready.fail(&error);
                self.accumulator.settled();
            }
        }
        if self.options.idempotence {
            self.renumber();
        }
    }
}

/// What is said of a batch that was refused for good: where an earlier attempt may have written it, that its outcome is not known.
fn told(refusal: &ClientError, again: bool) -> ClientError {
    if !again {
        return refusal.clone();
    }
    let message =
        format!("sent again, the record was refused ({refusal}); an earlier attempt may have written it");
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
        let mut batch = Batch { ready, encoded: None, sent: true, again };
        sender.encode(&mut batch);
        sender.under_way.push_back(batch);
        Delivery { outcome }
    }

    #[tokio::test]
    async fn a_duplicate_whose_place_is_forgotten_is_written_at_no_known_offset() {
        let mut sender = sender(Client::connect("127.0.0.1:1").unwrap());
        let outcome = under_way(&mut sender, true);
        sender.bring_back(&ClientError::new(ErrorCode::DuplicateSequenceNumber, "older than what is remembered"));
        let written = outcome.await.unwrap();
        assert_eq!((written.partition, written.offset), (PartitionIndex::new(3), None));
        assert!(sender.queue.is_empty());
    }

    #[tokio::test]
    async fn only_what_was_never_written_gets_new_numbers() {
        for code in [ErrorCode::OutOfOrderSequenceNumber, ErrorCode::UnknownProducerId] {
            let refused = ClientError::new(code, "no");
            let mut first = sender(Client::connect("127.0.0.1:1").unwrap());
            let _outcome = under_way(&mut first, false);
            first.bring_back(&refused);
            assert!(first.queue.front().is_some_and(|batch| batch.encoded.is_none()), "{code}");
            // The broker can't tell a batch that it has forgotten from one that leaves a gap.
            let mut again = sender(Client::connect("127.0.0.1:1").unwrap());
            let outcome = under_way(&mut again, true);
            again.bring_back(&refused);
            assert!(again.queue.is_empty(), "{code}");
            assert_eq!(outcome.await.unwrap_err().code(), ErrorCode::RequestTimedOut, "{code}");
        }
    }
}
