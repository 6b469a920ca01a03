//! What consensus wants written and sent.

use super::{Member, Output};
use crate::app::Application;
use crate::consensus::Outgoing;
use crate::frame::{Datagram, Stream};
use crate::mutants::planted;
use crate::store::Write;

impl<A: Application> Member<A> {
    pub(super) fn take_consensus(&mut self) {
        let Some(replica) = &mut self.replica else {
            return;
        };
        // Writes first: the messages taken after them rest on them.
        let writes = replica.take_writes();
        let messages = replica.take_messages();
        let lost = |w: &Write<A::Command>| {
            matches!(w, Write::Promise(_)) && planted("promise-not-written")
        };
        let writes = writes.into_iter().filter(|w| !lost(w));
        self.output.extend(writes.map(Output::Write));
        let lives = self.lives_vouched();
        for (slot, message) in messages {
            let Some(peer) = self.state.cluster.voter(slot) else {
                continue;
            };
            match message {
                Outgoing::Log(message) => {
                    if self.uncompared(peer) {
                        continue;
                    }
                    let message = Stream::Log {
                        epoch: self.state.cluster.epoch,
                        lives: lives.clone(),
                        message: Box::new(message),
                    };
                    self.output.push(Output::Stream { peer, message });
                }
                Outgoing::Election(message) => {
                    let to_incarnation = self
                        .windows
                        .get(&peer)
                        .map_or(0, |w| w.newer.incarnation().counter);
                    let body = Datagram::Election {
                        to_incarnation,
                        message,
                    };
                    // Resting on no write: a slow disk must not look like a voter that is gone.
                    // What it says is repeated each round, and a round it names binds nobody:
                    // the Prepare of that round rests on the promise.
                    self.send(vec![peer], body, planted("elections-wait-for-disk"));
                }
            }
        }
    }
}
