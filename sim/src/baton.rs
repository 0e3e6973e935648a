//! The threads of all simulated processes: real ones, of which exactly one runs at a time.
//!
//! The main thread has the baton; it hands it to a thread that may run. When that thread waits in `vltava_threads` or ends, it
//! hands the baton on to the next of its machine that may run, and the last one gives it back. Whether a waiting thread may go on is asked of the closure that it left, so nobody is
//! resumed in vain. Which one of several may go first, and whether one is held back for a while, chance decides.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use vltava_threads::{Simulator, Woken};

use crate::clock::{self, Millis};
use crate::host::{self, HostId};
use crate::random::Shared;
use crate::trace;

/// The main thread, which runs all runtimes and decides.
const MAIN: u64 = 0;

/// How often threads are resumed for the main thread's sake before it counts as stuck.
const HURRIED_MAX: u32 = 100_000;

/// Who has the baton: [`MAIN`], or a thread's number.
static TURN: AtomicU64 = AtomicU64::new(MAIN);

/// The machine whose threads hand the baton on among themselves; zero while the main thread wants it back each time.
static FLOWING: AtomicU64 = AtomicU64::new(0);

static THREADS: OnceLock<Threads> = OnceLock::new();

/// Unwinds a thread whose process was killed.
pub struct Killed;

/// How threads are treated, by the seed.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// So many times out of a thousand a thread that could run is held back.
    pub hold_permille: u64,
    /// For at most so long.
    pub hold_max: Millis,
}

struct Threads {
    main: Thread,
    habits: Habits,
    random: Shared,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last: u64,
    /// By machine, each machine's in the order in which they were spawned.
    threads: Vec<Vec<Record>>,
    /// By machine, how often one of its threads went on.
    resumed: Vec<u64>,
}

struct Record {
    number: u64,
    host: HostId,
    name: String,
    thread: Option<Thread>,
    waits: Waits,
    woken: Woken,
    /// Not resumed before, although it could be.
    held_until: Option<Millis>,
}

enum Waits {
    /// To be run for the first time.
    ToStart,
    For(Question, Option<Millis>),
    /// It has the baton.
    Not,
}

/// The closure that a waiting thread left: lives on that thread's stack until it is resumed.
struct Question(*const (dyn Fn() -> bool + Sync));

// SAFETY: the closure is `Sync`, so it may be called through a reference from any thread.
unsafe impl Send for Question {}

impl Question {
    fn new(ready: &(dyn Fn() -> bool + Sync)) -> Self {
        let short: *const (dyn Fn() -> bool + Sync + '_) = ready;
        // SAFETY: only the lifetime is changed; `ask` says why that is sound.
        Self(unsafe {
            std::mem::transmute::<*const (dyn Fn() -> bool + Sync + '_), *const (dyn Fn() -> bool + Sync)>(
                short,
            )
        })
    }

    fn ask(&self) -> bool {
        // SAFETY: a question is asked only while it is in the table, and the thread that borrowed the closure does not
        // return from `park` before the question was taken out.
        unsafe { (*self.0)() }
    }
}

thread_local! {
    static ME: std::cell::Cell<u64> = const { std::cell::Cell::new(MAIN) };
}

/// Makes this process's threads simulated ones; the caller is the main thread.
pub fn install(seed: u64, habits: Habits) {
    let threads = Threads {
        main: std::thread::current(),
        habits,
        random: Shared::new(seed, "threads"),
        table: Mutex::default(),
    };
    assert!(THREADS.set(threads).is_ok(), "installed once");
    vltava_threads::install(Box::new(Baton));
}

impl Table {
    fn of(&mut self, host: HostId) -> &mut Vec<Record> {
        let place = host.0 as usize;
        if self.threads.len() <= place {
            self.threads.resize_with(place + 1, Vec::new);
            self.resumed.resize(place + 1, 0);
        }
        &mut self.threads[place]
    }

    fn find(&mut self, number: u64) -> Option<&mut Record> {
        self.threads.iter_mut().flatten().find(|record| record.number == number)
    }
}

fn threads() -> &'static Threads {
    THREADS.get().expect("installed before any thread is spawned")
}

fn table() -> MutexGuard<'static, Table> {
    threads().table.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Baton;

impl Simulator for Baton {
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<std::thread::JoinHandle<()>> {
        let host = host::current();
        let number = {
            let mut table = table();
            table.last += 1;
            table.last
        };
        let handle =
            std::thread::Builder::new().name(name.to_owned()).spawn(move || run(number, host, body))?;
        let record = Record {
            number,
            host,
            name: name.to_owned(),
            thread: Some(handle.thread().clone()),
            waits: Waits::ToStart,
            woken: Woken::Ready,
            held_until: None,
        };
        table().of(host).push(record);
        trace::note("spawn", &[number, host.0], format_args!("{host} {name}"));
        Ok(handle)
    }

    fn park(&self, ready: &(dyn Fn() -> bool + Sync), limit: Option<Duration>) -> Woken {
        if ready() {
            return Woken::Ready;
        }
        let until = limit.map(|limit| clock::now() + limit.as_millis().max(1) as Millis);
        let me = ME.get();
        if me == MAIN {
            return wait_on_main(ready);
        }
        {
            let mut table = table();
            let record = table.find(me).expect("a thread is in the table until it ends");
            if record.woken == Woken::Dead {
                drop(table);
                return die();
            }
            record.waits = Waits::For(Question::new(ready), until);
        }
        hand_on(me);
        wait_for_turn(me);
        let woken = table().find(me).map_or(Woken::Dead, |record| record.woken);
        if woken == Woken::Dead { die() } else { woken }
    }
}

fn die() -> Woken {
    if std::thread::panicking() {
        return Woken::Dead;
    }
    resume_unwind(Box::new(Killed))
}

/// The body of every thread.
fn run(number: u64, host: HostId, body: Box<dyn FnOnce() + Send>) {
    ME.set(number);
    wait_for_turn(number);
    let dead = table().find(number).is_none_or(|record| record.woken == Woken::Dead);
    // A real panic has been reported by the hook; here it only must not go further.
    let _ = catch_unwind(AssertUnwindSafe(|| if dead { drop(body) } else { body() }));
    table().of(host).retain(|record| record.number != number);
    hand_on(number);
}

fn wait_for_turn(number: u64) {
    while TURN.load(Ordering::Acquire) != number {
        std::thread::park();
    }
}

/// Gives the baton to another thread of the machine that may run, or, where there is none, back to the main thread. It is the
/// same choice that the main thread would make, without waking it for that.
fn hand_on(me: u64) {
    let flowing = FLOWING.load(Ordering::Relaxed);
    let next = if flowing == 0 { None } else { choose(HostId(flowing)) };
    let Some((number, thread)) = next.and_then(|(number, woken)| Some((number, prepare(number, woken)?)))
    else {
        TURN.store(MAIN, Ordering::Release);
        threads().main.unpark();
        return;
    };
    TURN.store(number, Ordering::Release);
    if number != me {
        thread.unpark();
    }
}

/// Lets a thread run until it waits again.
fn resume(number: u64, woken: Woken) {
    let Some(thread) = prepare(number, woken) else { return };
    TURN.store(number, Ordering::Release);
    thread.unpark();
    wait_for_turn(MAIN);
}

/// Notes that a thread goes on, and why.
fn prepare(number: u64, woken: Woken) -> Option<Thread> {
    {
        let mut table = table();
        let host = table.find(number)?.host;
        table.resumed[host.0 as usize] += 1;
        let record = table.find(number)?;
        record.waits = Waits::Not;
        record.held_until = None;
        if record.woken != Woken::Dead {
            record.woken = woken;
        }
        trace::note(
            "run",
            &[number, woken as u64],
            format_args!("{} {} {woken:?}", record.host, record.name),
        );
        record.thread.clone()
    }
}

/// The threads of a host that could run now, and why; threads that chance holds back are left out.
fn runnable(host: HostId) -> Vec<(u64, Woken)> {
    let now = clock::now();
    let threads = threads();
    let mut table = table();
    let mut found = Vec::new();
    for record in table.of(host) {
        let woken = match &record.waits {
            Waits::Not => continue,
            Waits::ToStart => Woken::Ready,
            Waits::For(question, _) if question.ask() => Woken::Ready,
            Waits::For(_, Some(until)) if *until <= now => Woken::TimedOut,
            Waits::For(..) => continue,
        };
        match record.held_until {
            Some(until) if until > now => continue,
            None if threads.random.permille(threads.habits.hold_permille) => {
                record.held_until = Some(now + 1 + threads.random.below(threads.habits.hold_max.max(1)));
                continue;
            }
            _ => found.push((record.number, woken)),
        }
    }
    found
}

/// One of the threads of a host that could run now, and why.
fn choose(host: HostId) -> Option<(u64, Woken)> {
    let found = runnable(host);
    match found.len() {
        0 => None,
        1 => Some(found[0]),
        many => Some(found[threads().random.below(many as u64) as usize]),
    }
}

/// Runs the threads of a host until none can go on without time passing.
pub fn run_threads(host: HostId) {
    let Some((number, woken)) = choose(host) else { return };
    FLOWING.store(host.0, Ordering::Relaxed);
    resume(number, woken);
    FLOWING.store(0, Ordering::Relaxed);
}

/// When a thread of the host has to be looked at again though nothing happens.
pub fn next_deadline(host: HostId) -> Option<Millis> {
    let mut table = table();
    table
        .of(host)
        .iter()
        .filter_map(|record| match (&record.waits, record.held_until) {
            (Waits::Not, _) => None,
            (_, Some(until)) => Some(until),
            (Waits::For(_, until), None) => *until,
            (Waits::ToStart, None) => Some(clock::now()),
        })
        .min()
}

/// The main thread has to wait, in the middle of a task or of an inline read: what it waits for is hurried, since time
/// can not pass. All threads get their turns: one that wants to look at something every millisecond would else keep another that
/// is at a slow sync from ever ending it.
fn wait_on_main(ready: &(dyn Fn() -> bool + Sync)) -> Woken {
    let host = host::current();
    let mut turns = BTreeMap::new();
    for hurried in 0.. {
        if ready() {
            break;
        }
        assert!(hurried < HURRIED_MAX, "the runtime of {host} waits for something that does not come");
        let next = fewest_turns(&turns, runnable(host)).or_else(|| {
            let late = waiting_for_time(host).into_iter().map(|number| (number, Woken::TimedOut));
            fewest_turns(&turns, late.collect())
        });
        let Some((number, woken)) = next else {
            if host::is_dying(host) {
                return Woken::Dead;
            }
            panic!("the runtime of {host} waits for something that can not come");
        };
        *turns.entry(number).or_default() += 1;
        resume(number, woken);
    }
    Woken::Ready
}

/// The thread that had the fewest turns so far; of several the first.
fn fewest_turns(turns: &BTreeMap<u64, u32>, found: Vec<(u64, Woken)>) -> Option<(u64, Woken)> {
    found.into_iter().min_by_key(|(number, _)| turns.get(number).copied().unwrap_or(0))
}

/// The threads that go on when enough time passes, the soonest first.
fn waiting_for_time(host: HostId) -> Vec<u64> {
    let mut table = table();
    let deadline = |record: &Record| match (&record.waits, record.held_until) {
        (Waits::Not, _) => None,
        (_, Some(until)) => Some(until),
        (Waits::For(_, until), None) => *until,
        (Waits::ToStart, None) => None,
    };
    let waiting = table.of(host).iter().filter_map(|record| Some((deadline(record)?, record.number)));
    let mut waiting: Vec<_> = waiting.collect();
    waiting.sort_unstable();
    waiting.into_iter().map(|(_, number)| number).collect()
}

/// Unwinds every thread of a host.
pub fn kill(host: HostId) {
    loop {
        let next = {
            let mut table = table();
            table.of(host).first_mut().map(|record| {
                record.woken = Woken::Dead;
                record.number
            })
        };
        let Some(number) = next else { return };
        resume(number, Woken::Dead);
    }
}

/// Marks the threads of a host as dying, before anything of it is dropped.
pub fn doom(host: HostId) {
    let mut table = table();
    for record in table.of(host) {
        record.woken = Woken::Dead;
    }
}

/// How often a thread of a host went on so far: while that stays, its threads changed nothing.
pub fn resumed(host: HostId) -> u64 {
    table().resumed.get(host.0 as usize).copied().unwrap_or(0)
}

/// Whether the caller is a thread that can wait for simulated time, and not the main one.
pub fn is_thread() -> bool {
    ME.get() != MAIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hurried_thread_gets_its_turn() {
        let mut turns = BTreeMap::new();
        let mut resumed = Vec::new();
        for _ in 0..4 {
            // The first would always be the soonest again.
            let (number, _) = fewest_turns(&turns, vec![(7, Woken::TimedOut), (3, Woken::TimedOut)]).unwrap();
            *turns.entry(number).or_default() += 1;
            resumed.push(number);
        }
        assert_eq!(resumed, [7, 3, 7, 3]);
        assert_eq!(fewest_turns(&turns, Vec::new()), None);
    }
}
