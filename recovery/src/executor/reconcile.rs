//! What runs here, brought in line with the lease and the applied log.

use super::sight::{Phase, Process, Surroundings};
use super::{Executor, GuestPromise, ORDER_PATIENCE};
use crate::command::Closure;
use crate::contract::GuestAction;
use crate::guest::{GuestId, GuestSpec, Wanted};
use crate::mutants::planted;

/// Whether the lease has room to spare.
fn roomy(s: &Surroundings<'_>) -> bool {
    let t = &s.cluster.timing;
    s.lease_left() > t.pause_margin + t.heartbeat / 4
}

impl Executor {
    /// Brings what runs here in line with the lease and the applied log. Leases come first.
    pub(crate) fn reconcile(&mut self, s: &Surroundings<'_>) {
        let left = s.lease_left();
        let over = left.is_zero();
        if over && !self.processes.is_empty() {
            self.killing = true;
        }
        let condemned = self.killing || s.judged() || s.predecessor_judged();
        let admitted = s.admitted();
        let at_ease = admitted && !condemned && !s.leaving && roomy(s);
        for guest in self.concerned(s, at_ease) {
            let Some(process) = self.processes.get(&guest) else {
                continue;
            };
            let (epoch, phase) = (process.epoch, process.phase);
            let refused = epoch <= self.promise(guest).closed;
            if phase == Phase::Ending {
                // One that was to be started again here is given back if the lease ends first.
                let closing = condemned.then_some(Closure::LeaseEnded);
                self.end(s.now, guest, closing);
            } else if condemned {
                self.end(s.now, guest, Some(Closure::LeaseEnded));
            } else if refused || s.leaving {
                self.end(s.now, guest, Some(Closure::Told));
            } else if admitted {
                match s.mine(guest) {
                    Some(r) if r.epoch == epoch && r.wanted == Wanted::Running => {
                        self.hold_or_run(s, guest, phase, &r.spec);
                    }
                    _ => self.end(s.now, guest, Some(Closure::Told)),
                }
            }
            // Not admitted yet: it runs on under the inherited lease until the log has spoken.
        }
        let astray = self.astray;
        if admitted && !condemned {
            self.astray = astray && self.start_missing(s);
        } else if !admitted && self.processes.is_empty() {
            self.empty();
        }
        if admitted {
            self.emptied = None;
        }
        if astray {
            self.forget(s);
        }
    }

    /// The guests about which something may have to be done: with the lease and the log `at_ease`,
    /// not those that run as they should.
    fn concerned(&mut self, s: &Surroundings<'_>, at_ease: bool) -> Vec<GuestId> {
        if !at_ease {
            return self.processes.keys().copied().collect();
        }
        let (promises, host, blind) = (&self.promises, &self.host, self.blinded_kinds());
        let rests = |guest: GuestId, p: &mut Process| {
            let refused = promises.get(&guest).is_some_and(|x| p.epoch <= x.closed);
            let given = s
                .mine(guest)
                .filter(|r| r.epoch == p.epoch && r.wanted == Wanted::Running);
            p.phase == Phase::Running
                && p.order.is_none()
                && !refused
                && given.is_some_and(|r| {
                    let blind = blind.has(r.spec.definition.kind());
                    p.locked_as >= r.images.followed && p.is_well(s.now, &r.spec, host, blind)
                })
        };
        let all = self.processes.iter_mut();
        all.filter_map(|(guest, p)| (!rests(*guest, p)).then_some(*guest))
            .collect()
    }

    /// Pauses near the lease end, continues with room to spare.
    fn hold_or_run(
        &mut self,
        s: &Surroundings<'_>,
        guest: GuestId,
        phase: Phase,
        spec: &GuestSpec,
    ) {
        let margin = s.cluster.timing.pause_margin;
        let left = s.lease_left();
        let Some(process) = self.processes.get_mut(&guest) else {
            return;
        };
        let busy = process
            .order
            .is_some_and(|(_, at)| s.now.since(at) < ORDER_PATIENCE);
        let theirs = process.watch.held_by_others();
        match phase {
            // What a person holds stands still already. Held by both, nobody could tell later who
            // still holds it, if the word that the person let go is lost.
            Phase::Running if theirs && left <= margin => {}
            Phase::Running if left <= margin && !busy => {
                process.phase = Phase::Pausing;
                self.order(s.now, guest, GuestAction::Pause, s.lease_end);
            }
            Phase::Running if roomy(s) && !busy => self.tend(s, guest, spec),
            // What a person holds is theirs to let go on.
            Phase::Held if theirs => {}
            Phase::Held if roomy(s) && !busy && self.lock(s, guest) => {}
            Phase::Held if roomy(s) && !busy => {
                let Some(process) = self.processes.get_mut(&guest) else {
                    return;
                };
                process.phase = Phase::Continuing;
                let until = s.lease_end.map(|end| end - margin);
                self.order(s.now, guest, GuestAction::Continue, until);
            }
            _ => {}
        }
    }

    /// Starts what the log gives to this incarnation and does not run: newly placed, or died.
    /// Gives whether there was any such.
    fn start_missing(&mut self, s: &Surroundings<'_>) -> bool {
        let mut missing = false;
        for (guest, r) in s.guests.on(s.me) {
            if r.incarnation != s.incarnation || self.processes.contains_key(&guest) {
                continue;
            }
            let held = r.wanted == Wanted::Running && r.held().is_some();
            if held && !s.leaving {
                // The release is an entry, and that calls for another look.
                self.unbar(guest);
                continue;
            }
            missing = true;
            if self.barred(s, guest) {
                continue;
            }
            let promise = self.promise(guest);
            let refused = r.epoch <= promise.closed || r.epoch < promise.promised;
            let refused = refused && !planted("refused-epoch-started");
            if refused || s.leaving || r.wanted == Wanted::Stopped {
                // Nothing runs and nothing will: say so, until the log has it.
                if self.closures.get(&guest).is_none_or(|(e, ..)| *e < r.epoch) {
                    self.close(guest, r.epoch, Closure::Told);
                }
                continue;
            }
            // Under its own revoke it would be ended with the lease a moment later.
            let revoked = s.record.is_some_and(|h| h.revoke.is_some());
            let short = s.lease_left() <= s.cluster.timing.pause_margin;
            if short || revoked || s.copied || s.doubtful {
                continue;
            }
            let begun = promise.promised >= r.epoch;
            if self.store_failed && !begun {
                let why = Closure::NotBegun("the store of this host failed".into());
                self.close(guest, r.epoch, why);
                continue;
            }
            if let Some(why) = self
                .blind_to(r.spec.definition.kind())
                .filter(|_| !planted("hung-host-keeps-guests"))
            {
                // Another host can start it, and this one cannot. What it did here before is over.
                let why = format!("the hypervisor does not answer: {why}");
                let why = if begun {
                    Closure::Refused(why)
                } else {
                    Closure::NotBegun(why)
                };
                self.close(guest, r.epoch, why);
                continue;
            }
            if s.unarmed && promise.promised < r.epoch {
                let why = "no guardian would end it with the lease of this host";
                self.close(guest, r.epoch, Closure::NotBegun(why.into()));
                continue;
            }
            if promise.promised < r.epoch {
                self.failures.remove(&guest);
                self.resets.remove(&guest);
                self.write(
                    guest,
                    GuestPromise {
                        promised: r.epoch,
                        ..promise
                    },
                );
            }
            self.begin(s, guest, r);
        }
        missing
    }
}
