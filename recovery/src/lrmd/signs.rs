//! Signs of life: what the counters of a guest say between two looks, and what is usual for it.

use super::{Context, GAP, LATE, TOGETHER};
use crate::mutants::planted;
use crate::observation::{Agent, Sample};
use quorate_membership::Time;
use std::time::Duration;

/// A CPU that ran, or wanted to, for so much of an interval is pinned, in thousandths.
const PINNED: u64 = 900;
/// One that ran for less than this is idle.
const IDLE: u64 = 5;
/// A guest that waited for a CPU of the host for more than this is starved, whatever it did besides.
const STARVED: u64 = 300;
/// What was seen in more than this share of the learned intervals is usual, in hundredths.
const USUAL: u32 = 10;
/// Learned intervals before the silence of an agent can be a sign.
const LEARNED_WITH_AGENT: u32 = 5;
/// Learned time before counters alone can be a sign, and the share of it with activity.
const LEARNED_ALONE: (Duration, u32) = (Duration::from_secs(30), 90);
/// Learned intervals without a single quiet one of the kind before such a stretch, alone, is a sign:
/// a guest that has finished its work, or has begun to compute, looks the same.
const LEARNED_BUSY: u32 = 300;
/// A CPU that is pinned is evidence alone only after so long: there is work that only computes.
const ALONE: Duration = Duration::from_secs(120);

/// What is odd about a guest's CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extreme {
    Pinned,
    Idle,
    /// Neither, but its probe fails.
    Unwell,
}

/// What happened between two looks.
#[derive(Clone, Copy, Debug)]
struct Interval {
    length: Duration,
    /// CPU time, in thousandths of one CPU.
    cpu: u64,
    /// The same for time it was ready and found no CPU.
    wait: Option<u64>,
    disk: Option<u64>,
    packets: Option<u64>,
}

impl Interval {
    /// `None`: the counters belong to different processes.
    fn between(a: &Sample, b: &Sample) -> Option<Interval> {
        let length = b.at.since(a.at);
        let ns = (length.as_nanos() as u64).max(1);
        let share = |d: u64| (u128::from(d) * 1000 / u128::from(ns)) as u64;
        let rise = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => b.checked_sub(a).map(Some),
            _ => Some(None),
        };
        Some(Interval {
            length,
            cpu: share(b.cpu_ns.checked_sub(a.cpu_ns)?),
            // Threads come and go; their waiting may seem to shrink.
            wait: rise(a.wait_ns, b.wait_ns).flatten().map(share),
            disk: rise(a.disk_requests, b.disk_requests)?,
            packets: rise(a.packets_sent, b.packets_sent)?,
        })
    }

    fn active(&self) -> bool {
        self.disk.is_some_and(|n| n > 0) || self.packets.is_some_and(|n| n > 0)
    }

    /// What it does to others is known, and is nothing.
    fn quiet(&self) -> bool {
        (self.disk.is_some() || self.packets.is_some()) && !self.active()
    }

    fn extreme(&self) -> Option<Extreme> {
        if self.cpu + self.wait.unwrap_or(0) >= PINNED {
            Some(Extreme::Pinned)
        } else if self.cpu <= IDLE && self.wait.unwrap_or(0) <= IDLE {
            Some(Extreme::Idle)
        } else {
            None
        }
    }
}

/// What a guest does while it lives: the newest 64 intervals as bits, newest lowest.
#[derive(Clone, Copy, Debug, Default)]
struct Usual {
    active: u64,
    pinned: u64,
    quiet_pinned: u64,
    quiet_idle: u64,
    /// Those in which the agent was asked and silent as well.
    dumb_pinned: u64,
    dumb_idle: u64,
    learned: u32,
    /// Learned since the time to boot was over.
    since_boot: Duration,
    /// Whether any interval was quiet and idle, or quiet and pinned.
    ever_idle: bool,
    ever_pinned: bool,
    /// Disk requests a second, in thousandths, smoothed.
    disk_milli: u64,
}

impl Usual {
    fn learn(&mut self, i: &Interval, dumb: bool, booted: bool) {
        let extreme = i.extreme();
        let push = |bits: &mut u64, bit: bool| *bits = *bits << 1 | u64::from(bit);
        push(&mut self.active, i.active());
        push(&mut self.pinned, extreme == Some(Extreme::Pinned));
        let quiet = |e| i.quiet() && extreme == Some(e);
        push(&mut self.quiet_pinned, quiet(Extreme::Pinned));
        push(&mut self.quiet_idle, quiet(Extreme::Idle));
        push(&mut self.dumb_pinned, dumb && quiet(Extreme::Pinned));
        push(&mut self.dumb_idle, dumb && quiet(Extreme::Idle));
        self.ever_idle |= quiet(Extreme::Idle);
        self.ever_pinned |= quiet(Extreme::Pinned);
        self.learned = self.learned.saturating_add(1);
        if booted {
            self.since_boot += i.length;
        }
        let ms = (i.length.as_millis() as u64).max(1);
        let rate = i.disk.unwrap_or(0).saturating_mul(1_000_000) / ms;
        self.disk_milli = if self.learned == 1 {
            rate
        } else {
            (self.disk_milli / 8)
                .saturating_mul(7)
                .saturating_add(rate / 8)
        };
    }

    /// Share of the learned intervals with that bit, in hundredths.
    fn share(&self, bits: u64) -> u32 {
        match self.learned.min(64) {
            0 => 0,
            n => (bits & (u64::MAX >> (64 - n))).count_ones() * 100 / n,
        }
    }

    /// Whether being quiet with such a CPU is nothing new; with the agent silent (`dumb`), whether
    /// that is nothing new besides. A guest that computed while its agent answered is not known to
    /// live when it spins and the agent is silent.
    fn knows(&self, extreme: Extreme, dumb: bool) -> bool {
        let dumb = dumb && !planted("busy-once-is-usual");
        let bits = match (extreme, dumb) {
            (Extreme::Pinned, false) => self.quiet_pinned,
            (Extreme::Idle, false) => self.quiet_idle,
            (Extreme::Pinned, true) => self.dumb_pinned,
            (Extreme::Idle, true) => self.dumb_idle,
            (Extreme::Unwell, _) => 0,
        };
        self.share(bits) > USUAL
    }

    /// Whether counters alone may speak.
    fn speaks(&self, extreme: Extreme) -> bool {
        let (time, share) = LEARNED_ALONE;
        let worked = self.since_boot >= time && self.share(self.active) >= share;
        worked
            && match extreme {
                Extreme::Pinned if planted("computing-is-hung") => self.share(self.pinned) <= USUAL,
                Extreme::Pinned => self.learned >= LEARNED_BUSY && !self.ever_pinned,
                Extreme::Idle => self.learned >= LEARNED_BUSY && !self.ever_idle,
                Extreme::Unwell => false,
            }
    }
}

/// A stretch in which nothing contradicts that the guest hangs.
#[derive(Clone, Debug)]
struct Stretch {
    extreme: Extreme,
    /// Time that was seen, without what lay between.
    seen: Duration,
    /// The part of it in which the agent was asked and silent.
    silent: Duration,
    /// Least and most CPU, in thousandths of one.
    cpu: (u64, u64),
    /// Learned as usual if it ends well; and whether the agent was silent.
    pending: Vec<(Interval, bool)>,
}

/// Everything that is known of one life of a guest's operating system.
#[derive(Clone, Debug)]
pub(super) struct Signs {
    /// Nothing is judged before, unless the agent answers.
    boots_until: Time,
    /// Nothing is judged before, whatever answers.
    settles_until: Time,
    last: Option<Sample>,
    usual: Usual,
    /// Whether its disk requests and packets were ever known in this life.
    known: (bool, bool),
    stretch: Option<Stretch>,
    /// What it did while it was last seen to live, if that was quiet.
    doing: Option<Extreme>,
    /// When the agent last answered in this life.
    answered: Option<Time>,
    pub(super) silent_since: Option<Time>,
    /// When the guest was last seen to do what only a live one does.
    lived: Time,
}

/// What a look adds up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Nothing that counts; what was evidence before is none any more.
    None,
    /// Nothing that counts; the evidence stands still.
    Still,
    /// It lives.
    Life,
    /// Odd, for so long now, with this evidence.
    Odd(Duration, String),
    /// The evidence is complete.
    Hung(String),
}

impl Signs {
    pub(super) fn new(now: Time, boots_until: Time) -> Signs {
        Signs {
            boots_until,
            settles_until: now,
            last: None,
            usual: Usual::default(),
            known: (false, false),
            stretch: None,
            doing: None,
            answered: None,
            silent_since: None,
            lived: now,
        }
    }

    /// The newest look.
    pub(super) fn last(&self) -> Option<&Sample> {
        self.last.as_ref()
    }

    /// The time to boot is over at `now`, or the agent has answered.
    pub(super) fn booted(&self, now: Time) -> bool {
        now >= self.boots_until || self.answered.is_some()
    }

    /// What was seen so far is no evidence: the guest was held, or nobody could look.
    pub(super) fn restart(&mut self, settles_until: Time) {
        self.stretch = None;
        self.silent_since = None;
        self.settles_until = self.settles_until.max(settles_until);
    }

    /// Takes a look. `unwell`: its probe failed since it last worked.
    pub(super) fn look(&mut self, c: &Context<'_>, s: &Sample, unwell: bool) -> Sign {
        if self.last.as_ref().is_some_and(|l| l.at >= s.at) {
            return Sign::Still;
        }
        let before = self.last.replace(s.clone());
        match s.agent {
            Agent::Answered | Agent::Frozen => {
                self.answered = Some(s.at);
                self.silent_since = None;
            }
            // Of one that is held, or never answered in this life, nothing else can be expected.
            Agent::Silent if s.held.is_some() || c.steady.is_none() || self.answered.is_none() => {
                self.silent_since = None;
            }
            Agent::Silent => {
                self.silent_since.get_or_insert(s.at);
            }
            Agent::None => {}
        }
        let Some(before) = before else {
            return Sign::None;
        };
        let Some(i) = Interval::between(&before, s) else {
            // Another process under the same name: nothing learned holds for it.
            let agent = self.answered.filter(|at| *at == s.at);
            *self = Signs::new(c.now, c.now + super::BOOT);
            self.answered = agent;
            self.last = Some(s.clone());
            return Sign::None;
        };
        let answers = s.agent == Agent::Answered;
        let life = if i.active() || answers {
            self.lived = s.at;
            self.doing = i.extreme().filter(|_| i.quiet());
            Sign::Life
        } else {
            Sign::None
        };
        self.known.0 |= i.disk.is_some();
        self.known.1 |= i.packets.is_some();
        // A counter that was known and is not any more is blindness: the look may be a stale one.
        let blind = self.known != (i.disk.is_some(), i.packets.is_some());
        if blind || vetoed(c, &before, s, &i) || s.at < self.settles_until {
            self.stretch = None;
            return life;
        }
        if planted("silence-is-death")
            && let Some(since) = self.silent_since
            && s.at.since(since) >= Duration::from_millis(c.policy.hang_ms)
        {
            return Sign::Hung("agent silent".into());
        }
        if life == Sign::None && starved(c, &i) && !planted("starved-is-hung") {
            // What it would have done with a CPU nobody knows.
            return Sign::Still;
        }
        if !self.booted(s.at) {
            return life;
        }
        // `None`: it was not asked this time, which says nothing either way.
        let silent = (s.agent != Agent::None)
            .then(|| s.agent == Agent::Silent && before.agent != Agent::Answered);
        let dumb = silent == Some(true);
        let odd = i
            .extreme()
            .or((unwell && dumb).then_some(Extreme::Unwell))
            .filter(|_| i.quiet() && !answers);
        // One that did the same while its agent still answered has changed nothing but its agent.
        let usual = odd.is_some_and(|e| {
            self.usual.knows(e, dumb) || self.doing == odd && self.usual.knows(e, false)
        });
        match odd {
            // Usual for it, which is no evidence; but nothing to learn from either, or a hang would
            // teach that it is usual.
            Some(_) if usual && !planted("busy-once-is-usual") => {
                self.stretch = None;
                self.lived = s.at;
                life
            }
            Some(extreme) if !usual => self.odd(c, s, i, extreme, silent),
            // It lived, but what it would have done with a CPU nobody knows: nothing to learn.
            None if starved(c, &i) && !planted("busy-once-is-usual") => {
                self.stretch = None;
                self.lived = s.at;
                Sign::Life
            }
            _ => {
                let booted = s.at >= self.boots_until;
                let pending = self.stretch.take().map(|x| x.pending).unwrap_or_default();
                for (i, dumb) in pending.iter().chain([&(i, dumb)]) {
                    self.usual.learn(i, *dumb, booted);
                }
                self.lived = s.at;
                Sign::Life
            }
        }
    }

    fn odd(
        &mut self,
        c: &Context<'_>,
        s: &Sample,
        i: Interval,
        extreme: Extreme,
        silent: Option<bool>,
    ) -> Sign {
        let new = Stretch {
            extreme,
            seen: Duration::ZERO,
            silent: Duration::ZERO,
            cpu: (i.cpu, i.cpu),
            pending: Vec::new(),
        };
        let mut stretch = self.stretch.take().unwrap_or_else(|| new.clone());
        if stretch.extreme != extreme {
            // Another evil is another stretch.
            let pending = std::mem::take(&mut stretch.pending);
            stretch = Stretch { pending, ..new };
        }
        stretch.seen += i.length;
        match silent {
            Some(true) => stretch.silent += i.length,
            Some(false) => stretch.silent = Duration::ZERO,
            None => {}
        }
        stretch.cpu = (stretch.cpu.0.min(i.cpu), stretch.cpu.1.max(i.cpu));
        if stretch.pending.len() < 64 {
            stretch.pending.push((i, silent == Some(true)));
        }
        // It answered until the guest was last seen to live, or nearly: the two went together.
        let together = self
            .answered
            .is_some_and(|at| self.lived.since(at) <= TOGETHER);
        let with_agent = together && self.usual.learned >= LEARNED_WITH_AGENT;
        let alone = self.usual.speaks(extreme);
        let hang = Duration::from_millis(c.policy.hang_ms);
        let long = match extreme {
            Extreme::Pinned if !planted("computing-is-hung") => hang.max(ALONE),
            _ => hang,
        };
        let (counted, enough) = match (alone, with_agent) {
            (_, true) if stretch.silent >= hang => (stretch.silent, hang),
            (true, _) => (stretch.seen, long),
            (false, true) => (stretch.silent, hang),
            (false, false) => (Duration::ZERO, hang),
        };
        let evidence = self.evidence(s, &stretch, with_agent);
        self.stretch = Some(stretch);
        if counted >= enough {
            Sign::Hung(evidence)
        } else if counted > Duration::ZERO {
            Sign::Odd(counted, evidence)
        } else {
            Sign::None
        }
    }

    fn evidence(&self, s: &Sample, stretch: &Stretch, with_agent: bool) -> String {
        let seconds = stretch.seen.as_secs();
        let mut words = Vec::new();
        if let Some(since) = self.silent_since.filter(|_| with_agent) {
            words.push(format!(
                "agent silent for {} s",
                s.at.since(since).as_secs()
            ));
        }
        if s.disk_requests.is_some() {
            let (whole, tenth) = (
                self.usual.disk_milli / 1000,
                self.usual.disk_milli % 1000 / 100,
            );
            words.push(format!(
                "no disk request for {seconds} s (before: {whole}.{tenth} per s)"
            ));
        }
        if s.packets_sent.is_some() {
            words.push(format!("no packet sent for {seconds} s"));
        }
        let (least, most) = (stretch.cpu.0 / 10, stretch.cpu.1 / 10);
        words.push(match stretch.extreme {
            Extreme::Unwell => "its probe fails".into(),
            _ if least == most => format!("CPU {least} %"),
            _ => format!("CPU {least} to {most} %"),
        });
        words.join(", ")
    }
}

/// Whether what was seen between two looks may not count against the guest at all.
fn vetoed(c: &Context<'_>, before: &Sample, s: &Sample, i: &Interval) -> bool {
    let set_aside = |x: &Sample| x.held.is_some() || x.job.is_some() || x.agent == Agent::Frozen;
    let meant = c.steady.is_some_and(|since| before.at >= since);
    set_aside(before)
        || set_aside(s)
        || !meant
        || i.length > GAP
        || c.now.since(s.at) > LATE
        || s.at > c.now
}

/// Whether the guest wanted to run and the host let it wait.
fn starved(c: &Context<'_>, i: &Interval) -> bool {
    // With a CPU it might have been idle no longer, or still: a short wait is no sign of life.
    let unclear = |wait| i.cpu <= IDLE && wait > IDLE && !planted("waiting-is-life");
    match i.wait {
        Some(wait) => wait > STARVED || unclear(wait),
        None => c.crowded,
    }
}
