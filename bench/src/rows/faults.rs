//! The gaps that failures leave in a steady stream of acks.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use vltava_client::{Admin, Client};
use vltava_model::ErrorCode;
use vltava_proto::v1::NewTopic;

use super::Bench;
use crate::Fallible;
use crate::cluster::{Cluster, PATIENCE};
use crate::pulse::Pulse;
use crate::report::{Measure, Row, Target};
use crate::topics;

/// `broker.session.timeout.ms` as it ships.
const SESSION_TIMEOUT: Duration = Duration::from_secs(3);

const SETTING: &str = "acks=all, synced, a producer as it ships (linger 5 ms, batch.size 16384), 1,000 records/s to 1 partition, 1 connection a broker";

pub fn kill_leader(bench: &Bench, row: &mut Row) -> Fallible<()> {
    kill(bench, row, 1.0, |roles| (roles.others[0], roles.others[0]))
}

pub fn kill_follower(bench: &Bench, row: &mut Row) -> Fallible<()> {
    kill(bench, row, 1.0, |roles| (roles.others[0], roles.others[1]))
}

pub fn kill_both(bench: &Bench, row: &mut Row) -> Fallible<()> {
    kill(bench, row, 3.0, |roles| (roles.controller, roles.controller))
}

/// Who is what.
struct Roles {
    controller: u32,
    others: Vec<u32>,
}

fn roles(bench: &Bench, cluster: &Cluster) -> Fallible<Roles> {
    let deadline = Instant::now() + PATIENCE;
    let controller = loop {
        let described = bench
            .runtime
            .block_on(async { Admin::new(Client::connect(&cluster.servers())?).describe_quorum().await });
        match described.map(|quorum| quorum.leader_id) {
            Ok(Some(id)) => break id,
            _ if Instant::now() > deadline => return Err("no active controller".into()),
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    Ok(Roles { controller, others: cluster.ids().into_iter().filter(|id| *id != controller).collect() })
}

/// A partition led by `leader`, and a load on it that is warm.
fn begin(bench: &Bench, cluster: &Cluster, topic: &str, leader: u32) -> Fallible<Pulse> {
    let servers = cluster.servers();
    topics::create(&bench.runtime, &servers, topics::led_by(topic, leader, &cluster.ids()))?;
    let pulse = Pulse::start(bench.runtime.handle(), &servers, topic)?;
    std::thread::sleep(Duration::from_millis(500));
    pulse.settle(bench.span.warm_up, PATIENCE)?;
    pulse.reset();
    Ok(pulse)
}

/// Waits until the cluster is whole, ends the load, and counts.
fn end(bench: &Bench, cluster: &Cluster, topic: &str, pulse: Pulse) -> Fallible<()> {
    in_sync(bench, cluster, topic)?;
    let acked = pulse.finish()?;
    topics::verify(&bench.runtime, &cluster.servers(), topic, acked)
}

fn in_sync(bench: &Bench, cluster: &Cluster, topic: &str) -> Fallible<()> {
    bench.runtime.block_on(async { topics::all_in_sync(&Client::connect(&cluster.servers())?, topic).await })
}

fn gap(row: &mut Row, pulse: &Pulse) {
    if let Some(measure) = row.measures.first_mut() {
        measure.samples.push(pulse.longest_gap().as_secs_f64());
    }
}

/// Kills and restarts, once a repetition; `choose` names the leader and the victim.
fn kill(bench: &Bench, row: &mut Row, most: f64, choose: fn(&Roles) -> (u32, u32)) -> Fallible<()> {
    row.setting = SETTING.to_owned();
    row.measures = vec![Measure::new("longest time without ack", "s", Target::AtMost(most))];
    let mut cluster = bench.three()?;
    for n in 0..bench.repetitions {
        let topic = format!("kill-{n}");
        let (leader, victim) = choose(&roles(bench, &cluster)?);
        let pulse = begin(bench, &cluster, &topic, leader)?;
        cluster.kill(victim)?;
        pulse.settle(SESSION_TIMEOUT + Duration::from_secs(1), PATIENCE)?;
        gap(row, &pulse);
        cluster.spawn(victim)?;
        cluster.wait_ready(victim)?;
        end(bench, &cluster, &topic, pulse)?;
    }
    Ok(())
}

pub fn stop_leader(bench: &Bench, row: &mut Row) -> Fallible<()> {
    let most = (SESSION_TIMEOUT + Duration::from_secs(1)).as_secs_f64();
    row.setting = SETTING.to_owned();
    row.measures = vec![Measure::new("longest time without ack", "s", Target::AtMost(most))];
    let mut cluster = bench.three()?;
    for n in 0..bench.repetitions {
        let topic = format!("stop-{n}");
        let leader = roles(bench, &cluster)?.others[0];
        let pulse = begin(bench, &cluster, &topic, leader)?;
        cluster.signal(leader, Signal::STOP)?;
        let settled = pulse.settle(SESSION_TIMEOUT + Duration::from_secs(1), PATIENCE);
        gap(row, &pulse);
        cluster.signal(leader, Signal::CONT)?;
        settled?;
        end(bench, &cluster, &topic, pulse)?;
    }
    Ok(())
}

pub fn kill_controller(bench: &Bench, row: &mut Row) -> Fallible<()> {
    row.setting = "a client that is connected already; its call is repeated until it succeeds".to_owned();
    row.measures = vec![Measure::new("kill to topic created", "s", Target::AtMost(2.0))];
    let mut cluster = bench.three()?;
    for n in 0..bench.repetitions {
        topics::create(&bench.runtime, &cluster.servers(), topics::replicated(&format!("before-{n}"), 1))?;
        let victim = roles(bench, &cluster)?.controller;
        let admin = bench.runtime.block_on(async {
            let admin = Admin::new(Client::connect(&cluster.servers())?);
            admin.describe_cluster().await.map(|_| admin)
        })?;
        let began = Instant::now();
        cluster.kill(victim)?;
        // Two replicas: what lives can hold them.
        let topic = NewTopic { replication_factor: 2, ..topics::replicated(&format!("next-{n}"), 1) };
        bench.runtime.block_on(async {
            loop {
                match admin.create_topic(topic.clone()).await {
                    Ok(_) => break Fallible::Ok(()),
                    Err(error) if began.elapsed() > PATIENCE => break Err(error.into()),
                    Err(error) if error.code() == ErrorCode::TopicAlreadyExists => break Ok(()),
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        })?;
        row.measures[0].samples.push(began.elapsed().as_secs_f64());
        cluster.spawn(victim)?;
        cluster.wait_ready(victim)?;
        in_sync(bench, &cluster, &format!("before-{n}"))?;
    }
    Ok(())
}

pub fn rolling_restart(bench: &Bench, row: &mut Row) -> Fallible<()> {
    row.setting = format!("{SETTING}; SIGTERM, start, wait until in sync, for each of three nodes");
    row.measures = vec![
        Measure::new("longest time without ack", "s", Target::AtMost(0.3)),
        Measure::new("all three restarted", "s", Target::Unset),
    ];
    let mut cluster = bench.three()?;
    for n in 0..bench.repetitions {
        let topic = format!("roll-{n}");
        let pulse = begin(bench, &cluster, &topic, 1)?;
        let began = Instant::now();
        for id in cluster.ids() {
            cluster.terminate(id)?;
            cluster.spawn(id)?;
            cluster.wait_ready(id)?;
            in_sync(bench, &cluster, &topic)?;
        }
        pulse.settle(Duration::from_secs(1), PATIENCE)?;
        gap(row, &pulse);
        row.measures[1].samples.push(began.elapsed().as_secs_f64());
        end(bench, &cluster, &topic, pulse)?;
    }
    Ok(())
}
