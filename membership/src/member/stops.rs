//! Promises to acknowledge an incarnation no more, on their way to the disk and off it.

use super::{Member, Output};
use crate::app::Application;
use crate::id::Token;
use crate::store::{StopRecord, Write};

impl<A: Application> Member<A> {
    /// This voter acknowledges that incarnation no more, from this moment and durably.
    pub(super) fn promise_to_stop(&mut self, record: StopRecord) {
        if let Some(g) = &mut self.grantor
            && g.stop(record)
        {
            self.output.push(Output::Write(Write::Stop(record)));
        }
    }

    /// Drops the promises that the state applied up to `applied` has voided.
    pub(super) fn sweep_stops(&mut self, applied: Token) {
        let Some(grantor) = &mut self.grantor else {
            return;
        };
        for void in grantor.sweep(&self.state.cluster, applied) {
            let (host, revoke) = (void.host, void.revoke);
            self.output
                .push(Output::Write(Write::Unstop { host, revoke }));
        }
    }
}
