//! Fetch: reads committed batches round the shard, waiting for more where the client wants that.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tonic::Status;
use vltava_commitlog::log::{LogReader, ReadError};
use vltava_model::{ErrorCode, LeaderEpoch, Offset};
use vltava_proto::status;
use vltava_proto::v1::{ErrorDetail, FetchRequest, FetchResponse, RecordFormat};

use super::records;
use crate::shard::handle::PartitionHandle;
use crate::state::BrokerState;

const DEFAULT_BYTES: usize = 1024 * 1024;
const MAX_BYTES: usize = 16 * 1024 * 1024;
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Where and how to read.
#[derive(Clone)]
pub struct Position {
    /// From where.
    pub handle: PartitionHandle,
    /// The first offset wanted.
    pub offset: Offset,
    /// How many bytes at the most, one batch excepted.
    pub max_bytes: usize,
    /// In which form.
    pub format: RecordFormat,
    /// The leader epoch that the client believes in.
    pub epoch: Option<LeaderEpoch>,
}

/// Committed batches.
pub struct Slice {
    /// Whole batches, the first may begin before the offset asked for.
    pub bytes: Bytes,
    /// Where to read on.
    pub next: Offset,
}

/// Checks a request.
///
/// # Errors
/// A status for the client.
pub fn position(state: &BrokerState, request: &FetchRequest) -> Result<Position, Status> {
    let handle =
        state.resolve(&request.topic_id, &request.topic, request.partition).map_err(status::from_detail)?;
    let format = RecordFormat::try_from(request.format)
        .map_err(|_| status::status(ErrorCode::InvalidRequest, "unknown record format"))?;
    let max_bytes = match request.max_bytes as usize {
        0 => DEFAULT_BYTES,
        bytes => bytes.min(MAX_BYTES),
    };
    Ok(Position {
        handle,
        offset: Offset::new(request.offset),
        max_bytes,
        format,
        epoch: request.leader_epoch.map(LeaderEpoch::new),
    })
}

/// Answers one fetch.
///
/// # Errors
/// A status for the client.
pub async fn fetch(state: &Arc<BrokerState>, request: FetchRequest) -> Result<FetchResponse, Status> {
    let position = position(state, &request)?;
    let wait = Duration::from_millis(request.max_wait_ms.into()).min(MAX_WAIT);
    let deadline = Instant::now() + wait;
    loop {
        // Registered before looking, so that no move is missed.
        let shared = position.handle.shared().clone();
        let moved = shared.moved();
        let slice = read(state, &position).await.map_err(status::from_detail)?;
        let enough = slice.bytes.len() >= request.min_bytes.max(1) as usize;
        if enough || request.max_wait_ms == 0 || tokio::time::timeout_at(deadline, moved).await.is_err() {
            return respond(&position, slice).map_err(status::from_detail);
        }
    }
}

/// Reads what is committed from the position on; empty when there is nothing yet.
///
/// # Errors
/// A detail for the client.
pub async fn read(state: &Arc<BrokerState>, position: &Position) -> Result<Slice, ErrorDetail> {
    let shared = position.handle.shared();
    let explain = |code| state.explain(position.handle.partition(), code);
    let (_, _, reader) = shared.lead(position.epoch).map_err(explain)?;
    let committed = shared.high_watermark();
    let (start, end) = (shared.log_start(), shared.log_end());
    if position.offset < start || position.offset > end {
        return Err(out_of_range(position.offset, start, committed));
    }
    if position.offset >= committed {
        // At the end, or behind an end that a new leader does not know to be committed yet.
        return Ok(Slice { bytes: Bytes::new(), next: position.offset });
    }
    match read_some(reader.clone(), position.offset, position.max_bytes, committed).await {
        Ok((bytes, next)) => {
            state.metrics.fetched_bytes.add(bytes.len() as u64);
            Ok(Slice { bytes, next })
        }
        Err(ReadError::OutOfRange { .. }) => {
            Err(out_of_range(position.offset, shared.log_start(), committed))
        }
        Err(error) => {
            shared.report_read_error(&reader, &error);
            Err(explain(ErrorCode::KafkaStorageError))
        }
    }
}

async fn read_some(
    reader: LogReader,
    from: Offset,
    max: usize,
    committed: Offset,
) -> Result<(Bytes, Offset), ReadError> {
    if let Some(read) = reader.read_tail(from, max, committed) {
        return Ok((read.bytes, read.end));
    }
    let read = vltava_threads::offload(move || reader.read(from, max, committed)).await;
    match read {
        Ok(read) => read.map(|read| (read.bytes, read.end)),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn out_of_range(asked: Offset, start: Offset, committed: Offset) -> ErrorDetail {
    let message = format!(
        "offset {asked} is not in [{start}, {committed}]: begin at the earliest or the latest offset"
    );
    ErrorDetail {
        log_start_offset: Some(start.get()),
        high_watermark: Some(committed.get()),
        ..status::detail(ErrorCode::OffsetOutOfRange, message)
    }
}

/// The answer in the form that the client wants.
///
/// # Errors
/// When stored records can't be decoded.
pub fn respond(position: &Position, slice: Slice) -> Result<FetchResponse, ErrorDetail> {
    let shared = position.handle.shared();
    let mut response = FetchResponse {
        high_watermark: shared.high_watermark().get(),
        log_start_offset: shared.log_start().get(),
        next_offset: slice.next.get(),
        bytes: slice.bytes.len() as u64,
        ..FetchResponse::default()
    };
    match position.format {
        RecordFormat::Batches => response.batches = slice.bytes,
        RecordFormat::Plain => {
            response.records = records::decode(slice.bytes, position.offset)
                .map_err(|error| status::detail(error.code(), error.to_string()))?;
        }
    }
    Ok(response)
}
