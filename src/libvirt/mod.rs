//! Guests as domains of libvirt.
//!
//! libvirt may be slow, stopped, restarted or gone at any moment, and a frozen QEMU makes its
//! calls hang. So each call has a thread and a deadline of its own (`link`); what runs is known
//! from `/proc` and the run directory too, never from libvirt alone; and QEMU carries the marks of
//! the run directory in its environment from its first instant, so the guardian ends it whatever
//! libvirt does.
//!
//! A domain is created transient, paused and tagged with guest, epoch and cluster (`tag`). It
//! is continued only after its process stands in the registry.

pub mod add;
mod agent;
pub mod alarms;
mod backup;
mod beside;
mod capture;
pub mod drift;
pub mod driver;
mod ending;
mod events;
mod hold;
mod images;
mod launch;
mod link;
mod memory;
mod present;
mod probe;
mod qcow2;
mod reading;
mod registry;
mod sense;
mod stats;
mod survey;
pub mod tag;
mod vcpu;
mod watch;

pub use driver::{Libvirt, Settings};
pub use events::{Barks, By, Event, Stopped, Suspended, What};
pub use survey::{Activity, Found};

#[cfg(test)]
mod mock_tests;
