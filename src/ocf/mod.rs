//! OCF resource agents as guests of another kind: an address, a file system, a service.
//!
//! Agents run unchanged, one bounded process each. To run is to be started, to be held is to be
//! stopped and still ours. Nothing is started before it is registered in the run directory with
//! all that stopping it needs, so the guardian and a restarted daemon can stop it. No exit status
//! of a `stop` is believed: the agent's own `monitor` must say that nothing runs.

pub mod add;
mod agent;
mod call;
mod describe;
mod driver;
mod keeper;
mod metadata;
pub mod registry;
mod slot;
mod watch;

pub use agent::{MARK_OCF, default_dirs, find};
pub use driver::{Ocf, Settings};
pub use keeper::{ocf_run_main, ocf_stop_main};
pub use metadata::Metadata;
