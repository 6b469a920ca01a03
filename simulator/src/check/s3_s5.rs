//! S3. The accident: a host believes in its lease longer than its grantors do, and goes on writing
//! while its guests are started elsewhere. The bound is counted here from what was really sent:
//! the newest beat that a quorum of voters acknowledged, plus L, on the host's own clock.
//!
//! S5. The accident: an old or repeated order, late by minutes, starts a guest that runs
//! elsewhere by now. What a host promised is read from its disk.

use super::{HostName, Violation};
use quorate_membership::frame::Ack;
use quorate_membership::{Slot, Time, Token};
use quorate_recovery::contract::{GuestAction, GuestOrder};
use quorate_recovery::executor::GuestPromise;
use std::collections::BTreeSet;
use std::time::Duration;

const REMEMBERED: usize = 64;

/// Slots that can vote.
const SLOTS: usize = 8;

#[derive(Clone, Debug, Default)]
struct BeatSent {
    incarnation: u64,
    sequence: u64,
    at: u64,
    /// Voters that acknowledged it, bit slot−1.
    by: u32,
    /// The newest life of each that did.
    lives: [u64; SLOTS],
    /// Lives below which another's acknowledgement does not count, by whoever said so: bit slot−1, then
    /// whose they are, and the least that counts.
    named: Vec<(u32, Slot, u64)>,
}

impl BeatSent {
    /// Says whether a quorum among the voters `of` acknowledged it, of which none says that another's life
    /// counts no more. A message may be lost, so any part of them may be what a host knows.
    fn granted(&self, of: u32, quorum: u32) -> bool {
        let by = self.by & of;
        if by.count_ones() < quorum {
            return false;
        }
        let against = |(who, slot, least): &(u32, Slot, u64)| {
            let index = usize::from(slot.0) - 1;
            let whose = 1u32 << index;
            (by & who != 0 && by & whose != 0 && self.lives[index] < *least).then_some(who | whose)
        };
        let pairs: Vec<u32> = self.named.iter().filter_map(against).collect();
        pairs.is_empty()
            || (0..1u32 << SLOTS).any(|part| {
                part & !by == 0
                    && part.count_ones() >= quorum
                    && pairs.iter().all(|pair| part & pair != *pair)
            })
    }
}

/// True lease bounds.
#[derive(Debug)]
pub struct S3 {
    lease: u64,
    quorum: u32,
    /// The bit of each host's own vote, which no message carries.
    own: Vec<u32>,
    beats: Vec<Vec<BeatSent>>,
    bounds: Vec<u64>,
    /// The same without the host's own vote, and the incarnation it belongs to.
    certain: Vec<(u64, u64)>,
}

impl S3 {
    /// For hosts of which `own` gives the slot, if any, under lease L and a quorum.
    #[must_use]
    pub fn new(own: Vec<Option<Slot>>, lease: Duration, quorum: usize) -> S3 {
        let hosts = own.len();
        S3 {
            lease: lease.as_nanos() as u64,
            quorum: quorum as u32,
            own: own
                .into_iter()
                .map(|s| s.map_or(0, |s| 1 << (s.0 - 1)))
                .collect(),
            beats: vec![vec![BeatSent::default(); REMEMBERED]; hosts],
            bounds: vec![0; hosts],
            certain: vec![(0, 0); hosts],
        }
    }

    /// That machine now votes in this slot: it holds the disk of one that did.
    pub fn votes(&mut self, host: usize, slot: Option<Slot>) {
        self.own[host] = slot.map_or(0, |s| 1 << (s.0 - 1));
    }

    /// The host sends a beat; `at` is its own clock when it decided to.
    pub fn beat(&mut self, host: usize, incarnation: u64, sequence: u64, at: Time) {
        self.beats[host][sequence as usize % REMEMBERED] = BeatSent {
            incarnation,
            sequence,
            at: at.0,
            by: self.own[host],
            // Its own vote is of the life that it lives.
            lives: [u64::MAX; SLOTS],
            named: Vec::new(),
        };
        // A cluster of one voter is its own quorum.
        self.grant(host, sequence);
    }

    /// A voter sends an acknowledgement.
    pub fn acknowledged(&mut self, host: usize, ack: &Ack) {
        let Some(beats) = self.beats.get_mut(host) else {
            return;
        };
        let beat = &mut beats[ack.sequence as usize % REMEMBERED];
        let index = usize::from(ack.slot.0).wrapping_sub(1);
        let of = (ack.incarnation.counter, ack.sequence);
        if (beat.incarnation, beat.sequence) != of || index >= SLOTS {
            return;
        }
        let bit = 1 << index;
        // In its own slot a copy of it answers: its own vote counts on.
        let before = if beat.by & bit == 0 {
            0
        } else {
            beat.lives[index]
        };
        beat.lives[index] = before.max(ack.life);
        beat.by |= bit;
        let slots = 1..=SLOTS;
        let named = ack
            .lives
            .iter()
            .filter(|(s, _)| slots.contains(&usize::from(s.0)));
        beat.named
            .extend(named.map(|(slot, life)| (bit, *slot, *life)));
        self.grant(host, ack.sequence);
    }

    fn grant(&mut self, host: usize, sequence: u64) {
        let beat = &self.beats[host][sequence as usize % REMEMBERED];
        if beat.granted(u32::MAX, self.quorum) {
            self.bounds[host] = self.bounds[host].max(beat.at + self.lease);
        }
        if beat.granted(!self.own[host], self.quorum) {
            let c = &mut self.certain[host];
            *c = (c.0.max(beat.at + self.lease), beat.incarnation);
        }
    }

    /// It was proved that the lease of incarnation `incarnation` is over; the host's clock shows
    /// `clock`, and `after` is what G contains beyond the lease.
    ///
    /// # Errors
    /// Acknowledgements of a quorum that certainly left its voters say otherwise (S14).
    pub fn proved_over(
        &self,
        now: u64,
        host: usize,
        incarnation: u64,
        clock: Time,
        after: Duration,
    ) -> Result<(), Violation> {
        let (bound, of) = self.certain[host];
        let over = Time(bound) + after;
        if of > incarnation || bound == 0 || clock >= over {
            return Ok(());
        }
        Err(Violation::new(
            "S14",
            now,
            format!("the lease of {} is not over", HostName(host)),
            [
                format!("the log proves the lease of incarnation {incarnation} over"),
                format!(
                    "a quorum acknowledged it up to {} of its clock, with {after:?} to end and drain; there it is {clock}",
                    Time(bound)
                ),
            ],
        ))
    }

    /// The end of the host's lease on its own clock without its own vote: what it can certainly
    /// count on. Zero if it never had one.
    #[must_use]
    pub fn certain(&self, host: usize) -> Time {
        Time(self.certain.get(host).map_or(0, |c| c.0))
    }

    /// The host's true lease end on its own clock; zero if it never had one.
    #[must_use]
    pub fn bound(&self, host: usize) -> Time {
        Time(self.bounds.get(host).copied().unwrap_or(0))
    }

    /// The host tells its guardian that its lease lasts until `end`.
    ///
    /// # Errors
    /// It does not.
    pub fn claims(&self, now: u64, host: usize, end: Time) -> Result<(), Violation> {
        let bound = self.bound(host);
        if end <= bound {
            return Ok(());
        }
        Err(Violation::new(
            "S3",
            now,
            format!(
                "{} counts its lease {:?} too long",
                HostName(host),
                end.since(bound)
            ),
            [
                format!("it tells its guardian that the lease lasts until {end} of its clock"),
                format!("the newest beat a quorum acknowledged carries it until {bound}"),
            ],
        ))
    }

    /// Guests run on the host at reading `clock`.
    ///
    /// # Errors
    /// The time to end them is over.
    pub fn runs(
        &self,
        now: u64,
        host: usize,
        clock: Time,
        to_end: Duration,
    ) -> Result<(), Violation> {
        let bound = self.bound(host);
        if clock <= bound + to_end {
            return Ok(());
        }
        Err(Violation::new(
            "S3",
            now,
            format!("{} runs guests past its lease", HostName(host)),
            [
                format!(
                    "its true lease ended at {bound} of its clock, plus {to_end:?} to end them"
                ),
                format!("a guest runs there at {clock}"),
            ],
        ))
    }
}

/// What each life of each daemon was ordered to do.
#[derive(Debug)]
pub struct S5 {
    /// Orders carried out by each host, and the life they belong to.
    done: Vec<(u32, BTreeSet<u64>)>,
}

impl S5 {
    /// For so many hosts.
    #[must_use]
    pub fn new(hosts: usize) -> S5 {
        S5 {
            done: vec![(0, BTreeSet::new()); hosts],
        }
    }

    /// A host is about to carry out `order`; `promise` is what its disk says of the guest.
    ///
    /// # Errors
    /// The order is one it promised to refuse, is not yet promised, or was carried out before.
    pub fn order(
        &mut self,
        now: u64,
        host: usize,
        life: u32,
        order: &GuestOrder,
        promise: Option<GuestPromise>,
    ) -> Result<(), Violation> {
        let (of, done) = &mut self.done[host];
        if *of != life {
            *of = life;
            done.clear();
        }
        if !done.insert(order.order) {
            let second = format!("it carried out order {} before", order.order);
            return Err(broken(now, host, order, second));
        }
        let starts = matches!(order.action, GuestAction::Create(_) | GuestAction::Continue);
        if !starts {
            return Ok(());
        }
        let p = promise.unwrap_or_default();
        if order.epoch <= p.closed && p.closed != Token::NONE || order.epoch < p.promised {
            let second = format!(
                "its disk refuses up to {} and below {}",
                p.closed, p.promised
            );
            return Err(broken(now, host, order, second));
        }
        if order.epoch > p.promised {
            let second = format!("its disk has promised no more than epoch {}", p.promised);
            return Err(broken(now, host, order, second));
        }
        Ok(())
    }
}

fn broken(now: u64, host: usize, order: &GuestOrder, second: String) -> Violation {
    let verb = match order.action {
        GuestAction::Create(_) => "creates",
        GuestAction::Continue => "continues",
        GuestAction::Pause => "pauses",
        GuestAction::End => "ends",
        GuestAction::Reset => "resets",
        GuestAction::Capture { .. } => "captures",
        GuestAction::Probe(_) => "probes",
        GuestAction::ReadLocks(_) => "reads locks of",
        GuestAction::WriteLocks(_) => "writes locks of",
    };
    Violation::new(
        "S5",
        now,
        format!("{} obeys an order it must refuse", HostName(host)),
        [
            format!(
                "it {verb} {} under epoch {} by order {}",
                order.guest, order.epoch, order.order
            ),
            second,
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_membership::{Epoch, Incarnation, NodeId};
    use quorate_recovery::guest::GuestId;

    fn ack(incarnation: u64, sequence: u64, slot: u8, life: u64, lives: &[(Slot, u64)]) -> Ack {
        Ack {
            host: NodeId(1),
            incarnation: Incarnation {
                counter: incarnation,
                random: 0,
            },
            sequence,
            slot: Slot(slot),
            epoch: Epoch(1),
            life,
            lives: lives.to_vec(),
        }
    }

    #[test]
    fn an_earlier_life_counts_only_beside_voters_that_vouched_for_no_later_one() {
        let mut s = S3::new(vec![None], Duration::from_secs(3), 3);
        s.beat(0, 1, 1, Time(10));
        let later = [(Slot(1), 5)];
        s.acknowledged(0, &ack(1, 1, 1, 4, &[]));
        s.acknowledged(0, &ack(1, 1, 2, 1, &later));
        s.acknowledged(0, &ack(1, 1, 3, 1, &[]));
        assert_eq!(s.bound(0), Time::ZERO, "two that agree are no quorum");
        s.acknowledged(0, &ack(1, 1, 4, 1, &[]));
        assert_ne!(s.bound(0), Time::ZERO, "three of them do agree");
        s.beat(0, 1, 2, Time(20));
        s.acknowledged(0, &ack(1, 2, 2, 1, &later));
        s.acknowledged(0, &ack(1, 2, 3, 1, &later));
        let before = s.bound(0);
        s.acknowledged(0, &ack(1, 2, 1, 5, &[]));
        assert!(s.bound(0) > before, "the later life itself");
    }

    #[test]
    fn the_bound_is_the_newest_beat_of_a_quorum() {
        let l = Duration::from_secs(3);
        let mut s = S3::new(vec![Some(Slot(1)), None], l, 2);
        let t = |s: u64| Time(s * 1_000_000_000);
        assert!(s.claims(0, 0, t(1)).is_err());
        s.beat(0, 1, 1, t(10));
        s.acknowledged(0, &ack(1, 1, 1, 1, &[]));
        assert_eq!(s.bound(0), Time::ZERO, "its own voice twice is one voice");
        s.acknowledged(0, &ack(2, 1, 2, 1, &[]));
        assert_eq!(s.bound(0), Time::ZERO, "another incarnation's beat");
        s.acknowledged(0, &ack(1, 1, 2, 1, &[]));
        s.claims(0, 0, t(13)).expect("exactly");
        assert_eq!(s.claims(0, 0, t(14)).expect_err("more").property, "S3");
        s.runs(0, 0, t(14), Duration::from_secs(1)).expect("K");
        assert!(s.runs(0, 0, t(15), Duration::from_secs(1)).is_err());
        s.beat(1, 1, 1, t(10));
        s.acknowledged(1, &ack(1, 1, 1, 1, &[]));
        assert_eq!(s.bound(1), Time::ZERO, "a follower needs two voters");
        let wait = Duration::from_secs(2);
        s.proved_over(0, 1, 1, t(10), wait).expect("never had one");
        s.acknowledged(1, &ack(1, 1, 2, 1, &[]));
        let early = s.proved_over(0, 1, 1, t(14), wait);
        assert_eq!(early.expect_err("until 15").property, "S14");
        s.proved_over(0, 1, 1, t(15), wait).expect("over");
        s.proved_over(0, 1, 0, t(14), wait).expect("a later life's");
    }

    #[test]
    fn refused_unpromised_and_repeated_orders_are_found() {
        let token = |n| Token::new(Epoch(1), n);
        let order = |id, epoch, action| GuestOrder {
            order: id,
            guest: GuestId(1),
            epoch: token(epoch),
            action,
            not_after: None,
        };
        let promise = Some(GuestPromise {
            promised: token(9),
            closed: token(5),
        });
        let mut s = S5::new(1);
        let go = GuestAction::Continue;
        s.order(0, 0, 1, &order(1, 9, go.clone()), promise)
            .expect("promised");
        assert!(
            s.order(0, 0, 1, &order(1, 9, go.clone()), promise).is_err(),
            "again"
        );
        assert!(
            s.order(0, 0, 1, &order(2, 5, go.clone()), promise).is_err(),
            "closed"
        );
        assert!(
            s.order(0, 0, 1, &order(3, 7, go.clone()), promise).is_err(),
            "older"
        );
        assert!(
            s.order(0, 0, 1, &order(4, 10, go.clone()), promise)
                .is_err(),
            "newer"
        );
        assert!(
            s.order(0, 0, 1, &order(5, 9, go.clone()), None).is_err(),
            "none"
        );
        s.order(0, 0, 1, &order(6, 5, GuestAction::End), promise)
            .expect("ending is safe");
        s.order(0, 0, 2, &order(1, 9, go), promise)
            .expect("another life");
    }
}
