//! Locks beside the guests' images on the shared storage, and who else writes them.

use super::action::LockTurn;
use super::picture::mark;
use super::{Local, Sim, SimNode};
use crate::check::s15::S15;
use crate::world::{MS, SECOND};
use quorate_membership::{ClusterId, Incarnation, NodeId, Token};
use quorate_recovery::contract::{Fact, GuestOrder};
use quorate_recovery::hold::Words;
use quorate_recovery::lock::{
    Found, Life, Lock, LockPlan, LockReading, LockState, LockedImage, SeenLock,
};

/// One image: the lock beside it, and whether the storage lets anybody at it.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    pub(super) lock: Option<Lock>,
    pub(super) unreadable: bool,
}

/// Every image, and what the checker of S15 knows of them.
#[derive(Debug, Default)]
pub(super) struct Locks {
    pub(super) of: Vec<Image>,
    pub(super) s15: S15,
}

impl Locks {
    pub(super) fn new(guests: usize) -> Locks {
        Locks {
            of: vec![Image::default(); guests],
            s15: S15::default(),
        }
    }
}

/// The path of a guest's image.
pub(super) fn path(guest: usize) -> String {
    format!("/shared/g{}", guest + 1)
}

/// The guest whose image it is.
fn number(image: &LockedImage) -> Option<usize> {
    let name = image.path.strip_prefix("/shared/g")?;
    name.parse::<usize>().ok()?.checked_sub(1)
}

fn seen(guest: usize, lock: Lock) -> SeenLock {
    SeenLock {
        image: Words::new(&path(guest)),
        lock,
    }
}

impl<N: SimNode> Sim<N> {
    fn cluster_id(&self) -> u128 {
        self.hosts[0].image.founding.cluster.0
    }

    /// Somebody else does something to a guest's lock, or the storage does.
    pub(super) fn lock_turns(&mut self, guest: usize, turn: LockTurn) {
        let Some(id) = self.guest_ids[guest] else {
            return;
        };
        let epoch = self.audit.guests.get(&id).map_or(Token::NONE, |g| g.epoch);
        let number = self.guest_rng.range(1, 1 << 40);
        let life = |epoch| Life {
            epoch,
            host: NodeId(1),
            incarnation: Incarnation {
                counter: 1,
                random: number,
            },
        };
        let alien = |cluster, life| Lock {
            cluster: ClusterId(cluster),
            guest: id,
            life,
            raised: 7,
        };
        match turn {
            LockTurn::Foreign => self.alien(guest, alien(0xF0_0D, life(epoch))),
            // The same log went another way elsewhere: it gave an epoch that this one never will.
            LockTurn::Fork => {
                let other = Token::new(epoch.epoch(), epoch.index() + 1_000_000);
                self.alien(guest, alien(self.cluster_id(), life(other)));
            }
            // A copy of this cluster: the same epoch, given in another life.
            LockTurn::Clone => self.alien(guest, alien(self.cluster_id(), life(epoch))),
            LockTurn::Raised => {
                if let Some(lock) = self.locks.s15.alien(id) {
                    let raised = lock.raised + 1;
                    self.alien(guest, Lock { raised, ..lock });
                }
            }
            LockTurn::Unreadable => self.locks.of[guest].unreadable = true,
            LockTurn::Readable => self.locks.of[guest].unreadable = false,
        }
    }

    fn alien(&mut self, guest: usize, lock: Lock) {
        let Some(id) = self.guest_ids[guest] else {
            return;
        };
        let now = self.world.now();
        self.locks.of[guest].lock = Some(lock);
        self.locks.s15.written(now, id, lock);
        // Who keeps the guest's lock meets it at the next raise.
        for host in 0..self.plan.hosts {
            let procs = &self.hosts[host].procs;
            let Some(p) = procs.iter().find(|p| p.guest == id && p.writing) else {
                continue;
            };
            let state = LockState {
                failing: None,
                met: vec![seen(guest, lock)],
            };
            let (guest, epoch) = (id, p.epoch);
            let fact = Fact::LockState {
                guest,
                epoch,
                state,
            };
            let delay = self.guest_rng.range(MS, 5 * SECOND);
            self.world.tell(host, delay, Local::fact(fact));
        }
    }

    /// A reader looks at the locks of a guest that is to start.
    pub(super) fn read_locks(&mut self, host: usize, order: &GuestOrder, asked: &[LockedImage]) {
        let now = self.world.now();
        // Disks of domains have no lock that anybody turns here.
        let none = Image::default();
        let at = asked.first().and_then(number);
        let image = at.map_or(&none, |at| &self.locks.of[at]);
        let unreadable = image.unreadable || self.hosts[host].storage_gone_until > now;
        let found = match image.lock {
            _ if unreadable => Found::Unreadable(Words::new("no answer")),
            None => Found::Nothing,
            Some(lock) => Found::Lock(lock),
        };
        self.locks.s15.reads(now, host, order.guest, unreadable);
        let readings = asked
            .iter()
            .map(|image| LockReading {
                image: Words::new(&image.path),
                found: found.clone(),
            })
            .collect();
        let order = order.order;
        let longest = if unreadable { 2 * SECOND } else { 20 * MS };
        let delay = self.guest_rng.range(MS, longest);
        let fact = Fact::LocksRead { order, readings };
        self.world.tell(host, delay, Local::fact(fact));
    }

    /// The keeper of a guest that was created writes its locks.
    pub(super) fn write_locks(
        &mut self,
        host: usize,
        life: u32,
        order: u64,
        plan: &LockPlan,
        there: bool,
    ) {
        if !there {
            return self.done(host, life, order, Err("no such process".into()));
        }
        let Some(at) = plan.images.first().and_then(number) else {
            return self.done(host, life, order, Ok(()));
        };
        let gone = self.hosts[host].storage_gone_until > self.world.now();
        if self.locks.of[at].unreadable || gone {
            return self.done(host, life, order, Err("the storage does not answer".into()));
        }
        mark!(self, host, Note, "lock of {} written", plan.lock.guest);
        self.locks.of[at].lock = Some(Lock {
            raised: 1,
            ..plan.lock
        });
        self.locks.s15.overwritten(plan.lock.guest);
        self.done(host, life, order, Ok(()));
    }
}
