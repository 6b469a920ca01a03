//! Faults in words, for people who have not read the code.

use super::action::{Action, Ask, Class, DeviceMode, Fate, Ill, Who};
use super::{Sim, SimNode};
use crate::check::HostName;
use crate::world::SECOND;

fn seconds(ns: u64) -> String {
    let mut text = format!("{}.{:03}", ns / SECOND, ns % SECOND / 1_000_000);
    while text.ends_with('0') {
        text.pop();
    }
    format!("{} s", text.trim_end_matches('.'))
}

impl<N: SimNode> Sim<N> {
    fn called(&self, who: &Who) -> String {
        let name = HostName(self.who(who));
        match who {
            Who::Coordinator => format!("the coordinator ({name})"),
            _ => name.to_string(),
        }
    }

    /// What is about to be done, with everybody named; and for how long (nanoseconds), if the world
    /// does not see it.
    pub(super) fn told(&self, action: &Action) -> (String, Option<u64>) {
        let name = |who: &Who| self.called(who);
        let back = |length: &Option<u64>| match length {
            Some(length) => format!("comes back after {}", seconds(*length)),
            None => "does not come back".into(),
        };
        let text = match action {
            Action::Cut { from, to, net } => {
                let net = net.map_or(String::new(), |n| format!(" on net{}", n + 1));
                format!("{} no longer hears {}{net}", name(to), name(from))
            }
            Action::Mend { from, to } => format!("{} hears {} again", name(to), name(from)),
            Action::Isolate(who) => format!("{} is cut off from everybody", name(who)),
            Action::Deaf(who) => format!("{} hears nobody, but is heard", name(who)),
            Action::Mute(who) => format!("{} is heard by nobody, but hears", name(who)),
            Action::OnlyTo(who, keep) => {
                format!("{} is cut off from all but {}", name(who), name(keep))
            }
            Action::Partition(groups) => {
                let group = |g: &Vec<Who>| {
                    let names: Vec<String> = g.iter().map(name).collect();
                    format!("{{{}}}", names.join(", "))
                };
                let all: Vec<String> = groups.iter().map(group).collect();
                format!("{} are cut off from each other", all.join(" and "))
            }
            Action::Reconnect(who) => format!("all links of {} pass again", name(who)),
            Action::Heal => "all links pass again".into(),
            Action::FenceNetwork { from, cut } => {
                let how = if *cut { "no longer reaches" } else { "reaches" };
                format!("{} {how} the fence devices", name(from))
            }
            Action::Noise { loss, duplicate } => format!(
                "links lose {} and double {} of 1000 datagrams",
                loss / 1000,
                duplicate / 1000
            ),
            Action::Delay { long_max, long, .. } => format!(
                "{} of 1000 datagrams are late by up to {}",
                long / 1000,
                seconds(*long_max)
            ),
            Action::Block { from, to, class } => {
                let what = match class {
                    Class::Beat => "beats",
                    Class::Ack => "acknowledgements",
                    Class::Observation => "observations",
                    Class::Election => "election messages",
                    Class::Join => "join messages",
                    Class::Session => "log messages",
                };
                format!("{what} from {} no longer reach {}", name(from), name(to))
            }
            Action::Crash { who, restart } => {
                format!("the daemon of {} crashes, {}", name(who), back(restart))
            }
            Action::Stop { who, length } => {
                format!(
                    "the daemon of {} is stopped for {}",
                    name(who),
                    seconds(*length)
                )
            }
            Action::Freeze { who, length } => {
                format!("all of {} freezes for {}", name(who), seconds(*length))
            }
            Action::PowerOff { who, back: b } => {
                format!("the power of {} fails and {}", name(who), back(b))
            }
            Action::PowerOn(who) => format!("{} gets power", name(who)),
            Action::AllPowerOff { back } => format!("all power fails for {}", seconds(*back)),
            Action::GuestCrash(guest) => format!("guest g{} crashes", guest + 1),
            Action::Guest(guest, ill) => {
                let (what, length) = match ill {
                    Ill::Panics => ("panics", None),
                    Ill::Hangs { spins: true } => ("hangs at full CPU", None),
                    Ill::Hangs { spins: false } => ("hangs, halted", None),
                    Ill::Sickens => ("no longer does what it is for", None),
                    Ill::AgentStops => ("loses its agent", None),
                    Ill::Computes(l) => ("only computes", Some(*l)),
                    Ill::Freezes(l) => ("has frozen file systems", Some(*l)),
                    Ill::Suspended(l) => ("is held by a person", Some(*l)),
                    Ill::DiskFull(l) => ("has a full disk", Some(*l)),
                    Ill::ShutsDown => ("shuts down", None),
                    Ill::Snapshot { local: false } => ("gets a snapshot", None),
                    Ill::Snapshot { local: true } => ("gets a snapshot on its host only", None),
                    Ill::Merges => ("has its top image merged", None),
                    Ill::Copies(l) => ("has its image copied", Some(*l)),
                    Ill::BackedUp(l) => ("is backed up", Some(*l)),
                    Ill::Taken => ("is migrated to a host of no cluster", None),
                };
                return (format!("guest g{} {what}", guest + 1), length);
            }
            Action::Starve { who, length } => {
                let text = format!("guests of {} hardly get CPU", name(who));
                return (text, Some(*length));
            }
            Action::Device { who, mode } => {
                let how = match mode {
                    DeviceMode::Works => "works",
                    DeviceMode::Fails => "refuses",
                    DeviceMode::Late => "acts late and never answers",
                    DeviceMode::Lies => "lies",
                    DeviceMode::Hasty => "says done before it acts",
                    DeviceMode::Gone => "does not answer",
                    DeviceMode::Shares => "shares its host's power",
                    DeviceMode::Picky => "calls it an error to switch off what is off",
                    DeviceMode::Soft => "only asks its host to shut down",
                    DeviceMode::Empty => "is a plug with nothing behind it",
                    DeviceMode::Busy => "lets most wait who come",
                    DeviceMode::Pair => "is two outlets of one strip",
                    DeviceMode::Returns => "is two outlets, and one alone comes on again",
                    DeviceMode::Tardy => "acts long after it was given up",
                    DeviceMode::Wrong => "cuts the next host",
                };
                format!("the fence device of {} {how}", name(who))
            }
            Action::Silent { who, length } => {
                let text = format!("the hypervisor of {} is silent", name(who));
                return (text, Some(*length));
            }
            Action::OtherSilent { who, length } => {
                let text = format!("another hypervisor of {} is silent", name(who));
                return (text, Some(*length));
            }
            Action::SlowCreate { who, longest } => {
                format!(
                    "creations on {} take up to {}",
                    name(who),
                    seconds(*longest)
                )
            }
            Action::StuckKill(who) => format!("no signal ends a guest on {}", name(who)),
            Action::SlowDisk { who, delay } => {
                format!(
                    "disk of {} takes up to {} a write",
                    name(who),
                    seconds(delay.1)
                )
            }
            Action::StoreFails(who) => format!("the disk of {} fails", name(who)),
            Action::Ask(who, ask) => {
                let at = name(who);
                match ask {
                    Ask::Stop(g) => format!("a client at {at} wants g{} stopped", g + 1),
                    Ask::Start(g) => format!("a client at {at} wants g{} running", g + 1),
                    Ask::Hold(g) => format!("an operator at {at} has g{} held", g + 1),
                    Ask::Release(g) => format!("an operator at {at} releases g{}", g + 1),
                    Ask::Fence(w) => format!("a client at {at} wants {} fenced", name(w)),
                    Ask::ConfirmOff(w) => format!("an operator at {at} says {} is off", name(w)),
                    Ask::Publish => format!("a client at {at} publishes"),
                    Ask::PublishMany(bytes) => format!("a client at {at} publishes {bytes} bytes"),
                    Ask::Leave(_) => format!("{at} is to leave"),
                }
            }
            Action::Clog { who, on: true } => format!("all links of {} are clogged", name(who)),
            Action::Clog { who, on: false } => format!("the links of {} are free", name(who)),
            Action::Hole { from, to, largest } => format!(
                "nothing above {largest} bytes passes from {} to {}",
                name(from),
                name(to)
            ),
            Action::Shape { shape, first, .. } => {
                let shape = format!("{shape:?}").to_lowercase();
                format!("the network becomes a {shape}, {} first", name(first))
            }
            Action::Flap { who, period, .. } => {
                format!(
                    "links of {} come and go every {}",
                    name(who),
                    seconds(*period)
                )
            }
            Action::Swizzle { hosts, .. } => {
                let names: Vec<String> = hosts.iter().map(name).collect();
                format!("{} are clogged one after the other", names.join(", "))
            }
            Action::StoreMends(who) => format!("the disk of {} has room again", name(who)),
            Action::DiskStalls { who, length } => {
                return (format!("the disk of {} stalls", name(who)), Some(*length));
            }
            Action::Rots(who) => format!("the store of {} rots", name(who)),
            Action::Store { who, fate } => {
                let how = match fate {
                    Fate::Copied => "copied",
                    Fate::SetBack => "set back within its boot",
                    Fate::SetBackOverBoot => "set back, and it boots",
                    Fate::Reverted => "reverted together with its machine's memory",
                    Fate::Altered => "altered in what it made of the log",
                    Fate::AlteredInMemory => {
                        "as it was, and what it made of the log is altered in memory"
                    }
                };
                format!("the store of {} is {how}", name(who))
            }
            Action::Clones { who, onto } => {
                format!("{} starts with the disk of {}", name(onto), name(who))
            }
            Action::Watchdog { who, mode } => {
                let mode = format!("{mode:?}").to_lowercase();
                format!("the watchdog of {} is {mode} from now on", name(who))
            }
            Action::Guardian { who, mode, length } => {
                let mode = format!("{mode:?}").to_lowercase();
                let text = format!("the guardian of {} is {mode}", name(who));
                return (text, Some(*length));
            }
            Action::EventsLost { who, length } => {
                return (format!("events on {} are lost", name(who)), Some(*length));
            }
            Action::Hides(guest) => format!("guest g{} hides its processes", guest + 1),
            Action::WritesHeld { who, length } => {
                let text = format!("the storage holds the writes of {}", name(who));
                return (text, Some(*length));
            }
            Action::ScanHangs { who, length } => {
                let text = format!("looking through the processes of {} hangs", name(who));
                return (text, Some(*length));
            }
            Action::StorageGone { who, length } => {
                let text = format!("{} does not reach the shared storage", name(who));
                return (text, Some(*length));
            }
            Action::HypervisorCrash { who, length } => {
                return (
                    format!("the hypervisor of {} is down", name(who)),
                    Some(*length),
                );
            }
            Action::Lock(guest, turn) => {
                let turn = format!("{turn:?}").to_lowercase();
                format!("the lock of g{} becomes {turn}", guest + 1)
            }
            Action::LateWrites { who, length } => format!(
                "the last writes on {} land {} late",
                name(who),
                seconds(*length)
            ),
            Action::Reorder(some) => {
                format!("{} of 1000 datagrams are overtaken", some / 1000)
            }
            Action::Rate(most) => format!("links carry {most} messages a second"),
            Action::Calm => "everything is made whole".into(),
        };
        (text, None)
    }
}
