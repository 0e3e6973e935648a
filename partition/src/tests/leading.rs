//! Batches, followers' subscriptions, the high watermark and answers to clients.

use vltava_model::ErrorCode;

use super::*;

/// Node 1 leads in epoch 5 over an empty log, with these in sync.
fn leader(min_insync: u32, isr: &[u32]) -> Bench {
    let mut bench = Bench::new(0, &[], min_insync);
    bench.step(assigned(state(Some(1), 5, 1, isr)));
    bench
}

#[test]
fn a_new_leader_notes_its_epoch_before_it_writes() {
    let mut bench = Bench::new(7, &[(3, 0)], 1);
    let effects = bench.step(assigned(state(Some(1), 5, 1, &[1, 2])));
    assert_eq!(effects[0], Effect::AssignEpoch { epoch: epoch(5), start: at(7) });
    let standing = Standing::Leading { epoch: epoch(5), epoch_start: at(7) };
    assert!(effects.contains(&Effect::StandingChanged(standing)));
    // A follower whose last epoch is 3 finds out where that ended, though nothing was written in 5 (B5).
    let (reply, _) = bench.subscribe(replica(2), 5, 9, Some(3));
    assert_eq!(reply, SubscribeReply::Diverging { epoch: epoch(3), end: at(7) });
}

#[test]
fn answers_wait_for_what_they_claim() {
    let mut bench = leader(2, &[1, 2]);
    bench.subscribe(replica(2), 5, 0, None);
    let (none, effects) = bench.produce(2, Acks::None);
    assert_eq!(answer(&effects, none), Some(Ok(0)));
    let (own, effects) = bench.produce(1, Acks::Leader);
    assert_eq!(answer(&effects, own), None);
    let (all, effects) = bench.produce(1, Acks::All);
    assert_eq!(answer(&effects, all), None);
    // The follower has it first: the leader's own disk counts as well.
    assert_eq!(answer(&bench.progress(2, 5, 4), all), None);
    assert_eq!(bench.high_watermark(), 0);
    let effects = bench.sync();
    assert_eq!(answer(&effects, own), Some(Ok(2)));
    assert_eq!(answer(&effects, all), Some(Ok(3)));
    assert!(effects.contains(&Effect::WatermarkMoved { high_watermark: at(4), log_start: at(0) }));
}

#[test]
fn a_follower_counts_only_what_it_synced() {
    let mut bench = leader(2, &[1, 2]);
    bench.subscribe(replica(2), 5, 0, None);
    bench.produce(3, Acks::All);
    bench.sync();
    let report =
        FollowerProgress { follower: replica(2), leader_epoch: epoch(5), log_end: at(3), durable_end: at(1) };
    bench.step(Event::FollowerProgress(report));
    assert_eq!(bench.high_watermark(), 1);
}

/// The network may deliver what a stream was made with when the follower has long opened another one.
#[test]
fn a_subscription_that_was_held_up_on_an_earlier_stream_replaces_nothing() {
    let mut bench = leader(1, &[1]);
    bench.produce(3, Acks::Leader);
    bench.sync();
    let subscription = Token::new(bench.tokens + 1);
    bench.stream = StreamNumber::new(2);
    let (reply, _) = bench.subscribe(replica(2), 5, 0, None);
    assert!(matches!(reply, SubscribeReply::Accepted { .. }));
    bench.stream = StreamNumber::new(1);
    let (reply, effects) = bench.subscribe(replica(2), 5, 0, None);
    assert_eq!(reply, SubscribeReply::Refused(ErrorCode::InvalidFetchSessionEpoch));
    assert_eq!(effects, []);
    bench.stream = StreamNumber::new(2);
    let (_, effects) = bench.subscribe(replica(2), 5, 0, None);
    assert!(effects.contains(&Effect::DropFollower { follower: node(2), subscription }), "{effects:?}");
    // Another process begins to count anew.
    bench.stream = StreamNumber::new(1);
    let newer = ReplicaIdentity { broker_epoch: BrokerEpoch::new(21), ..replica(2) };
    let (reply, _) = bench.subscribe(newer, 5, 0, None);
    assert!(matches!(reply, SubscribeReply::Accepted { .. }));
}

/// The controller may know of a larger `min.insync.replicas` than this broker, and then elects who left the ISR: its answer to
/// a proposal is often here before the configuration is.
#[test]
fn nothing_is_committed_while_others_are_eligible() {
    let mut bench = leader(1, &[1, 2]);
    bench.subscribe(replica(2), 5, 0, None);
    let (waits, _) = bench.produce(1, Acks::All);
    let alone = PartitionState { elr: vec![node(2)], ..state(Some(1), 5, 2, &[1]) };
    bench.step(assigned(alone));
    assert_eq!(answer(&bench.sync(), waits), None);
    assert_eq!(answer(&bench.progress(2, 5, 1), waits), None);
    assert_eq!(bench.high_watermark(), 0);
    let (refused, effects) = bench.produce(1, Acks::All);
    assert_eq!(answer(&effects, refused), Some(Err(ErrorCode::NotEnoughReplicas)));
    let effects = bench.step(assigned(state(Some(1), 5, 3, &[1])));
    assert_eq!(answer(&effects, waits), Some(Ok(0)));
}

#[test]
fn nothing_is_committed_while_too_few_are_in_sync() {
    let mut bench = leader(2, &[1]);
    let (all, effects) = bench.produce(1, Acks::All);
    assert_eq!(answer(&effects, all), Some(Err(ErrorCode::NotEnoughReplicas)));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Append { .. })));
    let (own, _) = bench.produce(1, Acks::Leader);
    assert_eq!(answer(&bench.sync(), own), Some(Ok(0)));
    assert_eq!(bench.high_watermark(), 0);
    // More than there are replicas cannot be asked for.
    bench.step(assigned(PartitionState { replicas: vec![node(1)], ..state(Some(1), 5, 2, &[1]) }));
    assert_eq!(bench.high_watermark(), 1);
}

#[test]
fn a_member_that_was_not_heard_of_holds_the_watermark() {
    let mut bench = leader(2, &[1, 2, 3]);
    bench.subscribe(replica(2), 5, 0, None);
    bench.produce(1, Acks::All);
    bench.sync();
    bench.progress(2, 5, 1);
    assert_eq!(bench.high_watermark(), 0);
    bench.subscribe(replica(3), 5, 0, None);
    bench.progress(3, 5, 1);
    assert_eq!(bench.high_watermark(), 1);
}

#[test]
fn a_batch_sent_again_waits_like_the_first_time() {
    let mut bench = leader(1, &[1]);
    bench.produce(4, Acks::None);
    let deadline = Time::new(bench.now + Duration::from_secs(9));
    let mut again = AwaitCommitted {
        token: Token::new(77),
        base_offset: at(1),
        end_offset: at(3),
        acks: Acks::All,
        deadline,
    };
    assert_eq!(bench.step(Event::AwaitCommitted(again)), []);
    assert_eq!(answer(&bench.sync(), Token::new(77)), Some(Ok(1)));
    again.token = Token::new(78);
    assert_eq!(answer(&bench.step(Event::AwaitCommitted(again)), Token::new(78)), Some(Ok(1)));
}

#[test]
fn the_queue_of_waiting_requests_is_bounded_and_patience_ends() {
    let settings = Settings { max_waiting_acks: 1, ..Settings::new(1, LAG, Durability::Synced) };
    let mut bench = Bench::with(0, &[], settings);
    bench.step(assigned(state(Some(1), 5, 1, &[1])));
    let (first, _) = bench.produce(1, Acks::All);
    let (second, effects) = bench.produce(1, Acks::Leader);
    assert_eq!(answer(&effects, second), Some(Err(ErrorCode::ThrottlingQuotaExceeded)));
    assert_eq!(answer(&bench.wait(Duration::from_secs(29)), first), None);
    assert_eq!(
        bench.machine.next_tick(),
        Some(Time::new(bench.now + Duration::from_millis(200))),
        "its own disk is looked at again"
    );
    assert_eq!(answer(&bench.wait(Duration::from_secs(1)), first), Some(Err(ErrorCode::RequestTimedOut)));
}

#[test]
fn relaxed_partitions_count_what_was_appended() {
    let mut bench = Bench::with(0, &[], Settings::new(1, LAG, Durability::Relaxed));
    bench.step(assigned(state(Some(1), 5, 1, &[1])));
    let (own, effects) = bench.produce(1, Acks::Leader);
    assert_eq!(answer(&effects, own), Some(Ok(0)));
    let (all, effects) = bench.produce(1, Acks::All);
    assert_eq!(answer(&effects, all), Some(Ok(1)));
}

#[test]
fn clients_and_followers_of_other_epochs_are_refused() {
    let mut bench = leader(1, &[1]);
    for (expected, code) in [(4, ErrorCode::FencedLeaderEpoch), (6, ErrorCode::UnknownLeaderEpoch)] {
        let deadline = Time::new(bench.now);
        let token = Token::new(900 + u64::from(expected));
        let expected_leader_epoch = Some(epoch(expected));
        let produce = Produce { token, records: 1, acks: Acks::All, deadline, expected_leader_epoch };
        assert_eq!(answer(&bench.step(Event::Produce(produce)), token), Some(Err(code)));
        assert_eq!(bench.subscribe(replica(2), expected, 0, None).0, SubscribeReply::Refused(code));
    }
    let stale = ReplicaIdentity { broker_epoch: BrokerEpoch::new(19), ..replica(2) };
    assert_eq!(bench.subscribe(stale, 5, 0, None).0, SubscribeReply::Refused(ErrorCode::StaleBrokerEpoch));
    let stranger = bench.subscribe(replica(9), 5, 0, None).0;
    assert_eq!(stranger, SubscribeReply::Refused(ErrorCode::NotLeaderOrFollower));
}

#[test]
fn whoever_waits_hears_of_the_end_of_the_leadership() {
    let mut bench = leader(2, &[1, 2]);
    bench.subscribe(replica(2), 5, 0, None);
    let (all, _) = bench.produce(1, Acks::All);
    let (own, _) = bench.produce(1, Acks::Leader);
    let effects = bench.step(assigned(state(Some(2), 6, 2, &[1, 2])));
    assert_eq!(answer(&effects, all), Some(Err(ErrorCode::NotLeaderOrFollower)));
    assert_eq!(answer(&effects, own), Some(Err(ErrorCode::NotLeaderOrFollower)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::DropFollower { .. })));
    let (late, effects) = bench.produce(1, Acks::None);
    assert_eq!(answer(&effects, late), Some(Err(ErrorCode::NotLeaderOrFollower)));
}

#[test]
fn failed_storage_is_final() {
    let mut bench = leader(1, &[1]);
    let (waiting, _) = bench.produce(1, Acks::All);
    let position = bench.machine.log_position();
    let effects = bench.step(Event::StorageFailed);
    assert_eq!(answer(&effects, waiting), Some(Err(ErrorCode::KafkaStorageError)));
    assert!(effects.contains(&Effect::StandingChanged(Standing::Failed)));
    assert_eq!(bench.step(Event::Durable(position)), []);
    assert_eq!(bench.step(assigned(state(Some(1), 6, 2, &[1]))), []);
    let (late, effects) = bench.produce(1, Acks::None);
    assert_eq!(answer(&effects, late), Some(Err(ErrorCode::KafkaStorageError)));
}

#[test]
fn logs_are_compared_by_epochs_alone() {
    // Records of epoch 2 at 0, of 4 at 10, of 7 at 30; nothing of 9 yet.
    let mut bench = Bench::new(44, &[(2, 0), (4, 10), (7, 30)], 1);
    bench.step(assigned(state(Some(1), 9, 1, &[1])));
    let mut ask = |log_end, last| bench.subscribe(replica(2), 9, log_end, last).0;
    let diverging = |e, end| SubscribeReply::Diverging { epoch: epoch(e), end: at(end) };
    assert!(matches!(ask(44, Some(7)), SubscribeReply::Accepted { .. }));
    assert!(matches!(ask(12, Some(4)), SubscribeReply::Accepted { .. }));
    assert!(matches!(ask(0, None), SubscribeReply::Accepted { .. }));
    assert_eq!(ask(45, Some(7)), diverging(7, 44));
    assert_eq!(ask(31, Some(4)), diverging(4, 30));
    assert_eq!(ask(40, Some(6)), diverging(4, 30));
    assert_eq!(ask(12, Some(1)), SubscribeReply::StartAt(at(0)));
    assert_eq!(ask(99, None), SubscribeReply::StartAt(at(0)));
}

#[test]
fn a_follower_below_the_log_start_begins_anew() {
    let mut bench = leader(1, &[1]);
    bench.produce(9, Acks::All);
    bench.sync();
    let delete = |before| Event::DeleteRecords { token: Token::new(500), before };
    let effects = bench.step(delete(Some(at(10))));
    assert_eq!(answer(&effects, Token::new(500)), Some(Err(ErrorCode::OffsetOutOfRange)));
    let effects = bench.step(delete(Some(at(6))));
    assert_eq!(effects[0], Effect::AdvanceLogStart { to: at(6) });
    assert_eq!(answer(&effects, Token::new(500)), Some(Ok(6)));
    assert_eq!(bench.subscribe(replica(2), 5, 3, Some(5)).0, SubscribeReply::StartAt(at(6)));
}

#[test]
fn a_full_disk_takes_back_what_was_not_written() {
    let mut bench = leader(1, &[1]);
    bench.produce(2, Acks::All);
    bench.sync();
    let (waiting, _) = bench.produce(5, Acks::All);
    let late = bench.machine.log_position();
    let log = LocalLog {
        log_start: at(0),
        log_end: at(2),
        durable_end: at(2),
        high_watermark: at(0),
        epochs: epochs(&[(5, 0)]),
    };
    let effects = bench.step(Event::LogReopened(log));
    assert_eq!(answer(&effects, waiting), Some(Err(ErrorCode::KafkaStorageError)));
    assert_eq!(bench.high_watermark(), 2);
    // A sync of what is gone says nothing about what comes in its place.
    let (next, effects) = bench.produce(5, Acks::All);
    assert!(effects.contains(&Effect::Append { token: next, base_offset: at(2), leader_epoch: epoch(5) }));
    assert_eq!(bench.step(Event::Durable(late)), []);
    assert_eq!(answer(&bench.sync(), next), Some(Ok(2)));
}

#[test]
fn what_a_follower_had_in_an_earlier_epoch_does_not_count() {
    let mut bench = leader(2, &[1, 2]);
    bench.produce(3, Acks::All);
    bench.sync();
    bench.subscribe(replica(2), 5, 0, None);
    bench.progress(2, 4, 3);
    assert_eq!(bench.high_watermark(), 0);
    bench.progress(2, 5, 3);
    assert_eq!(bench.high_watermark(), 3);
}

#[test]
fn the_feed_may_lag_behind_an_answer_of_the_controller() {
    let mut bench = leader(1, &[1]);
    let (_, effects) = bench.subscribe(replica(2), 5, 0, None);
    let (proposal, _) = proposed(&effects).unwrap();
    let outcome = IsrOutcome::Applied(state(Some(2), 6, 3, &[2]));
    bench.step(Event::IsrAnswered { proposal, outcome });
    let standing = Standing::Following { leader: node(2), epoch: epoch(6) };
    assert_eq!(bench.machine.standing(), standing);
    assert_eq!(bench.step(assigned(state(Some(1), 5, 2, &[1, 2]))), []);
    assert_eq!(bench.machine.standing(), standing);
}

/// Records were deleted up to the midst of a batch: whoever begins anew gets the whole batch, or would never get the next.
#[test]
fn an_empty_follower_begins_with_the_whole_batch_that_the_log_start_lies_in() {
    let log = LocalLog {
        log_start: at(12),
        log_end: at(44),
        durable_end: at(44),
        high_watermark: at(40),
        epochs: epochs(&[(4, 12)]),
    };
    let mut bench = Bench::on(log, Settings::new(1, LAG, Durability::Synced));
    bench.step(assigned(state(Some(1), 5, 1, &[1])));
    bench.first_batch = Some(at(10));
    let mut ask = |log_end| bench.subscribe(replica(2), 5, log_end, None).0;
    assert_eq!(ask(0), SubscribeReply::StartAt(at(10)));
    assert_eq!(ask(11), SubscribeReply::StartAt(at(10)));
    assert_eq!(ask(12), SubscribeReply::StartAt(at(10)), "within the batch");
    assert!(matches!(ask(10), SubscribeReply::Accepted { from, .. } if from == at(10)));
    bench.first_batch = None;
    assert_eq!(bench.subscribe(replica(2), 5, 10, None).0, SubscribeReply::StartAt(at(12)));
    assert!(matches!(bench.subscribe(replica(2), 5, 12, None).0, SubscribeReply::Accepted { .. }));
}
