//! The world's part of the record: what it does by itself, and where its driver adds the rest.
//!
//! The entry of the step being handled travels as the queue's `cause`: whatever is planned during
//! a step is caused by it. Without a recorder every cause is 0 and nothing is kept.

use super::{Happening, Link, Types, World};
use crate::record::{Kind, Loss, NONE, Names, Record, Recorder, Sort, Way};

impl Link {
    /// How it is, and how it would be if it were not cut.
    fn way(&self) -> (Way, Way) {
        let rough = self.loss > 0 || self.duplicate > 0 || self.long > 0;
        let under = if rough { Way::Rough } else { Way::Whole };
        let way = if self.cut {
            Way::Cut
        } else if self.blocked != 0 {
            Way::Filtered
        } else {
            under
        };
        (way, under)
    }
}

impl<T: Types> World<T> {
    /// Records from now on. The names are those of this world's nodes and networks, in order.
    pub fn record(&mut self, names: Names) {
        let recorder = Recorder::new(names, self.layout.session_networks.max(1));
        self.recorder = Some(Box::new(recorder));
    }

    /// Whether a record is being made. Words for it need not be found if not.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.recorder.is_some()
    }

    /// The record up to now; nothing is recorded any more.
    pub fn take_record(&mut self) -> Option<Record> {
        let recorder = self.recorder.take()?;
        Some(recorder.finish(self.now))
    }

    /// The lane of that name on a node; [`NONE`] while nothing is recorded.
    pub fn lane(&mut self, on: usize, name: &str) -> u32 {
        let recorder = self.recorder.as_mut();
        recorder.map_or(NONE, |r| r.lane(on, name))
    }

    /// Something worth saying on a lane, caused by the present step.
    pub fn mark(&mut self, lane: u32, sort: Sort, text: &str) {
        let (now, cause) = (self.now, self.queue.cause);
        if let Some(r) = &mut self.recorder {
            r.mark(now, lane, sort, cause, text);
        }
    }

    /// The same for something another step asked for, found by the words noted then.
    pub fn mark_asked(&mut self, lane: u32, sort: Sort, text: &str, note: &str) {
        let (now, cause) = (self.now, self.queue.cause);
        if let Some(r) = &mut self.recorder {
            let mark = r.mark(now, lane, sort, cause, text);
            r.asked_by(mark, note);
        }
    }

    /// If the facts of a broken promise name these words, they speak of the present step.
    pub fn note(&mut self, text: String) {
        let cause = self.queue.cause;
        if let Some(r) = &mut self.recorder {
            r.note(text, cause);
        }
    }

    /// Whether no step noted these words yet.
    #[must_use]
    pub fn newly(&self, text: &str) -> bool {
        let recorder = self.recorder.as_ref();
        recorder.is_some_and(|r| r.newly(text))
    }

    /// Whether a band of that name holds on a lane.
    #[must_use]
    pub fn holds(&self, lane: u32, name: &'static str) -> bool {
        let recorder = self.recorder.as_ref();
        recorder.is_some_and(|r| r.holds(self.now, lane, name))
    }

    /// Action `number` of the plan is about to be done: what follows is caused by it. If the world
    /// does not see its effect, `until` says when it ends (true time in nanoseconds).
    pub fn fault(&mut self, number: usize, text: &str, until: Option<u64>) {
        if let Some(r) = &mut self.recorder {
            self.queue.cause = r.fault(self.now, number, text, until);
        }
    }

    /// A promise is broken, in the present step.
    pub fn broken(&mut self, property: &str, what: &str, facts: &[String; 2]) {
        let (now, cause) = (self.now, self.queue.cause);
        if let Some(r) = &mut self.recorder {
            r.broken(now, cause, property, what, facts);
        }
    }

    /// Something holds on a lane from now until `until` (true time in nanoseconds), or goes on
    /// until then if it holds already in the same words.
    pub fn band(&mut self, lane: u32, name: &'static str, text: &str, until: u64) {
        let (now, cause) = (self.now, self.queue.cause);
        if let Some(r) = &mut self.recorder {
            r.band(now, lane, name, text, until, cause);
        }
    }

    /// It holds no longer.
    pub fn end_band(&mut self, lane: u32, name: &'static str) {
        let now = self.now;
        if let Some(r) = &mut self.recorder {
            r.end_band(now, lane, name);
        }
    }

    /// What happens now is the step that causes what follows.
    #[inline]
    pub(super) fn happened(&mut self, h: &Happening<T>) {
        if self.recorder.is_some() {
            self.keep(h);
        }
    }

    #[cold]
    fn keep(&mut self, h: &Happening<T>) {
        let (now, cause) = (self.now, self.queue.cause);
        let Some(r) = &mut self.recorder else { return };
        self.queue.cause = match h {
            Happening::Datagram { to, from, .. } | Happening::Message { to, from, .. } => {
                r.received(now, *to, *from, cause)
            }
            Happening::SessionUp { node, peer } => {
                r.between(now, Kind::SessionUp, (*node, *peer), cause, "")
            }
            Happening::SessionDown { node, peer } => {
                r.between(now, Kind::SessionDown, (*node, *peer), cause, "")
            }
            Happening::Timer { node } => r.add(now, Kind::Timer, *node as u32, cause, ""),
            Happening::Local { node, fact } => {
                r.add(now, Kind::Local, *node as u32, cause, &T::local_text(fact))
            }
            Happening::Stored { node, batch, .. } => {
                let text = format!("batch {batch}");
                r.add(now, Kind::Stored, *node as u32, cause, &text)
            }
            Happening::Event(event) => {
                let (node, text) = T::event_text(event);
                let lane = node.map_or(NONE, |n| n as u32);
                r.add(now, Kind::Event, lane, cause, &text)
            }
        };
    }

    /// A message leaves. Gives the cause to go back to when it is on its way: until then the
    /// message is what causes.
    #[inline]
    pub(super) fn sends(
        &mut self,
        from: usize,
        to: usize,
        text: impl FnOnce() -> String,
    ) -> Option<u32> {
        let (now, step) = (self.now, self.queue.cause);
        let r = self.recorder.as_mut()?;
        self.queue.cause = r.between(now, Kind::Sent, (from, to), step, &text());
        Some(step)
    }

    /// The message that was about to leave is on its way, or lost for a reason on that network.
    #[inline]
    pub(super) fn sent(&mut self, step: Option<u32>, lost: Option<(Loss, Option<usize>)>) {
        let Some(step) = step else { return };
        let message = std::mem::replace(&mut self.queue.cause, step);
        if let Some((why, net)) = lost {
            self.loses(message, why, net);
        }
    }

    /// The message that left with entry `sent` does not arrive.
    #[inline]
    pub(super) fn loses(&mut self, sent: u32, why: Loss, net: Option<usize>) {
        let now = self.now;
        if let Some(r) = &mut self.recorder {
            r.lost(now, sent, why, net);
        }
    }

    /// What was to be told finds no process there.
    #[inline]
    pub(super) fn finds_nobody(&mut self, h: &Happening<T>, why: Loss) {
        if matches!(h, Happening::Datagram { .. } | Happening::Message { .. }) {
            self.loses(self.queue.cause, why, None);
        }
    }

    /// A link was changed.
    #[inline]
    pub(super) fn link_changed(&mut self, net: usize, from: usize, to: usize) {
        let (now, cause) = (self.now, self.queue.cause);
        if let Some(r) = &mut self.recorder {
            let way = self.net.link(net, from, to).way();
            r.way(now, net, (from, to), way, cause);
        }
    }

    /// A process or machine changed.
    #[inline]
    pub(super) fn lives(&mut self, node: usize, kind: Kind) {
        let (now, cause) = (self.now, self.queue.cause);
        if let Some(r) = &mut self.recorder {
            r.life(now, node, kind, cause);
        }
    }
}
