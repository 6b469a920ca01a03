//! The types of our cluster, for the world.

use super::{Event, Local, picture};
use crate::world::Types;
use quorate_membership::codec;
use quorate_recovery::contract::{NodeFrame, NodeStream, NodeWrite};
use std::rc::Rc;

/// The types of our cluster.
#[derive(Debug)]
pub(crate) struct Quorate;

impl Types for Quorate {
    type Datagram = Rc<NodeFrame>;
    type Message = Box<NodeStream>;
    type Write = Vec<NodeWrite>;
    type Local = Local;
    type Event = Event;

    fn datagram_size(frame: &Rc<NodeFrame>) -> u32 {
        size(codec::Kind::Frame, &**frame)
    }

    fn message_size(message: &Box<NodeStream>) -> u32 {
        size(codec::Kind::Stream, &**message)
    }

    fn datagram_text(frame: &Rc<NodeFrame>) -> String {
        picture::datagram(frame)
    }

    fn message_text(message: &Box<NodeStream>) -> String {
        picture::stream(message)
    }

    fn local_text(fact: &Local) -> String {
        picture::local(fact)
    }

    fn event_text(event: &Event) -> (Option<usize>, String) {
        picture::event(event)
    }
}

/// Bytes of a message as the daemon sends it; what has no form has no size that passes.
fn size<T: serde::Serialize>(kind: codec::Kind, message: &T) -> u32 {
    codec::encode(kind, message).map_or(u32::MAX, |bytes| bytes.len() as u32)
}
