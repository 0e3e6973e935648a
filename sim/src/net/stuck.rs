//! Connections that are stuck: what is sent on them is held, for long, while others between the same machines go on.

use std::collections::BTreeMap;
use std::task::Waker;

use rand::RngExt;

use super::{ConnId, Event, Side, Wakers, net};
use crate::host::HostId;
use crate::trace;

/// What is held, by connection and the end that it was to reach.
#[derive(Default)]
pub(super) struct Stuck(BTreeMap<(ConnId, Side), Vec<Event>>);

impl Stuck {
    /// Gives the event back when its connection is not stuck; holds it else.
    pub(super) fn pass(&mut self, event: Event) -> Option<Event> {
        match self.0.get_mut(&(event.conn, event.side)) {
            Some(held) => {
                held.push(event);
                None
            }
            None => Some(event),
        }
    }

    pub(super) fn forget(&mut self, conn: ConnId) {
        self.0.retain(|(stuck, _), _| *stuck != conn);
    }
}

/// Has some of the connections between two machines stick, in one direction or both; says which.
pub fn stick_connections(one: HostId, other: HostId, permille: u64) -> Vec<u64> {
    let mut net = net();
    let chosen = net.some_between(one, other, permille);
    for id in &chosen {
        let sides: &[Side] = [&[0][..], &[1], &[0, 1]][net.random.random_range(0..3)];
        trace::note("stick", &[*id], format_args!("connection {id} between {one} and {other}, to {sides:?}"));
        for side in sides {
            net.stuck.0.entry((*id, *side)).or_default();
        }
    }
    chosen
}

/// Has stuck connections go on with what was held, or break.
pub fn unstick_connections(conns: &[u64], breaks: bool) {
    let mut wakers = Wakers::new();
    {
        let mut net = net();
        for id in conns {
            trace::note(
                "unstick",
                &[*id, u64::from(breaks)],
                format_args!("connection {id}, breaks: {breaks}"),
            );
            if breaks {
                wakers.extend(net.break_both(*id));
                continue;
            }
            for side in [0, 1] {
                let Some(held) = net.stuck.0.remove(&(*id, side)) else { continue };
                let Some(conn) = net.conns.get(id) else { continue };
                let (from, to) = (conn.ends[1 - side].host, conn.ends[side].host);
                let passing = net.link(from, to).hold_first(held);
                passing.into_iter().for_each(|event| net.transmit(from, to, event));
            }
        }
    }
    wakers.into_iter().for_each(Waker::wake);
}
