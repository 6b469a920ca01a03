//! How guests stand: counters, state, jobs and the agent, looked at from outside.
//!
//! What a look asks of QEMU may hang: a QEMU that is stopped or stuck in its storage answers
//! nothing, and libvirt waits for it for ever. So a few looks go side by side, each domain has at
//! most one under way, and one that has not come back is left out until it does. Time of virtual
//! CPUs comes from `/proc` and needs nobody's answer. The agent is asked apart from all that, for
//! it takes seconds to be silent.

use super::agent;
use super::driver::{Inner, until};
use super::link::{Failure, Fault, Link};
use super::memory::{Build, Lives};
use super::registry::{Known, Life};
use super::stats::{self, Numbers};
use super::survey;
use super::vcpu;
use crate::clock::Clock;
use crate::guardian::processes::leader;
use crate::hypervisor::Notice;
use crate::hypervisor::lock;
use quorate_membership::Time;
use quorate_recovery::observation::{Agent, GuestEvent, Held, Observation, Sample};
use std::collections::VecDeque;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::sys;

/// Looks that may be under way, those that hang among them. With those of the agent they stay
/// below the 20 calls that libvirtd serves at a time, so that orders are always served.
const LOOKS_MAX: usize = 6;
/// Questions to agents that may be under way.
const AGENTS_MAX: usize = 6;
/// Looks that go side by side.
const ABREAST: usize = 4;
/// How long all looks together may take.
const LIMIT: Duration = Duration::from_millis(1200);

/// The driver's eyes.
pub(super) struct Sense {
    pub looks: Link,
    pub agents: Link,
    pub lives: Arc<Lives>,
    /// Whom to tell what a look finds that no event told.
    pub tell: Mutex<Option<UnboundedSender<Notice>>>,
}

impl Sense {
    pub(super) fn new(uri: &str) -> Sense {
        Sense {
            looks: Link::deaf(uri, LOOKS_MAX),
            agents: Link::deaf(uri, AGENTS_MAX),
            lives: Arc::default(),
            tell: Mutex::default(),
        }
    }
}

/// A mark that a look is under way, for as long as it lasts, also if it panics.
struct Looking(Arc<Lives>, Life);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.if_there(self.1, |m| m.looking = false);
    }
}

/// What libvirt says of one domain.
struct Look {
    state: State,
    numbers: Numbers,
    job: Option<&'static str>,
    build: Build,
}

/// What a domain does, by libvirt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Runs,
    Held(Held),
    Panicked,
}

impl State {
    /// What a domain does now; `None` if it is not active.
    pub(super) fn of(domain: &Domain) -> Result<Option<State>, Failure> {
        Ok(State::read(&stats::of(
            domain,
            sys::VIR_DOMAIN_STATS_STATE,
        )?))
    }

    fn read(numbers: &Numbers) -> Option<State> {
        let number = |name: &str| numbers.get(name).and_then(|n| u32::try_from(*n).ok());
        Some(match number("state.state")? {
            sys::VIR_DOMAIN_NOSTATE | sys::VIR_DOMAIN_RUNNING | sys::VIR_DOMAIN_BLOCKED => {
                State::Runs
            }
            sys::VIR_DOMAIN_PAUSED => State::Held(match number("state.reason")? {
                sys::VIR_DOMAIN_PAUSED_USER => Held::Told,
                sys::VIR_DOMAIN_PAUSED_IOERROR => Held::IoError,
                sys::VIR_DOMAIN_PAUSED_WATCHDOG => Held::Watchdog,
                sys::VIR_DOMAIN_PAUSED_MIGRATION
                | sys::VIR_DOMAIN_PAUSED_SAVE
                | sys::VIR_DOMAIN_PAUSED_DUMP
                | sys::VIR_DOMAIN_PAUSED_FROM_SNAPSHOT
                | sys::VIR_DOMAIN_PAUSED_SNAPSHOT
                | sys::VIR_DOMAIN_PAUSED_POSTCOPY
                | sys::VIR_DOMAIN_PAUSED_POSTCOPY_FAILED => Held::Move,
                _ => Held::Other,
            }),
            sys::VIR_DOMAIN_CRASHED => State::Panicked,
            sys::VIR_DOMAIN_SHUTDOWN | sys::VIR_DOMAIN_PMSUSPENDED => State::Held(Held::Other),
            _ => return None,
        })
    }

    fn held(self) -> Option<Held> {
        match self {
            State::Runs => None,
            State::Held(why) => Some(why),
            // It stands still; that it panicked is told apart.
            State::Panicked => Some(Held::Other),
        }
    }
}

/// Looks at one domain; `None` if it is gone or another's.
fn look(c: &Connect, cluster: &str, one: &Known, lives: &Lives) -> Result<Option<Look>, Failure> {
    let Some(domain) = survey::numbered(c, one.uuid)? else {
        return Ok(None);
    };
    let tag = survey::tag(&domain)?;
    if !tag.is_some_and(|t| t.cluster == cluster && (t.guest, t.epoch) == one.life) {
        return Ok(None);
    }
    let build = lives.if_there(one.life, |m| m.build.clone()).flatten();
    let build = match build {
        Some(build) => build,
        None => {
            let build = Build::read(&domain.xml_desc(0)?);
            lives.if_there(one.life, |m| m.build = Some(build.clone()));
            build
        }
    };
    let groups = sys::VIR_DOMAIN_STATS_STATE
        | sys::VIR_DOMAIN_STATS_VCPU
        | sys::VIR_DOMAIN_STATS_INTERFACE
        | sys::VIR_DOMAIN_STATS_BLOCK;
    let numbers = stats::of(&domain, groups)?;
    let Some(state) = State::read(&numbers) else {
        return Ok(None);
    };
    // The mock hypervisor has no jobs, and a job that cannot be asked for is none that is known.
    let job = stats::job(&domain).unwrap_or_default();
    Ok(Some(Look {
        state,
        numbers,
        job,
        build,
    }))
}

/// A sample of a domain from its process and, if there is one, what libvirt said of it.
fn sample(one: &Known, found: &Look, agent: Agent, at: Time) -> Sample {
    let numbers = &found.numbers;
    let threads = one.record.as_ref().and_then(|r| vcpu::of(r.pgid));
    let by_libvirt = || vcpu::Vcpus {
        count: numbers
            .get("vcpu.current")
            .and_then(|n| u32::try_from(*n).ok())
            .unwrap_or(1),
        ran_ns: stats::sum(numbers, "vcpu", &["time"]).unwrap_or(0),
        waited_ns: stats::sum(numbers, "vcpu", &["delay"]),
    };
    let vcpus = threads.unwrap_or_else(by_libvirt);
    Sample {
        at,
        held: found.state.held(),
        vcpus: vcpus.count.max(1),
        cpu_ns: vcpus.ran_ns,
        wait_ns: vcpus.waited_ns,
        disk_requests: stats::sum(numbers, "block", &["rd.reqs", "wr.reqs", "fl.reqs"]),
        // As the guest has it: libvirt turns the host's view of a tap device round.
        packets_sent: stats::sum(numbers, "net", &["tx.pkts"]),
        agent,
        job: found.job.map(str::to_owned),
    }
}

/// A sample of a process that is stopped: whoever stopped it holds the guest, and nothing in it
/// can answer.
fn stopped(one: &Known, pid: i32, at: Time) -> Sample {
    let vcpus = one
        .record
        .as_ref()
        .and_then(|_| vcpu::of(pid))
        .unwrap_or_default();
    Sample {
        at,
        held: Some(Held::Other),
        vcpus: vcpus.count.max(1),
        cpu_ns: vcpus.ran_ns,
        wait_ns: vcpus.waited_ns,
        disk_requests: None,
        packets_sent: None,
        agent: Agent::None,
        job: None,
    }
}

impl Inner {
    /// Looks at every domain of this boot that has a process.
    pub(super) fn samples(self: &Arc<Inner>) -> Result<Vec<(Life, Sample)>, String> {
        let give_up = Clock.now() + LIMIT;
        let mut known = self.registry.known()?;
        known.retain(|k| k.boot == self.registry.boot);
        let lives = &self.sense.lives;
        lives.keep(&known);
        let mut all: Vec<(Life, Sample)> = Vec::new();
        let mut queue: VecDeque<Known> = VecDeque::new();
        for one in known {
            if self.qemu() {
                let Some(process) = one.record.as_ref().and_then(leader) else {
                    continue;
                };
                if process.stopped() {
                    let held = stopped(&one, process.pid, Clock.now());
                    lives.with(one.life, |m| m.keep(&held));
                    all.push((one.life, held));
                    continue;
                }
            }
            // One look at a time: what the last one waits for, this one would wait for too.
            if !lives.with(one.life, |m| m.looking) {
                queue.push_back(one);
            }
        }
        if queue.is_empty() {
            return Ok(all);
        }
        let (found, asked) = self.looks(queue, give_up)?;
        let mut running = Vec::new();
        for (one, found) in found {
            // Events tell it at once; this is for when they do not come.
            if lives.found_panicked(one.life, found.state == State::Panicked) {
                self.tell(one.life, GuestEvent::Panicked);
            }
            let at = Clock.now();
            let agent = lives.with(one.life, |m| m.agent.at(at));
            let agent = if found.build.agent {
                agent
            } else {
                Agent::None
            };
            let sample = sample(&one, &found, agent, at);
            lives.with(one.life, |m| m.keep(&sample));
            if found.build.agent && found.state == State::Runs {
                running.push(one.clone());
            }
            all.push((one.life, sample));
        }
        if all.is_empty() && asked > 0 {
            return Err("libvirt has not answered any look".into());
        }
        agent::ask_all(&self.sense, &self.cluster, running);
        Ok(all)
    }

    /// Looks at every domain of the queue, a few side by side, until time is up. With how many
    /// were not answered for.
    fn looks(
        &self,
        queue: VecDeque<Known>,
        give_up: Time,
    ) -> Result<(Vec<(Known, Look)>, usize), String> {
        let mut left = queue.len();
        let abreast = ABREAST.min(left);
        let queue = Arc::new(Mutex::new(queue));
        let (tell, told) = mpsc::channel();
        let mut refused = None;
        for _ in 0..abreast {
            let (queue, tell) = (Arc::clone(&queue), tell.clone());
            let (lives, cluster) = (Arc::clone(&self.sense.lives), self.cluster.clone());
            let asked = self.sense.looks.ask(move |c| {
                loop {
                    let Some(one) = lock(&queue).pop_front() else {
                        return Ok(());
                    };
                    lives.with(one.life, |m| m.looking = true);
                    let looking = Looking(Arc::clone(&lives), one.life);
                    let found = look(c, &cluster, &one, &lives);
                    drop(looking);
                    let lost = found.as_ref().is_err_and(|f| f.kind == Fault::Lost);
                    let _ = tell.send((one, found));
                    if lost {
                        return Ok(());
                    }
                }
            });
            if let Err(f) = asked {
                refused = Some(f.why);
            }
        }
        drop(tell);
        let mut found = Vec::new();
        while left > 0 {
            match told.recv_timeout(until(give_up)) {
                Ok((one, answer)) => {
                    left -= 1;
                    match answer {
                        Ok(Some(look)) => found.push((one, look)),
                        // It is gone, which others notice and tell.
                        Ok(None) => {}
                        Err(f) => {
                            tracing::debug!("{} cannot be looked at: {}", one.life.0, f.why);
                            refused = Some(f.why);
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => break,
                // Nobody can reach libvirt.
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // Looks that come back late look at nothing more.
        lock(&queue).clear();
        match refused {
            Some(why) if found.is_empty() => Err(why),
            _ => Ok((found, left)),
        }
    }

    pub(super) fn tell(&self, life: Life, event: GuestEvent) {
        self.sense.lives.note(life, &event);
        if let Some(tell) = lock(&self.sense.tell).as_ref() {
            let _ = tell.send(Notice::Seen(life.0, life.1, Observation::Event(event)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_with_their_reasons() {
        let read = |state: u32, reason: u32| {
            let pairs = [("state.state", state), ("state.reason", reason)];
            State::read(&pairs.map(|(k, v)| (k.to_owned(), u64::from(v))).into())
        };
        assert_eq!(read(sys::VIR_DOMAIN_RUNNING, 1), Some(State::Runs));
        let held = |reason| read(sys::VIR_DOMAIN_PAUSED, reason);
        assert_eq!(held(1), Some(State::Held(Held::Told)));
        assert_eq!(held(5), Some(State::Held(Held::IoError)));
        assert_eq!(held(6), Some(State::Held(Held::Watchdog)));
        assert_eq!(held(9), Some(State::Held(Held::Move)));
        assert_eq!(held(99), Some(State::Held(Held::Other)));
        assert_eq!(read(sys::VIR_DOMAIN_CRASHED, 1), Some(State::Panicked));
        assert_eq!(read(sys::VIR_DOMAIN_SHUTOFF, 1), None);
        assert_eq!(read(77, 1), None);
        assert_eq!(State::read(&Numbers::new()), None);
    }
}
