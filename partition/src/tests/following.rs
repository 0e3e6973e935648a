//! Agreeing with a leader's log, appending, and what must never be cut.

use super::*;

/// Node 1 follows node 2 in epoch 9, with records of epoch 2 at 0, of 4 at 10 and of 7 at 30, up to 44.
fn follower() -> Bench {
    let mut bench = Bench::new(44, &[(2, 0), (4, 10), (7, 30)], 1);
    bench.step(assigned(state(Some(2), 9, 1, &[2])));
    bench
}

fn accepted(high_watermark: u64) -> Event {
    Event::LeaderWatermark { leader_epoch: epoch(9), high_watermark: at(high_watermark), log_start: at(0) }
}

fn diverging(at_epoch: u32, end: u64) -> Event {
    Event::LeaderDiverging { leader_epoch: epoch(9), epoch: epoch(at_epoch), end: at(end) }
}

fn data(base: u64, end: u64, epochs: &[(u32, u64)]) -> Event {
    Event::LeaderData(LeaderData {
        leader_epoch: epoch(9),
        base_offset: at(base),
        end_offset: at(end),
        batch_epochs: epochs.iter().map(|(e, start)| (epoch(*e), at(*start))).collect(),
        high_watermark: at(40),
        log_start: at(0),
    })
}

/// Where it subscribes among these effects, and with which last epoch.
fn subscribed(effects: &[Effect]) -> Option<(u64, Option<u32>)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Subscribe { log_end, last_epoch, .. } => {
            Some((log_end.get(), last_epoch.map(LeaderEpoch::get)))
        }
        _ => None,
    })
}

fn appends(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::AppendReplicated { .. }))
}

#[test]
fn it_subscribes_with_its_end_and_last_epoch() {
    let mut bench = Bench::new(44, &[(2, 0), (7, 30)], 1);
    let effects = bench.step(assigned(state(Some(2), 9, 1, &[2])));
    assert_eq!(subscribed(&effects), Some((44, Some(7))));
    let standing = Standing::Following { leader: node(2), epoch: epoch(9) };
    assert!(effects.contains(&Effect::StandingChanged(standing)));
}

#[test]
fn it_cuts_where_epochs_part() {
    let cut = |event| {
        let mut bench = follower();
        let effects = bench.step(event);
        let Some(Effect::Truncate { to }) = effects.first() else { panic!("{effects:?}") };
        let again = subscribed(&effects).unwrap();
        assert_eq!(again.0, to.get());
        (to.get(), again.1)
    };
    // Both have the epoch, the leader less of it, or more.
    assert_eq!(cut(diverging(7, 35)), (35, Some(7)));
    assert_eq!(cut(diverging(4, 25)), (25, Some(4)));
    assert_eq!(cut(diverging(4, 35)), (30, Some(4)));
    // The leader's epoch is unknown here: what is left is compared again (KIP-279).
    assert_eq!(cut(diverging(5, 20)), (30, Some(4)));
    assert_eq!(cut(diverging(1, 0)), (0, None));
}

#[test]
fn a_watermark_is_believed_only_in_agreement() {
    let mut bench = follower();
    bench.step(diverging(7, 35));
    let other = Event::LeaderWatermark { leader_epoch: epoch(8), high_watermark: at(40), log_start: at(0) };
    bench.step(other);
    assert_eq!(bench.high_watermark(), 0);
    bench.step(accepted(40));
    assert_eq!(bench.high_watermark(), 35);
}

#[test]
fn it_appends_in_order_and_reports_what_is_synced() {
    let mut bench = follower();
    assert!(!appends(&bench.step(data(44, 50, &[(9, 44)]))), "before the leader agreed");
    bench.step(accepted(30));
    assert!(appends(&bench.step(data(44, 50, &[(7, 44), (9, 46)]))));
    assert_eq!(bench.machine.epochs().entries().last(), Some(&(epoch(9), at(46))));
    assert_eq!(bench.high_watermark(), 40);
    let report = Effect::ReportProgress {
        leader: node(2),
        leader_epoch: epoch(9),
        log_end: at(50),
        durable_end: at(50),
    };
    assert_eq!(bench.sync(), [report]);
    // Again: nothing. With a gap: from where it stands.
    assert_eq!(bench.step(data(44, 50, &[(7, 44), (9, 46)])), []);
    assert_eq!(subscribed(&bench.step(data(51, 52, &[(9, 51)]))), Some((50, Some(9))));
}

#[test]
fn nonsense_from_the_leader_stops_it() {
    for nonsense in [
        data(44, 50, &[]),
        data(44, 50, &[(9, 45)]),
        data(44, 50, &[(6, 44)]),
        data(44, 50, &[(10, 44)]),
        data(44, 50, &[(9, 44), (7, 46)]),
        data(44, 50, &[(7, 44), (9, 50)]),
    ] {
        let mut bench = follower();
        bench.step(accepted(30));
        let effects = bench.step(nonsense.clone());
        assert!(
            matches!(effects[0], Effect::Alarm(Alarm::LeaderContradictsItself { .. })),
            "{nonsense:?}: {effects:?}"
        );
        assert_eq!(bench.step(data(44, 50, &[(9, 44)])), []);
        assert!(bench.step(assigned(state(Some(2), 10, 2, &[2]))).len() > 1);
    }
}

#[test]
fn late_answers_of_an_earlier_stream_cut_nothing() {
    let mut bench = follower();
    bench.step(accepted(0));
    bench.step(data(44, 50, &[(9, 44)]));
    bench.step(Event::StreamLost { leader_epoch: epoch(9) });
    assert_eq!(bench.step(diverging(4, 30)), []);
    assert_eq!(bench.step(Event::LeaderStartAt { leader_epoch: epoch(9), log_start: at(3) }), []);
    assert_eq!(bench.machine.offsets().log_end, at(50));
    // But what the leader deleted meanwhile is gone.
    let effects = bench.step(Event::LeaderStartAt { leader_epoch: epoch(9), log_start: at(60) });
    assert_eq!(effects[0], Effect::StartAt { offset: at(60) });
    assert_eq!(subscribed(&effects), Some((60, None)));
    // Until that is synced a crash would bring the old log back.
    assert_eq!(bench.machine.offsets().durable_end, at(44));
    bench.sync();
    assert_eq!(bench.machine.offsets().durable_end, at(60));
}

#[test]
fn committed_records_are_not_given_up() {
    let mut bench = follower();
    bench.step(accepted(40));
    bench.step(assigned(state(Some(3), 10, 2, &[3])));
    let asked = |to| Event::LeaderDiverging { leader_epoch: epoch(10), epoch: epoch(7), end: at(to) };
    let effects = bench.step(asked(39));
    assert!(matches!(
        effects[0],
        Effect::Alarm(Alarm::CommittedRecordsDiverge { verdict: Verdict::Kept, .. })
    ));
    assert_eq!(bench.machine.offsets().log_end, at(44));
    // It stays out of this until another leads.
    assert_eq!(bench.step(Event::StreamLost { leader_epoch: epoch(10) }), []);
    let suspend = Effect::Suspend { leader: node(3), leader_epoch: epoch(10) };
    assert_eq!(bench.wait(Duration::from_secs(60)), [suspend]);
    let recovering = PartitionState { recovery: LeaderRecovery::Recovering, ..state(Some(3), 11, 3, &[3]) };
    bench.step(assigned(recovering));
    let effects =
        bench.step(Event::LeaderDiverging { leader_epoch: epoch(11), epoch: epoch(7), end: at(39) });
    assert!(effects.contains(&Effect::Truncate { to: at(39) }));
    assert_eq!(bench.high_watermark(), 39);
}

#[test]
fn what_was_synced_before_a_cut_says_nothing_about_what_comes_after() {
    let mut bench = Bench::new(0, &[], 1);
    bench.step(assigned(state(Some(1), 3, 1, &[1])));
    bench.produce(10, Acks::None);
    let before = bench.machine.log_position();
    bench.step(assigned(state(Some(2), 9, 2, &[2])));
    bench.step(diverging(3, 4));
    bench.step(accepted(0));
    bench.step(data(4, 8, &[(9, 4)]));
    assert_eq!(bench.step(Event::Durable(before)), []);
    assert_eq!(bench.machine.offsets().durable_end, at(0));
    assert_eq!(bench.machine.watermark_to_checkpoint(), at(0));
    bench.sync();
    assert_eq!(bench.machine.offsets().durable_end, at(8));
}

#[test]
fn a_silent_leader_is_asked_again() {
    let mut bench = follower();
    assert_eq!(bench.wait(Duration::from_secs(4)), []);
    assert_eq!(subscribed(&bench.wait(Duration::from_secs(1))), Some((44, Some(7))));
}

#[test]
fn metadata_older_than_the_log_are_not_obeyed() {
    let mut bench = Bench::new(44, &[(2, 0), (7, 30)], 1);
    let effects = bench.step(assigned(state(Some(2), 6, 1, &[2])));
    let alarm = Alarm::MetadataOlderThanLog { assigned: epoch(6), logged: epoch(7) };
    assert_eq!(effects, [Effect::Alarm(alarm)]);
    assert_eq!(bench.machine.standing(), Standing::Idle);
}

#[test]
fn the_same_leader_in_another_epoch_is_another_leader() {
    let mut bench = follower();
    bench.step(accepted(0));
    let effects = bench.step(assigned(state(Some(2), 11, 5, &[2])));
    assert_eq!(subscribed(&effects), Some((44, Some(7))), "B4");
}

#[test]
fn an_empty_log_moves_back_to_where_the_leaders_first_batch_begins() {
    let log = LocalLog {
        log_start: at(12),
        log_end: at(12),
        durable_end: at(12),
        high_watermark: at(12),
        epochs: epochs(&[]),
    };
    let mut bench = Bench::on(log, Settings::new(1, LAG, Durability::Synced));
    bench.step(assigned(state(Some(2), 9, 1, &[2])));
    let effects = bench.step(Event::LeaderStartAt { leader_epoch: epoch(9), log_start: at(10) });
    assert_eq!(effects[0], Effect::StartAt { offset: at(10) });
    assert_eq!(subscribed(&effects), Some((10, None)));
    bench.step(Event::LeaderWatermark { leader_epoch: epoch(9), high_watermark: at(40), log_start: at(12) });
    assert!(appends(&bench.step(data(10, 15, &[(7, 10)]))));
    bench.step(Event::LeaderWatermark { leader_epoch: epoch(9), high_watermark: at(40), log_start: at(12) });
    assert_eq!(bench.machine.offsets().log_start, at(12));
}
