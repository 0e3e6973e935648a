//! Produce: from a message to the shard that owns the partition.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;
use vltava_model::batch::Batch;
use vltava_model::{ErrorCode, LeaderEpoch};
use vltava_proto::status;
use vltava_proto::v1::{self, ErrorDetail, ProduceRequest, ProduceResponse, produce_request};

use super::records;
use crate::shard::command::{Acks, Command, Produce, Produced};
use crate::shard::handle::PartitionHandle;
use crate::state::BrokerState;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_TIMEOUT: Duration = Duration::from_secs(300);

/// An append under way; await it for the answer. Answers must be awaited in the order of the requests.
pub struct Pending {
    correlation_id: u64,
    append_time_ms: Option<i64>,
    /// Nobody waits until it is written, so its offset says nothing.
    is_blind: bool,
    arrived: Instant,
    outcome: Outcome,
}

enum Outcome {
    Waiting { reply: oneshot::Receiver<Result<Produced, ErrorCode>>, handle: PartitionHandle },
    Known(Box<Result<Produced, ErrorDetail>>),
}

impl Pending {
    /// The answer.
    pub async fn answer(self, state: &BrokerState) -> ProduceResponse {
        let result = match self.outcome {
            Outcome::Known(result) => *result,
            Outcome::Waiting { reply, handle } => match reply.await {
                Ok(Ok(produced)) => {
                    state.metrics.produce_time.observe(self.arrived.elapsed());
                    Ok(produced)
                }
                Ok(Err(code)) => Err(explain(state, &handle, code)),
                // The shard dropped it: the partition closed.
                Err(_) => Err(explain(state, &handle, ErrorCode::NotLeaderOrFollower)),
            },
        };
        match result {
            Ok(produced) => ProduceResponse {
                correlation_id: self.correlation_id,
                base_offset: (!self.is_blind).then_some(produced.base_offset.get()),
                log_start_offset: produced.log_start.get(),
                append_time_ms: self.append_time_ms,
                error: None,
            },
            Err(error) => ProduceResponse {
                correlation_id: self.correlation_id,
                error: Some(error),
                ..ProduceResponse::default()
            },
        }
    }
}

fn explain(state: &BrokerState, handle: &PartitionHandle, code: ErrorCode) -> ErrorDetail {
    state.explain(handle.partition(), code)
}

/// Checks a request and hands it to its shard. Calls in the order of the requests keep their order.
pub fn begin(state: &Arc<BrokerState>, request: ProduceRequest, now: Instant, wall_ms: i64) -> Pending {
    let correlation_id = request.correlation_id;
    let is_blind = request.acks == i32::from(v1::Acks::None);
    let (outcome, append_time_ms) = match submit(state, request, now, wall_ms) {
        Ok(submitted) => submitted,
        Err(error) => (Outcome::Known(Box::new(Err(*error))), None),
    };
    Pending { correlation_id, append_time_ms, is_blind, arrived: now, outcome }
}

fn fail(code: ErrorCode, message: impl Into<String>) -> Box<ErrorDetail> {
    Box::new(status::detail(code, message))
}

fn submit(
    state: &Arc<BrokerState>,
    request: ProduceRequest,
    now: Instant,
    wall_ms: i64,
) -> Result<(Outcome, Option<i64>), Box<ErrorDetail>> {
    let acks = match v1::Acks::try_from(request.acks) {
        Ok(v1::Acks::All) => Acks::All,
        Ok(v1::Acks::Leader) => Acks::Leader,
        Ok(v1::Acks::None) => Acks::None,
        Err(_) => {
            return Err(fail(
                ErrorCode::InvalidRequiredAcks,
                format!("acks {} is none of 0, 1, 2", request.acks),
            ));
        }
    };
    let handle = state.resolve(&request.topic_id, &request.topic, request.partition).map_err(Box::new)?;
    let config = state.topic_config(handle.partition().topic);
    let max = config.max_message_bytes.min(state.options.max_batch_bytes as u64) as usize;
    let payload =
        request.payload.ok_or_else(|| fail(ErrorCode::InvalidRequest, "the request carries no records"))?;
    let encoded: Bytes = match payload {
        produce_request::Payload::Batch(bytes) => bytes,
        produce_request::Payload::Records(plain) => {
            records::encode(&plain, wall_ms).map_err(|error| fail(error.code(), error.to_string()))?
        }
    };
    if encoded.len() > max {
        let message = format!("the batch has {} bytes, max.message.bytes is {max}", encoded.len());
        return Err(fail(ErrorCode::MessageTooLarge, message));
    }
    let batch = Batch::parse(encoded).map_err(|error| fail(records::code_of(&error), error.to_string()))?;
    let (batch, append_time_ms) =
        records::admit(batch, &config, wall_ms).map_err(|error| fail(error.code(), error.to_string()))?;
    let timeout = match request.timeout_ms {
        0 => DEFAULT_TIMEOUT,
        ms => Duration::from_millis(ms.into()).min(MAX_TIMEOUT),
    };
    let (reply, answered) = oneshot::channel();
    let command = Command::Produce(Box::new(Produce {
        partition: handle.partition(),
        batch,
        acks,
        deadline: now + timeout,
        expected_epoch: request.leader_epoch.map(LeaderEpoch::new),
        reply,
    }));
    handle.send(command).map_err(|full| {
        state.metrics.refused_full_queue.add(1);
        fail(ErrorCode::ThrottlingQuotaExceeded, format!("{full}: nothing was written, send it again later"))
    })?;
    Ok((Outcome::Waiting { reply: answered, handle }, append_time_ms))
}
