//! One simulated machine with the process that runs on it: a runtime of its own whose clock only moves when nothing is
//! left to do, stepped by the world; killed by dropping it.
//!
//! What the process does, and where its bytes lie, is not known here.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::baton;
use crate::clock::{self, Millis};
use crate::net;
use crate::trace;

/// A machine's number, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostId(pub u64);

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match table().names.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "host {}", self.0),
        }
    }
}

/// The machine whose process runs now; zero between steps.
static CURRENT: AtomicU64 = AtomicU64::new(0);

/// How many machines are dying: mostly none.
static DYING: AtomicU64 = AtomicU64::new(0);

static TABLE: Mutex<Table> = Mutex::new(Table { names: Vec::new(), dying: Vec::new() });

struct Table {
    names: Vec<String>,
    /// Machines whose process must not go on, and why.
    dying: Vec<(HostId, String)>,
}

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The machine whose process runs now.
pub fn current() -> HostId {
    HostId(CURRENT.load(Ordering::Relaxed))
}

/// Gives machines their names.
pub fn name(id: HostId, name: &str) {
    let mut table = table();
    let place = id.0 as usize;
    if table.names.len() <= place {
        table.names.resize(place + 1, "nobody".to_owned());
    }
    table.names[place] = name.to_owned();
}

/// The machine with that name.
pub fn find(name: &str) -> Option<HostId> {
    table().names.iter().position(|known| known == name).map(|place| HostId(place as u64))
}

/// The process on a machine ends itself: nothing that it does from here on has any effect.
pub fn die(id: HostId, why: String) {
    let mut table = table();
    if !table.dying.iter().any(|(dying, _)| *dying == id) {
        table.dying.push((id, why));
        DYING.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether the process on a machine has ended itself, or is being killed.
pub fn is_dying(id: HostId) -> bool {
    DYING.load(Ordering::Relaxed) > 0 && table().dying.iter().any(|(dying, _)| *dying == id)
}

/// Why the process on a machine ended itself, if it did.
pub fn death(id: HostId) -> Option<String> {
    if !is_dying(id) {
        return None;
    }
    table().dying.iter().find(|(dying, _)| *dying == id).map(|(_, why)| why.clone())
}

/// What a process is: the future that its runtime runs.
pub type Program = Pin<Box<dyn Future<Output = ()>>>;

/// A running process.
pub struct Process {
    host: HostId,
    runtime: Runtime,
    /// What the program is on: it need not be able to move between threads.
    tasks: LocalSet,
    alarm: Arc<Alarm>,
    wall_offset_ms: i64,
}

/// When the process has to be looked at next, and the way to tell it so.
#[derive(Default)]
struct Alarm {
    set_for: AtomicU64,
    changed: Notify,
}

impl Process {
    /// Starts a process whose clock shows the time of now.
    pub fn start(host: HostId, wall_offset_ms: i64, program: Program) -> Self {
        let alarm = Arc::new(Alarm::default());
        let (parking, waking) = (alarm.clone(), clock::now());
        let _here = Here::enter(host, wall_offset_ms);
        let origin = std::time::Instant::now();
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .on_thread_park(move || {
                baton::run_threads(host);
                parking.ring_if_earlier(host);
            })
            .on_thread_unpark(move || {
                let passed = tokio::time::Instant::now().into_std().duration_since(origin);
                clock::set(waking + passed.as_millis() as Millis);
            })
            .build()
            .expect("a runtime without I/O needs nothing of the system");
        trace::note("start", &[host.0], format_args!("{host}"));
        let tasks = LocalSet::new();
        tasks.spawn_local(program);
        Self { host, runtime, tasks, alarm, wall_offset_ms }
    }

    /// Sets by how much the wall clock is ahead.
    pub fn set_wall_offset(&mut self, offset_ms: i64) {
        self.wall_offset_ms = offset_ms;
    }

    /// Runs until `until`, or until the process ends itself.
    pub fn step(&mut self, until: Millis) {
        let _here = Here::enter(self.host, self.wall_offset_ms);
        let (host, alarm) = (self.host, self.alarm.clone());
        self.tasks.block_on(&self.runtime, async move {
            loop {
                let now = clock::now();
                if now >= until || is_dying(host) {
                    return;
                }
                net::deliver(host, now);
                // Those whose time has come; what others wake runs when the runtime has nothing else to do.
                baton::run_threads(host);
                alarm.wait(next_event(host).unwrap_or(until).min(until)).await;
            }
        });
    }

    /// Lets time pass in which the process did not run: all its timers find themselves late.
    pub fn skip_to(&mut self, time: Millis) {
        let _here = Here::enter(self.host, self.wall_offset_ms);
        let late = time.saturating_sub(clock::now());
        self.runtime.block_on(async move { tokio::time::advance(Duration::from_millis(late)).await });
    }

    /// Ends the process as SIGKILL does. Its disk must not obey any more, and its connections must be cut, by now.
    /// `forget` lets go of what others hold of it.
    pub fn kill(self, forget: impl FnOnce()) {
        let _here = Here::enter(self.host, self.wall_offset_ms);
        die(self.host, "killed".into());
        baton::doom(self.host);
        let guard = self.runtime.enter();
        forget();
        drop(self.tasks);
        drop(guard);
        drop(self.runtime);
        baton::kill(self.host);
        table().dying.retain(|(dying, _)| *dying != self.host);
        DYING.fetch_sub(1, Ordering::Relaxed);
    }
}

fn next_event(host: HostId) -> Option<Millis> {
    let delivery = net::next_delivery(host);
    delivery.into_iter().chain(baton::next_deadline(host)).min()
}

impl Alarm {
    /// Waits until `time`, or until something earlier came up.
    async fn wait(&self, time: Millis) {
        self.set_for.store(time, Ordering::Relaxed);
        let left = time.saturating_sub(clock::now());
        let mut sleep = pin!(tokio::time::sleep(Duration::from_millis(left)));
        let mut changed = pin!(self.changed.notified());
        poll_fn(|context| {
            if changed.as_mut().poll(context).is_ready() || sleep.as_mut().poll(context).is_ready() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    fn ring_if_earlier(&self, host: HostId) {
        let earlier = next_event(host).is_some_and(|next| next < self.set_for.load(Ordering::Relaxed));
        if earlier || is_dying(host) {
            self.changed.notify_one();
        }
    }
}

/// While a process runs, the clock and everybody who asks know it.
struct Here {
    before: (u64, Millis),
}

impl Here {
    fn enter(host: HostId, wall_offset_ms: i64) -> Self {
        let before = (CURRENT.swap(host.0, Ordering::Relaxed), clock::now());
        clock::set_wall_offset(wall_offset_ms);
        Self { before }
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        CURRENT.store(self.before.0, Ordering::Relaxed);
        clock::set(self.before.1);
        clock::set_wall_offset(0);
    }
}
