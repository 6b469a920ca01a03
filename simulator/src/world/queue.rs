//! What will happen, in order of time; things of one instant in the order they were planned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Bits of a heap entry that name the place of its event.
const PLACE: u32 = 24;

/// The event heap. Heap entries are small; the events themselves lie in a slab and are never moved
/// by the heap.
#[derive(Debug)]
pub struct Queue<E> {
    /// True time, sequence and place, highest bits first: one comparison tells their order.
    heap: BinaryHeap<Reverse<u128>>,
    /// Each event with what caused it.
    slab: Vec<(Option<E>, u32)>,
    free: Vec<u32>,
    sequence: u64,
    /// What is planned now is caused by this; what is taken out sets it to its own cause. Numbers
    /// of a record's entries; 0 while none is made.
    pub cause: u32,
}

impl<E> Default for Queue<E> {
    fn default() -> Queue<E> {
        Queue {
            heap: BinaryHeap::new(),
            slab: Vec::new(),
            free: Vec::new(),
            sequence: 0,
            cause: 0,
        }
    }
}

impl<E> Queue<E> {
    /// Plans `event` for true time `at` (nanoseconds).
    pub fn push(&mut self, at: u64, event: E) {
        let place = match self.free.pop() {
            Some(place) => {
                self.slab[place as usize] = (Some(event), self.cause);
                place
            }
            None => {
                self.slab.push((Some(event), self.cause));
                (self.slab.len() - 1) as u32
            }
        };
        self.sequence += 1;
        assert!(place < 1 << PLACE && self.sequence < 1 << (64 - PLACE));
        let order = u128::from(self.sequence << PLACE | u64::from(place));
        self.heap.push(Reverse(u128::from(at) << 64 | order));
    }

    /// The next event and its time.
    pub fn pop(&mut self) -> Option<(u64, E)> {
        let Reverse(entry) = self.heap.pop()?;
        let (at, place) = ((entry >> 64) as u64, entry as u32 & ((1 << PLACE) - 1));
        let (slot, cause) = &mut self.slab[place as usize];
        let event = slot.take()?;
        self.cause = *cause;
        self.free.push(place);
        Some((at, event))
    }

    /// When the next event is due.
    #[must_use]
    pub fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(entry)| (entry >> 64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_first_then_the_order_of_planning() {
        let mut q = Queue::default();
        for (at, e) in [(5, 'c'), (3, 'a'), (5, 'd'), (3, 'b')] {
            q.push(at, e);
        }
        assert_eq!(q.next_at(), Some(3));
        let mut got = String::new();
        while let Some((_, e)) = q.pop() {
            got.push(e);
            if e == 'a' {
                q.push(3, 'x');
            }
        }
        assert_eq!(got, "abxcd");
        assert!(q.slab.len() <= 4, "places are used again");
    }

    #[test]
    fn what_is_taken_out_brings_its_cause_along() {
        let mut q = Queue::default();
        for (at, cause) in [(2, 7), (1, 8)] {
            q.cause = cause;
            q.push(at, ());
        }
        q.cause = 9;
        q.pop();
        assert_eq!(q.cause, 8);
        q.push(3, ());
        q.pop();
        assert_eq!(q.cause, 7);
        q.pop();
        assert_eq!(q.cause, 8);
    }
}
