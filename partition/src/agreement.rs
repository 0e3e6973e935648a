//! Whether a follower's log agrees with its leader's, and where they part.
//!
//! By leader epochs alone: it must not know watermarks to decide (I7).

use vltava_model::seeded::{SeededBug, seeded};

use crate::context::Context;
use crate::effect::SubscribeReply;
use crate::event::FollowerSubscribe;

/// Where a follower's log leaves this one, by leader epochs alone (I7, KIP-101, KIP-279).
pub(crate) fn compare_logs(ctx: &Context, request: &FollowerSubscribe) -> SubscribeReply {
    let offsets = ctx.log.offsets();
    // A log can only begin with a whole batch, also where the log start lies within one.
    let begin = request.first_batch.min(offsets.log_start);
    let accepted = SubscribeReply::Accepted {
        from: request.log_end,
        high_watermark: offsets.high_watermark,
        log_start: offsets.log_start,
    };
    if request.log_end < begin {
        return SubscribeReply::StartAt(begin);
    }
    let Some(last) = request.last_epoch else {
        // An empty log agrees with everything, if it stands where there is something to read on.
        let within_batch = request.log_end > begin && request.log_end <= offsets.log_start;
        let is_empty = request.log_start == request.log_end;
        let fits = is_empty && request.log_end <= offsets.log_end && !within_batch;
        return if fits { accepted } else { SubscribeReply::StartAt(begin) };
    };
    match ctx.log.epochs().end_of(last, offsets.log_end) {
        Some(found)
            if (found.epoch == last || seeded(SeededBug::ComparesEndsOnly))
                && found.end >= request.log_end =>
        {
            accepted
        }
        Some(found) => SubscribeReply::Diverging { epoch: found.epoch, end: found.end },
        // All that is here is newer than all that the follower has: nothing is shared above the log start.
        None if request.log_end == begin => accepted,
        None => SubscribeReply::StartAt(begin),
    }
}
