//! What a node says of fence devices, and how it has them tried.

use super::Node;
use crate::contract::{Effect, EventKind};
use crate::trials::has_state;
use quorate_membership::cluster::HostState;
use quorate_membership::{NodeId, Time, Token};
use serde::Serialize;

/// Remarks on devices that `status` shows at most.
const REMARKS: usize = 8;

/// One fence device of a host.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceRow {
    /// Its name.
    pub name: String,
    /// `on`, `off` or `unread`: what it said of its host while that ran. Only one that said on is
    /// relied on. `none`: it has no state to read.
    pub said: &'static str,
}

impl Node {
    pub(super) fn device_rows(&self, host: NodeId) -> Vec<DeviceRow> {
        let words = self.member.app().device_words(host);
        let row = |(device, said): (&quorate_fencing::Device, Option<bool>)| DeviceRow {
            name: device.name.clone(),
            said: match said {
                _ if !has_state(device) => "none",
                Some(true) => "on",
                Some(false) => "off",
                None => "unread",
            },
        };
        words.map(row).collect()
    }

    /// What an operator should put right about fence devices.
    pub(super) fn device_remarks(&self) -> Vec<String> {
        let c = self.member.cluster();
        let mut out = Vec::new();
        for [(a, first), (b, second)] in self.member.app().twins() {
            out.push(format!(
                "{}: fence device {first} is the same outlet as {second} of {}: neither is relied on",
                c.name(a),
                c.name(b),
            ));
        }
        for (host, record) in &c.hosts {
            let name = &record.profile.name;
            for (device, said) in self.member.app().device_words(*host) {
                let device_name = &device.name;
                match said {
                    Some(false) => out.push(format!(
                        "{name}: fence device {device_name} said off while the host ran: it is not \
                         relied on. Is it the right plug? `quorate host try {name}` reads it again"
                    )),
                    None if has_state(device) && record.state() == HostState::Member => {
                        out.push(format!(
                            "{name}: fence device {device_name} was not read yet while the host ran: \
                             it is not relied on"
                        ));
                    }
                    _ => {}
                }
            }
        }
        let wrong = self.trials.wrong();
        out.extend(wrong.map(|(host, text)| format!("{}: {text}", c.name(host))));
        if out.len() > REMARKS {
            let more = out.len() - REMARKS;
            out.truncate(REMARKS);
            out.push(format!(
                "{more} more remarks on fence devices, see `quorate host try`"
            ));
        }
        out
    }

    /// Has devices tried that are due, and tells what is wrong with those that were.
    pub(super) fn try_devices(&mut self, now: Time, out: &mut Vec<Effect>) {
        let due = self.trials.plan(now, &mut self.member).into_iter();
        out.extend(due.map(|launch| Effect::Try(Box::new(launch))));
        for (host, text) in self.trials.alerts() {
            let alert = self.event(Token::NONE, EventKind::Alert, Some(host), None, text);
            out.push(Effect::Event(alert));
        }
    }

    /// Has the fence devices of the host of that name, or of all hosts, tried again. What this node
    /// reads itself counts as any other trial.
    ///
    /// # Errors
    /// There is no such host.
    pub fn try_again(&mut self, host: Option<&str>) -> Result<(), String> {
        let named = match host {
            Some(name) => {
                let node = self.member.cluster().named(name);
                Some(node.ok_or_else(|| format!("no host is named {name:?}"))?)
            }
            None => None,
        };
        self.trials.hurry(named);
        Ok(())
    }
}
