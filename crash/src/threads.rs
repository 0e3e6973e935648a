//! The threads of a process on trial: real ones, of which exactly one runs at a time, so that a run follows from its seed.
//!
//! A thread that waits in `vltava_threads` hands over to another that may have something to do, by chance. When all wait,
//! time passes for one that waits for a limited time; when there is none, they wait for ever, which ends the trial. Each
//! thread that nobody here has started has a world of its own, so that trials may run side by side.

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use vltava_threads::{Simulator, Woken};

use crate::dice::Dice;

/// So often time passes in a row, without anything else happening, before nothing is expected any more.
const PATIENCE: u32 = 10_000;

/// The thread that a world began with.
const MAIN: u64 = 0;

struct World {
    /// Who runs.
    turn: AtomicU64,
    table: Mutex<Table>,
}

struct Table {
    dice: Dice,
    last: u64,
    threads: Vec<Record>,
    /// How often time has passed since something happened.
    passed: u32,
    is_stuck: bool,
}

struct Record {
    number: u64,
    thread: Thread,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It may have something to do.
    May,
    /// It had nothing to do when it was asked last, and nobody has done anything since.
    Idle { limited: bool },
    /// Its limit has passed.
    TimedOut,
}

thread_local! {
    static ME: RefCell<Option<(Arc<World>, u64)>> = const { RefCell::new(None) };
}

/// From now on, chance among the caller's threads follows `seed`.
pub fn enter(seed: u64) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| vltava_threads::install(Box::new(Baton)));
    let (world, number) = me();
    assert_eq!(number, MAIN, "a trial is begun by a thread that nobody here has started");
    let is_fresh = {
        let mut table = world.table();
        table.dice = Dice(seed);
        !table.is_stuck && table.threads.len() == 1
    };
    if !is_fresh {
        // Threads of a trial that went wrong wait in their world for ever.
        ME.with_borrow_mut(|me| *me = None);
        enter(seed);
    }
}

/// Lets other threads of the caller's world go first, one time out of so many.
pub fn interrupt(one_of: u64) {
    let (world, number) = me();
    let is_due = world.table().dice.roll(one_of) == 0;
    if is_due {
        yield_to_others(&world, number);
    }
}

/// Lets other threads of the caller's world go first, for one of which it waits: no time passes by itself.
pub fn pause(_: Duration) {
    let (world, number) = me();
    yield_to_others(&world, number);
}

/// The caller's world and its number in it.
fn me() -> (Arc<World>, u64) {
    ME.with_borrow_mut(|me| me.get_or_insert_with(|| (World::new(), MAIN)).clone())
}

impl World {
    fn new() -> Arc<Self> {
        let main = Record { number: MAIN, thread: std::thread::current(), state: State::May };
        let table = Table { dice: Dice(0), last: MAIN, threads: vec![main], passed: 0, is_stuck: false };
        Arc::new(Self { turn: AtomicU64::new(MAIN), table: Mutex::new(table) })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_to(&self, number: u64, thread: &Thread) {
        self.turn.store(number, Ordering::Release);
        thread.unpark();
    }

    fn wait_for_turn(&self, number: u64) {
        while self.turn.load(Ordering::Acquire) != number {
            std::thread::park();
        }
    }
}

impl Table {
    /// Something has happened: everybody may have something to do.
    fn stir(&mut self) {
        self.passed = 0;
        self.threads.iter_mut().for_each(|record| record.state = State::May);
    }

    fn set(&mut self, number: u64, state: State) {
        let record = self.threads.iter_mut().find(|record| record.number == number);
        record.expect("a thread is in the table until it ends").state = state;
    }

    fn state(&self, number: u64) -> State {
        self.threads.iter().find(|record| record.number == number).map_or(State::May, |record| record.state)
    }

    /// Who goes on.
    fn next(&mut self) -> (u64, Thread) {
        let with = |wanted: fn(State) -> bool| -> Vec<usize> {
            let found = self.threads.iter().enumerate().filter(|(_, record)| wanted(record.state));
            found.map(|(at, _)| at).collect()
        };
        let mut found = with(|state| !matches!(state, State::Idle { .. }));
        if found.is_empty() && self.passed < PATIENCE {
            self.passed += 1;
            found = with(|state| state == State::Idle { limited: true });
        }
        let at = match found.len() as u64 {
            0 => {
                self.is_stuck = true;
                0
            }
            many => found[self.dice.roll(many) as usize],
        };
        let chosen = &mut self.threads[at];
        if matches!(chosen.state, State::Idle { limited: true }) {
            chosen.state = State::TimedOut;
        }
        (chosen.number, chosen.thread.clone())
    }
}

struct Baton;

impl Simulator for Baton {
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<std::thread::JoinHandle<()>> {
        let (world, _) = me();
        let number = {
            let mut table = world.table();
            table.last += 1;
            table.last
        };
        let own = world.clone();
        let handle = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            ME.with_borrow_mut(|me| *me = Some((own.clone(), number)));
            own.wait_for_turn(number);
            // What it does before it waits for the first time is something that happens, too: others may have been asked since
            // it was made.
            own.table().stir();
            // A panic was reported by the hook; whoever waits for the thread finds that nothing comes.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            let next = {
                let mut table = own.table();
                table.threads.retain(|record| record.number != number);
                table.stir();
                table.next()
            };
            own.hand_to(next.0, &next.1);
        })?;
        let record = Record { number, thread: handle.thread().clone(), state: State::May };
        world.table().threads.push(record);
        Ok(handle)
    }

    fn park(&self, ready: &(dyn Fn() -> bool + Sync), limit: Option<Duration>) -> Woken {
        let (world, me) = me();
        loop {
            if ready() {
                world.table().stir();
                return Woken::Ready;
            }
            if limit == Some(Duration::ZERO) {
                yield_to_others(&world, me);
                return Woken::TimedOut;
            }
            let next = {
                let mut table = world.table();
                if table.is_stuck {
                    drop(table);
                    return stuck();
                }
                table.set(me, State::Idle { limited: limit.is_some() });
                table.next()
            };
            if next.0 != me {
                world.hand_to(next.0, &next.1);
                world.wait_for_turn(me);
            }
            let mut table = world.table();
            if table.state(me) == State::TimedOut {
                let passed = table.passed;
                table.stir();
                table.passed = passed;
                return Woken::TimedOut;
            }
        }
    }
}

/// Lets others go first, perhaps; the caller has something to do all the time.
fn yield_to_others(world: &World, me: u64) {
    let next = {
        let mut table = world.table();
        table.stir();
        table.next()
    };
    if next.0 != me {
        world.hand_to(next.0, &next.1);
        world.wait_for_turn(me);
        world.table().stir();
    }
}

/// Ends the trial; a thread that is on its way out already goes on doing so.
fn stuck() -> Woken {
    if std::thread::panicking() {
        return Woken::Dead;
    }
    panic!("every thread waits for something that does not come");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_take_turns_as_the_seed_wants_and_waiting_for_nothing_is_noticed() {
        let order = |seed| {
            enter(seed);
            let said = Arc::new(Mutex::new(Vec::new()));
            let threads: Vec<_> = (0..4)
                .map(|number| {
                    let said = said.clone();
                    let spawned = vltava_threads::spawn("test", move || {
                        for _ in 0..3 {
                            said.lock().unwrap().push(number);
                            // Somebody else may go first.
                            Baton.park(&|| false, Some(Duration::ZERO));
                        }
                    });
                    spawned.unwrap()
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            Arc::into_inner(said).unwrap().into_inner().unwrap()
        };
        assert_eq!(order(1), order(1));
        assert!((2..9).any(|seed| order(seed) != order(1)));
        assert_eq!(Baton.park(&|| false, Some(Duration::from_secs(9))), Woken::TimedOut);
        assert!(std::panic::catch_unwind(|| Baton.park(&|| false, None)).is_err());
    }
}
