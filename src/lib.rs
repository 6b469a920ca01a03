//! Keeps guests running when hosts die.

pub mod agents;
pub mod api;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod guardian;
pub mod hypervisor;
#[cfg(feature = "libvirt")]
pub mod libvirt;
pub mod locks;
mod log;
pub mod net;
pub mod ocf;
pub mod store;

pub use cluster::{Cluster, ClusterError, Gap, InMemory, Inbox, Item, Message, OnDisk, Options};
pub use net::{ClusterKey, Interface, KeyError, LinkConfig, LinkError, LinkKind, SessionError};
pub use quorate_membership::cluster::ViewMember;
pub use quorate_membership::{
    ClusterId, Epoch, HostState, NodeId, Timing, TimingError, Token, View,
};
pub use quorate_recovery::contract::{Event, EventKind};
pub use store::StoreError;

// Planted bugs are for the simulator. Neither daemon nor library can be built with them, in any
// profile: building the whole workspace with the feature fails here.
const _: () = assert!(
    !quorate_recovery::PLANTED_BUGS,
    "the feature `mutants` plants bugs: build it only with `-p quorate-simulator`"
);
