//! Lets the plan happen: strikes and heals when it is time, notes who ended by itself, and records all of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use vltava_history::event::{FaultBegins, FaultRef, Retention};
use vltava_model::NodeId;

use crate::Fallible;
use crate::cluster::Role;
use crate::eyes::Seen;
use crate::faults::{Fault, Field, Struck};
use crate::plan::Strike;
use crate::scribe::Scribe;
use crate::weather::{Almanac, Victim};

/// How often it looks around.
const TICK: Duration = Duration::from_millis(10);
/// How often wounds are looked after.
const WOUNDS_TICK: Duration = Duration::from_millis(400);

struct Active {
    fault: Box<dyn Fault>,
    name: &'static str,
    rng: StdRng,
    until: Instant,
    number: FaultRef,
}

/// What happened.
#[derive(Default, Debug)]
pub struct Tally {
    /// How often each kind struck.
    pub struck: BTreeMap<&'static str, u32>,
    /// How often there was nobody to strike.
    pub skipped: u32,
    /// What stood in the way of writing meanwhile.
    pub almanac: Almanac,
}

/// See the module.
pub struct Nemesis<'a> {
    field: &'a mut Field,
    scribe: &'a Scribe,
    active: Vec<Active>,
    tally: Tally,
    wounds_at: Instant,
}

impl<'a> Nemesis<'a> {
    /// One that has done nothing yet.
    pub fn new(field: &'a mut Field, scribe: &'a Scribe) -> Self {
        let almanac = Almanac::new(field.cluster.ids(Role::Controller));
        let tally = Tally { almanac, ..Tally::default() };
        Self { field, scribe, active: Vec::new(), tally, wounds_at: Instant::now() }
    }

    /// Lets the plan happen from `start` on, until `end` or until it is told to stop; then heals all that is left.
    ///
    /// # Errors
    /// When this program or the system below fails.
    pub fn run(
        mut self,
        plan: &[Strike],
        start: Instant,
        end: Instant,
        stop: &AtomicBool,
    ) -> Fallible<Tally> {
        let mut plan = plan.iter().peekable();
        while Instant::now() < end && !stop.load(Ordering::SeqCst) {
            if let Some(strike) = plan.next_if(|strike| start + strike.at <= Instant::now()) {
                self.strike(strike)?;
            }
            self.heal(|active| active.until <= Instant::now())?;
            self.look_around()?;
            std::thread::sleep(TICK);
        }
        self.heal(|_| true)?;
        Ok(self.tally)
    }

    /// Notes what stands in the way now.
    fn note_weather(&mut self) {
        self.tally.almanac.note(self.scribe.now(), self.field.weather());
    }

    fn look_around(&mut self) -> Fallible<()> {
        let deaths = self.field.cluster.deaths()?;
        for death in &deaths {
            self.scribe.say(&format!("node {} ended: {}", death.node, death.status));
        }
        if !deaths.is_empty() {
            self.note_weather();
        }
        self.field.notice(deaths);
        for death in std::mem::take(&mut self.field.wrongful_deaths) {
            self.scribe.violation(&death);
        }
        if self.wounds_at.elapsed() > WOUNDS_TICK {
            let before = self.field.wounds.len();
            self.field.look_after_wounds();
            if self.field.wounds.len() < before {
                self.scribe.say("what was lost for ever has been made again");
            }
            self.wounds_at = Instant::now();
        }
        Ok(())
    }

    /// A partition that the fault about to strike hits.
    fn victim(&self, seen: &Seen) -> Victim {
        let name = &seen.topic;
        let partition = self.scribe.recorder.partition(seen.id, name, seen.index, Retention::Everything);
        let fault = self.tally.struck.values().map(|times| *times as usize).sum();
        Victim { fault, partition, replicas: seen.replicas.clone(), isr: seen.isr.clone() }
    }

    fn strike(&mut self, strike: &Strike) -> Fallible<()> {
        let mut rng = StdRng::seed_from_u64(strike.seed);
        let mut fault = (strike.kind.make)();
        let leaderships = self.field.eyes.leaderships();
        let at = self.scribe.now();
        let Some(Struck { nodes, detail }) = fault.strike(self.field, &mut rng)? else {
            self.tally.skipped += 1;
            return Ok(());
        };
        self.note_weather();
        let led = nodes.iter().filter_map(|node| leaderships.get(node)).flatten();
        let victims: Vec<Victim> = led.take(FaultBegins::LEADS_MAX).map(|seen| self.victim(seen)).collect();
        let name = strike.kind.name;
        self.scribe.say(&format!("{name} {nodes:?} {detail} for {:.1?}", strike.lasts));
        *self.tally.struck.entry(name).or_default() += 1;
        let begins = FaultBegins {
            fault: FaultRef::new(0),
            kind: name.to_owned(),
            leads: victims.iter().map(|victim| victim.partition).collect(),
            nodes: nodes.into_iter().map(NodeId::new).collect(),
            detail,
            at,
        };
        self.tally.almanac.hit(victims);
        let number = self.scribe.recorder.fault_begins(begins);
        self.active.push(Active { fault, name, rng, until: Instant::now() + strike.lasts, number });
        Ok(())
    }

    fn heal(&mut self, is_over: impl Fn(&Active) -> bool) -> Fallible<()> {
        let (over, active) = std::mem::take(&mut self.active).into_iter().partition(is_over);
        self.active = active;
        let over: Vec<Active> = over;
        for mut healed in over {
            healed.fault.heal(self.field, &mut healed.rng)?;
            self.note_weather();
            self.scribe.say(&format!("{} is over", healed.name));
            self.scribe.recorder.fault_ends(healed.number, self.scribe.now());
        }
        Ok(())
    }
}
