//! One guest on this host, watched for as long as its process is there.

use super::signs::{Sign, Signs};
use super::{
    BOOT, Context, EARLY, Failure, GAP, IO_PATIENCE, IO_RETRY, Report, SETTLE, SILENCE, Standing,
};
use crate::mutants::planted;
use crate::observation::{GuestEvent, Held, Observation, Sample};
use quorate_membership::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// Events and looks that are kept for people.
const KEPT: usize = 32;
/// How it is said that a guest's process is gone before it is known how.
pub(crate) const GONE: &str = "its process is gone";
/// Longest text of others that is kept.
const TEXT: usize = 300;

/// What happened to a guest's disk.
#[derive(Clone, Debug)]
struct Io {
    what: String,
    /// No room: it helps to make some, and nothing else.
    full: bool,
    since: Time,
    /// Seen to be held by it now.
    held: bool,
    /// When to let it go on next, and how long after that the next try comes.
    next: Time,
    delay: Duration,
    /// Since when it runs again.
    runs: Option<Time>,
    /// Since when its disk may work on another host.
    elsewhere: Option<Time>,
}

/// What is known of one process of a guest.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    signs: Signs,
    failed: Option<Failure>,
    /// When its operating system began, as far as is known.
    began: Time,
    /// A failure said right after that: maybe of the life before, unless no life follows.
    early: Option<(Failure, Time)>,
    io: Option<Io>,
    held: Option<Held>,
    odd: Option<String>,
    probes_failed: u32,
    /// When its next probe is due.
    pub(crate) probe_at: Time,
    /// The kind of standing told last.
    told: u8,
    notes: VecDeque<(Time, String)>,
    looks: VecDeque<Sample>,
}

impl Watch {
    /// A process that began now, or was found now. `notes`: what is kept of the one before.
    pub(crate) fn new(now: Time, notes: VecDeque<(Time, String)>) -> Watch {
        Watch {
            signs: Signs::new(now, now + BOOT),
            failed: None,
            began: now,
            early: None,
            io: None,
            held: None,
            odd: None,
            probes_failed: 0,
            probe_at: now,
            told: Standing::Healthy.kind(),
            notes,
            looks: VecDeque::new(),
        }
    }

    /// Its operating system begins anew: nothing learned holds any more.
    pub(crate) fn begins(&mut self, now: Time) {
        self.signs = Signs::new(now, now + BOOT);
        self.failed = None;
        self.began = now;
        self.early = None;
        self.io = None;
        self.held = None;
        self.odd = None;
        self.probes_failed = 0;
        self.probe_at = now;
        self.told = Standing::Healthy.kind();
    }

    /// This cluster held it for a while, and it goes on.
    pub(crate) fn goes_on(&mut self, now: Time) {
        self.signs.restart(now + SETTLE);
        self.doubt();
    }

    /// What looked like a hang is not known to be one any more.
    fn doubt(&mut self) {
        self.odd = None;
        if self.hangs() {
            self.failed = None;
        }
    }

    /// The hypervisor cannot be seen: no evidence is carried across that.
    pub(crate) fn blinded(&mut self, now: Time) {
        self.signs.restart(now);
        self.doubt();
    }

    /// Something was seen.
    pub(crate) fn take(&mut self, c: &Context<'_>, seen: &Observation) {
        match seen {
            Observation::Event(event) => self.event(c, event),
            Observation::Sample(sample) => self.sample(c, sample),
            Observation::Probe(result) => self.probe(c, result),
        }
    }

    pub(crate) fn note(&mut self, now: Time, text: String) {
        if self.notes.len() == KEPT {
            self.notes.pop_front();
        }
        self.notes.push_back((now, text));
    }

    fn event(&mut self, c: &Context<'_>, event: &GuestEvent) {
        self.note(c.now, words(event));
        match event {
            GuestEvent::Panicked => self.says(c.now, Failure::Panicked),
            GuestEvent::Watchdog => self.says(c.now, Failure::Watchdog),
            GuestEvent::Failed(how) => self.says(c.now, Failure::Monitor(short(how))),
            GuestEvent::IoError { device, reason } => {
                let full = reason == "enospc";
                let what = if full {
                    format!("disk {} is full and waits for room", short(device))
                } else {
                    format!("an I/O error of disk {} ({})", short(device), short(reason))
                };
                let held = self.io.as_ref().is_some_and(|io| io.held);
                self.io_error(c.now, held, Some((what, full)));
            }
            GuestEvent::Held(held) => {
                // What it did until then is no sign any more, whoever holds it.
                self.signs.restart(c.now);
                self.doubt();
                if c.steady
                    .is_some_and(|since| c.now.since(since) > super::LATE)
                {
                    self.holds(c.now, *held);
                }
            }
            GuestEvent::Continued => {
                self.held = None;
                self.signs.restart(c.now + SETTLE);
                self.doubt();
            }
            GuestEvent::Rebooted => self.begins(c.now),
            GuestEvent::Agent(_) | GuestEvent::Ending => {}
        }
    }

    /// It, or what looks after it, says that it failed.
    fn says(&mut self, now: Time, failure: Failure) {
        if now.since(self.began) >= EARLY.0 {
            self.fails(failure);
        } else if self.early.is_none() {
            self.early = Some((failure, now));
        }
    }

    /// The first failure is the one that is told; what follows comes from it.
    fn fails(&mut self, failure: Failure) {
        if matches!(self.failed, None | Some(Failure::Hung(_))) {
            self.failed = Some(failure);
        }
    }

    fn holds(&mut self, now: Time, held: Held) {
        match held {
            Held::Watchdog => self.fails(Failure::Watchdog),
            Held::IoError => self.io_error(now, true, None),
            other => self.held = Some(other),
        }
    }

    fn io_error(&mut self, now: Time, held: bool, found: Option<(String, bool)>) {
        let io = self.io.get_or_insert_with(|| Io {
            what: "an I/O error".into(),
            full: false,
            since: now,
            held: false,
            next: now + IO_RETRY.0,
            delay: IO_RETRY.0,
            runs: None,
            elsewhere: None,
        });
        if let Some((what, full)) = found {
            (io.what, io.full) = (what, full);
        }
        if held {
            io.held = true;
            io.runs = None;
        }
    }

    fn sample(&mut self, c: &Context<'_>, s: &Sample) {
        if self.looks.len() == KEPT {
            self.looks.pop_front();
        }
        self.looks.push_back(s.clone());
        // Held by this cluster, or looked at before it let the guest go on: no news.
        if c.steady.is_none() && s.held.is_none() {
            // Whoever held it lets it go on, though this cluster does not yet.
            self.held = None;
        }
        if c.steady.is_some_and(|since| s.at > since) {
            match s.held {
                Some(held) => self.holds(c.now, held),
                None => {
                    if self.held.take().is_some() {
                        self.signs.restart(c.now + SETTLE);
                    }
                    self.runs_again(s.at);
                }
            }
        }
        match self.signs.look(c, s, self.probes_failed > 0) {
            Sign::Still => {}
            Sign::None => self.doubt(),
            Sign::Life => {
                self.early = None;
                self.doubt();
            }
            Sign::Odd(length, evidence) => {
                if length >= SILENCE {
                    self.odd = Some(evidence);
                }
            }
            Sign::Hung(evidence) => match &mut self.failed {
                Some(Failure::Hung(text)) => *text = evidence,
                _ => self.fails(Failure::Hung(evidence)),
            },
        }
    }

    /// It was seen running at `at`.
    fn runs_again(&mut self, at: Time) {
        let Some(io) = &mut self.io else { return };
        let since = *io.runs.get_or_insert(at);
        // One look between two tries to let it go on says nothing yet.
        if at > since {
            io.held = false;
        }
        if at.since(since) >= IO_RETRY.1 {
            self.io = None;
        }
    }

    fn probe(&mut self, c: &Context<'_>, result: &Result<(), String>) {
        match result {
            Ok(()) => {
                self.probes_failed = 0;
                if matches!(self.failed, Some(Failure::Probe(..))) {
                    self.failed = None;
                }
            }
            Err(how) => {
                self.note(c.now, format!("probe failed: {}", short(how)));
                // What it is for need not work before it has booted.
                if !self.signs.booted(c.now) || !self.judgeable(c.now) {
                    return;
                }
                self.probes_failed = self.probes_failed.saturating_add(1);
                if c.probe_failures.is_some_and(|n| self.probes_failed >= n) {
                    self.fails(Failure::Probe(self.probes_failed, short(how)));
                }
            }
        }
    }

    /// Whether what it is for can be asked for at all: not held, not frozen, no job.
    pub(crate) fn judgeable(&self, now: Time) -> bool {
        let last = self.signs.last().filter(|s| now.since(s.at) <= GAP);
        let set_aside = last.is_some_and(|s| {
            s.held.is_some() || s.job.is_some() || s.agent == crate::observation::Agent::Frozen
        });
        self.held.is_none() && !self.io_held() && !set_aside
    }

    fn io_held(&self) -> bool {
        self.io.as_ref().is_some_and(|io| io.held)
    }

    /// Whether somebody else than this cluster holds it, so that it is theirs to let it go on.
    pub(crate) fn held_by_others(&self) -> bool {
        self.held.is_some()
    }

    /// Whether any monitor ever saw anything of it.
    pub(crate) fn seen(&self) -> bool {
        self.signs.last().is_some() || !self.notes.is_empty()
    }

    /// How it stands. `now`: looks that are missing since are no health.
    pub(crate) fn standing(&self, now: Time) -> Standing {
        if let Some(failure) = &self.failed {
            return Standing::Failed(failure.clone());
        }
        if let Some(io) = self.io.as_ref().filter(|io| io.held) {
            return Standing::IoError(io.what.clone());
        }
        if let Some(held) = self.held {
            return Standing::Held(held);
        }
        if let Some(odd) = &self.odd {
            return Standing::Suspect(odd.clone());
        }
        if let Some(last) = self.signs.last() {
            if now.since(last.at) > SETTLE {
                let why = format!("no look at it for {} s", now.since(last.at).as_secs());
                return Standing::Suspect(why);
            }
            if let Some(since) = self.signs.silent_since
                && last.at.since(since) >= SILENCE
            {
                let why = format!("agent silent for {} s", last.at.since(since).as_secs());
                return Standing::Suspect(why);
            }
        }
        if self.probes_failed > 0 {
            return Standing::Suspect(format!("its probe failed {} times", self.probes_failed));
        }
        Standing::Healthy
    }

    /// What calls for a remedy now. Evidence of a hang does not keep.
    pub(crate) fn failure(&mut self, c: &Context<'_>) -> Option<Failure> {
        self.compare_disks(c);
        if let Some(io) = self.io.as_ref().filter(|io| io.held && !io.full)
            && c.now.since(io.since) >= IO_PATIENCE
            && io
                .elsewhere
                .is_some_and(|since| c.now.since(since) >= SETTLE)
        {
            let failure = Failure::IoError(io.what.clone());
            self.fails(failure);
        }
        if let Some((failure, _)) = self.early.take_if(|(_, at)| c.now.since(*at) >= EARLY.1) {
            self.fails(failure);
        }
        if planted("blindness-is-silence")
            && let Some(last) = self.signs.last()
            && c.now.since(last.at) >= Duration::from_millis(c.policy.hang_ms)
        {
            return Some(Failure::Hung("nothing was seen of it".into()));
        }
        let seen = self.signs.last().map(|s| c.now.since(s.at));
        if matches!(self.failed, Some(Failure::Hung(_))) && seen.is_none_or(|age| age > GAP) {
            self.failed = None;
            self.signs.restart(c.now);
        }
        self.failed.clone()
    }

    /// Once its disk may work on another host it is tried here first: what was gone everywhere may be
    /// back everywhere.
    fn compare_disks(&mut self, c: &Context<'_>) {
        let Some(io) = self.io.as_mut().filter(|io| io.held && !io.full) else {
            return;
        };
        match (c.elsewhere, io.elsewhere) {
            (true, None) if c.now.since(io.since) < SETTLE => io.elsewhere = Some(c.now),
            (true, None) => {
                io.elsewhere = Some(c.now);
                io.next = io.next.min(c.now);
                io.delay = IO_RETRY.0;
            }
            (false, _) => io.elsewhere = None,
            (true, Some(_)) => {}
        }
    }

    /// Whether it is held because a disk failed, and is not just full.
    pub(crate) fn without_storage(&self) -> bool {
        self.io.as_ref().is_some_and(|io| io.held && !io.full)
    }

    /// Whether a guest held by an I/O error should be let go on now; reckons when to try next.
    pub(crate) fn try_again(&mut self, now: Time) -> bool {
        let Some(io) = self.io.as_mut().filter(|io| io.held && now >= io.next) else {
            return false;
        };
        io.delay = (io.delay * 2).min(IO_RETRY.1);
        io.next = now + io.delay;
        io.runs = None;
        true
    }

    /// Whether it has failed by evidence of a hang.
    pub(crate) fn hangs(&self) -> bool {
        matches!(self.failed, Some(Failure::Hung(_)))
    }

    /// When something is due without anything being seen.
    pub(crate) fn deadline(&self) -> Time {
        let io = self.io.as_ref().filter(|io| io.held);
        io.map_or(Time::NEVER, |io| io.next)
    }

    /// Whether [`Watch::report`] has something to tell.
    pub(crate) fn has_news(&self, now: Time) -> bool {
        self.standing(now).kind() != self.told
    }

    /// A change of standing, once.
    pub(crate) fn report(&mut self, now: Time) -> Option<Report> {
        let standing = self.standing(now);
        if standing.kind() == self.told {
            return None;
        }
        self.told = standing.kind();
        let text = match standing {
            Standing::Healthy => "recovered".into(),
            ref other => other.words(),
        };
        self.note(now, text.clone());
        let alert = standing.alerts();
        Some(Report { alert, text })
    }

    /// What is kept of it, oldest first, each with its age.
    pub(crate) fn evidence(&self, now: Time) -> Vec<String> {
        let ago = |at: Time| format!("{:.1} s ago", now.since(at).as_secs_f64());
        let notes = self.notes.iter().map(|(at, text)| (*at, text.clone()));
        let looks = self.looks.iter().map(|s| (s.at, look(s)));
        let mut lines: Vec<(Time, String)> = notes.chain(looks).collect();
        lines.sort_by_key(|(at, _)| *at);
        lines
            .into_iter()
            .map(|(at, text)| format!("{}: {text}", ago(at)))
            .collect()
    }

    /// What the next process of the guest inherits.
    pub(crate) fn into_notes(self) -> VecDeque<(Time, String)> {
        self.notes
    }
}

/// Text of others, bounded.
fn short(text: &str) -> String {
    text.chars().take(TEXT).collect()
}

fn words(event: &GuestEvent) -> String {
    match event {
        GuestEvent::Panicked => "its kernel panicked".into(),
        GuestEvent::Watchdog => "its watchdog fired".into(),
        GuestEvent::IoError { device, reason } => {
            format!("I/O error of {} ({})", short(device), short(reason))
        }
        GuestEvent::Rebooted => "it was reset from inside or by its watchdog".into(),
        GuestEvent::Agent(true) => "its agent connected".into(),
        GuestEvent::Agent(false) => "its agent went".into(),
        GuestEvent::Held(held) => format!("held: {held:?}"),
        GuestEvent::Continued => "it goes on".into(),
        GuestEvent::Ending => GONE.into(),
        GuestEvent::Failed(how) => format!("its monitor says: {}", short(how)),
    }
}

fn look(s: &Sample) -> String {
    let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
    let mut text = format!(
        "CPU {} ms, waited {} ms, disk requests {}, packets sent {}, agent {:?}",
        s.cpu_ns / 1_000_000,
        number(s.wait_ns.map(|n| n / 1_000_000)),
        number(s.disk_requests),
        number(s.packets_sent),
        s.agent
    );
    if let Some(held) = s.held {
        text.push_str(&format!(", held: {held:?}"));
    }
    if let Some(job) = &s.job {
        text.push_str(&format!(", job: {}", short(job)));
    }
    text
}
