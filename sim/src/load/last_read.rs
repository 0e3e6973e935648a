//! The last reading: every partition from its log start to its end, when nobody writes any more.

use std::time::Duration;

use tokio::time::Instant;
use vltava_client::{ClientError, StartAt};
use vltava_history::event::Reading;
use vltava_model::ErrorCode;

use super::consume::{Reader, Target};
use super::{Load, lock};
use crate::clock::Millis;

/// Reads all partitions of topics that were not to be deleted. One that can not be read to its end within `limit` is
/// complained about.
pub(super) async fn read_everything(load: &Load, limit: Millis) {
    let deadline = Instant::now() + Duration::from_millis(limit);
    let topics: Vec<_> = lock(&load.0.topics).iter().filter(|topic| !topic.doomed).cloned().collect();
    for topic in topics {
        for (index, partition) in (0..).zip(&topic.partitions) {
            let target = Target { topic: topic.name.clone(), id: topic.id, index, partition: *partition };
            if let Err(error) = read(load, &target, deadline).await {
                load.complain(format!("{}-{index} can not be read to its end: {error}", topic.name));
            }
        }
    }
}

async fn read(load: &Load, target: &Target, deadline: Instant) -> Result<(), ClientError> {
    let name = format!("last reader of {}-{}", target.topic, target.index);
    let mut reader = Reader::new(load, &name, Reading::Final)?;
    let lost =
        || ClientError::new(ErrorCode::UnknownServerError, "a partition that was assigned has no position");
    reader.assign(target, StartAt::Latest).await?;
    let end = reader.position(target).ok_or_else(lost)?;
    reader.assign(target, StartAt::Earliest).await?;
    let start = reader.position(target).ok_or_else(lost)?;
    while reader.position(target).is_some_and(|position| position < end) {
        if Instant::now() > deadline {
            return Err(ClientError::new(ErrorCode::RequestTimedOut, format!("its end is {end}")));
        }
        reader.poll().await?;
    }
    reader.note_bounds(target, start, end);
    Ok(())
}
