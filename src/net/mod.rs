//! How frames and sessions reach other nodes.
//!
//! Everything a node says is sealed with one cluster key (`quorate key`), which keeps strangers
//! out; members are trusted not to forge each other. Two roads lead to another node:
//!
//! * [`datagram`]: small, lossy, on every link at once; sealed by [`seal`];
//! * [`session`]: one ordered, reliable stream per pair of nodes.
//!
//! Nothing here judges what a frame means: cluster, epoch and repeats are the core's business.

pub(crate) mod cards;
pub mod datagram;
pub mod endpoint;
pub mod key;
pub mod seal;
pub mod session;
mod sockets;

pub use datagram::{Interface, LinkChange, LinkConfig, LinkCounters, LinkError, LinkKind, Links};
pub use endpoint::{Endpoint, ZonedIp, of_one_link};
pub use key::{ClusterKey, KeyError};
pub use seal::{Dropped, Opener, Refused, SealError, Sealer};
pub use session::{
    SessionConfig, SessionCounters, SessionError, SessionEvent, SessionEvents, SessionHandle,
    Sessions, dials,
};
