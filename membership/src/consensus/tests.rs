//! The replica in a cluster, against loss, crashes and hostile input.

mod guard;
mod harness;
mod hostile;
mod schedules;
mod single;
