//! The types of our cluster, for the world.

use super::{Event, Local, picture};
use crate::mutants;
use crate::world::Types;
use quorate_membership::codec;
use quorate_recovery::contract::{NodeFrame, NodeStream, NodeWrite};
use std::rc::Rc;

/// Longest part of a session in one packet. Sessions keep their packets as small as datagrams, by the
/// segment size that both ends name.
const SEGMENT_BYTES: u32 = (codec::DATAGRAM - codec::SEALING) as u32;

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
        match size(codec::Kind::Stream, &**message) {
            NONE => NONE,
            whole if mutants::host("sessions-in-large-packets") => whole,
            whole => whole.min(SEGMENT_BYTES),
        }
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

/// Size of what has no form: none that passes.
const NONE: u32 = u32::MAX;

/// Bytes of a message as the daemon sends it.
fn size<T: serde::Serialize>(kind: codec::Kind, message: &T) -> u32 {
    codec::encode(kind, message).map_or(NONE, |bytes| bytes.len() as u32)
}
