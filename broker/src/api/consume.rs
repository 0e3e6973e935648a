//! Consume: an endless fetch that pushes what is committed, as long as the client grants bytes.

use std::sync::Arc;

use tokio::sync::mpsc;
use tonic::{Status, Streaming};
use vltava_model::ErrorCode;
use vltava_proto::status;
use vltava_proto::v1::{ConsumeRequest, FetchResponse};

use super::fetch::{self, Position};
use crate::state::BrokerState;

/// Answers that may wait for the connection: the grant bounds their bytes.
const OUT_QUEUE: usize = 2;

/// Serves one stream.
///
/// # Errors
/// When the first message does not say where to read.
pub async fn serve(
    state: Arc<BrokerState>,
    mut inbound: Streaming<ConsumeRequest>,
) -> Result<mpsc::Receiver<Result<FetchResponse, Status>>, Status> {
    let missing = || status::status(ErrorCode::InvalidRequest, "the first message must say where to start");
    let first = inbound.message().await?.ok_or_else(missing)?;
    let start = first.start.ok_or_else(missing)?;
    let position = fetch::position(&state, &start)?;
    let (out, responses) = mpsc::channel(OUT_QUEUE);
    tokio::spawn(async move {
        if let Err(status) = run(state, inbound, position, first.grant_bytes, &out).await {
            // Nobody may be listening any more.
            let _ = out.send(Err(status)).await;
        }
    });
    Ok(responses)
}

async fn run(
    state: Arc<BrokerState>,
    mut inbound: Streaming<ConsumeRequest>,
    mut position: Position,
    mut granted: u64,
    out: &mpsc::Sender<Result<FetchResponse, Status>>,
) -> Result<(), Status> {
    let shared = position.handle.shared().clone();
    loop {
        let moved = shared.moved();
        if granted > 0 {
            let slice = fetch::read(&state, &position).await.map_err(status::from_detail)?;
            if !slice.bytes.is_empty() {
                granted = granted.saturating_sub(slice.bytes.len() as u64);
                let next = slice.next;
                let response = fetch::respond(&position, slice).map_err(status::from_detail)?;
                position.offset = next;
                if out.send(Ok(response)).await.is_err() {
                    return Ok(());
                }
                continue;
            }
        }
        tokio::select! {
            message = inbound.message() => match message? {
                Some(message) => granted = granted.saturating_add(message.grant_bytes),
                None => return Ok(()),
            },
            () = moved, if granted > 0 => {}
        }
    }
}
