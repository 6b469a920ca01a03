//! The replica in a cluster, against loss, crashes and hostile input.

mod harness;
mod schedules;
mod single;
