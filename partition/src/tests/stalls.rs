//! Who does not follow and says so, or stands still without a word; and leaders that cannot lead.

use vltava_model::ErrorCode;

use super::*;

/// How long a follower may stand still here, and a second look later.
const STALL: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(201);

/// Node 1 leads in epoch 5 over ten synced records of epoch 3; `following` of those in sync have all of it.
fn leader(min_insync: u32, isr: &[u32], following: &[u32]) -> Bench {
    let settings = Settings { stall_time_max: STALL, ..Settings::new(min_insync, LAG, Durability::Synced) };
    let mut bench = Bench::with(10, &[(3, 0)], settings);
    bench.step(assigned(state(Some(1), 5, 1, isr)));
    for id in following {
        bench.subscribe(replica(*id), 5, 10, Some(3));
    }
    bench
}

fn suspended(id: u32, in_epoch: u32) -> Event {
    Event::FollowerSuspended(FollowerSuspended { follower: replica(id), leader_epoch: epoch(in_epoch) })
}

/// The ISR that is proposed after a while in which nothing is heard.
fn after_silence(bench: &mut Bench) -> Option<Vec<u32>> {
    assert_eq!(proposed(&bench.wait(STALL + Duration::from_millis(1))), None, "nobody is left unasked");
    proposed(&bench.wait(LOOK)).map(|(_, isr)| isr)
}

#[test]
fn who_stands_still_leaves_while_records_wait_for_it() {
    let mut bench = leader(2, &[1, 2, 3], &[2, 3]);
    // For long nothing is to be done.
    assert_eq!(after_silence(&mut bench), None);
    bench.produce(1, Acks::All);
    bench.sync();
    bench.progress(2, 5, 11);
    assert_eq!(proposed(&bench.wait(STALL)), None);
    let due = bench.machine.next_tick().unwrap();
    assert_eq!(due.since(Time::new(bench.now)), Duration::from_nanos(1));
    assert_eq!(proposed(&bench.wait(Duration::from_nanos(1))), None);
    let due = bench.machine.next_tick().unwrap();
    assert_eq!(due.since(Time::new(bench.now)), Duration::from_millis(200));
    assert_eq!(proposed(&bench.wait(Duration::from_millis(200))).map(|(_, isr)| isr), Some(vec![1, 2]));
}

#[test]
fn who_comes_nearer_stays_however_slow() {
    let mut bench = leader(2, &[1, 2, 3], &[2, 3]);
    bench.produce(8, Acks::All);
    bench.sync();
    bench.progress(2, 5, 18);
    for end in 11..13 {
        assert_eq!(proposed(&bench.wait(STALL)), None);
        assert_eq!(proposed(&bench.progress(3, 5, end)), None);
    }
    // Saying the same again is no progress.
    bench.wait(STALL);
    bench.progress(3, 5, 12);
    assert_eq!(after_silence(&mut bench), Some(vec![1, 2]));
}

#[test]
fn a_leader_that_was_stopped_itself_hears_first_what_was_said_meanwhile() {
    let mut bench = leader(2, &[1, 2, 3], &[2, 3]);
    bench.produce(1, Acks::All);
    bench.sync();
    assert_eq!(proposed(&bench.wait(STALL * 3)), None);
    assert_eq!(proposed(&bench.progress(2, 5, 11)), None);
    assert_eq!(proposed(&bench.progress(3, 5, 11)), None);
    assert_eq!(proposed(&bench.wait(LOOK)), None);
    assert_eq!(bench.high_watermark(), 11);
}

#[test]
fn who_has_no_subscription_stands_still_from_its_end_on() {
    let mut bench = leader(2, &[1, 2, 3], &[2, 3]);
    bench.step(Event::FollowerGone { follower: node(3), subscription: Token::new(2) });
    // As long as nothing waits for it, it may stay.
    assert_eq!(after_silence(&mut bench), None);
    bench.produce(1, Acks::All);
    bench.sync();
    bench.progress(2, 5, 11);
    assert_eq!(proposed(&bench.wait(LOOK)).map(|(_, isr)| isr), Some(vec![1, 2]));
}

#[test]
fn who_says_that_it_cannot_follow_leaves_at_once_and_joins_as_others_do() {
    let mut bench = leader(2, &[1, 2, 3], &[2, 3]);
    assert_eq!(proposed(&bench.step(suspended(3, 4))), None, "that was said to another leader");
    bench.produce(1, Acks::All);
    bench.sync();
    bench.progress(2, 5, 11);
    bench.step(Event::FollowerGone { follower: node(3), subscription: Token::new(2) });
    let (proposal, isr) = proposed(&bench.step(suspended(3, 5))).unwrap();
    assert_eq!(isr, [1, 2]);
    assert_eq!(bench.high_watermark(), 10, "it counts until the controller says that it does not");
    let outcome = IsrOutcome::Applied(state(Some(1), 5, 2, &[1, 2]));
    bench.step(Event::IsrAnswered { proposal, outcome });
    assert_eq!(bench.high_watermark(), 11);
    let (_, effects) = bench.subscribe(replica(3), 5, 10, Some(3));
    assert_eq!(proposed(&effects), None);
    assert_eq!(proposed(&bench.progress(3, 5, 11)).map(|(_, isr)| isr), Some(vec![1, 2, 3]));
}

#[test]
fn a_word_of_an_earlier_stream_does_not_hold_against_a_subscription() {
    let mut bench = leader(2, &[1, 2, 3], &[2, 3]);
    assert_eq!(proposed(&bench.step(suspended(3, 5))), None);
    bench.subscribe(replica(3), 5, 10, Some(3));
    bench.step(Event::FollowerGone { follower: node(3), subscription: Token::new(3) });
    assert_eq!(proposed(&bench.wait(Duration::ZERO)), None, "it subscribed since it said so");
}

#[test]
fn a_member_that_stands_still_is_not_let_in_again_by_its_old_log() {
    // Below `min.insync.replicas` the watermark rests, and whoever has reached it could join and be thrown out for ever.
    let mut bench = leader(2, &[1, 2], &[2]);
    bench.produce(1, Acks::All);
    bench.sync();
    let silence = after_silence(&mut bench);
    assert_eq!(silence, Some(vec![1]));
    let eligible_outside = PartitionState { elr: vec![node(2)], ..state(Some(1), 5, 2, &[1]) };
    let effects = bench.step(assigned(eligible_outside));
    assert_eq!(proposed(&effects), None);
    assert_eq!(proposed(&bench.wait(Duration::from_secs(1))), None);
    assert_eq!(proposed(&bench.progress(2, 5, 11)).map(|(_, isr)| isr), Some(vec![1, 2]));
}

#[test]
fn a_leader_whose_followers_all_stand_still_lets_one_of_them_lead() {
    let mut bench = leader(2, &[1, 2, 3], &[2, 3]);
    bench.produce(1, Acks::All);
    bench.sync();
    assert_eq!(after_silence(&mut bench), Some(vec![2, 3]));
    // Refused, since the controller does not hear of one either: it goes on, and tries again.
    let refused = Event::IsrAnswered {
        proposal: ProposalId::new(1),
        outcome: IsrOutcome::Failed(ErrorCode::IneligibleReplica),
    };
    bench.step(refused);
    assert_eq!(proposed(&bench.wait(Duration::from_secs(1))).map(|(_, isr)| isr), Some(vec![2, 3]));
}

#[test]
fn nobody_steps_down_for_too_few() {
    // Two of them could not commit without the third.
    let mut bench = leader(3, &[1, 2, 3], &[2, 3]);
    bench.produce(1, Acks::All);
    bench.sync();
    assert_eq!(after_silence(&mut bench), Some(vec![1]));
    // One that said that it cannot is no heir.
    let mut bench = leader(2, &[1, 2, 3], &[2, 3]);
    bench.step(Event::FollowerGone { follower: node(3), subscription: Token::new(2) });
    let (proposal, _) = proposed(&bench.step(suspended(3, 5))).unwrap();
    bench.step(Event::IsrAnswered { proposal, outcome: IsrOutcome::Applied(state(Some(1), 5, 2, &[1, 2])) });
    bench.produce(1, Acks::All);
    bench.sync();
    assert_eq!(after_silence(&mut bench), Some(vec![1]));
}

#[test]
fn a_leader_that_can_append_nothing_steps_down_where_others_can() {
    let mut bench = leader(2, &[1, 2, 3], &[2, 3]);
    let effects = bench.step(Event::Ability(Ability::Hindered));
    assert_eq!(proposed(&effects).map(|(_, isr)| isr), Some(vec![2, 3]));
    let mut bench = leader(2, &[1, 2], &[2]);
    assert_eq!(proposed(&bench.step(Event::Ability(Ability::Hindered))), None, "one alone can't commit");
    let (_, effects) = bench.subscribe(replica(3), 5, 10, Some(3));
    assert_eq!(proposed(&effects).map(|(_, isr)| isr), Some(vec![1, 2, 3]), "until there are two");
}

#[test]
fn a_leader_whose_disk_stands_still_steps_down() {
    let mut bench = leader(2, &[1, 2, 3], &[2, 3]);
    bench.produce(1, Acks::All);
    bench.progress(2, 5, 11);
    bench.progress(3, 5, 11);
    assert_eq!(after_silence(&mut bench), Some(vec![2, 3]));
    let mut bench = leader(2, &[1, 2, 3], &[2, 3]);
    bench.produce(1, Acks::All);
    bench.progress(2, 5, 11);
    bench.progress(3, 5, 11);
    bench.wait(STALL);
    bench.sync();
    assert_eq!(after_silence(&mut bench), None);
}

#[test]
fn a_follower_that_can_append_nothing_says_so_to_each_leader_until_it_can() {
    let mut bench = Bench::new(10, &[(3, 0)], 2);
    bench.step(assigned(state(Some(2), 5, 1, &[1, 2, 3])));
    let tells = |leader, in_epoch| Effect::Suspend { leader: node(leader), leader_epoch: epoch(in_epoch) };
    assert_eq!(bench.step(Event::Ability(Ability::Hindered)), [tells(2, 5)]);
    assert_eq!(bench.step(Event::Ability(Ability::Hindered)), []);
    // What comes late is not taken.
    let watermark =
        Event::LeaderWatermark { leader_epoch: epoch(5), high_watermark: at(10), log_start: at(0) };
    assert_eq!(bench.step(watermark), []);
    assert_eq!(bench.step(Event::StreamLost { leader_epoch: epoch(5) }), []);
    // It says it again and again: the leader may not have heard it.
    assert_eq!(bench.wait(Duration::from_millis(199)), []);
    assert_eq!(bench.wait(Duration::from_millis(1)), [tells(2, 5)]);
    assert_eq!(bench.wait(Duration::from_millis(399)), []);
    assert_eq!(bench.wait(Duration::from_millis(1)), [tells(2, 5)]);
    let effects = bench.step(assigned(state(Some(3), 6, 2, &[1, 2, 3])));
    assert!(effects.contains(&tells(3, 6)) && !effects.contains(&Effect::Unsubscribe { leader: node(2) }));
    let effects = bench.step(Event::Ability(Ability::Able));
    assert!(matches!(effects[..], [Effect::Subscribe { leader, .. }] if leader == node(3)), "{effects:?}");
    assert_eq!(bench.step(Event::Ability(Ability::Able)), []);
}
