//! What the checker of L1 is told of guests that are down, and of what happens to their hosts.

use super::action::{Action, Ask, Who};
use super::guests::ns;
use super::{Event, Sim, SimNode, nodes};
use crate::check::l1;
use crate::world::{MS, SECOND};
use quorate_membership::Token;
use quorate_membership::entry::Entry;
use quorate_recovery::command::{Closure, Command};
use quorate_recovery::guest::{GuestId, Wanted};

/// So often guests that are down are looked at.
const EVERY: u64 = SECOND;

impl<N: SimNode> Sim<N> {
    /// An action is about to be carried out.
    pub(super) fn note_action(&mut self, action: &Action) {
        let now = self.world.now();
        let Some(touched) = self.touched(action) else {
            return self.l1.all(now);
        };
        let until = match action {
            Action::Stop { length, .. }
            | Action::Freeze { length, .. }
            | Action::DiskStalls { length, .. } => now + length,
            _ => now,
        };
        for who in touched {
            let host = self.who(&who);
            self.l1.host(until, host);
        }
    }

    /// The hosts an action is about; all if `None`.
    fn touched(&self, action: &Action) -> Option<Vec<Who>> {
        Some(match action {
            Action::Cut { from, to, .. }
            | Action::Mend { from, to }
            | Action::Block { from, to, .. }
            | Action::Hole { from, to, .. } => vec![from.clone(), to.clone()],
            Action::Isolate(who)
            | Action::Deaf(who)
            | Action::Mute(who)
            | Action::OnlyTo(who, _)
            | Action::Reconnect(who)
            | Action::PowerOn(who)
            | Action::StuckKill(who)
            | Action::StoreFails(who)
            | Action::StoreMends(who)
            | Action::Rots(who)
            | Action::FenceNetwork { from: who, .. }
            | Action::Crash { who, .. }
            | Action::Stop { who, .. }
            | Action::Freeze { who, .. }
            | Action::PowerOff { who, .. }
            | Action::Starve { who, .. }
            | Action::Device { who, .. }
            | Action::Silent { who, .. }
            | Action::OtherSilent { who, .. }
            | Action::SlowCreate { who, .. }
            | Action::SlowDisk { who, .. }
            | Action::DiskStalls { who, .. }
            | Action::Watchdog { who, .. }
            | Action::EventsLost { who, .. }
            | Action::StorageGone { who, .. }
            | Action::HypervisorCrash { who, .. }
            | Action::LateWrites { who, .. } => vec![who.clone()],
            Action::Guest(..) | Action::GuestCrash(_) => Vec::new(),
            Action::Ask(who, Ask::Leave(_)) | Action::Ask(_, Ask::Fence(who)) => vec![who.clone()],
            Action::Ask(..) => Vec::new(),
            _ => return None,
        })
    }

    /// An entry was decided that may ask for a guest.
    pub(super) fn note_wish(&mut self, at: Token) {
        let now = self.world.now();
        match &self.audit.log[at.index() as usize - 1].body {
            Entry::App(Command::AddGuest(_)) => self.l1.guest(now, GuestId(at.0)),
            Entry::App(Command::SetWanted { guest, .. } | Command::Hold { guest, .. }) => {
                self.l1.guest(now, *guest);
            }
            Entry::App(Command::Release { holds, .. }) => {
                holds.iter().for_each(|r| self.l1.guest(now, r.guest));
            }
            // A guest that fails by itself is tried later and later, up to five minutes.
            Entry::App(Command::Closed {
                guest,
                why: Closure::Failed { .. },
                ..
            }) => self.l1.guest(now + 300 * SECOND, *guest),
            _ => {}
        }
    }

    /// Looks at every guest that is down.
    pub(super) fn look_for_waiting(&mut self) {
        self.world.after(EVERY, Event::Waiting);
        let now = self.world.now();
        let differ = self.s17.watches() && (0..self.plan.voters).any(|v| self.differs(v));
        if self.s6.acting(now).is_none() || differ {
            // Nobody can place anything: that somebody acts in time is what L2 promises.
            return self.l1.all(now);
        }
        // Who may start a guest depends on its images as well.
        let images = |a: &Action| matches!(a, Action::Guest(_, ill) if ill.of_images());
        if self.plan.waits || self.plan.timeline.iter().any(|(_, a)| images(a)) {
            return;
        }
        let ill = |h: &super::host::Host| {
            h.on && (h.silent_until > now || h.storage_gone_until > now || h.slow_create > 0)
        };
        // Where creations are slow guests wait for each other, and a guest may be tried there first.
        let slow = self.hosts.iter().map(|h| h.slow_create).max().unwrap_or(0);
        let slow = slow * self.plan.guests as u64;
        let bad = self.hosts.iter().filter(|h| ill(h)).count();
        let mut bound = l1::bound(&self.plan.timing, u32::try_from(bad).unwrap_or(u32::MAX));
        if self.plan.create_hangs > 0 {
            bound += std::time::Duration::from_secs(16);
        }
        let guests: Vec<GuestId> = self.audit.guests.keys().copied().collect();
        for id in guests {
            let g = &self.audit.guests[&id];
            if g.wanted != Wanted::Running || !g.holds.is_empty() || self.s1.writer(id).is_some() {
                continue;
            }
            if !(0..self.plan.hosts).any(|h| self.member(h) && self.has_room(h, id)) {
                self.l1.guest(now, id);
                continue;
            }
            let g = &self.audit.guests[&id];
            let holder = g.holder.map(|(node, _)| node.0 as usize - 1);
            let since = self.l1.since(id, holder);
            if now < since + ns(bound) + slow
                || self.excused(id, holder.filter(|_| !g.closed), since)
            {
                continue;
            }
            let able = |h: &usize| self.able(*h, since) && self.has_room(*h, id);
            let Some(able) = (0..self.plan.hosts).find(able) else {
                continue;
            };
            let late = l1::late(now, (&g.name, since), able, bound);
            return self.hold(Err(late));
        }
    }

    /// Whether something is known to keep a guest down that no cluster can help.
    fn excused(&self, guest: GuestId, holder: Option<usize>, since: u64) -> bool {
        // Held by a person or its disk, ill, or not to be ended: a process of it is there.
        let kept = |p: &super::host::Proc| p.guest == guest;
        if self.hosts.iter().any(|h| h.procs.iter().any(kept)) {
            return true;
        }
        let Some(host) = holder else { return false };
        let h = &self.hosts[host];
        // Nobody attests to end what it runs: only a device proves anything.
        let armed = self
            .audit
            .hosts
            .get(&nodes::id(host))
            .is_some_and(|r| r.armed);
        // A hung host that runs others is left alone; and what ended there unseen is not known to.
        let hung = h.silent_until + 2 * SECOND > since;
        !armed || hung && h.procs.iter().any(|p| p.writing)
    }

    /// Says whether guests may be given to a host.
    fn member(&self, host: usize) -> bool {
        let record = self.audit.hosts.get(&nodes::id(host));
        !self.hosts[host].profile.witness
            && record.is_some_and(|r| r.armed && !r.away && r.revoke.is_none() && !r.proved)
    }

    /// Says whether a host has room for a guest beside those that belong to it.
    fn has_room(&self, host: usize, guest: GuestId) -> bool {
        let wants = |guest: GuestId| {
            let known = self.index_of(guest);
            known.map_or(0, |index| self.plan.wants[index])
        };
        let there = self.audit.guests.iter().filter(|(id, g)| {
            let holder = g.holder.filter(|_| !g.closed).map(|(node, _)| node);
            **id != guest && holder == Some(nodes::id(host))
        });
        let taken: u64 = there.map(|(id, _)| wants(*id)).sum();
        taken + wants(guest) <= self.plan.room[host]
    }

    /// Whether a host could have run any guest since then.
    fn able(&self, host: usize, since: u64) -> bool {
        let h = &self.hosts[host];
        self.member(host)
            && h.storage_gone_until <= since
            && h.silent_until <= since
            && self.s4.held(host, since)
    }

    /// A creation was answered, late or badly, on a host on which nothing is wrong.
    pub(super) fn note_creation(
        &mut self,
        host: usize,
        guest: GuestId,
        (length, failed): (u64, bool),
    ) {
        let h = &self.hosts[host];
        let well = h.slow_create == 0 && h.storage_gone_until <= self.world.now();
        if well && (failed || length > 400 * MS) {
            self.l1.guest(self.world.now(), guest);
        }
    }
}
