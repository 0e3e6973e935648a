//! Who joins and leaves the ISR, when, and what may be believed meanwhile.

use vltava_model::ErrorCode;

use super::*;

/// Node 1 leads in epoch 5 over ten synced records of epoch 3, with these in sync.
fn leader(isr: &[u32]) -> Bench {
    let mut bench = Bench::new(10, &[(3, 0)], 1);
    bench.step(assigned(state(Some(1), 5, 1, isr)));
    bench
}

fn failed(proposal: ProposalId, code: ErrorCode) -> Event {
    Event::IsrAnswered { proposal, outcome: IsrOutcome::Failed(code) }
}

fn applied(proposal: ProposalId, state: PartitionState) -> Event {
    Event::IsrAnswered { proposal, outcome: IsrOutcome::Applied(state) }
}

#[test]
fn a_follower_joins_with_all_that_may_be_committed() {
    let mut bench = Bench::new(10, &[(3, 0)], 2);
    bench.step(assigned(state(Some(1), 5, 1, &[1])));
    // The watermark is at 0, but everything below 10 may have been committed in an earlier epoch (B6).
    let (_, effects) = bench.subscribe(replica(2), 5, 9, Some(3));
    assert_eq!(proposed(&effects), None);
    let effects = bench.progress(2, 5, 10);
    let isr = vec![(node(1), replica(1).broker_epoch), (node(2), replica(2).broker_epoch)];
    let (leader_epoch, partition_epoch) = (epoch(5), PartitionEpoch::new(1));
    let (proposal, _) = proposed(&effects).unwrap();
    assert!(effects.contains(&Effect::ProposeIsr { proposal, leader_epoch, partition_epoch, isr }));
    // One at a time.
    assert_eq!(proposed(&bench.progress(2, 5, 10)), None);
}

#[test]
fn only_the_registered_process_joins() {
    let mut bench = leader(&[1]);
    let newer = ReplicaIdentity { broker_epoch: BrokerEpoch::new(21), ..replica(2) };
    assert_eq!(proposed(&bench.subscribe(newer, 5, 10, Some(3)).1), None);
    let eligible = vec![(node(1), replica(1).broker_epoch), (node(2), newer.broker_epoch)];
    let effects = bench.step(Event::Assigned(Assignment { state: state(Some(1), 5, 1, &[1]), eligible }));
    assert_eq!(proposed(&effects).map(|(_, isr)| isr), Some(vec![1, 2]));
}

#[test]
fn a_joining_follower_counts_before_the_controller_answers() {
    let mut bench = leader(&[1]);
    let (_, effects) = bench.subscribe(replica(2), 5, 10, Some(3));
    let (proposal, _) = proposed(&effects).unwrap();
    bench.step(Event::FollowerGone { follower: node(2), subscription: Token::new(1) });
    bench.produce(1, Acks::All);
    bench.sync();
    assert_eq!(bench.high_watermark(), 10);
    // Refused for good: it never was a member, and is not waited for.
    bench.step(failed(proposal, ErrorCode::IneligibleReplica));
    assert_eq!(bench.high_watermark(), 11);
}

#[test]
fn a_change_that_may_yet_happen_is_not_forgotten() {
    let mut bench = leader(&[1]);
    let (_, effects) = bench.subscribe(replica(2), 5, 10, Some(3));
    let (first, _) = proposed(&effects).unwrap();
    bench.step(Event::FollowerGone { follower: node(2), subscription: Token::new(1) });
    bench.produce(1, Acks::All);
    bench.sync();
    // The first attempt may be executed by and by. A refusal of the second says nothing about it.
    assert_eq!(proposed(&bench.step(failed(first, ErrorCode::RequestTimedOut))), None);
    let (second, isr) = proposed(&bench.wait(Duration::from_secs(1))).unwrap();
    assert_eq!(isr, [1, 2]);
    bench.step(failed(first, ErrorCode::IneligibleReplica));
    bench.step(failed(second, ErrorCode::IneligibleReplica));
    assert_eq!(bench.high_watermark(), 10);
    let (third, _) = proposed(&bench.wait(Duration::from_secs(11))).unwrap();
    bench.step(failed(third, ErrorCode::IneligibleReplica));
    assert_eq!(bench.high_watermark(), 11);
}

#[test]
fn a_lost_answer_is_asked_for_again_and_a_newer_state_ends_it() {
    let mut bench = leader(&[1]);
    let (_, effects) = bench.subscribe(replica(2), 5, 10, Some(3));
    let (first, _) = proposed(&effects).unwrap();
    assert_eq!(proposed(&bench.wait(Duration::from_secs(9))), None);
    let (second, _) = proposed(&bench.wait(Duration::from_secs(1))).unwrap();
    assert!(second > first);
    // The answer to the first arrives late, and is as good.
    bench.step(applied(first, state(Some(1), 5, 2, &[1, 2])));
    assert_eq!(bench.machine.isr(), [node(1), node(2)]);
    assert_eq!(bench.step(failed(second, ErrorCode::InvalidUpdateVersion)), []);
    assert_eq!(proposed(&bench.wait(Duration::from_secs(1))), None);
    // The feed brings the same, and something older.
    bench.step(assigned(state(Some(1), 5, 2, &[1, 2])));
    bench.step(assigned(state(Some(1), 5, 1, &[1])));
    assert_eq!(bench.machine.isr(), [node(1), node(2)]);
}

#[test]
fn what_comes_due_while_nobody_looks_is_still_due() {
    let mut bench = Bench::new(10, &[(3, 0)], 2);
    bench.step(assigned(state(Some(1), 5, 1, &[1])));
    let (_, effects) = bench.subscribe(replica(2), 5, 10, Some(3));
    let (proposal, _) = proposed(&effects).unwrap();
    bench.step(failed(proposal, ErrorCode::IneligibleReplica));
    // Others ask for something meanwhile and are refused, and whoever ticks comes late.
    bench.now += Duration::from_millis(500);
    let (token, effects) = bench.produce(1, Acks::All);
    assert_eq!(answer(&effects, token), Some(Err(ErrorCode::NotEnoughReplicas)));
    assert!(bench.machine.next_tick().is_some_and(|due| due <= Time::new(bench.now)));
    assert_eq!(proposed(&bench.wait(Duration::ZERO)).map(|(_, isr)| isr), Some(vec![1, 2]));
}

#[test]
fn a_follower_that_trails_leaves_and_an_idle_one_stays() {
    let mut bench = leader(&[1, 2, 3]);
    bench.subscribe(replica(2), 5, 10, Some(3));
    bench.subscribe(replica(3), 5, 10, Some(3));
    // Nothing happens for long: nobody trails.
    assert_eq!(proposed(&bench.wait(LAG * 9)), None);
    bench.produce(1, Acks::All);
    bench.sync();
    bench.progress(2, 5, 11);
    assert_eq!(proposed(&bench.wait(LAG)), None);
    let due = bench.machine.next_tick().unwrap();
    assert!(due.since(Time::new(bench.now)) <= Duration::from_nanos(1));
    let (proposal, isr) = proposed(&bench.wait(Duration::from_millis(1))).unwrap();
    assert_eq!(isr, [1, 2]);
    // It counts until the controller says that it does not.
    assert_eq!(bench.high_watermark(), 10);
    bench.step(applied(proposal, state(Some(1), 5, 2, &[1, 2])));
    assert_eq!(bench.high_watermark(), 11);
}

#[test]
fn steady_progress_is_no_lag_however_deep_the_pipeline() {
    let mut bench = leader(&[1, 2]);
    bench.subscribe(replica(2), 5, 10, Some(3));
    for sent in 0..100 {
        bench.produce(1, Acks::All);
        bench.sync();
        // Always three batches behind.
        assert_eq!(proposed(&bench.progress(2, 5, 10 + u64::saturating_sub(sent, 3))), None);
        assert_eq!(proposed(&bench.wait(LAG / 8)), None);
    }
}

#[test]
fn a_member_that_never_comes_leaves_too() {
    let mut bench = leader(&[1, 2]);
    bench.produce(1, Acks::All);
    assert_eq!(proposed(&bench.wait(LAG)), None);
    let (_, isr) = proposed(&bench.wait(Duration::from_millis(1))).unwrap();
    assert_eq!(isr, [1]);
}

#[test]
fn a_fenced_member_leaves_at_once() {
    let mut bench = leader(&[1, 2]);
    let eligible = vec![(node(1), replica(1).broker_epoch)];
    let state = state(Some(1), 5, 1, &[1, 2]);
    let effects = bench.step(Event::Assigned(Assignment { state, eligible }));
    assert_eq!(proposed(&effects).map(|(_, isr)| isr), Some(vec![1]));
}

#[test]
fn another_process_of_a_follower_begins_from_nothing() {
    let mut bench = leader(&[1, 2]);
    bench.subscribe(replica(2), 5, 10, Some(3));
    bench.produce(2, Acks::All);
    bench.sync();
    let wiped =
        ReplicaIdentity { directory: DirectoryId::new(99), broker_epoch: BrokerEpoch::new(21), ..replica(2) };
    bench.subscribe(wiped, 5, 0, None);
    // What the dead process says is not the new one's (B10).
    bench.progress(2, 5, 12);
    assert_eq!(bench.high_watermark(), 10);
    assert_eq!(bench.machine.followers()[0].log_end, Some(at(0)));
}

#[test]
fn a_follower_that_keeps_up_is_waited_for_until_it_is_in() {
    let mut bench = leader(&[1]);
    bench.produce(1, Acks::All);
    bench.sync();
    assert_eq!(proposed(&bench.subscribe(replica(2), 5, 10, Some(3)).1), None);
    bench.produce(1, Acks::All);
    bench.sync();
    // It has reached what the leader had a moment ago, and the watermark is a step ahead again.
    assert_eq!(proposed(&bench.progress(2, 5, 11)), None);
    bench.produce(1, Acks::All);
    bench.sync();
    assert_eq!(bench.high_watermark(), 12);
    assert_eq!(proposed(&bench.progress(2, 5, 12)).map(|(_, isr)| isr), Some(vec![1, 2]));
}

#[test]
fn nobody_is_waited_for_in_vain() {
    // One is far behind. The other kept up, and then stopped.
    let mut bench = leader(&[1]);
    bench.subscribe(replica(2), 5, 3, Some(3));
    bench.produce(1, Acks::All);
    bench.sync();
    bench.subscribe(replica(3), 5, 10, Some(3));
    bench.produce(1, Acks::All);
    bench.sync();
    bench.progress(3, 5, 11);
    bench.produce(1, Acks::All);
    bench.sync();
    assert_eq!(bench.high_watermark(), 12);
    bench.wait(Duration::from_millis(400));
    assert_eq!(bench.high_watermark(), 12);
    bench.wait(Duration::from_millis(101));
    assert_eq!(bench.high_watermark(), 13);
}
