//! A machine: power, hypervisor, guardian, watchdog and what its disk holds.

use super::action::{DeviceMode, GuardianMode, WatchdogMode};
use super::copies::Copy;
use super::minds::Mind;
use super::states::Altered;
use crate::mutants;
use quorate_fencing::guardian::Sight;
use quorate_membership::attest::Pulse;
use quorate_membership::entry::{Armed, ArmedClass, Profile};
use quorate_membership::store::{Image, Write};
use quorate_membership::vouch::Claim;
use quorate_membership::{NodeId, Time, Token};
use quorate_recovery::command::Command;
use quorate_recovery::contract::{GuestOrder, NodeWrite};
use quorate_recovery::executor::GuestPromise;
use quorate_recovery::guest::GuestId;
use std::collections::BTreeMap;
use std::time::Duration;

/// A guest's process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proc {
    pub(super) guest: GuestId,
    pub(super) epoch: Token,
    pub(super) paused: bool,
    /// It can write: not paused, not held by others, and its host has power and is not frozen.
    pub(super) writing: bool,
    /// The storage holds a write of it: it can write until the storage is back, whoever ends it.
    pub(super) held: bool,
    /// A signal was sent to it; it ends when its write comes back.
    pub(super) killed: bool,
    /// Only the kernel's count of its group shows it.
    pub(super) hidden: bool,
    /// The operating system in it.
    pub(super) mind: Mind,
    /// The image it writes to, and whether a copy of that is under way.
    pub(super) top: u32,
    pub(super) job: bool,
    /// The image that a backup under way keeps old blocks in.
    pub(super) scratch: Option<u32>,
}

/// A creation the hypervisor has not answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Creation {
    pub(super) guest: GuestId,
    pub(super) epoch: Token,
    /// Names it among all creations of this host.
    pub(super) number: u64,
    /// The image it is to write to.
    pub(super) top: u32,
    /// True time at which it began.
    pub(super) begun: u64,
}

/// The guardian's record of the lease, in memory that outlives the daemon but not the boot.
#[derive(Clone, Debug, Default)]
pub(super) struct Guardian {
    /// Lease end on the host's clock; none since this boot.
    pub(super) end: Option<Time>,
    /// True time its timer is set to; 0 if none.
    pub(super) timer: u64,
    /// When it ends guests, by the same logic as in the daemon's package.
    pub(super) logic: quorate_fencing::guardian::Guardian,
    /// Whether it feeds the watchdog, likewise.
    pub(super) feed: quorate_fencing::guardian::Feed,
    /// Number of the watchdog's last feed.
    pub(super) fed: u64,
    /// How it fails, if it does, and the true time at which that began and ends.
    pub(super) fails: Option<(GuardianMode, u64, u64)>,
    /// True time at which it worked again last.
    pub(super) back: u64,
    /// When the third last one began, by the host's clock, if that is worth saying.
    pub(super) third_start: Option<Time>,
    /// It and the daemon failed within one lease, so that nobody but a watchdog ends these guests:
    /// true time until which what they do counts for no promise.
    pub(super) uncovered: u64,
}

impl Guardian {
    pub(super) fn works(&self) -> bool {
        self.fails.is_none()
    }
}

/// The machine and its disk.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) on: bool,
    /// The daemon's clock at its last two different moments of work, with the true time of the last.
    pub(super) read: (u64, Time, Time),
    /// Until when its daemon said last that it may act as coordinator, and the true time of that.
    pub(super) acts: (Time, u64),
    /// True time of the newest order on its way: a driver takes them in the order given.
    pub(super) order_at: u64,
    /// The same for each guest at the hypervisor.
    pub(super) act_at: BTreeMap<GuestId, u64>,
    /// The newest end that its driver was told of: the life of the daemon, the order, the epoch.
    pub(super) ends: BTreeMap<GuestId, (u32, u64, Token)>,
    pub(super) boot: u32,
    /// True time until which the whole host is frozen.
    pub(super) frozen_until: u64,
    /// True time until which other processes take its guests' CPUs.
    pub(super) starved_until: u64,
    /// True time of the last end of anything that kept its daemon from looking.
    pub(super) disturbed: u64,
    pub(super) watchdog: bool,
    pub(super) stuck_kill: bool,
    pub(super) watchdog_mode: WatchdogMode,
    /// True time until which nobody tells the daemon that a process ended.
    pub(super) untold_until: u64,
    /// How late last writes land; 0 for within Q.
    pub(super) late_writes: u64,
    /// A write failed in this life of its daemon, which votes no more.
    pub(super) store_failed: bool,
    /// True time at which a shutdown that its device asked for is done.
    pub(super) shut_down_at: u64,
    /// Its store cannot be read at the next start.
    pub(super) rotten: bool,
    /// The mark in the run directory, gone with the boot.
    pub(super) mark: Option<Claim>,
    /// Marks are made: its voter is vouched for, or votes all the same.
    pub(super) marking: bool,
    /// Its daemon's next start is none: the machine was reverted with its memory.
    pub(super) same_life: bool,
    pub(super) copy: Option<Copy>,
    /// What was done to the state on its disk.
    pub(super) altered: Altered,
    /// The machine at the other end of its session with a node.
    pub(super) partners: BTreeMap<NodeId, usize>,
    pub(super) guardian: Guardian,
    pub(super) procs: Vec<Proc>,
    pub(super) creations: Vec<Creation>,
    pub(super) creation_number: u64,
    /// Creations up to this number come to nothing: the hypervisor crashed.
    pub(super) aborted: u64,
    /// When the hypervisor takes the next order for a guest.
    pub(super) busy: BTreeMap<GuestId, u64>,
    /// Orders given and not yet begun.
    pub(super) silent_until: u64,
    /// When the hypervisor of another kind of guests answers again.
    pub(super) other_silent_until: u64,
    pub(super) slow_create: u64,
    /// The shared storage holds writes of this host until then.
    pub(super) writes_held_until: u64,
    /// Looking through the processes hangs until then.
    pub(super) scan_hangs_until: u64,
    /// K, as the guardian was told.
    pub(super) kill: Duration,
    /// The shared storage cannot be reached from here until then.
    pub(super) storage_gone_until: u64,
    pub(super) device: Option<DeviceMode>,
    /// The second fence level.
    pub(super) outlet: Option<DeviceMode>,
    /// Which of the two outlets of a pair are on.
    pub(super) feeds: [bool; 2],
    /// Durable.
    pub(super) image: Image<Command>,
    /// Durable.
    pub(super) promises: BTreeMap<GuestId, GuestPromise>,
    pub(super) profile: Profile,
    pub(super) cuts: u32,
    /// How often it lost its power.
    pub(super) outages: u32,
}

impl Host {
    fn armed(&self) -> Armed {
        let class = if self.watchdog {
            ArmedClass::Watchdog
        } else {
            ArmedClass::Guardian
        };
        Armed {
            class,
            reset: self.watchdog,
        }
    }

    /// What the daemon reads of the guardian at reading `clock`; `None`: nothing new.
    pub(super) fn pulse(&self, clock: Time) -> Option<Pulse> {
        let third_start = match self.guardian.fails {
            Some((GuardianMode::Gone | GuardianMode::Still, ..)) => return None,
            Some((GuardianMode::Restless, ..)) => Some(clock),
            None => self.guardian.third_start,
        };
        let reads = !self.profile.witness;
        reads.then(|| Pulse {
            armed: self.armed(),
            count: clock.0,
            at: clock,
            third_start,
        })
    }

    /// What the guardian sees at reading `clock`.
    /// `now` is the true time.
    pub(super) fn sight(&self, now: u64, clock: Time) -> Sight {
        let blind = mutants::host("populated-fails-open");
        let shown = self.procs.iter().filter(|p| !(p.hidden && blind)).count();
        // That nothing is left is seen by looking only.
        let unseen = self.guardian.logic.killing() && self.scan_hangs_until > now;
        Sight {
            now: Duration::from_nanos(clock.0),
            lease_end: self.guardian.end.map(|end| Duration::from_nanos(end.0)),
            armed: true,
            guests: shown + usize::from(unseen),
            pending: self.creations.len(),
            kill: self.kill,
        }
    }

    pub(super) fn proc(&self, order: &GuestOrder) -> Option<usize> {
        let fits = |p: &Proc| p.guest == order.guest && p.epoch == order.epoch;
        self.procs.iter().position(fits)
    }

    /// Makes writes durable. Says to what length the log was cut, if it was.
    pub(super) fn store(&mut self, writes: Vec<NodeWrite>) -> Result<Option<u64>, String> {
        let mut cut = None;
        for write in writes {
            self.marking |= matches!(write, NodeWrite::Member(Write::Unvouched(_)));
            match write {
                NodeWrite::Member(Write::Append { from, entries })
                    if (self.image.trimmed..=self.image.trimmed + self.image.log.len() as u64)
                        .contains(&from) =>
                {
                    // The same as `Image::apply`, without copying the entries.
                    let keep = (from - self.image.trimmed) as usize;
                    if keep < self.image.log.len() {
                        cut = Some(cut.map_or(from, |c: u64| c.min(from)));
                    }
                    self.image.log.truncate(keep);
                    self.image.log.extend(entries);
                }
                NodeWrite::Member(write) => self.image.apply(&write)?,
                NodeWrite::Executor(w) => match w.promise {
                    Some(p) => {
                        self.promises.insert(w.guest, p);
                    }
                    None => {
                        self.promises.remove(&w.guest);
                    }
                },
            }
        }
        if self.marking {
            // Behind what is durable, before anything that rests on it leaves.
            self.mark = Some(self.image.claim());
        }
        Ok(cut)
    }
}
