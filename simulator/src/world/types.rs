//! The types a world is made for, and what it reports.

/// The types of one protocol.
pub trait Types {
    /// An unreliable message.
    type Datagram;
    /// A message on a session.
    type Message;
    /// One atomic batch of writes.
    type Write;
    /// What a node is told about its own machine.
    type Local;
    /// What happens around the nodes.
    type Event;

    /// Bytes of a datagram, for links that carry no large ones.
    fn datagram_size(_: &Self::Datagram) -> u32 {
        0
    }

    /// Bytes of a message on a session, for links that carry no large ones.
    fn message_size(_: &Self::Message) -> u32 {
        0
    }

    /// What a record says of a datagram; the first word is its kind.
    fn datagram_text(_: &Self::Datagram) -> String {
        "datagram".into()
    }
    /// What a record says of a message; the first word is its kind.
    fn message_text(_: &Self::Message) -> String {
        "message".into()
    }
    /// What a record says of a fact.
    fn local_text(_: &Self::Local) -> String {
        String::new()
    }
    /// What a record says of an event, and on which node it is.
    fn event_text(_: &Self::Event) -> (Option<usize>, String) {
        (None, String::new())
    }
}

/// Something that happens now. What concerns a process is only reported while it runs.
#[derive(Debug)]
pub enum Happening<T: Types> {
    /// A datagram arrives.
    Datagram {
        /// Receiver.
        to: usize,
        /// Sender.
        from: usize,
        /// Network it came by.
        net: usize,
        /// Content.
        message: T::Datagram,
    },
    /// A session is open; what an older one held is lost.
    SessionUp {
        /// Who is told.
        node: usize,
        /// The other end.
        peer: usize,
    },
    /// A session is gone.
    SessionDown {
        /// Who is told.
        node: usize,
        /// The other end.
        peer: usize,
    },
    /// A message on a session.
    Message {
        /// Receiver.
        to: usize,
        /// Sender.
        from: usize,
        /// Content.
        message: T::Message,
    },
    /// The deadline of the node's last wait is over.
    Timer {
        /// Whose.
        node: usize,
    },
    /// A fact about the node's own machine.
    Local {
        /// Who is told.
        node: usize,
        /// What.
        fact: T::Local,
    },
    /// A batch is durable now. This is the disk's doing, whatever the process is doing: the
    /// process itself learns it through [`World::tell`](super::World::tell).
    Stored {
        /// Whose disk.
        node: usize,
        /// Number given with the batch.
        batch: u64,
        /// The batch.
        write: T::Write,
    },
    /// Something around the nodes.
    Event(T::Event),
}
