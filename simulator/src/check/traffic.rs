//! N2. No datagram is longer than every network carries whole, whatever runs on its sender.
//!
//! N1. A beat costs a bounded number of datagrams: one acknowledgement of each voter, and two (to the
//! relay and on from it) for each voter it was relayed to. Nobody else says anything about it, however
//! many nodes overhear it on a multicast link.
//!
//! A voter that hears a beat both by datagram and by session answers both; one that starts anew and hears
//! it again answers it again.
//!
//! N3. On a session nobody answers answers: what one node sends another in a second is bounded.

use super::{At, HostName, Violation};
use crate::world::SECOND;
use quorate_membership::frame::Datagram;
use quorate_membership::{NodeId, Slot, codec};
use quorate_recovery::contract::NodeFrame;
use std::collections::{BTreeMap, BTreeSet};

/// Beats that are remembered; acknowledgements of older ones are not counted.
const REMEMBERED: usize = 512;
/// Messages that one node may send another by session in one second, where no client asks for
/// anything; two nodes that answer each other without end make thousands.
const MESSAGES: u32 = 2_000;
/// Messages more for each request of a client: it is proposed, accepted and decided, and while
/// messages are lost it is proposed again.
const FOR_A_REQUEST: u32 = 20;

/// What was sent about one beat.
#[derive(Clone, Debug, Default)]
struct Cost {
    acknowledgements: usize,
    /// Voters that answered, each with its life.
    by: BTreeSet<(Slot, u64)>,
    /// Voters that a relay was addressed to.
    relayed_to: usize,
}

/// What was sent about the latest beats.
#[derive(Debug)]
pub struct Traffic {
    voters: usize,
    costs: BTreeMap<(NodeId, u64, u64), Cost>,
    /// Oldest first.
    order: std::collections::VecDeque<(NodeId, u64, u64)>,
    /// By sender and receiver: a second, and the messages sent in it.
    messages: BTreeMap<(usize, usize), (u64, u32)>,
    /// Requests of clients up to now.
    requests: u32,
}

impl Traffic {
    /// For a cluster of so many voters.
    #[must_use]
    pub fn new(voters: usize) -> Traffic {
        Traffic {
            voters,
            costs: BTreeMap::new(),
            order: std::collections::VecDeque::new(),
            messages: BTreeMap::new(),
            requests: 0,
        }
    }

    /// A client asks for something.
    pub fn asked(&mut self) {
        self.requests += 1;
    }

    /// A message goes by session from one machine to another.
    ///
    /// # Errors
    /// More went in this second than anything that ends can call for.
    pub fn streams(&mut self, now: u64, from: usize, to: usize) -> Result<(), Violation> {
        let second = now / SECOND;
        let (at, sent) = self.messages.entry((from, to)).or_default();
        if *at != second {
            (*at, *sent) = (second, 0);
        }
        *sent += 1;
        let most = MESSAGES + FOR_A_REQUEST * self.requests;
        if *sent <= most {
            return Ok(());
        }
        let (from, to) = (HostName(from), HostName(to));
        let what = format!("{from} sends {to} message after message");
        let facts = [
            format!("the newest is number {sent} by session within one second"),
            format!("{most} may be sent at most"),
        ];
        Err(Violation::new("N3", now, what, facts))
    }

    /// A node sends `frame`.
    ///
    /// # Errors
    /// More acknowledgements of one beat were sent than it may cost.
    pub fn sends(&mut self, now: u64, frame: &NodeFrame) -> Result<(), Violation> {
        if codec::size(codec::Kind::Frame, frame).is_none() {
            let what = format!(
                "{} sends a datagram that needs fragments",
                frame.header.from
            );
            let most = codec::DATAGRAM;
            let facts = [
                format!("its number is {}", frame.header.number),
                format!("a datagram is at most {most} bytes long, sealed"),
            ];
            return Err(Violation::new("N2", now, what, facts));
        }
        match &frame.body {
            Datagram::Beat(beat) => {
                let life = frame.header.incarnation.counter;
                let key = (frame.header.from, life, beat.sequence);
                self.costs.insert(key, Cost::default());
                self.order.push_back(key);
                if self.order.len() > REMEMBERED
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.costs.remove(&oldest);
                }
            }
            Datagram::Relayed { header, beat } => {
                let key = (header.from, header.incarnation.counter, beat.sequence);
                if let Some(cost) = self.costs.get_mut(&key) {
                    cost.relayed_to += frame.to.len();
                }
            }
            Datagram::Ack(ack) => {
                let key = (ack.host, ack.incarnation.counter, ack.sequence);
                let Some(cost) = self.costs.get_mut(&key) else {
                    return Ok(());
                };
                cost.acknowledgements += 1;
                cost.by.insert((ack.slot, ack.life));
                let voters = self.voters.max(cost.by.len());
                let most = 2 * (voters + 2 * cost.relayed_to);
                if cost.acknowledgements > most {
                    let what = format!(
                        "beat {} of {} is answered too often",
                        ack.sequence, ack.host
                    );
                    let sent = format!(
                        "{} acknowledgements of it are sent up to {}",
                        cost.acknowledgements,
                        At(now)
                    );
                    let may = format!(
                        "{voters} lives of voters and {} relays may send {most} at most",
                        cost.relayed_to
                    );
                    return Err(Violation::new("N1", now, what, [sent, may]));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_membership::frame::{Ack, Beat, Frame, Header};
    use quorate_membership::{ClusterId, Epoch, Incarnation, Slot, Token};
    use std::time::Duration;

    fn frame(body: Datagram<quorate_recovery::command::GuestStatus>) -> NodeFrame {
        Frame {
            header: Header {
                cluster: ClusterId(1),
                epoch: Epoch(1),
                from: NodeId(4),
                incarnation: Incarnation::default(),
                number: 1,
            },
            to: Vec::new(),
            body,
        }
    }

    #[test]
    fn messages_without_end_are_too_many() {
        let mut traffic = Traffic::new(3);
        for i in 0..MESSAGES {
            traffic.streams(u64::from(i), 0, 1).expect("a busy second");
        }
        traffic.streams(7, 1, 0).expect("the other way");
        let broken = traffic.streams(8, 0, 1);
        assert_eq!(broken.expect_err("too many").property, "N3");
        traffic.streams(SECOND, 0, 1).expect("the next second");
    }

    fn beat() -> Datagram<quorate_recovery::command::GuestStatus> {
        Datagram::Beat(Beat {
            sequence: 7,
            hello: None,
            lease_left: Duration::ZERO,
            renewed_ago: Duration::ZERO,
            timing: Token::NONE,
            word: Default::default(),
            full: false,
            unheard: 0,
            hears: 3,
            applied: 0,
            status: Default::default(),
        })
    }

    fn ack(slot: u8, life: u64) -> Ack {
        Ack {
            host: NodeId(4),
            incarnation: Incarnation::default(),
            sequence: 7,
            slot: Slot(slot),
            epoch: Epoch(1),
            life,
            lives: Vec::new(),
        }
    }

    #[test]
    fn a_voter_that_starts_anew_may_answer_again() {
        let mut traffic = Traffic::new(3);
        traffic.sends(1, &frame(beat())).expect("one");
        for (slot, life) in [(1, 1), (2, 1), (3, 1), (1, 2)] {
            for _ in 0..2 {
                let sent = traffic.sends(2, &frame(Datagram::Ack(ack(slot, life))));
                sent.expect("each life, twice");
            }
        }
        let broken = traffic.sends(3, &frame(Datagram::Ack(ack(2, 1))));
        assert_eq!(broken.expect_err("too many").property, "N1");
    }

    #[test]
    fn answers_to_answers_are_too_many() {
        let mut traffic = Traffic::new(3);
        let ack = ack(1, 1);
        traffic.sends(1, &frame(beat())).expect("one");
        for _ in 0..6 {
            let sent = traffic.sends(2, &frame(Datagram::Ack(ack.clone())));
            sent.expect("three voters, twice");
        }
        let broken = traffic.sends(3, &frame(Datagram::Ack(ack)));
        assert_eq!(broken.expect_err("too many").property, "N1");
    }
}
