//! Who is in and who leads.
//!
//! This crate holds identities, heartbeats, the failure detector, consensus, views, host leases
//! and the coordinator role, for any [`Application`] that lives in the same log. It does no I/O
//! and reads no clock: facts go in, effects come out.

pub mod app;
pub mod apply;
pub mod attest;
mod bulletin;

pub mod cluster;
pub mod codec;
pub mod consensus;
mod coordinator;
mod disk;
mod ears;
pub mod entry;
pub mod founding;
pub mod frame;
pub mod handshake;
pub mod id;
mod lease;
pub mod member;
pub mod mutants;
pub mod replay;
pub mod states;
pub mod store;
pub mod time;
pub mod timing;
mod verdict;
mod voter;
pub mod vouch;

pub use app::{Application, Ended};
pub use apply::{Outcome, State};
pub use cluster::{Cluster, Host, HostState, View};
pub use ears::Heard;
pub use founding::{Founding, ProofPolicy};
pub use id::{BootId, ClusterId, Epoch, Incarnation, LinkId, NodeId, Slot, StoreId, Token};
pub use member::{Member, MemberSetup, Output};
pub use time::Time;
pub use timing::{Timing, TimingError};

/// Whether this build can carry planted bugs. The root package asserts that it cannot.
pub const PLANTED_BUGS: bool = cfg!(feature = "mutants");
