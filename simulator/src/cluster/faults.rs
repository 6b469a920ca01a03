//! Carries out actions.

use super::action::{Action, Ask, DeviceMode, WatchdogMode, Who, Wish};
use super::steady::whole;
use super::{Event, Sim, SimNode, nodes};
use crate::world::{Link, MS, SECOND};
use quorate_recovery::contract::{Fact, Request};

/// Whatever was wrong with what passes a link is right again; its noise and delay stay.
pub(super) fn mend(l: &mut Link) {
    l.cut = false;
    l.blocked = 0;
    l.clogged = false;
    l.largest = 0;
}

impl<N: SimNode> Sim<N> {
    /// The host an action is about.
    pub(super) fn who(&self, who: &Who) -> usize {
        let now = self.world.now();
        let coordinator = || {
            let named = self.audit.term.map(|(_, node)| node.0 as usize - 1);
            self.s6.acting(now).or(named).unwrap_or(0)
        };
        match who {
            Who::Host(host) => *host,
            Who::That => self.watch.that,
            Who::Coordinator => coordinator(),
            Who::OtherVoter => usize::from(coordinator() == 0),
            Who::HostOf(guest) => {
                let id = self.guest_ids[*guest];
                let writer = id.and_then(|g| self.s1.writer(g));
                let record = || {
                    let (host, _) = self.audit.guests.get(&id?)?.holder?;
                    Some(host.0 as usize - 1)
                };
                writer.or_else(record).unwrap_or(0)
            }
        }
    }

    pub(super) fn links(&mut self, from: usize, to: usize, change: impl Fn(&mut Link)) {
        if from != to {
            for net in 0..self.plan.networks {
                self.world.change_link(net, from, to, &change);
            }
        }
    }

    pub(super) fn all_links(&mut self, change: impl Fn(&mut Link)) {
        for from in 0..self.plan.hosts {
            for to in 0..self.plan.hosts {
                self.links(from, to, &change);
            }
        }
    }

    /// Does what the plan says under this number, triggers after what has a time.
    pub(super) fn perform(&mut self, number: usize, action: &Action) {
        if self.world.is_recording() {
            let (text, length) = self.told(action);
            let until = length.map(|l| self.world.now() + l);
            self.world.fault(number, &text, until);
        }
        self.act(action);
    }

    pub(super) fn act(&mut self, action: &Action) {
        let name = format!("fault: {}", crate::scenario::verb(action));
        self.exposure.add(name, 1);
        self.note_action(action);
        let n = self.plan.hosts;
        let cut = |l: &mut Link| l.cut = true;
        match action {
            Action::Cut { from, to, net } => {
                let (from, to) = (self.who(from), self.who(to));
                match net {
                    Some(net) if from != to => self.world.change_link(*net, from, to, cut),
                    _ => self.links(from, to, cut),
                }
            }
            Action::Mend { from, to } => {
                let (from, to) = (self.who(from), self.who(to));
                self.links(from, to, mend);
            }
            Action::Isolate(who) => {
                let at = self.who(who);
                for other in 0..n {
                    self.links(at, other, cut);
                    self.links(other, at, cut);
                }
            }
            Action::Deaf(who) => {
                let at = self.who(who);
                (0..n).for_each(|other| self.links(other, at, cut));
            }
            Action::Mute(who) => {
                let at = self.who(who);
                (0..n).for_each(|other| self.links(at, other, cut));
            }
            Action::OnlyTo(who, keep) => {
                let (at, keep) = (self.who(who), self.who(keep));
                for other in (0..n).filter(|o| *o != keep) {
                    self.links(at, other, cut);
                    self.links(other, at, cut);
                }
            }
            Action::Partition(groups) => {
                let mut group = vec![None; n];
                for (g, members) in groups.iter().enumerate() {
                    for m in members {
                        group[self.who(m)] = Some(g);
                    }
                }
                for from in 0..n {
                    for to in 0..n {
                        if let (Some(a), Some(b)) = (group[from], group[to])
                            && a != b
                        {
                            self.links(from, to, cut);
                        }
                    }
                }
            }
            Action::Reconnect(who) => {
                let at = self.who(who);
                for other in 0..n {
                    self.links(at, other, mend);
                    self.links(other, at, mend);
                }
            }
            Action::Heal => self.all_links(mend),
            Action::FenceNetwork { from, cut } => {
                let from = self.who(from);
                let net = self.plan.networks;
                for to in 0..n {
                    self.world.change_link(net, from, to, |l| l.cut = *cut);
                }
            }
            Action::Noise { loss, duplicate } => self.all_links(|l| {
                l.loss = *loss;
                l.duplicate = *duplicate;
            }),
            Action::Delay {
                jitter,
                long,
                long_max,
            } => self.all_links(|l| {
                l.jitter = *jitter;
                l.long = *long;
                l.long_max = *long_max;
            }),
            Action::Block { from, to, class } => {
                let (from, to) = (self.who(from), self.who(to));
                let bit = 1u32 << *class as u32;
                self.links(from, to, |l| l.blocked |= bit);
            }
            Action::Crash { who, restart } => {
                let host = self.who(who);
                if self.world.is_up(host) {
                    self.crash(host);
                    if let Some(delay) = restart {
                        let boot = self.hosts[host].boot;
                        self.world.after(*delay, Event::DaemonStart { host, boot });
                    }
                }
            }
            Action::Stop { who, length } => {
                let host = self.who(who);
                self.world.stop(host, *length);
                self.disturb(host, *length);
            }
            Action::Freeze { who, length } => {
                let host = self.who(who);
                self.freeze(host, *length);
            }
            Action::PowerOff { who, back } => {
                let host = self.who(who);
                self.power_off(host, *back);
            }
            Action::PowerOn(who) => {
                let host = self.who(who);
                self.power_on(host);
            }
            Action::AllPowerOff { back } => {
                (0..n).for_each(|host| self.power_off(host, Some(*back)));
            }
            Action::GuestCrash(guest) => self.guest_crashes(*guest),
            Action::Guest(guest, ill) => self.befalls(*guest, ill),
            Action::Starve { who, length } => {
                let host = self.who(who);
                for at in 0..self.hosts[host].procs.len() {
                    self.count(host, at);
                }
                let until = self.world.now() + length;
                self.hosts[host].starved_until = until;
            }
            Action::Device { who, mode } => {
                let host = self.who(who);
                self.hosts[host].device = Some(*mode);
            }
            Action::Silent { who, length } => {
                let host = self.who(who);
                self.hosts[host].silent_until = self.world.now() + length;
                self.disturb(host, *length);
            }
            Action::OtherSilent { who, length } => {
                let host = self.who(who);
                self.hosts[host].other_silent_until = self.world.now() + length;
            }
            Action::SlowCreate { who, longest } => {
                let host = self.who(who);
                self.hosts[host].slow_create = *longest;
            }
            Action::StuckKill(who) => {
                let host = self.who(who);
                self.hosts[host].stuck_kill = true;
            }
            Action::SlowDisk { who, delay } => {
                let host = self.who(who);
                self.world.disk_mut(host).delay = *delay;
                self.s4.disturbed(host, u64::MAX);
            }
            Action::StoreFails(who) => {
                let host = self.who(who);
                self.world.disk_mut(host).failed = true;
                self.s4.disturbed(host, u64::MAX);
            }
            Action::Ask(who, ask) => {
                let host = self.who(who);
                self.ask(host, ask);
            }
            Action::Clog { who, on } => self.clog(who, *on),
            Action::Hole { from, to, largest } => {
                let (from, to) = (self.who(from), self.who(to));
                self.links(from, to, |l| l.largest = *largest);
            }
            Action::Reorder(chance) => self.all_links(|l| l.reorder = *chance),
            Action::Rate(messages) => {
                let gap = SECOND.checked_div(u64::from(*messages)).unwrap_or(0);
                self.all_links(|l| l.gap = gap);
            }
            Action::Shape {
                shape,
                first,
                way,
                fence,
            } => self.shape(*shape, first, *way, *fence),
            Action::Flap {
                who,
                peer,
                period,
                times,
            } => self.flap(who, peer.as_ref(), *period, *times),
            Action::Swizzle {
                hosts,
                every,
                order,
            } => self.swizzle(hosts, *every, *order),
            Action::StoreMends(who) => {
                let host = self.who(who);
                self.world.disk_mut(host).failed = false;
            }
            Action::DiskStalls { who, length } => {
                let host = self.who(who);
                let until = self.world.now() + length;
                self.world.disk_mut(host).stall(until);
                self.s4.disturbed(host, until);
            }
            Action::Rots(who) => {
                let host = self.who(who);
                self.hosts[host].rotten = true;
            }
            Action::Store { who, fate } => {
                let host = self.who(who);
                self.befalls_store(host, *fate);
            }
            Action::Clones { who, onto } => {
                let (host, onto) = (self.who(who), self.who(onto));
                self.cloned(host, onto);
            }
            Action::Watchdog { who, mode } => self.watchdog_turns(who, *mode),
            Action::Guardian { who, mode, length } => {
                let host = self.who(who);
                self.guardian_fails(host, *mode, *length);
            }
            Action::EventsLost { who, length } => {
                let host = self.who(who);
                self.hosts[host].untold_until = self.world.now() + length;
            }
            Action::StorageGone { who, length } => self.storage_gone(who, *length),
            Action::WritesHeld { who, length } => self.writes_held(who, *length),
            Action::ScanHangs { who, length } => self.scan_hangs(who, *length),
            Action::Hides(guest) => self.hides(*guest),
            Action::HypervisorCrash { who, length } => self.hypervisor_crash(who, *length),
            Action::LateWrites { who, length } => {
                let host = self.who(who);
                self.hosts[host].late_writes = *length;
            }
            Action::Lock(guest, turn) => self.lock_turns(*guest, *turn),
            Action::Calm => self.calm(),
        }
        self.note_links();
    }

    fn ask(&mut self, host: usize, ask: &Ask) {
        let name = |g: &usize| format!("g{}", g + 1);
        let request = match ask {
            Ask::Stop(g) => Request::StopGuest { name: name(g) },
            Ask::Start(g) => Request::StartGuest { name: name(g) },
            Ask::Hold(g) => Request::HoldGuest {
                name: name(g),
                by: "operator".into(),
                why: "asked for".into(),
            },
            Ask::Release(g) => Request::ReleaseGuests {
                names: vec![name(g)],
                all_of: None,
                by: "operator".into(),
            },
            Ask::Fence(who) => Request::FenceHost {
                host: self.name(self.who(who)).to_string(),
            },
            Ask::ConfirmOff(who) => Request::ConfirmOff {
                host: self.name(self.who(who)).to_string(),
                by: "operator".into(),
                lives: None,
            },
            Ask::Publish => Request::Publish {
                bytes: message(self.requests + 1, 8),
            },
            Ask::PublishMany(bytes) => Request::Publish {
                bytes: message(self.requests + 1, *bytes as usize),
            },
            Ask::Leave(why) => Request::Leave(*why),
        };
        self.requests += 1;
        let client = self.requests;
        if let Request::Publish { .. } = request {
            self.asked.push((client, Wish::Message));
        }
        self.traffic.asked();
        let fact = Fact::Request { client, request };
        self.world.tell(host, 0, super::Local::fact(fact));
    }

    /// Everything is whole again.
    fn calm(&mut self) {
        let delay = self.plan.delay;
        self.calms += 1;
        self.all_links(|l| {
            *l = Link {
                base: delay.0,
                jitter: delay.1,
                ..Link::default()
            };
        });
        self.world.hasten();
        self.plan.stall = 0;
        self.plan.create_hangs = 0;
        self.plan.create_fails = 0;
        let now = self.world.now();
        (0..self.plan.guests).for_each(|guest| self.released(guest));
        for host in 0..self.plan.hosts {
            for to in 0..self.plan.hosts {
                let net = self.plan.networks;
                self.world.change_link(net, host, to, |l| l.cut = false);
            }
            self.world.disk_mut(host).delay = (MS / 10, 2 * MS);
            self.world.disk_goes_on(host);
            if self.world.disk(host).failed || self.hosts[host].store_failed {
                // Somebody frees the disk and starts the daemon anew.
                self.crash(host);
            }
            let h = &mut self.hosts[host];
            h.slow_create = 0;
            h.silent_until = 0;
            h.other_silent_until = 0;
            h.starved_until = 0;
            h.stuck_kill = false;
            h.rotten = false;
            h.storage_gone_until = 0;
            h.scan_hangs_until = 0;
            h.writes_held_until = 0;
            h.untold_until = 0;
            h.late_writes = 0;
            h.watchdog_mode = WatchdogMode::Works;
            for device in [&mut h.device, &mut h.outlet] {
                let ill = matches!(
                    device,
                    Some(
                        DeviceMode::Fails | DeviceMode::Late | DeviceMode::Hasty | DeviceMode::Gone
                    )
                );
                if ill {
                    *device = Some(DeviceMode::Works);
                }
            }
            let (on, boot, frozen) = (h.on, h.boot, h.frozen_until > now);
            if let Some((_, _, until)) = &mut h.guardian.fails {
                *until = now + SECOND;
                let until = *until;
                let back = Event::GuardianBack { host, boot, until };
                self.world.after(SECOND, back);
            }
            self.writes_go_on(host);
            let h = &mut self.hosts[host];
            if frozen {
                h.frozen_until = now;
                self.thaw(host, now);
            }
            if !on {
                self.world.after(SECOND / 2, Event::PowerOn { host, boot });
            } else if !self.world.is_up(host) {
                self.world
                    .after(300 * MS, Event::DaemonStart { host, boot });
            }
            self.world.resume(host);
        }
    }

    /// The daemon of a host cannot look for so long.
    pub(super) fn disturb(&mut self, host: usize, length: u64) {
        let until = self.world.now() + length;
        self.s4.disturbed(host, until);
        let h = &mut self.hosts[host];
        h.disturbed = h.disturbed.max(until);
        self.daemon_fails(host);
    }

    /// Whether datagrams and sessions pass both ways between two hosts.
    pub(super) fn linked(&self, a: usize, b: usize) -> bool {
        (0..self.plan.networks)
            .any(|net| whole(self.world.link(net, a, b)) && whole(self.world.link(net, b, a)))
    }

    pub(super) fn add_guest(&mut self, host: usize, guest: usize) {
        self.requests += 1;
        let client = self.requests;
        self.asked.push((client, Wish::Guest(guest)));
        let request = Request::AddGuest(self.spec(guest, super::images::wanted(&self.plan)));
        self.traffic.asked();
        let fact = Fact::Request { client, request };
        self.world.tell(host, 0, super::Local::fact(fact));
    }

    /// The settled voters that are linked well enough for L2, by one of them.
    pub(super) fn hub(&mut self) -> Option<usize> {
        let voters: Vec<usize> = (0..self.plan.voters).collect();
        // One with another state than the others leaves the log until it has a right one.
        let altered: Vec<usize> = voters
            .iter()
            .copied()
            .filter(|v| self.out_of_the_log(*v))
            .collect();
        let alive = |v: usize| {
            let up = self.world.is_running(v) && self.world.is_reachable(v);
            let fine = up && !self.world.disk(v).failed && !self.hosts[v].store_failed;
            fine && !altered.contains(&v)
        };
        crate::check::l2::quorum_connected(&voters, alive, |a, b| self.linked(a, b))
    }

    pub(super) fn is_member(&self, host: usize) -> bool {
        let record = self.audit.hosts.get(&nodes::id(host));
        record.is_some_and(|r| r.incarnation.counter > 0 && r.revoke.is_none() && !r.proved)
    }
}

/// A message of so many bytes, or a few more, that begins with the number of its client.
fn message(client: u64, bytes: usize) -> Vec<u8> {
    let mut message = client.to_le_bytes().to_vec();
    message.resize(bytes.max(8), 7);
    message
}
