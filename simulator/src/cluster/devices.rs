//! Power: fence devices, outages, frozen hosts.

use super::action::DeviceMode;
use super::host::{Guardian, Host};
use super::picture::mark;
use super::triggers::When;
use super::{Event, Local, Sim, SimNode};
use crate::check::s8;
use crate::mutants;
use crate::world::MS;
use quorate_fencing::agent::{AgentEnd, Verb};
use quorate_fencing::order::{LevelAction, LevelRun};
use quorate_fencing::run::Outcome;
use quorate_fencing::{Device, Level, ProofClass};
use quorate_membership::entry::AttemptEnd;
use quorate_membership::{BootId, Time, Token};
use quorate_recovery::contract::{Fact, FenceLaunch};
use std::collections::BTreeMap;
use std::time::Duration;

/// A fence level under way, run by the same logic as in the daemon.
#[derive(Debug)]
pub(super) struct Fence {
    by: usize,
    attempt: Token,
    host: usize,
    /// It uses the host's outlet, the second level.
    outlet: bool,
    run: LevelRun,
    /// An `off` was launched: a lying device says off from then on.
    told_off: bool,
}

/// How long a simulated fence level may take.
const LIMIT: Duration = Duration::from_secs(3);
/// Delay after which a tardy device acts.
const TARDY: Duration = Duration::from_secs(20);

pub(super) fn outlet(host: usize) -> String {
    format!("outlet-h{}", host + 1)
}

/// The fence levels a host states: its controller, then its outlet.
pub(super) fn levels(host: usize, h: &Host) -> Vec<Level> {
    let device = |name: String, strip: Option<&str>| Device {
        // The strip of the site has one address; controllers have none that two hosts share.
        parameters: strip
            .map(|at| BTreeMap::from([("ip".into(), at.into()), ("plug".into(), name.clone())]))
            .unwrap_or_default(),
        name,
        agent: "fence_sim".into(),
        class: Some(ProofClass::Power),
        limit_ms: LIMIT.as_millis() as u64,
    };
    let controller = h
        .device
        .map(|_| vec![device(format!("bmc-h{}", host + 1), None)]);
    let outlets = h.outlet.map(|mode| match mode {
        DeviceMode::Pair | DeviceMode::Returns => ["a", "b"]
            .map(|feed| device(format!("{}-{feed}", outlet(host)), Some("strip")))
            .into(),
        _ => vec![device(outlet(host), None)],
    });
    let level = |devices| Level { devices };
    [controller, outlets]
        .into_iter()
        .flatten()
        .map(level)
        .collect()
}

impl<N: SimNode> Sim<N> {
    /// The daemon's driver is about to launch a fence level.
    pub(super) fn launch(&mut self, by: usize, launch: &FenceLaunch) {
        let clock = Time(self.world.reading(by));
        let host = (launch.host.0 as usize).wrapping_sub(1);
        let attempt = launch.attempt;
        self.notice(When::FenceAttempt, Some(host), None);
        let late = clock > launch.not_after && !mutants::host("late-order-obeyed");
        if late || host >= self.plan.hosts {
            mark!(self, by, Fence, "attempt {attempt} is not launched");
            self.fenced(by, attempt, AttemptEnd::NotLaunched, "too late".into());
            return;
        }
        let level = Level {
            devices: launch.devices.clone(),
        };
        let now = Duration::from_nanos(self.world.now());
        self.fences.push(Fence {
            by,
            attempt,
            host,
            outlet: launch
                .devices
                .iter()
                .any(|d| d.name.starts_with(&outlet(host))),
            run: LevelRun::new(&level, &launch.name, now, launch.limit),
            told_off: false,
        });
        self.fence_poll(self.fences.len() - 1);
    }

    /// Does what the level's run wants done now.
    pub(super) fn fence_poll(&mut self, at: usize) {
        loop {
            let now = self.world.now();
            let f = &mut self.fences[at];
            if f.run.outcome().is_some() {
                return;
            }
            let (by, attempt) = (f.by, f.attempt);
            match f.run.poll(Duration::from_nanos(now)) {
                LevelAction::Run {
                    device,
                    verb,
                    until,
                    ..
                } => self.agent(at, device, verb, until.as_nanos() as u64),
                LevelAction::WaitUntil(until) => {
                    let wait = (until.as_nanos() as u64).saturating_sub(now).max(MS);
                    self.world.tell(by, wait, Local::FenceWake(at));
                    return;
                }
                LevelAction::Done(outcome) => {
                    let detail = f.run.history();
                    let end = match outcome {
                        Outcome::Off => AttemptEnd::Off,
                        Outcome::Passed | Outcome::Failed(_) => AttemptEnd::Failed,
                        Outcome::Unknown(_) => AttemptEnd::Unknown,
                        Outcome::CannotDo(_) => AttemptEnd::NotLaunched,
                    };
                    self.fenced(by, attempt, end, detail);
                    return;
                }
            }
        }
    }

    /// An agent runs against a device; it is ended at `until`.
    fn agent(&mut self, at: usize, device: usize, verb: Verb, until: u64) {
        let now = self.world.now();
        let f = &self.fences[at];
        let (by, host, attempt) = (f.by, f.host, f.attempt);
        let reach = !self.world.link(self.plan.networks, by, host).cut;
        let h = &self.hosts[host];
        let powered = |mode: &DeviceMode| h.on || *mode != DeviceMode::Shares;
        let device_used = if f.outlet { h.outlet } else { h.device };
        let (on, mode) = (h.on, device_used.filter(|m| reach && powered(m)));
        let strip = match mode {
            Some(DeviceMode::Pair | DeviceMode::Returns) => {
                Some(self.strip(host, device, verb, attempt))
            }
            _ => None,
        };
        let f = &self.fences[at];
        let rng = &mut self.fence_rng;
        let exit = |code: i32, output: &str| AgentEnd::Exited {
            code,
            output: output.into(),
        };
        let quick = rng.range(20 * MS, 200 * MS);
        let next = (host + 1) % self.hosts.len();
        let turned_away = mode == Some(DeviceMode::Busy) && rng.chance(750_000);
        let (takes, end) = match (verb, mode) {
            (_, Some(DeviceMode::Pair | DeviceMode::Returns)) => {
                strip.unwrap_or((u64::MAX, AgentEnd::TimedOut))
            }
            (_, Some(_)) if turned_away => (quick, AgentEnd::NotLetIn { code: 1 }),
            (Verb::Status, Some(DeviceMode::Empty)) => (quick, exit(2, "Status: OFF\n")),
            (_, Some(DeviceMode::Empty)) => (quick, exit(0, "")),
            (_, None | Some(DeviceMode::Gone)) => (u64::MAX, AgentEnd::TimedOut),
            (Verb::Status, Some(DeviceMode::Wrong)) if self.hosts[next].on => {
                (quick, exit(0, "Status: ON\n"))
            }
            (Verb::Status, Some(DeviceMode::Wrong)) => (quick, exit(2, "Status: OFF\n")),
            (_, Some(DeviceMode::Wrong)) => {
                let cut = Event::FenceActWrong {
                    attempt,
                    host: next,
                };
                self.world.after(quick, cut);
                (quick, exit(0, ""))
            }
            (Verb::Status, Some(mode)) => {
                let lies = mode == DeviceMode::Lies && f.told_off;
                let end = if on && !lies {
                    exit(0, "Status: ON\n")
                } else {
                    exit(2, "Status: OFF\n")
                };
                (quick, end)
            }
            (_, Some(DeviceMode::Fails)) => (quick, exit(1, "")),
            (_, Some(DeviceMode::Lies)) => (quick, exit(0, "")),
            (_, Some(DeviceMode::Hasty)) => {
                let deadline = f.run.deadline().as_nanos() as u64;
                let act = rng.range(quick, (deadline.max(now) - now).max(quick));
                // It opens a switch that is closed, once: not that of the next boot.
                let h = &self.hosts[host];
                if h.on {
                    let boot = h.boot;
                    self.world.after(
                        act,
                        Event::FenceActLate {
                            attempt,
                            host,
                            boot,
                        },
                    );
                }
                (quick, exit(0, ""))
            }
            (_, Some(DeviceMode::Picky)) if !on => (quick, exit(1, "already off")),
            // Who is off has nothing to shut down.
            (_, Some(DeviceMode::Soft)) if !on => (quick, exit(0, "")),
            (_, Some(DeviceMode::Soft)) => {
                let boot = self.hosts[host].boot;
                // Asked again while it shuts down, it goes on shutting down.
                if self.hosts[host].shut_down_at <= now {
                    let act = rng.range(500 * MS, 2000 * MS);
                    self.hosts[host].shut_down_at = now + act;
                    let event = Event::FenceActLate {
                        attempt,
                        host,
                        boot,
                    };
                    self.world.after(act, event);
                }
                (quick, exit(0, ""))
            }
            (
                _,
                Some(DeviceMode::Works | DeviceMode::Shares | DeviceMode::Picky | DeviceMode::Busy),
            ) => {
                let act = rng.range(20 * MS, 600 * MS);
                let left = rng.range(MS, 300 * MS);
                self.world.after(act, Event::FenceAct { attempt, host });
                (act + left, exit(0, ""))
            }
            (_, Some(DeviceMode::Late)) => {
                // The agent is given up; the device acts all the same, within the level's limit.
                let deadline = f.run.deadline().as_nanos() as u64;
                let act = rng.range(until, deadline.max(until)) - now;
                self.world.after(act, Event::FenceAct { attempt, host });
                (u64::MAX, AgentEnd::TimedOut)
            }
            (_, Some(DeviceMode::Tardy)) => {
                let act = TARDY.as_nanos() as u64;
                self.world.after(act, Event::FenceAct { attempt, host });
                (u64::MAX, AgentEnd::TimedOut)
            }
        };
        self.fences[at].told_off |= verb == Verb::Off;
        let end_at = now.saturating_add(takes);
        let (delay, end) = if end_at > until {
            (until.saturating_sub(now), AgentEnd::TimedOut)
        } else {
            (takes, end)
        };
        self.world.tell(
            by,
            delay,
            Local::AgentEnded {
                fence: at,
                device,
                end,
            },
        );
    }

    pub(super) fn agent_ended(&mut self, at: usize, device: usize, end: &AgentEnd) {
        let now = Duration::from_nanos(self.world.now());
        self.fences[at].run.ended(device, now, end);
        self.fence_poll(at);
    }

    fn fenced(&mut self, by: usize, attempt: Token, end: AttemptEnd, detail: String) {
        let fact = Fact::FenceDone {
            attempt,
            end,
            detail,
        };
        self.world.tell(by, 0, Local::fact(fact));
    }

    /// A device cuts a host, whatever has become of who asked for it.
    pub(super) fn fence_act(&mut self, attempt: Token, host: usize) {
        let now = self.world.now();
        mark!(self, host, Fence, "is CUT for attempt {attempt}");
        self.notice(When::FenceCuts, Some(host), None);
        self.hosts[host].cuts += 1;
        if self.hosts[host].on {
            let all = (self.holders(host, attempt), self.plan.voters);
            let braked = self.s7.cut(now, (host, self.plan.hosts), attempt, all);
            self.hold(braked);
            if attempt.index() > self.audit.log.len() as u64 {
                self.cuts.push((now, host, attempt));
            } else {
                let meant = s8::cut(now, host, attempt, &self.audit);
                self.hold(meant);
            }
        }
        let back = self.fence_rng.range(200 * MS, 6000 * MS);
        self.power_off(host, Some(back));
    }

    /// A device cuts a host that another's attempt was aimed at.
    pub(super) fn fence_act_wrong(&mut self, attempt: Token, host: usize) {
        mark!(
            self,
            host,
            Fence,
            "is CUT in place of another, attempt {attempt}"
        );
        let back = self.fence_rng.range(200 * MS, 6000 * MS);
        self.power_off(host, Some(back));
    }

    /// Judges device cuts whose attempt the auditor had not yet seen.
    pub(super) fn judge_cuts(&mut self) {
        let known = self.audit.log.len() as u64;
        for i in (0..self.cuts.len()).rev() {
            let (at, host, attempt) = self.cuts[i];
            if attempt.index() <= known {
                self.cuts.swap_remove(i);
                let meant = s8::cut(at, host, attempt, &self.audit);
                self.hold(meant);
            }
        }
    }

    /// Power is gone, and comes back after `back`.
    pub(super) fn power_off(&mut self, host: usize, back: Option<u64>) {
        self.l1.host(self.world.now(), host);
        if !self.hosts[host].on {
            return;
        }
        mark!(self, host, Truth, "loses power");
        self.draw_off(host);
        self.notice(When::PowerLost, Some(host), None);
        self.hosts[host].on = false;
        self.hosts[host].outages += 1;
        self.set_all_writing(host);
        let h = &mut self.hosts[host];
        h.writes_held_until = 0;
        h.scan_hangs_until = 0;
        h.procs.clear();
        h.creations.clear();
        h.busy.clear();
        h.frozen_until = 0;
        h.guardian = Guardian {
            fed: h.guardian.fed + 1,
            ..Guardian::default()
        };
        let boot = h.boot;
        self.world.set_reachable(host, false);
        self.crash(host);
        let h = &mut self.hosts[host];
        (h.mark, h.marking, h.same_life) = (None, false, false);
        if let Some(back) = back {
            self.world.after(back, Event::PowerOn { host, boot });
        }
    }

    pub(super) fn power_on(&mut self, host: usize) {
        self.l1.host(self.world.now(), host);
        let h = &mut self.hosts[host];
        if h.on {
            return;
        }
        h.on = true;
        h.feeds = [true; 2];
        h.boot += 1;
        h.stuck_kill = false;
        h.silent_until = 0;
        h.other_silent_until = 0;
        let mut rng = self.processes.next(host);
        let bits = (rng.bits(), rng.bits());
        h.profile.boot = BootId(u128::from(bits.0) << 64 | u128::from(bits.1));
        let (boot, watchdog) = (h.boot, h.watchdog);
        mark!(self, host, Truth, "has power, boot {boot}");
        self.world.set_reachable(host, true);
        let delay = self.processes.next(host).range(100 * MS, 1500 * MS);
        self.world.after(delay, Event::DaemonStart { host, boot });
        if watchdog {
            self.world.after(MS, Event::FeedLook { host, boot });
        }
    }

    /// The whole host stands still; only a hardware watchdog goes on counting.
    pub(super) fn freeze(&mut self, host: usize, length: u64) {
        let until = self.world.now() + length;
        let h = &mut self.hosts[host];
        if !h.on || until <= h.frozen_until {
            return;
        }
        h.frozen_until = until;
        mark!(self, host, Truth, "is frozen");
        self.set_all_writing(host);
        self.world.set_reachable(host, false);
        self.world.stop(host, length);
        self.s4.disturbed(host, until);
        self.world.after(length, Event::Thaw { host, until });
    }

    pub(super) fn thaw(&mut self, host: usize, until: u64) {
        self.l1.host(self.world.now(), host);
        let h = &mut self.hosts[host];
        if !h.on || h.frozen_until != until {
            return;
        }
        h.frozen_until = 0;
        mark!(self, host, Truth, "goes on");
        self.set_all_writing(host);
        self.world.set_reachable(host, true);
        self.world.resume(host);
    }
}
