//! What happened in one run, and what caused it: enough to draw the run, to explain a broken
//! promise and to find where two runs part.
//!
//! The [`World`](crate::world::World) records messages, timers, disks, processes and links by
//! itself, whatever lives in it, once [`World::record`](crate::world::World::record) was called.
//! Whoever drives it adds what only it knows: faults of its plan, marks, and bands (spans of time
//! in which something holds on a lane, such as a lease).

mod chain;
mod compare;
mod recorder;
mod story;

#[cfg(test)]
mod tests;

pub use chain::{Chain, Explained, Hop, Lying, explain};
pub use compare::{Parting, compare};
pub use recorder::{Recorder, left_behind};
pub use story::{Fault, Stretch, cuts, faults, sentences};

use std::collections::BTreeMap;
use std::fmt;

/// No lane, node, network or entry.
pub const NONE: u32 = u32::MAX;

/// What people call the nodes and networks of a world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// One for each node.
    pub nodes: Vec<String>,
    /// One for each network.
    pub networks: Vec<String>,
}

impl Names {
    /// `h1`, `h2` and so on, and `net1` and so on.
    #[must_use]
    pub fn numbered(prefix: &str, nodes: usize, networks: usize) -> Names {
        Names {
            nodes: (1..=nodes).map(|n| format!("{prefix}{n}")).collect(),
            networks: (1..=networks).map(|n| format!("net{n}")).collect(),
        }
    }
}

/// A line of the picture: a node, or something that lives on one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Its name.
    pub name: String,
    /// The node it lives on, if it is not a node.
    pub on: Option<u32>,
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The run begins; always the first entry.
    Begin,
    /// A message leaves for the peer.
    Sent,
    /// A message of the peer is handed to the process; caused by its sending.
    Received,
    /// A message to the peer does not arrive; caused by its sending, because of the entry that
    /// cut the way, if one did.
    Lost,
    /// A session to the peer is open.
    SessionUp,
    /// A session to the peer is gone.
    SessionDown,
    /// A deadline is over; caused by the step that set it.
    Timer,
    /// The process learns something of its own machine.
    Local,
    /// A write is durable; caused by the step that wrote.
    Stored,
    /// Something around the nodes.
    Event,
    /// The process starts.
    Up,
    /// The process ends.
    Down,
    /// The process is stopped.
    Stopped,
    /// The process goes on.
    Resumed,
    /// The machine no longer answers: no power, or frozen.
    Off,
    /// The machine answers again.
    On,
    /// The link to the peer changes; the value is its [`Way`] and network.
    Link,
    /// An action of the plan; the value is its number.
    Fault,
    /// Something the driver found worth saying; see [`Sort`].
    Mark,
    /// A promise is broken.
    Broken,
}

impl Kind {
    /// Every kind, in order.
    pub const ALL: [Kind; 20] = [
        Kind::Begin,
        Kind::Sent,
        Kind::Received,
        Kind::Lost,
        Kind::SessionUp,
        Kind::SessionDown,
        Kind::Timer,
        Kind::Local,
        Kind::Stored,
        Kind::Event,
        Kind::Up,
        Kind::Down,
        Kind::Stopped,
        Kind::Resumed,
        Kind::Off,
        Kind::On,
        Kind::Link,
        Kind::Fault,
        Kind::Mark,
        Kind::Broken,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Begin => "begin",
            Kind::Sent => "sent",
            Kind::Received => "received",
            Kind::Lost => "lost",
            Kind::SessionUp => "session up",
            Kind::SessionDown => "session down",
            Kind::Timer => "timer",
            Kind::Local => "local",
            Kind::Stored => "stored",
            Kind::Event => "event",
            Kind::Up => "process starts",
            Kind::Down => "process ends",
            Kind::Stopped => "process is stopped",
            Kind::Resumed => "process goes on",
            Kind::Off => "machine off or frozen",
            Kind::On => "machine on",
            Kind::Link => "link",
            Kind::Fault => "fault",
            Kind::Mark => "mark",
            Kind::Broken => "broken promise",
        }
    }
}

/// How much passes on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Everything.
    Whole,
    /// Some is lost, doubled or very late.
    Rough,
    /// Some kinds of messages do not pass.
    Filtered,
    /// Nothing.
    Cut,
}

impl Way {
    /// The value of an entry about a link of that network.
    fn pack(self, net: usize) -> u32 {
        net as u32 * 4 + self as u32
    }

    /// The way and the number of the network.
    #[must_use]
    pub fn unpack(value: u32) -> (Way, u32) {
        let way = match value % 4 {
            0 => Way::Whole,
            1 => Way::Rough,
            2 => Way::Filtered,
            _ => Way::Cut,
        };
        (way, value / 4)
    }

    /// In words, after "the link ...".
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Way::Whole => "is whole",
            Way::Rough => "loses or delays",
            Way::Filtered => "stops some kinds of messages",
            Way::Cut => "is cut",
        }
    }
}

/// Why a message was lost, in the value of a [`Kind::Lost`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The link was cut, or stops its kind.
    Cut,
    /// Chance: the link loses some.
    Chance,
    /// The sender's machine was off or frozen.
    SenderOff,
    /// The receiver's machine was off or frozen.
    ReceiverOff,
    /// The receiver's process was down.
    Down,
    /// The receiver was stopped and its socket full.
    SocketFull,
    /// There was no session, or it ended.
    NoSession,
    /// It is larger than what passes there.
    Large,
    /// The link's queue was full.
    Full,
}

impl Loss {
    /// Every reason, in order.
    pub const ALL: [Loss; 9] = [
        Loss::Cut,
        Loss::Chance,
        Loss::SenderOff,
        Loss::ReceiverOff,
        Loss::Down,
        Loss::SocketFull,
        Loss::NoSession,
        Loss::Large,
        Loss::Full,
    ];

    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Loss::Cut => "the link is cut",
            Loss::Chance => "lost on the way",
            Loss::SenderOff => "the sender's machine is off or frozen",
            Loss::ReceiverOff => "the receiver's machine is off or frozen",
            Loss::Down => "no process there",
            Loss::SocketFull => "the receiver is stopped and its socket full",
            Loss::NoSession => "no session",
            Loss::Large => "too large for the link",
            Loss::Full => "the link's queue is full",
        }
    }
}

/// What a mark is about, in the value of a [`Kind::Mark`]; says how it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Nothing in particular.
    Note,
    /// An entry of a log is decided.
    Decided,
    /// Something that was promised to hold from now on: a grant, a start, a proof.
    Order,
    /// The truth of the world, which no node sees.
    Truth,
    /// Power, fencing, watchdogs.
    Fence,
    /// Something ends what a node runs.
    Kill,
}

impl Sort {
    /// Every sort, in order.
    pub const ALL: [Sort; 6] = [
        Sort::Note,
        Sort::Decided,
        Sort::Order,
        Sort::Truth,
        Sort::Fence,
        Sort::Kill,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Sort::Note => "note",
            Sort::Decided => "decided",
            Sort::Order => "order",
            Sort::Truth => "truth",
            Sort::Fence => "fence",
            Sort::Kill => "kill",
        }
    }
}

/// One thing that happened. Entries are numbered from 0 by their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// True time in nanoseconds.
    pub at: u64,
    /// What.
    pub kind: Kind,
    /// Where; [`NONE`] for the whole run.
    pub lane: u32,
    /// The other node; [`NONE`] if there is none.
    pub peer: u32,
    /// What the kind says it is.
    pub value: u32,
    /// Number of the words.
    pub text: u32,
    /// The entry without which this one would not be; 0 for what lies in the beginning.
    pub cause: u32,
    /// A second one: what cut the way of a lost message, the step that asked for what is marked,
    /// the one that made a link as bad as it is. 0 for none.
    pub because: u32,
}

/// Something that holds on a lane for a while. Bands of one name on one lane do not overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    /// Where.
    pub lane: u32,
    /// What: `up`, `off`, `stopped`, and what the driver names.
    pub name: &'static str,
    /// Number of the words.
    pub text: u32,
    /// True time of its start in nanoseconds.
    pub from: u64,
    /// True time of its end in nanoseconds.
    pub until: u64,
    /// The entry during which it began.
    pub opened: u32,
}

/// A broken promise as the record knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The promise.
    pub property: String,
    /// What went wrong.
    pub what: String,
    /// The two facts that cannot both be right.
    pub facts: [String; 2],
    /// Its entry.
    pub entry: u32,
}

/// The record of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Nodes first, then what lives on them.
    pub lanes: Vec<Lane>,
    /// How many of the lanes are nodes.
    pub nodes: usize,
    /// Names of the networks.
    pub networks: Vec<String>,
    /// The first so many networks join the nodes.
    pub joining: usize,
    /// What happened, oldest first.
    pub entries: Vec<Entry>,
    /// What held for a while, by start.
    pub bands: Vec<Band>,
    /// The words entries and bands name by number.
    pub texts: Vec<String>,
    /// How long actions of the plan last whose effect the world does not see: entry, end.
    pub lasting: Vec<(u32, u64)>,
    /// The step each of these texts speaks of: a fact that names one means that step.
    pub notes: BTreeMap<String, u32>,
    /// The first broken promise.
    pub broken: Option<Broken>,
    /// True time at the end in nanoseconds.
    pub ended: u64,
}

impl Record {
    /// The words of an entry or band.
    #[must_use]
    pub fn text(&self, number: u32) -> &str {
        self.texts.get(number as usize).map_or("", String::as_str)
    }

    /// What a lane is called; empty for [`NONE`].
    #[must_use]
    pub fn lane(&self, number: u32) -> &str {
        self.lanes
            .get(number as usize)
            .map_or("", |l| l.name.as_str())
    }

    /// An entry.
    #[must_use]
    pub fn entry(&self, number: u32) -> &Entry {
        &self.entries[number as usize]
    }

    /// What happened, in words, without time and place.
    #[must_use]
    pub fn words(&self, e: &Entry) -> String {
        let text = self.text(e.text);
        let peer = self.lane(e.peer);
        match e.kind {
            Kind::Sent => format!("sends {text} to {peer}"),
            Kind::Received => format!("receives {text} from {peer}"),
            Kind::Lost => {
                let why = Loss::ALL.get(e.value as usize).map_or("", |l| l.words());
                format!("{text} to {peer} is lost: {why}")
            }
            Kind::SessionUp => format!("has a session to {peer}"),
            Kind::SessionDown => format!("has lost its session to {peer}"),
            Kind::Timer => "its timer fires".into(),
            Kind::Stored => format!("{text} is durable"),
            Kind::Local if text.is_empty() => "learns something of its machine".into(),
            Kind::Link => {
                let (way, net) = Way::unpack(e.value);
                let net = self.networks.get(net as usize);
                let net = net.filter(|_| self.networks.len() > 1);
                let net = net.map_or(String::new(), |n| format!(" on {n}"));
                format!("link to {peer}{net} {}", way.words())
            }
            Kind::Fault => format!("FAULT {}: {text}", e.value + 1),
            Kind::Broken => format!("BROKEN {text}"),
            _ if text.is_empty() => e.kind.name().into(),
            _ => text.to_owned(),
        }
    }

    /// One line for each entry that people follow: all but messages, timers and events.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        let told = |e: &&Entry| {
            matches!(
                e.kind,
                Kind::Up
                    | Kind::Down
                    | Kind::Stopped
                    | Kind::Resumed
                    | Kind::Link
                    | Kind::Fault
                    | Kind::Mark
                    | Kind::Broken
            )
        };
        let line = |e: &Entry| self.line(e).to_string();
        self.entries.iter().filter(told).map(line).collect()
    }

    /// An entry with time and place.
    #[must_use]
    pub fn line(&self, entry: &Entry) -> Line<'_> {
        Line {
            record: self,
            entry: *entry,
        }
    }

    /// Nothing holds longer than the run, which is over at `now`.
    fn end(mut self, now: u64) -> Record {
        self.ended = now;
        for band in &mut self.bands {
            band.until = band.until.min(now).max(band.from);
        }
        self
    }

    fn cause(&self, entry: u32) -> u32 {
        self.entry(entry).cause
    }
}

/// One line for people.
#[derive(Debug)]
pub struct Line<'a> {
    record: &'a Record,
    entry: Entry,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = crate::check::At(self.entry.at).to_string();
        let lane = self.record.lane(self.entry.lane);
        let gap = if lane.is_empty() { "" } else { " " };
        let words = self.record.words(&self.entry);
        write!(f, "{at:>11} {lane}{gap}{words}")
    }
}
