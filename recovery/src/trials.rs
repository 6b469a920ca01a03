//! Fence devices are tried while their hosts run, so that none is relied on that was never read.
//!
//! Every voter reads the devices of every host, at its start and hourly; who is coordinator does so
//! at once. What a device of class power says of a host that beats goes into the log: *on*, and it
//! is relied on from then on; *off*, and it is not, for it speaks of something else. The log holds
//! it, because a coordinator cannot read the device of a host that is lost already and know.
//!
//! A reading counts only if the same life of the host is heard after it. What a voter cannot read is
//! its own knowledge, told by `status` and an alert, and counts for nothing.

use crate::command::Command;
use crate::machine::Guests;
use quorate_fencing::boxes::one_box;
use quorate_fencing::{Device, ProofClass};
use quorate_membership::cluster::HostState;
use quorate_membership::entry::Entry;
use quorate_membership::{Host, Incarnation, Member, NodeId, Time, Token};
use std::collections::BTreeMap;
use std::time::Duration;

/// Between two trials of a device that answers.
const EVERY: Duration = Duration::from_secs(3600);
/// Before the next trial of one that does not: the first time, and at most.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(600));
/// After its start a voter that is not coordinator leaves the devices to the one that is for so
/// long, and for as long again for each voter before it: many boxes let one session in at a time.
const LATER: Duration = Duration::from_secs(20);
/// The most trials of a node at one time.
const MOST: usize = 4;
/// The most that is kept of an agent's words, in characters.
const WORDS: usize = 200;

/// What came of trying a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceWord {
    /// Its status reads on.
    On,
    /// Its status reads off.
    Off,
    /// It has no state to read, and it answers.
    Answers,
    /// It could not be read, for this reason.
    Unread(String),
}

/// A device to try: to read its state, and change nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialLaunch {
    /// Names the trial in its answer.
    pub trial: u64,
    /// The host.
    pub host: NodeId,
    /// Its name, handed to the agent.
    pub name: String,
    /// The device.
    pub device: Device,
}

/// One device of one host, as that states it now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stated {
    host: NodeId,
    /// The entry that stated it.
    by: Token,
    device: String,
}

/// A trial under way.
#[derive(Clone, Debug)]
struct Open {
    what: Stated,
    device: Device,
    incarnation: Incarnation,
    since: Time,
}

/// A reading that waits for a sign that its host lived on.
#[derive(Clone, Debug)]
struct Reading {
    what: Stated,
    incarnation: Incarnation,
    on: bool,
    at: Time,
}

/// What a node knows of one device.
#[derive(Clone, Debug, Default)]
struct Known {
    /// When it is tried next.
    due: Time,
    /// Trials in a row that read nothing.
    failures: u32,
    /// What is wrong with it as seen from here.
    wrong: Option<String>,
    /// Something of its parameters that its agent does not know.
    remark: Option<String>,
}

/// A voter's trials of fence devices.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trials {
    begun: Option<Time>,
    /// Nothing is due before.
    rest: Time,
    number: u64,
    open: BTreeMap<u64, Open>,
    readings: Vec<Reading>,
    known: BTreeMap<Stated, Known>,
    /// Alerts to be told: host, and words.
    alerts: Vec<(NodeId, String)>,
}

impl Trials {
    /// What is to be tried now. Readings that can be judged are proposed.
    pub(crate) fn plan(&mut self, now: Time, member: &mut Member<Guests>) -> Vec<TrialLaunch> {
        let begun = *self.begun.get_or_insert(now);
        if now < self.rest {
            return Vec::new();
        }
        let t = member.cluster().timing.clone();
        self.rest = now + t.heartbeat / 2;
        self.judge(now, member);
        let Some(place) = member.cluster().slot(member.me()) else {
            return Vec::new();
        };
        let turn = LATER * u32::from(place.0);
        let early = member.acting(now).is_none() && now.since(begun) < turn;
        let attempts = member.cluster().hosts.values();
        // A fence needs its box for itself.
        let fencing = attempts.flat_map(|h| h.attempts.keys()).next().is_some();
        if member.app().fencing.is_empty() || early || fencing || !member.quorate(now) {
            return Vec::new();
        }
        self.forget(member);
        let limit = |open: &Open| now.since(open.since) < open.device.limit() * 2;
        self.open.retain(|_, open| limit(open));
        let mut out = Vec::new();
        for (host, record) in &member.cluster().hosts {
            if !lives(now, member, *host, record) {
                continue;
            }
            let Some(by) = member.app().devices.get(host).map(|d| d.stated) else {
                continue;
            };
            let levels = member.app().fencing.get(host);
            for device in levels.into_iter().flatten().flat_map(|l| &l.devices) {
                let what = Stated {
                    host: *host,
                    by,
                    device: device.name.clone(),
                };
                let taken = |o: &Open| o.what == what || one_box(&o.device, device);
                let known = self.known.entry(what.clone()).or_default();
                if now < known.due || self.open.len() >= MOST || self.open.values().any(taken) {
                    continue;
                }
                known.due = now + AGAIN.1;
                self.number += 1;
                out.push(TrialLaunch {
                    trial: self.number,
                    host: *host,
                    name: member.cluster().name(*host),
                    device: device.clone(),
                });
                let open = Open {
                    what,
                    device: device.clone(),
                    incarnation: record.incarnation,
                    since: now,
                };
                self.open.insert(self.number, open);
            }
        }
        out
    }

    /// Tries the devices of this host again as soon as may be; of all hosts if none is named.
    pub(crate) fn hurry(&mut self, host: Option<NodeId>) {
        let named = |what: &Stated| host.is_none_or(|h| h == what.host);
        for (_, known) in self.known.iter_mut().filter(|(what, _)| named(what)) {
            known.due = Time::ZERO;
        }
        self.rest = Time::ZERO;
    }

    /// A trial is over; `remark` says what its agent does not know of its parameters.
    pub(crate) fn done(&mut self, now: Time, trial: u64, word: DeviceWord, remark: Option<String>) {
        let Some(open) = self.open.remove(&trial) else {
            return;
        };
        let Some(known) = self.known.get_mut(&open.what) else {
            return;
        };
        let name = &open.what.device;
        let short = |words: String| words.chars().take(WORDS).collect::<String>();
        let remark = remark.map(short);
        if let Some(words) = &remark
            && known.remark.as_ref() != Some(words)
        {
            let text = format!("fence device {name}: {words}");
            self.alerts.push((open.what.host, text));
        }
        known.remark = remark;
        if let DeviceWord::Unread(why) = word {
            known.failures = known.failures.saturating_add(1);
            known.due = now + (AGAIN.0 * (1 << known.failures.min(8)) / 2).min(AGAIN.1);
            // Once may be a session of somebody else.
            if known.failures == 2 {
                let why = short(why.clone());
                let text = format!("fence device {name} cannot be read from here: {why}");
                self.alerts.push((open.what.host, text));
            }
            known.wrong = (known.failures >= 2).then(|| short(why));
            return;
        }
        (known.failures, known.wrong, known.due) = (0, None, now + EVERY);
        if let DeviceWord::On | DeviceWord::Off = word {
            self.rest = now;
            self.readings.push(Reading {
                what: open.what,
                incarnation: open.incarnation,
                on: word == DeviceWord::On,
                at: now,
            });
        }
    }

    /// Alerts since the last call: host, and words.
    pub(crate) fn alerts(&mut self) -> Vec<(NodeId, String)> {
        std::mem::take(&mut self.alerts)
    }

    /// What this node finds wrong with devices, in words, by host.
    pub(crate) fn wrong(&self) -> impl Iterator<Item = (NodeId, String)> + '_ {
        self.known.iter().flat_map(|(what, known)| {
            let name = &what.device;
            let unread = known.wrong.iter();
            let unread = unread
                .map(move |why| format!("fence device {name} cannot be read from here: {why}"));
            let remark = known.remark.iter();
            let remark = remark.map(move |why| format!("fence device {name}: {why}"));
            unread.chain(remark).map(|text| (what.host, text))
        })
    }

    /// Proposes what was read of hosts that are heard in the same life after it.
    fn judge(&mut self, now: Time, member: &mut Member<Guests>) {
        let t = member.cluster().timing.clone();
        let mut left = Vec::new();
        for reading in std::mem::take(&mut self.readings) {
            let host = reading.what.host;
            let record = member.cluster().hosts.get(&host);
            let same = record.is_some_and(|h| {
                h.incarnation == reading.incarnation && h.state() == HostState::Member
            });
            let heard = match host == member.me() {
                true => member.incarnation() == reading.incarnation,
                false => member.heard(now, host).is_some_and(|(heard, _)| {
                    heard.incarnation == reading.incarnation && heard.at > reading.at + t.heartbeat
                }),
            };
            let stale = now.since(reading.at) > t.silence() * 2;
            let what = &reading.what;
            let devices = member.app().devices.get(&host);
            let known = devices.filter(|d| d.stated == what.by);
            let said = known.map(|d| d.said.get(&what.device).copied());
            let Some(said) = said.filter(|said| *said != Some(reading.on)) else {
                continue;
            };
            if !same || stale {
                continue;
            }
            // A device that says on is believed at once: what it says is no news.
            if (heard || reading.on && said.is_none())
                && member.cool(now, crate::planner::kind::TRIED, reading.at.0, t.election)
            {
                let tried = Command::Tried {
                    host,
                    incarnation: reading.incarnation,
                    stated: what.by,
                    device: what.device.clone(),
                    on: reading.on,
                };
                member.propose(now, Entry::App(tried));
            }
            left.push(reading);
        }
        self.readings = left;
    }

    /// Forgets what is not stated any more.
    fn forget(&mut self, member: &Member<Guests>) {
        let fencing = &member.app().fencing;
        let devices = &member.app().devices;
        self.known.retain(|what, _| {
            let stated = devices.get(&what.host).is_some_and(|d| d.stated == what.by);
            let levels = fencing.get(&what.host).into_iter().flatten();
            stated
                && levels
                    .flat_map(|l| &l.devices)
                    .any(|d| d.name == what.device)
        });
    }
}

/// Whether a host is there, so that what its devices say of it can be judged.
fn lives(now: Time, member: &Member<Guests>, host: NodeId, record: &Host) -> bool {
    if record.state() != HostState::Member {
        return false;
    }
    let t = &member.cluster().timing;
    host == member.me()
        || member.heard(now, host).is_some_and(|(heard, silent)| {
            heard.incarnation == record.incarnation && silent < t.heartbeat * 2 + t.jitter
        })
}

/// Whether a device of this class has a state to read.
#[must_use]
pub fn has_state(device: &Device) -> bool {
    device.class() == Ok(ProofClass::Power)
}
