//! One machine of the cluster: its disk, which stays, and the process on it, which comes and goes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vltava_broker::state::BrokerState;
use vltava_controller::ControllerHandle;
use vltava_storage::CrashMode;

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
    /// How often a process was started on it.
    pub starts: u32,
}

enum State {
    Up(Process),
    /// Not stepped until then.
    Paused(Process, Millis),
    /// Started again at that time, if ever.
    Down(Option<Millis>, Farewell),
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

    /// Starts its process.
    pub fn start(&mut self) {
        self.starts += 1;
        let program = programs::daemon(self, self.window.clone());
        self.state = State::Up(Process::start(self.id, self.wall_offset_ms, program));
    }

    /// Starts a program of the caller's on it.
    pub fn run(&mut self, program: host::Program) {
        self.starts += 1;
        self.state = State::Up(Process::start(self.id, self.wall_offset_ms, program));
    }

    /// Ends its process, to be started again after `rest`, if ever.
    pub fn end(&mut self, random: &mut Random, end: End, rest: Option<Millis>) {
        let (farewell, mode) = match end {
            End::Kill => (Farewell::Told, CrashMode::Kill),
            End::PowerCut(mode) => (Farewell::Silent, mode),
        };
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
            State::Down(..) => {}
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
            State::Down(back, farewell) => {
                match farewell {
                    Farewell::Told => net::deliver(self.id, now),
                    Farewell::Silent => net::discard(self.id, now),
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
