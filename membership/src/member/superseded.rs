//! A life whose store was set back over several starts: a later one of this node was admitted, so
//! that every other node refuses this one.
//!
//! It may be a copy whose original runs, so it says nothing more than a reboot would: it begins a
//! life above all that others have seen, which is admitted like any other boot (reading 20), and it
//! does so only once no other machine has spoken as this node for T_d.

use super::duties::kind;
use super::{Member, Output};
use crate::app::Application;
use crate::frame::Stream;
use crate::id::NodeId;
use crate::mutants::planted;
use crate::time::Time;
use crate::vouch::Standing;

/// What others said of a later life of this node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Superseded {
    /// The highest counter named, and when one was named first.
    by: Option<(u64, Time)>,
    /// A voter has vouched for that life, so that it counts no vote of this one any more.
    vouched: bool,
    begun: bool,
}

impl<A: Application> Member<A> {
    /// Tells a node that it is refused for the life of it with that counter: one that was admitted, or of
    /// two with one counter the one that was vouched for.
    pub(super) fn tell_superseded(&mut self, now: Time, peer: NodeId, life: u64) {
        let lease = self.cluster().timing.lease;
        if !self.cool(now, kind::SUPERSEDED, peer.0.into(), lease) {
            return;
        }
        let message = Stream::Superseded { life };
        self.output.push(Output::Stream { peer, message });
    }

    /// Another voter has vouched for a later life of this node: this one votes no more, whatever its
    /// lease as a host.
    pub(super) fn outvoted_by(&mut self, now: Time, life: u64) {
        self.superseded.vouched = !planted("outvoted-and-stays");
        self.superseded_by(now, life);
    }

    /// Another node refuses this life for one that was admitted. One node's word is heeded only while
    /// no quorum says otherwise: a life whose lease is renewed is the one that was admitted.
    pub(super) fn superseded_by(&mut self, now: Time, life: u64) {
        if life < self.incarnation.counter || planted("refused-and-not-told") {
            return;
        }
        if life == u64::MAX {
            // No life can begin above it.
            return self.count("superseded by the last number");
        }
        if self.lease_renewed(now) && !self.superseded.vouched && !self.waits_for_vouchers() {
            return self.count("superseded while the lease is renewed");
        }
        let first = self.superseded.by.is_none();
        let (most, since) = self.superseded.by.unwrap_or((life, now));
        self.superseded.by = Some((most.max(life), since));
        if first {
            let text = format!(
                "incarnation {life} of this node was seen by others and this is {}: its store was set \
                 back, or it is a copy; a later one begins once no other machine speaks as this node",
                self.incarnation.counter
            );
            self.output.push(Output::Alert {
                node: self.me,
                text,
            });
        }
    }

    /// Says whether this life is still to be vouched for. Below a number that others vouched for it never
    /// will be, and can only begin anew.
    fn waits_for_vouchers(&self) -> bool {
        let without = unheeded();
        self.replica.is_some() && !without && self.vouching.standing != Standing::Vouched
    }

    /// The highest number of a life of this node that others named: the next is above it.
    #[must_use]
    pub fn above(&self) -> u64 {
        self.superseded.by.map_or(0, |(life, _)| life)
    }

    fn lease_renewed(&self, now: Time) -> bool {
        self.lease.end().is_some_and(|end| end > now)
    }

    /// Begins a life above the one that was admitted, if nobody else lives as this node.
    pub(super) fn begin_above(&mut self, now: Time) {
        let voucherless = self.waits_for_vouchers();
        if self.lease_renewed(now)
            && !self.superseded.vouched
            && !voucherless
            && !self.superseded.begun
        {
            self.superseded.by = None;
        }
        let Some((above, since)) = self.superseded.by.filter(|_| !self.superseded.begun) else {
            return;
        };
        let silence = self.cluster().timing.silence();
        let quiet = self.copied.is_none_or(|at| now.since(at) >= silence);
        if now.since(since) >= silence && quiet {
            self.superseded.begun = true;
            let why = format!("incarnation {above} of this node was seen by others");
            self.output.push(Output::Anew { why, above });
        }
    }
}

/// Says whether lives that others named are heeded too little, by either of two bugs.
pub(super) fn unheeded() -> bool {
    planted("named-life-not-heeded") || planted("outvoted-and-stays")
}
