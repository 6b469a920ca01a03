//! What can be done to a protocol's world. Every fault is data, lasts for a while and can be left
//! out without changing what the others do.

use super::NodeName;
use crate::world::{Link, MS};
use std::fmt;

/// Which links of a node are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// All.
    Both,
    /// Those to it: it hears nothing but is heard.
    In,
    /// Those from it: it is heard by nobody but hears.
    Out,
}

/// Links that are left between nodes in a given order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Two halves joined through the node in the middle of the order.
    Bridge,
    /// Each node and as many neighbours on either side as make a quorum with it; no two see the
    /// same one.
    Ring,
    /// Each node and its neighbours.
    Chain,
    /// The first node and every other.
    Star,
}

/// One fault. Nodes are counted from 0, lengths are nanoseconds, chances are per million.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing passes from one node to another; nor back, if `both`.
    Cut {
        /// Sender.
        from: usize,
        /// Receiver.
        to: usize,
        /// Both ways.
        both: bool,
    },
    /// The links of a node are cut.
    Isolate {
        /// Which node.
        node: usize,
        /// Which links.
        side: Side,
    },
    /// Links between nodes of different groups are cut; a node in no group is left alone.
    Partition(Vec<Vec<usize>>),
    /// Only the links of a shape are left.
    Shape {
        /// Which.
        shape: Shape,
        /// Every node once.
        order: Vec<usize>,
        /// Cut links only from later to earlier nodes of the order.
        one_way: bool,
    },
    /// Only these directed links are left.
    Only(Vec<(usize, usize)>),
    /// Two nodes are cut off from each other and linked again in turn.
    Flap {
        /// One.
        from: usize,
        /// The other.
        to: usize,
        /// Time from one cut to the next.
        period: u64,
    },
    /// Nodes are isolated one after the other, and let back in another order.
    Swizzle {
        /// In this order they go.
        stop: Vec<usize>,
        /// In this order they come back.
        release: Vec<usize>,
    },
    /// Messages to and from a node are held back, and arrive in one burst at the end.
    Clog(usize),
    /// One kind of message does not pass.
    Block {
        /// Sender.
        from: usize,
        /// Receiver.
        to: usize,
        /// The kind; [`SESSION_CLASS`](crate::world::SESSION_CLASS) for sessions.
        class: u8,
    },
    /// All links lose and double messages.
    Noise {
        /// Lost.
        loss: u32,
        /// Doubled.
        duplicate: u32,
    },
    /// All links are slow, and some messages take far longer.
    Delay {
        /// Added uniformly, from zero.
        jitter: u64,
        /// Messages that take a long way.
        long: u32,
        /// The longest such way.
        long_max: u64,
    },
    /// A process ends, and starts again at the end with what its disk kept.
    Crash(usize),
    /// A process ends right after a step of a kind, and starts again after the length of this fault.
    /// What it sent in that step is on its way; what it wrote may be lost.
    CrashAfter {
        /// Which node.
        node: usize,
        /// The kind of step.
        moment: Moment,
        /// Which of them, counted from 1 from the beginning of this fault on.
        nth: u32,
    },
    /// A process stands still, and then finds everything that came waiting.
    Pause(usize),
    /// Writes of a node take this long.
    SlowDisk {
        /// Which node.
        node: usize,
        /// Shortest and longest.
        delay: (u64, u64),
    },
    /// A node's clock is set, once.
    ClockJump {
        /// Which node.
        node: usize,
        /// Ahead, or back.
        by: i64,
    },
    /// A node's clock runs at another rate.
    ClockRate {
        /// Which node.
        node: usize,
        /// Error in parts per billion; positive is fast.
        ppb: i64,
    },
    /// Everything that was done to links until now is over.
    Heal,
}

/// A kind of step of a node, for faults aimed at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// It gave a write to its disk, where it is not durable yet.
    Writes,
    /// It learned that a write is durable.
    Stored,
    /// It told the promise something.
    Tells,
}

impl Moment {
    /// Every kind.
    pub const ALL: [Moment; 3] = [Moment::Writes, Moment::Stored, Moment::Tells];

    /// Its word in scenarios.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Moment::Writes => "writes",
            Moment::Stored => "stored",
            Moment::Tells => "tells",
        }
    }
}

/// A kind of fault, by the verb that scenarios have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the fault of that name")]
pub enum Kind {
    Cut,
    Isolate,
    Deaf,
    Mute,
    Partition,
    Bridge,
    Ring,
    Chain,
    Star,
    Only,
    Flap,
    Swizzle,
    Clog,
    Block,
    Noise,
    Delay,
    Crash,
    CrashAfter,
    Pause,
    SlowDisk,
    ClockJump,
    ClockRate,
    Heal,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 23] = [
        Kind::Cut,
        Kind::Isolate,
        Kind::Deaf,
        Kind::Mute,
        Kind::Partition,
        Kind::Bridge,
        Kind::Ring,
        Kind::Chain,
        Kind::Star,
        Kind::Only,
        Kind::Flap,
        Kind::Swizzle,
        Kind::Clog,
        Kind::Block,
        Kind::Noise,
        Kind::Delay,
        Kind::Crash,
        Kind::CrashAfter,
        Kind::Pause,
        Kind::SlowDisk,
        Kind::ClockJump,
        Kind::ClockRate,
        Kind::Heal,
    ];

    /// Whether one node is enough for it.
    pub(super) fn alone(self) -> bool {
        self >= Kind::Crash
    }

    /// Its name in the counts of a hunt.
    pub(super) fn counted(self) -> String {
        format!("fault: {}", self.name())
    }

    /// The verb.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Cut => "cut",
            Kind::Isolate => "isolate",
            Kind::Deaf => "deaf",
            Kind::Mute => "mute",
            Kind::Partition => "partition",
            Kind::Bridge => "bridge",
            Kind::Ring => "ring",
            Kind::Chain => "chain",
            Kind::Star => "star",
            Kind::Only => "only",
            Kind::Flap => "flap",
            Kind::Swizzle => "swizzle",
            Kind::Clog => "clog",
            Kind::Block => "block",
            Kind::Noise => "noise",
            Kind::Delay => "delay",
            Kind::Crash => "crash",
            Kind::CrashAfter => "crash-after",
            Kind::Pause => "pause",
            Kind::SlowDisk => "slow-disk",
            Kind::ClockJump => "clock-jump",
            Kind::ClockRate => "clock-rate",
            Kind::Heal => "heal",
        }
    }
}

impl Fault {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Fault::Cut { .. } => Kind::Cut,
            Fault::Isolate { side, .. } => match side {
                Side::Both => Kind::Isolate,
                Side::In => Kind::Deaf,
                Side::Out => Kind::Mute,
            },
            Fault::Partition(_) => Kind::Partition,
            Fault::Shape { shape, .. } => match shape {
                Shape::Bridge => Kind::Bridge,
                Shape::Ring => Kind::Ring,
                Shape::Chain => Kind::Chain,
                Shape::Star => Kind::Star,
            },
            Fault::Only(_) => Kind::Only,
            Fault::Flap { .. } => Kind::Flap,
            Fault::Swizzle { .. } => Kind::Swizzle,
            Fault::Clog(_) => Kind::Clog,
            Fault::Block { .. } => Kind::Block,
            Fault::Noise { .. } => Kind::Noise,
            Fault::Delay { .. } => Kind::Delay,
            Fault::Crash(_) => Kind::Crash,
            Fault::CrashAfter { .. } => Kind::CrashAfter,
            Fault::Pause(_) => Kind::Pause,
            Fault::SlowDisk { .. } => Kind::SlowDisk,
            Fault::ClockJump { .. } => Kind::ClockJump,
            Fault::ClockRate { .. } => Kind::ClockRate,
            Fault::Heal => Kind::Heal,
        }
    }

    /// Whether it is about links.
    #[must_use]
    pub fn on_links(&self) -> bool {
        self.kind() <= Kind::Delay
    }

    /// Directed links that are cut by it, `since` so long after its beginning, if it lasts `lasts`.
    #[must_use]
    pub fn cuts(&self, nodes: usize, since: u64, lasts: u64) -> Vec<(usize, usize)> {
        let all = || (0..nodes).flat_map(move |a| (0..nodes).map(move |b| (a, b)));
        let apart = |cut: &dyn Fn(usize, usize) -> bool| -> Vec<(usize, usize)> {
            all().filter(|(a, b)| a != b && cut(*a, *b)).collect()
        };
        match self {
            Fault::Cut { from, to, both } => {
                apart(&|a, b| (a, b) == (*from, *to) || *both && (b, a) == (*from, *to))
            }
            Fault::Isolate { node, side } => {
                apart(&|a, b| a == *node && *side != Side::In || b == *node && *side != Side::Out)
            }
            Fault::Partition(groups) => {
                let group = |n: usize| groups.iter().position(|g| g.contains(&n));
                apart(&|a, b| matches!((group(a), group(b)), (Some(x), Some(y)) if x != y))
            }
            Fault::Shape {
                shape,
                order,
                one_way,
            } => {
                let place = |n: usize| order.iter().position(|o| *o == n).unwrap_or(0);
                apart(&|a, b| {
                    let (x, y) = (place(a), place(b));
                    !shape.links(x.min(y), x.max(y), nodes) && (x > y || !one_way)
                })
            }
            Fault::Only(left) => apart(&|a, b| !left.contains(&(a, b))),
            Fault::Flap { from, to, period } => {
                let cut = since % (*period).max(2) < *period / 2;
                apart(&|a, b| cut && [(a, b), (b, a)].contains(&(*from, *to)))
            }
            Fault::Swizzle { stop, release } => {
                let slots = (stop.len() + release.len()).max(1) as u64;
                let slot = (since / (lasts / slots).max(1)) as usize;
                let place = |list: &[usize], n| list.iter().position(|s| *s == n);
                let out = |n: usize| {
                    place(stop, n).is_some_and(|p| p <= slot)
                        && place(release, n).is_none_or(|p| p + stop.len() > slot)
                };
                apart(&|a, b| out(a) || out(b))
            }
            _ => Vec::new(),
        }
    }

    /// Times after its beginning, if it lasts `lasts`, at which what it cuts changes.
    #[must_use]
    pub fn changes(&self, lasts: u64) -> Vec<u64> {
        match self {
            Fault::Flap { period, .. } => {
                let half = (*period / 2).max(MS);
                (1..).map(|k| k * half).take_while(|t| *t < lasts).collect()
            }
            Fault::Swizzle { stop, release } => {
                let slots = (stop.len() + release.len()).max(1) as u64;
                (1..slots).map(|k| k * (lasts / slots).max(1)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Does to one link what this fault does to it. What is cut is put in by [`Fault::cuts`].
    pub(super) fn bend(&self, from: usize, to: usize, link: &mut Link) {
        match self {
            Fault::Clog(node) => link.clogged |= from != to && [from, to].contains(node),
            Fault::Block {
                from: a,
                to: b,
                class,
            } if (from, to) == (*a, *b) => link.blocked |= 1 << class,
            Fault::Noise { loss, duplicate } => {
                link.loss = link.loss.max(*loss);
                link.duplicate = link.duplicate.max(*duplicate);
            }
            Fault::Delay {
                jitter,
                long,
                long_max,
            } => {
                link.jitter = link.jitter.max(*jitter);
                (link.long, link.long_max) = (*long, *long_max);
            }
            _ => {}
        }
    }
}

impl Shape {
    /// How many nodes it needs to be one.
    #[must_use]
    pub fn least(self) -> usize {
        match self {
            Shape::Ring => 4,
            Shape::Bridge | Shape::Chain | Shape::Star => 3,
        }
    }

    /// Whether the nodes at places `x` below `y` of `n` keep their link.
    fn links(self, x: usize, y: usize, n: usize) -> bool {
        match self {
            Shape::Bridge => !(x < n / 2 && y > n / 2),
            Shape::Ring => (y - x).min(n - (y - x)) <= (n / 2).div_ceil(2),
            Shape::Chain => y - x == 1,
            Shape::Star => x == 0,
        }
    }
}

/// Names of nodes, as in a sentence.
fn names(nodes: &[usize]) -> String {
    let names: Vec<String> = nodes.iter().map(|n| NodeName(*n).to_string()).collect();
    names.join(" ")
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = self.kind().name();
        match self {
            Fault::Cut { from, to, both } => {
                let arrow = if *both { "<->" } else { "->" };
                write!(f, "{verb} {} {arrow} {}", NodeName(*from), NodeName(*to))
            }
            Fault::Isolate { node, .. } | Fault::Clog(node) => {
                write!(f, "{verb} {}", NodeName(*node))
            }
            Fault::Partition(groups) => {
                let groups: Vec<String> = groups.iter().map(|g| names(g)).collect();
                write!(f, "{verb} {}", groups.join(" | "))
            }
            Fault::Shape { order, one_way, .. } => {
                let way = if *one_way { ", one way" } else { "" };
                write!(f, "{verb} {}{way}", names(order))
            }
            Fault::Only(left) => {
                f.write_str(verb)?;
                let mut links = left.iter();
                links.try_for_each(|(a, b)| write!(f, " {}->{}", NodeName(*a), NodeName(*b)))
            }
            Fault::Flap { from, to, .. } => {
                write!(f, "{verb} {} <-> {}", NodeName(*from), NodeName(*to))
            }
            Fault::Swizzle { stop, release } => {
                write!(f, "{verb} {}, back {}", names(stop), names(release))
            }
            Fault::Block { from, to, class } => {
                let (from, to) = (NodeName(*from), NodeName(*to));
                write!(f, "{verb} kind {class} {from} -> {to}")
            }
            Fault::Noise { loss, duplicate } => {
                write!(f, "{verb}: {loss} lost, {duplicate} doubled per million")
            }
            Fault::Delay {
                jitter, long_max, ..
            } => write!(
                f,
                "{verb} up to {} ms, some {} ms",
                jitter / MS,
                long_max / MS
            ),
            Fault::ClockJump { node, by } => {
                write!(f, "{verb} {} by {} ms", NodeName(*node), by / MS as i64)
            }
            Fault::ClockRate { node, ppb } => {
                write!(f, "{verb} {} {} ppm", NodeName(*node), ppb / 1000)
            }
            Fault::Crash(node) | Fault::Pause(node) | Fault::SlowDisk { node, .. } => {
                write!(f, "{verb} {}", NodeName(*node))
            }
            Fault::CrashAfter { node, moment, nth } => {
                let (node, moment) = (NodeName(*node), moment.name());
                write!(f, "{verb} {node} {moment}, number {nth}")
            }
            Fault::Heal => f.write_str(verb),
        }
    }
}
