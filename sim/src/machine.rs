//! One machine of the cluster: its disk, which stays, and the process on it, which comes and goes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use vltava_broker::state::BrokerState;
use vltava_controller::ControllerHandle;
use vltava_model::DirectoryId;
use vltava_storage::{CrashMode, MemoryStorage};

use crate::clock::{self, Millis};
use crate::disk::SimDisk;
use crate::host::{self, HostId, Process};
use crate::net::{self, Farewell};
use crate::programs;
use crate::random::Random;
use crate::trace;

/// What runs on a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A controller of that node number.
    Controller(u32),
    /// A broker of that node number.
    Broker(u32),
    /// A client.
    Client,
}

/// How a process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// SIGKILL: the system lives on.
    Kill,
    /// Power fails, with what that does to what was not synced.
    PowerCut(CrashMode),
    /// The same, and what was sent to it is never answered, not even when it is back: something between it and the others has
    /// forgotten its connections, too.
    Vanish(CrashMode),
}

/// Why a process may end by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Excuse {
    /// It was told to.
    Told,
    /// Its disk refuses writes or syncs. The machine is started anew, too: whatever was not synced is gone.
    DiskErrors,
    /// Its disk refuses writes or syncs, and only the process is started anew: its page cache calls clean what a failed sync
    /// did not write, and still shows it.
    CachedErrors,
    /// Its disk is full.
    DiskFull,
    /// Its disk does not give back what it holds.
    Unreadable,
    /// Its disk holds other bytes than were written, or what it could not give back was given up.
    Damage,
}

/// An excuse, and for whom it counts.
#[derive(Clone, Copy, Debug)]
struct Excused {
    excuse: Excuse,
    /// The last process that lived under it, as counted by `starts`; none while it lasts.
    last: Option<u32>,
}

/// What a process shows to those who check it; nothing while it does not run.
#[derive(Default)]
pub struct Window {
    /// The broker's state.
    pub broker: Option<Arc<BrokerState>>,
    /// The controller.
    pub controller: Option<ControllerHandle>,
}

/// See the module.
pub struct Machine {
    /// Its number.
    pub id: HostId,
    /// What runs on it.
    pub role: Role,
    /// Its disk.
    pub disk: SimDisk,
    window: Arc<Mutex<Window>>,
    state: State,
    wall_offset_ms: i64,
    excused: Vec<Excused>,
    stop: Arc<Notify>,
    /// How often a process was started on it.
    pub starts: u32,
}

enum State {
    Up(Process),
    /// Not stepped until then.
    Paused(Process, Millis),
    /// Started again at that time, if ever.
    Down(Option<Millis>, Farewell),
    /// Nothing is started on it any more.
    Gone,
}

impl Machine {
    /// A machine that is off.
    pub fn new(id: HostId, name: &str, role: Role, disk: SimDisk) -> Self {
        host::name(id, name);
        Self {
            id,
            role,
            disk,
            window: Arc::default(),
            state: State::Down(None, Farewell::Told),
            wall_offset_ms: 0,
            excused: Vec::new(),
            stop: Arc::default(),
            starts: 0,
        }
    }

    /// Looks at what its process shows.
    pub fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a process runs on it and is stepped.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// The directory that its controller votes with, if one runs that is past its start.
    pub fn directory(&self) -> Option<DirectoryId> {
        self.window().controller.as_ref().map(ControllerHandle::directory_id)
    }

    /// Starts its process.
    pub fn start(&mut self) {
        self.starts += 1;
        self.stop = Arc::default();
        let program = programs::daemon(self, self.window.clone(), self.stop.clone());
        self.state = State::Up(Process::start(self.id, self.wall_offset_ms, program));
    }

    /// Starts a program of the caller's on it.
    pub fn run(&mut self, program: host::Program) {
        self.starts += 1;
        self.state = State::Up(Process::start(self.id, self.wall_offset_ms, program));
    }

    /// Ends its process, to be started again after `rest`, if ever. Nothing comes back to a machine that is gone.
    pub fn end(&mut self, random: &mut Random, end: End, rest: Option<Millis>) {
        let (farewell, mode) = match end {
            End::Kill => (Farewell::Told, CrashMode::Kill),
            End::PowerCut(mode) => (Farewell::Silent, mode),
            End::Vanish(mode) => (Farewell::Forgotten, mode),
        };
        if self.is_gone() {
            return;
        }
        let back = rest.map(|rest| clock::now() + rest);
        let before = std::mem::replace(&mut self.state, State::Down(back, farewell));
        let (State::Up(process) | State::Paused(process, _)) = before else { return };
        trace::note(
            "end",
            &[self.id.0, back.unwrap_or(0)],
            format_args!("{} {end:?}, back at {back:?}", self.id),
        );
        self.disk = self.disk.crash(random, mode);
        net::leave(self.id, farewell);
        process.kill(|| drop(std::mem::take(&mut *self.window())));
    }

    /// Its process is killed, and none comes after it.
    pub fn leave(&mut self, random: &mut Random) {
        self.end(random, End::Kill, None);
        self.state = State::Gone;
    }

    /// Whether it has left for good.
    pub fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }

    /// SIGTERM: its process ends in order, in its own time.
    pub fn ask_to_end(&mut self) {
        trace::note("stop", &[self.id.0], format_args!("{} is told to end", self.id));
        self.stop.notify_one();
    }

    /// From now on its process may end by itself.
    pub fn excuse(&mut self, excuse: Excuse) {
        self.excused.push(Excused { excuse, last: None });
    }

    /// From now on only the process that runs may still end by itself for that.
    pub fn excuse_no_more(&mut self, excuse: Excuse) {
        let starts = self.starts;
        let lasting = |excused: &&mut Excused| excused.excuse == excuse && excused.last.is_none();
        self.excused.iter_mut().filter(lasting).for_each(|excused| excused.last = Some(starts));
    }

    /// Why its process may end by itself now, if it may.
    pub fn excuses(&self) -> Vec<Excuse> {
        let counts = |excused: &&Excused| excused.last.is_none_or(|last| self.starts <= last);
        self.excused.iter().filter(counts).map(|excused| excused.excuse).collect()
    }

    /// Gives it another disk. Its process must have ended.
    pub fn replace_disk(&mut self, random: &mut Random, contents: MemoryStorage) {
        self.disk = self.disk.replaced(random, contents);
    }

    /// Stops stepping its process for a while.
    pub fn pause(&mut self, rest: Millis) {
        let before = std::mem::replace(&mut self.state, State::Down(None, Farewell::Told));
        self.state = match before {
            State::Up(process) => {
                trace::note("pause", &[self.id.0, rest], format_args!("{} for {rest}", self.id));
                State::Paused(process, clock::now() + rest)
            }
            other => other,
        };
    }

    /// Has its process go on, or start, with the next step.
    pub fn come_back(&mut self) {
        match &mut self.state {
            State::Up(_) => {}
            State::Paused(_, back) => *back = clock::now(),
            State::Down(back, _) if self.role != Role::Client => *back = Some(clock::now()),
            State::Down(..) | State::Gone => {}
        }
    }

    /// Puts its wall clock ahead by so much.
    pub fn set_wall_offset(&mut self, offset_ms: i64) {
        self.wall_offset_ms = offset_ms;
        if let State::Up(process) | State::Paused(process, _) = &mut self.state {
            process.set_wall_offset(offset_ms);
        }
    }

    /// Lets it go on from now until `until`. Says why its process ended itself, if it did.
    pub fn step(&mut self, until: Millis) -> Option<String> {
        let now = clock::now();
        match &mut self.state {
            State::Up(process) => process.step(until),
            State::Paused(_, back) if *back > now => return None,
            State::Paused(..) => {
                let before = std::mem::replace(&mut self.state, State::Down(None, Farewell::Told));
                if let State::Paused(mut process, _) = before {
                    process.skip_to(now);
                    process.step(until);
                    self.state = State::Up(process);
                }
            }
            State::Gone => {
                net::deliver(self.id, now);
                return None;
            }
            State::Down(back, farewell) => {
                match farewell {
                    Farewell::Told => net::deliver(self.id, now),
                    Farewell::Silent | Farewell::Forgotten => net::discard(self.id, now),
                }
                if back.is_some_and(|back| back <= now) {
                    self.start();
                }
                return None;
            }
        }
        host::death(self.id)
    }
}
