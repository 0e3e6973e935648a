//! The last reading: every partition from its log start to its end, when nobody writes any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vltava_client::StartAt;
use vltava_history::event::Reading;

use super::consumers::Reader;
use super::{Common, LoadOptions, Topic};
use crate::scribe::Scribe;

const POLL: Duration = Duration::from_millis(300);

/// Reads all partitions of these topics. A partition that can't be read to its end within `limit` is a violation.
pub async fn read_everything(options: &LoadOptions, scribe: &Arc<Scribe>, topics: &[Topic], limit: Duration) {
    let (_keep, stop) = tokio::sync::watch::channel(false);
    let common = Common {
        options: options.clone(),
        scribe: scribe.clone(),
        pulse: Arc::default(),
        stop,
        passing: Arc::default(),
    };
    let deadline = Instant::now() + limit;
    for topic in topics {
        for index in 0..topic.partitions.len() as u32 {
            if let Err(error) = read(&common, topic, index, deadline).await {
                scribe.violation(&format!("{}-{index} can't be read to its end: {error}", topic.name));
            }
        }
    }
}

async fn read(common: &Common, topic: &Topic, index: u32, deadline: Instant) -> Result<(), String> {
    let reader =
        Reader::new(common, topic, &format!("last reader of {}-{index}", topic.name), Reading::Final);
    let mut reader = reader.ok_or("no client can be made")?;
    reader.assign(index, StartAt::Latest).await?;
    let end = reader.position(index).ok_or("it has no end")?;
    reader.assign(index, StartAt::Earliest).await?;
    let start = reader.position(index).ok_or("it has no beginning")?;
    while reader.position(index).is_none_or(|position| position < end) {
        if Instant::now() > deadline {
            return Err(format!("it was read to {:?} of {end}", reader.position(index)));
        }
        // Nobody writes any more: what comes is at most what was there when the end was asked for.
        reader.poll(POLL).await?;
    }
    reader.note_bounds(index, start, end);
    Ok(())
}
