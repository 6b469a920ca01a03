//! N2. No datagram is longer than every network carries whole, whatever runs on its sender.
//!
//! N1. A beat costs a bounded number of datagrams: one acknowledgement of each voter, and two (to the
//! relay and on from it) for each voter it was relayed to. Nobody else says anything about it, however
//! many nodes overhear it on a multicast link.
//!
//! Twice as much is allowed, for a voter that starts anew and hears an old beat again.

use super::{At, Violation};
use quorate_membership::frame::Datagram;
use quorate_membership::{NodeId, codec};
use quorate_recovery::contract::NodeFrame;
use std::collections::BTreeMap;

/// Beats that are remembered; acknowledgements of older ones are not counted.
const REMEMBERED: usize = 512;

/// What was sent about one beat.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    acknowledgements: usize,
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
}

impl Traffic {
    /// For a cluster of so many voters.
    #[must_use]
    pub fn new(voters: usize) -> Traffic {
        Traffic {
            voters,
            costs: BTreeMap::new(),
            order: std::collections::VecDeque::new(),
        }
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
                let most = 2 * (self.voters + 2 * cost.relayed_to);
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
                        "{} voters and {} relays may send {most} at most",
                        self.voters, cost.relayed_to
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
    fn answers_to_answers_are_too_many() {
        let mut traffic = Traffic::new(3);
        let beat = Beat {
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
        };
        let ack = Ack {
            host: NodeId(4),
            incarnation: Incarnation::default(),
            sequence: 7,
            slot: Slot(1),
            epoch: Epoch(1),
        };
        traffic.sends(1, &frame(Datagram::Beat(beat))).expect("one");
        for _ in 0..6 {
            let sent = traffic.sends(2, &frame(Datagram::Ack(ack)));
            sent.expect("three voters, twice");
        }
        let broken = traffic.sends(3, &frame(Datagram::Ack(ack)));
        assert_eq!(broken.expect_err("too many").property, "N1");
    }
}
