//! A false world for any message-passing protocol: time, networks, sessions, clocks, disks and
//! processes that stop at bad moments.
//!
//! The world knows nothing of what runs in it. It is passive: [`World::next`] says what happens
//! next and to whom; whoever drives it gives that to its own state machine and hands the results
//! back through [`World::datagram`], [`World::stream`], [`World::persist`] and [`World::wait`].
//! [`Runner`](crate::protocol::Runner) is such a driver for any
//! [`Protocol`](crate::protocol::Protocol).

pub mod clock;
mod datagram;
pub mod disk;
pub mod hash;
pub mod net;
pub mod queue;
mod recording;
pub mod rng;
mod session;
mod types;

pub use clock::Clock;
pub use hash::RunHash;
pub use net::Link;
pub use rng::{Rng, Sources, Stream};
pub use types::{Happening, Types};

use crate::record::{Kind, Loss, Recorder};
use datagram::Held;
use disk::Disk;
use net::Net;
use queue::Queue;
use session::Sessions;
use std::collections::VecDeque;

/// Nanoseconds in a millisecond.
pub const MS: u64 = 1_000_000;
/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000 * MS;
/// The message class of sessions, for [`Link::blocked`].
pub const SESSION_CLASS: u8 = 31;
/// Datagrams a stopped process' socket holds; the kernel drops the rest.
const SOCKET: usize = 1024;

/// What lies in the event heap.
enum Item<T: Types> {
    Datagram {
        to: u16,
        from: u16,
        net: u8,
        message: T::Datagram,
    },
    Arrive {
        from: u16,
        to: u16,
        session: u32,
    },
    SessionCheck {
        a: u16,
        b: u16,
        session: u32,
    },
    SessionOpen {
        a: u16,
        b: u16,
        session: u32,
    },
    SessionGone {
        node: u16,
        peer: u16,
        session: u32,
    },
    Timer {
        node: u16,
        life: u32,
    },
    Local {
        node: u16,
        life: u32,
        fact: T::Local,
    },
    Durable {
        node: u16,
        life: u32,
    },
    Resume {
        node: u16,
        number: u32,
    },
    Event(T::Event),
}

struct Process<T: Types> {
    up: bool,
    /// Rises at every start and every end.
    life: u32,
    /// Stopped until then; 0 while it runs.
    stopped_until: u64,
    /// Tells the newest stop from earlier ones.
    stop: u32,
    /// What came while it was stopped, and its cause.
    inbox: VecDeque<(u32, Happening<T>)>,
    datagrams_held: usize,
    /// The deadline it waits for, and the earliest heap entry that will wake it, in true time.
    due: u64,
    armed: u64,
    /// The reading it last waited for and the true time of that: most waits are for the same.
    reckoned: (u64, u64),
    /// The step that set the deadline.
    due_by: u32,
}

impl<T: Types> Process<T> {
    fn new() -> Process<T> {
        Process {
            up: false,
            life: 0,
            stopped_until: 0,
            stop: 0,
            inbox: VecDeque::new(),
            datagrams_held: 0,
            due: u64::MAX,
            armed: u64::MAX,
            reckoned: (0, 0),
            due_by: 0,
        }
    }
}

/// How a world is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Nodes, numbered from 0.
    pub nodes: usize,
    /// Networks, numbered from 0.
    pub networks: usize,
    /// The first so many networks carry sessions.
    pub session_networks: usize,
    /// Silence after which both ends of a session give it up, in nanoseconds.
    pub session_loss: u64,
    /// Longest time to open a session again, in nanoseconds.
    pub session_open: u64,
}

/// The world.
pub struct World<T: Types> {
    now: u64,
    queue: Queue<Item<T>>,
    net: Net,
    sessions: Sessions<T::Message>,
    clocks: Vec<Clock>,
    disks: Vec<Disk<T::Write>>,
    processes: Vec<Process<T>>,
    /// Powered and not frozen: its network card answers.
    reachable: Vec<bool>,
    /// A process whose stop ended and whose inbox is being emptied.
    draining: Option<usize>,
    /// What clogged links hold, oldest first.
    held: Vec<Held<T>>,
    /// Datagrams that the next one on their link overtakes.
    overtaken: Vec<Held<T>>,
    layout: Layout,
    network: Sources, // Two of each link: datagrams, and its direction of a session.
    writes: Sources,
    /// A timer is late by up to this, in nanoseconds.
    pub timer_late: u64,
    timers: Sources,
    events: u64,
    recorder: Option<Box<Recorder>>,
}

impl<T: Types> World<T> {
    /// A world with every machine on, no process running, perfect clocks and healthy links.
    #[must_use]
    pub fn new(seed: u64, layout: Layout) -> World<T> {
        let n = layout.nodes;
        World {
            now: 0,
            queue: Queue::default(),
            net: Net::new(layout.networks, n),
            sessions: Sessions::new(n),
            clocks: vec![Clock::default(); n],
            disks: (0..n).map(|_| Disk::default()).collect(),
            processes: (0..n).map(|_| Process::new()).collect(),
            reachable: vec![true; n],
            draining: None,
            held: Vec::new(),
            overtaken: Vec::new(),
            layout,
            network: Sources::new(seed, Stream::Network, (layout.networks + 1) * n * n),
            writes: Sources::new(seed, Stream::Disk, n),
            timer_late: 0,
            timers: Sources::new(seed, Stream::Process, n),
            events: 0,
            recorder: None,
        }
    }

    /// True time in nanoseconds since the run began.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Things that happened so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// What node `node`'s clock shows now.
    #[must_use]
    pub fn reading(&self, node: usize) -> u64 {
        self.clocks[node].reading(self.now)
    }

    /// A node's clock.
    #[must_use]
    pub fn clock(&self, node: usize) -> Clock {
        self.clocks[node]
    }

    /// Replaces a node's clock; only before it runs, since clocks do not jump.
    pub fn set_clock(&mut self, node: usize, clock: Clock) {
        self.clocks[node] = clock;
        self.processes[node].reckoned = (0, 0);
    }

    /// The link of network `net`.
    #[must_use]
    pub fn link(&self, net: usize, from: usize, to: usize) -> &Link {
        self.net.link(net, from, to)
    }

    /// Changes one directed link.
    pub fn change_link(
        &mut self,
        net: usize,
        from: usize,
        to: usize,
        change: impl FnOnce(&mut Link),
    ) {
        let link = self.net.link_mut(net, from, to);
        let was = link.clogged;
        change(link);
        if was && !link.clogged {
            self.burst((net as u8, from as u16, to as u16));
        }
        self.link_changed(net, from, to);
        self.refresh_pair(from, to);
    }

    /// A node's disk.
    #[must_use]
    pub fn disk(&self, node: usize) -> &Disk<T::Write> {
        &self.disks[node]
    }

    /// A node's disk, to change it.
    pub fn disk_mut(&mut self, node: usize) -> &mut Disk<T::Write> {
        &mut self.disks[node]
    }

    /// Plans an event around the nodes, `delay` nanoseconds from now.
    pub fn after(&mut self, delay: u64, event: T::Event) {
        self.queue
            .push(self.now.saturating_add(delay), Item::Event(event));
    }

    /// Tells the process of `node` a fact after `delay`, if it is still the same process then.
    pub fn tell(&mut self, node: usize, delay: u64, fact: T::Local) {
        let life = self.processes[node].life;
        self.queue.push(
            self.now + delay,
            Item::Local {
                node: node as u16,
                life,
                fact,
            },
        );
    }

    /// Gives a batch to the node's disk `delay` from now; [`Happening::Stored`] follows.
    pub fn persist(&mut self, node: usize, delay: u64, batch: u64, write: T::Write) {
        let disk = &mut self.disks[node];
        let (low, high) = disk.delay;
        let takes = self.writes.next(node).range(low, high);
        let done = (self.now + delay + takes).max(disk.busy_until + 1);
        disk.busy_until = done;
        disk.put(batch, write);
        let life = disk.life;
        self.queue.push(
            done,
            Item::Durable {
                node: node as u16,
                life,
            },
        );
    }

    /// Wakes the node when its own clock shows `until`, instead of whenever it waited for.
    pub fn wait(&mut self, node: usize, until: u64) {
        let process = &mut self.processes[node];
        if process.reckoned.0 != until {
            process.reckoned = (until, self.clocks[node].true_time(until));
        }
        (process.due, process.due_by) = (process.reckoned.1, self.queue.cause);
        if process.due < process.armed && process.due != u64::MAX {
            process.armed = process.due.max(self.now);
            let late = self.timers.next(node).range(0, self.timer_late);
            let life = process.life;
            self.queue.push(
                process.armed + late,
                Item::Timer {
                    node: node as u16,
                    life,
                },
            );
        }
    }

    /// Whether the process of `node` exists (stopped or not).
    #[must_use]
    pub fn is_up(&self, node: usize) -> bool {
        self.processes[node].up
    }

    /// Whether the process of `node` exists and is not stopped.
    #[must_use]
    pub fn is_running(&self, node: usize) -> bool {
        let p = &self.processes[node];
        p.up && p.stopped_until <= self.now
    }

    /// Whether the machine's network card answers.
    #[must_use]
    pub fn is_reachable(&self, node: usize) -> bool {
        self.reachable[node]
    }

    /// Numbers the lives of the node's process.
    #[must_use]
    pub fn life(&self, node: usize) -> u32 {
        self.processes[node].life
    }

    /// Starts the process of `node`.
    pub fn start(&mut self, node: usize) {
        let p = &mut self.processes[node];
        p.up = true;
        p.life += 1;
        p.stopped_until = 0;
        p.due = u64::MAX;
        p.armed = u64::MAX;
        self.lives(node, Kind::Up);
        self.refresh_node(node);
    }

    /// Ends the process of `node` at once; gives the batches its disk kept.
    pub fn crash(&mut self, node: usize) -> Vec<T::Write> {
        let p = &mut self.processes[node];
        if !p.up {
            return Vec::new();
        }
        p.up = false;
        p.life += 1;
        p.stop += 1;
        p.stopped_until = 0;
        let inbox = std::mem::take(&mut p.inbox);
        p.datagrams_held = 0;
        if self.draining == Some(node) {
            self.draining = None;
        }
        self.lives(node, Kind::Down);
        let step = self.queue.cause;
        for (cause, h) in inbox {
            self.queue.cause = cause;
            self.finds_nobody(&h, Loss::Down);
        }
        self.queue.cause = step;
        self.sessions_of_crashed(node);
        self.disks[node].crash(&mut self.writes.next(node))
    }

    /// Stops the process for `length` nanoseconds, as by SIGSTOP: facts wait for it. A running
    /// stop is never shortened.
    pub fn stop(&mut self, node: usize, length: u64) {
        let p = &mut self.processes[node];
        let until = self.now.saturating_add(length);
        if !p.up || until <= p.stopped_until {
            return;
        }
        p.stopped_until = until;
        p.stop += 1;
        if self.draining == Some(node) {
            self.draining = None;
        }
        let number = p.stop;
        self.lives(node, Kind::Stopped);
        if until < u64::MAX {
            self.queue.push(
                until,
                Item::Resume {
                    node: node as u16,
                    number,
                },
            );
        }
    }

    /// Ends a stop now.
    pub fn resume(&mut self, node: usize) {
        let p = &mut self.processes[node];
        if p.up && p.stopped_until > self.now {
            p.stopped_until = self.now;
            p.stop += 1;
            let number = p.stop;
            self.queue.push(
                self.now,
                Item::Resume {
                    node: node as u16,
                    number,
                },
            );
        }
    }

    /// The machine's network card answers from now on, or does not (no power, frozen).
    pub fn set_reachable(&mut self, node: usize, reachable: bool) {
        if self.reachable[node] != reachable {
            self.lives(node, if reachable { Kind::On } else { Kind::Off });
        }
        self.reachable[node] = reachable;
        self.refresh_node(node);
    }

    /// What happens next, with the time moved on to it; `None` when nothing does up to true time
    /// `limit`.
    pub fn next(&mut self, limit: u64) -> Option<Happening<T>> {
        loop {
            if let Some(node) = self.draining {
                let p = &mut self.processes[node];
                if let Some((cause, h)) = p.inbox.pop_front() {
                    self.events += 1;
                    self.queue.cause = cause;
                    self.happened(&h);
                    return Some(h);
                }
                p.datagrams_held = 0;
                self.draining = None;
            }
            if self.queue.next_at()? > limit {
                return None;
            }
            let (at, item) = self.queue.pop()?;
            self.now = self.now.max(at);
            if let Some(h) = self.judge(item) {
                self.events += 1;
                self.happened(&h);
                return Some(h);
            }
        }
    }

    /// What a heap entry means now that its time has come.
    fn judge(&mut self, item: Item<T>) -> Option<Happening<T>> {
        match item {
            Item::Datagram {
                to,
                from,
                net,
                message,
            } => {
                let to = to as usize;
                if !self.reachable[to] {
                    self.loses(self.queue.cause, Loss::ReceiverOff, None);
                    return None;
                }
                let (from, net) = (from as usize, net as usize);
                self.offer(
                    to,
                    Happening::Datagram {
                        to,
                        from,
                        net,
                        message,
                    },
                )
            }
            Item::Arrive { from, to, session } => self.arrive(from as usize, to as usize, session),
            Item::SessionCheck { a, b, session } => {
                self.session_check(a as usize, b as usize, session);
                None
            }
            Item::SessionOpen { a, b, session } => {
                self.session_open(a as usize, b as usize, session);
                None
            }
            Item::SessionGone {
                node,
                peer,
                session,
            } => {
                let (node, peer) = (node as usize, peer as usize);
                if !self.sessions.forget(node, peer, session) {
                    return None;
                }
                self.offer(node, Happening::SessionDown { node, peer })
            }
            Item::Timer { node, life } => {
                let node = node as usize;
                let p = &mut self.processes[node];
                if p.life != life || !p.up || self.now < p.armed {
                    return None;
                }
                p.armed = u64::MAX;
                if p.due > self.now {
                    p.armed = p.due;
                    if p.armed < u64::MAX {
                        let late = self.timers.next(node).range(0, self.timer_late);
                        let node = node as u16;
                        self.queue.push(p.armed + late, Item::Timer { node, life });
                    }
                    return None;
                }
                p.due = u64::MAX;
                self.queue.cause = p.due_by;
                self.offer(node, Happening::Timer { node })
            }
            Item::Local { node, life, fact } => {
                let node = node as usize;
                if self.processes[node].life != life {
                    return None;
                }
                self.offer(node, Happening::Local { node, fact })
            }
            Item::Durable { node, life } => {
                let node = node as usize;
                let disk = &mut self.disks[node];
                if disk.life != life {
                    return None;
                }
                let (batch, write) = disk.complete()?;
                Some(Happening::Stored { node, batch, write })
            }
            Item::Resume { node, number } => {
                let p = &self.processes[node as usize];
                if p.up && p.stop == number {
                    self.draining = Some(node as usize);
                    self.lives(node as usize, Kind::Resumed);
                }
                None
            }
            Item::Event(event) => Some(Happening::Event(event)),
        }
    }

    /// Reports `h` to the process of `node` now, or keeps it while that is stopped.
    fn offer(&mut self, node: usize, h: Happening<T>) -> Option<Happening<T>> {
        let p = &mut self.processes[node];
        if !p.up {
            self.finds_nobody(&h, Loss::Down);
            return None;
        }
        if p.stopped_until > self.now || !p.inbox.is_empty() {
            if matches!(h, Happening::Datagram { .. }) {
                if p.datagrams_held >= SOCKET {
                    self.finds_nobody(&h, Loss::SocketFull);
                    return None;
                }
                p.datagrams_held += 1;
            }
            p.inbox.push_back((self.queue.cause, h));
            return None;
        }
        Some(h)
    }
}

#[cfg(test)]
mod tests;
