//! Offsets: the earliest, the latest, the first at a time; and deleting what lies below one.

use std::sync::Arc;

use tokio::sync::oneshot;
use tonic::Status;
use vltava_commitlog::log::{LogReader, ReadError};
use vltava_model::{ErrorCode, LeaderEpoch, Offset};
use vltava_proto::status;
use vltava_proto::v1::{
    DeleteRecordsRequest, DeleteRecordsResponse, ErrorDetail, ListOffsetsRequest, ListOffsetsResponse,
    OffsetAnswer, OffsetQuery, offset_query,
};

use crate::shard::command::Command;
use crate::shard::handle::PartitionHandle;
use crate::state::BrokerState;

/// Answers each query by itself.
pub async fn list(state: &Arc<BrokerState>, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let mut partitions = Vec::with_capacity(request.partitions.len());
    for query in request.partitions {
        let answer = match answer(state, &request.topic_id, &request.topic, query).await {
            Ok(answer) => answer,
            Err(error) => OffsetAnswer { error: Some(*error), ..OffsetAnswer::default() },
        };
        partitions.push(OffsetAnswer { partition: query.partition, ..answer });
    }
    ListOffsetsResponse { partitions }
}

async fn answer(
    state: &Arc<BrokerState>,
    topic_id: &[u8],
    topic: &str,
    query: OffsetQuery,
) -> Result<OffsetAnswer, Box<ErrorDetail>> {
    let handle = state.resolve(topic_id, topic, query.partition).map_err(Box::new)?;
    let shared = handle.shared();
    let explain = |code| Box::new(state.explain(handle.partition(), code));
    let (epoch, epoch_start, reader) = shared.lead(None).map_err(explain)?;
    let at = |offset: Offset| OffsetAnswer {
        offset: Some(offset.get()),
        leader_epoch: Some(epoch.get()),
        ..OffsetAnswer::default()
    };
    match query.at {
        Some(offset_query::At::Earliest(_)) => Ok(at(shared.log_start())),
        Some(offset_query::At::Latest(_)) | None => {
            let committed = shared.high_watermark();
            // A new leader's watermark may lie below one that clients saw from its predecessor.
            if committed < epoch_start {
                return Err(explain(ErrorCode::OffsetNotAvailable));
            }
            Ok(at(committed))
        }
        Some(offset_query::At::TimestampMs(timestamp)) => {
            let committed = shared.high_watermark();
            let searched = reader.clone();
            let found =
                vltava_threads::offload(move || reader.offset_for_timestamp(timestamp, committed)).await;
            match found {
                Ok(Ok(Some(hit))) => Ok(OffsetAnswer {
                    offset: Some(hit.offset.get()),
                    timestamp_ms: Some(hit.timestamp_ms),
                    leader_epoch: hit.leader_epoch.map(LeaderEpoch::get),
                    ..OffsetAnswer::default()
                }),
                Ok(Ok(None)) => Ok(OffsetAnswer::default()),
                Ok(Err(error)) => Err(unreadable(&handle, &searched, &error)),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
    }
}

fn unreadable(handle: &PartitionHandle, reader: &LogReader, error: &ReadError) -> Box<ErrorDetail> {
    handle.shared().report_read_error(reader, error);
    Box::new(status::detail(ErrorCode::KafkaStorageError, error.to_string()))
}

/// Deletes records below an offset, on the leader.
///
/// # Errors
/// A status for the client.
pub async fn delete_records(
    state: &Arc<BrokerState>,
    request: DeleteRecordsRequest,
) -> Result<DeleteRecordsResponse, Status> {
    let handle =
        state.resolve(&request.topic_id, &request.topic, request.partition).map_err(status::from_detail)?;
    let explain = |code| status::from_detail(state.explain(handle.partition(), code));
    handle.shared().lead(None).map_err(explain)?;
    let (reply, answered) = oneshot::channel();
    let before = request.before_offset.map(Offset::new);
    let command = Command::DeleteRecords { partition: handle.partition(), before, reply };
    handle.send(command).map_err(|_| explain(ErrorCode::ThrottlingQuotaExceeded))?;
    let log_start = answered.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower)).map_err(explain)?;
    Ok(DeleteRecordsResponse { log_start_offset: log_start.get() })
}
