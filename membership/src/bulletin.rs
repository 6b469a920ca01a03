//! What a node says of its part of the application beside its beats: a bulletin, in parts that each
//! fit one datagram.
//!
//! The beat that renews a lease is of fixed size, so that no host loses its guests because it has
//! many. What runs and what ended travels apart. Every change makes a new *generation* of the bulletin,
//! which is sent whole once; then its urgent parts are repeated with every beat, the others in turn.
//! Each item is true by itself, so the reader need not wait for the whole generation.

use crate::codec::{self, Kind};
use crate::id::Incarnation;
use crate::mutants::planted;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bytes of encoded items in one part; with all headers, relayed and sealed, a part stays below
/// [`crate::codec::DATAGRAM`].
const PART_BYTES: usize = 900;
/// Parts a bulletin may have; what is beyond is said when there is room.
const PARTS: usize = 1024;
/// Parts of each kind sent with one beat at most.
const PER_BEAT: usize = 16;

/// One part of a bulletin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part<I> {
    /// Rises with every change within an incarnation.
    pub generation: u64,
    /// Which part this is, from 0.
    pub part: u16,
    /// How many there are.
    pub parts: u16,
    /// As in a beat: voters in these slots need a relay.
    pub unheard: u8,
    /// What it says.
    pub items: Vec<I>,
}

/// The bulletin of this node.
#[derive(Clone, Debug)]
pub(crate) struct Bulletin<I> {
    urgent: Vec<I>,
    rest: Vec<I>,
    generation: u64,
    parts: Vec<Vec<I>>,
    /// The first so many parts are urgent.
    urgent_parts: usize,
    /// Where to go on, in urgent parts and in the others.
    next: (usize, usize),
    /// Parts of the others that this generation has not been sent in yet.
    unsent: usize,
}

impl<I: Clone + PartialEq + Serialize> Bulletin<I> {
    pub(crate) fn new() -> Bulletin<I> {
        Bulletin {
            urgent: Vec::new(),
            rest: Vec::new(),
            generation: 0,
            parts: Vec::new(),
            urgent_parts: 0,
            next: (0, 0),
            unsent: 0,
        }
    }

    /// What is to be said from now on: urgent items with every beat. Gives whether the urgent ones
    /// changed.
    pub(crate) fn set(&mut self, urgent: Vec<I>, rest: Vec<I>) -> bool {
        let news = urgent != self.urgent;
        if !news && rest == self.rest {
            return false;
        }
        self.generation += 1;
        self.parts = parts(&urgent);
        self.urgent_parts = self.parts.len();
        self.parts.extend(parts(&rest));
        self.parts.truncate(PARTS);
        self.urgent_parts = self.urgent_parts.min(PARTS);
        if self.parts.is_empty() {
            // That there is nothing must be said, too.
            self.parts.push(Vec::new());
        }
        self.unsent = self.parts.len() - self.urgent_parts;
        self.next = (0, 0);
        (self.urgent, self.rest) = (urgent, rest);
        news
    }

    /// Everything it says.
    pub(crate) fn items(&self) -> impl Iterator<Item = &I> {
        self.urgent.iter().chain(&self.rest)
    }

    /// The parts that go out with a beat.
    pub(crate) fn due(&mut self, unheard: u8) -> Vec<Part<I>> {
        let (urgent, all) = (self.urgent_parts, self.parts.len());
        let rest = all - urgent;
        let mut due = Vec::new();
        for _ in 0..urgent.min(PER_BEAT) {
            due.push(self.next.0);
            self.next.0 = (self.next.0 + 1) % urgent;
        }
        let others = self.unsent.clamp(1, PER_BEAT).min(rest);
        for _ in 0..others {
            due.push(urgent + self.next.1);
            self.next.1 = (self.next.1 + 1) % rest;
        }
        self.unsent = self.unsent.saturating_sub(others);
        let part = |at: usize| Part {
            generation: self.generation,
            part: at as u16,
            parts: all as u16,
            unheard,
            items: self.parts[at].clone(),
        };
        due.into_iter().map(part).collect()
    }
}

/// `items` cut into parts; one that is too long for any is left out, since nobody could be told it.
fn parts<I: Clone + Serialize>(items: &[I]) -> Vec<Vec<I>> {
    let mut parts: Vec<Vec<I>> = Vec::new();
    let mut room = 0;
    for item in items {
        let bytes = codec::size(Kind::Frame, item);
        let Some(bytes) = bytes.filter(|b| *b <= PART_BYTES) else {
            continue;
        };
        if (bytes > room && !planted("bulletin-in-one-datagram")) || parts.is_empty() {
            parts.push(Vec::new());
            room = PART_BYTES;
        }
        room = room.saturating_sub(bytes);
        if let Some(last) = parts.last_mut() {
            last.push(item.clone());
        }
    }
    parts
}

/// What another node says in its bulletin.
#[derive(Clone, Debug)]
pub(crate) struct Told<I> {
    incarnation: Incarnation,
    generation: u64,
    parts: u16,
    heard: BTreeMap<u16, Vec<I>>,
    /// The last generation of that incarnation that was heard whole.
    whole: Vec<I>,
}

impl<I: Clone> Told<I> {
    /// Of a node of which nothing was heard yet.
    pub(crate) fn nothing() -> Told<I> {
        Told {
            incarnation: Incarnation::default(),
            generation: 0,
            parts: 0,
            heard: BTreeMap::new(),
            whole: Vec::new(),
        }
    }

    /// A part came; gives whether it says anything new.
    pub(crate) fn hear(&mut self, by: Incarnation, part: Part<I>) -> bool {
        let fits = part.part < part.parts && usize::from(part.parts) <= PARTS;
        let (life, generation) = (self.incarnation.counter, self.generation);
        if !fits || (by.counter, part.generation) < (life, generation) {
            return false;
        }
        if (by.counter, part.generation) > (life, generation) {
            if by != self.incarnation {
                self.whole.clear();
            }
            self.incarnation = by;
            (self.generation, self.parts) = (part.generation, part.parts);
            self.heard.clear();
        }
        if by != self.incarnation || part.parts != self.parts || self.heard.contains_key(&part.part)
        {
            return false;
        }
        self.heard.insert(part.part, part.items);
        if self.heard.len() == usize::from(self.parts) {
            self.whole = self.heard.values().flatten().cloned().collect();
        }
        true
    }

    /// The incarnation that says it, and what it says, possibly twice.
    pub(crate) fn items(&self) -> (Incarnation, impl Iterator<Item = &I>) {
        let heard = self.heard.values().flatten();
        (self.incarnation, self.whole.iter().chain(heard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(counter: u64) -> Incarnation {
        Incarnation { counter, random: 7 }
    }

    fn said(told: &Told<String>) -> Vec<String> {
        let mut all: Vec<String> = told.items().1.cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    fn words(of: std::ops::Range<usize>) -> Vec<String> {
        of.map(|n| format!("{n:0>100}")).collect()
    }

    #[test]
    fn many_items_go_out_in_small_parts_and_arrive_whole() {
        let (mut bulletin, mut told) = (Bulletin::new(), Told::nothing());
        assert!(!bulletin.set(Vec::new(), words(0..500)), "nothing urgent");
        let mut beats = 0;
        while said(&told).len() < 500 {
            beats += 1;
            assert!(beats < 10, "16 parts of 8 items with each beat");
            for part in bulletin.due(0) {
                let bytes = codec::size(Kind::Frame, &part).expect("fits");
                assert!(bytes <= PART_BYTES + 32, "{bytes}");
                assert!(told.hear(life(1), part));
            }
        }
        assert_eq!(bulletin.due(0).len(), 1, "then one part in turn");
    }

    #[test]
    fn what_is_urgent_is_repeated_with_every_beat_and_a_lost_part_comes_again() {
        let (mut bulletin, mut told) = (Bulletin::new(), Told::nothing());
        assert!(bulletin.set(words(0..10), words(10..30)));
        let first = bulletin.due(5);
        assert!(first.iter().all(|p| p.unheard == 5));
        let again: Vec<Part<String>> = bulletin.due(0);
        assert_eq!(first[0].items, again[0].items, "urgent ones");
        for _ in 0..3 {
            for part in bulletin.due(0) {
                told.hear(life(1), part);
            }
        }
        assert_eq!(said(&told).len(), 30);
        // A new generation says less; what it says at last stands alone.
        assert!(bulletin.set(Vec::new(), words(10..11)));
        for part in bulletin.due(0) {
            assert!(told.hear(life(1), part));
        }
        assert_eq!(said(&told), words(10..11));
        bulletin.set(Vec::new(), Vec::new());
        for part in bulletin.due(0) {
            told.hear(life(1), part);
        }
        assert!(said(&told).is_empty());
    }

    #[test]
    fn an_older_generation_or_life_says_nothing_any_more() {
        let (mut old, mut told) = (Bulletin::new(), Told::nothing());
        old.set(Vec::new(), words(0..3));
        let late = old.due(0).remove(0);
        old.set(Vec::new(), words(3..4));
        for part in old.due(0) {
            assert!(told.hear(life(2), part));
        }
        assert!(!told.hear(life(2), late.clone()));
        assert!(told.hear(life(3), late), "another life counts anew");
        assert_eq!(said(&told), words(0..3));
        let wild = Part {
            generation: 9,
            part: 3,
            parts: 3,
            unheard: 0,
            items: Vec::new(),
        };
        assert!(!told.hear(life(3), wild), "no such part");
    }
}
