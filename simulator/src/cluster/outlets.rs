//! The switched strip of a site, whose outlets feed hosts by two supplies, and the trials of devices.

use super::action::DeviceMode;
use super::devices::outlet;
use super::picture::mark;
use super::{Event, Local, Sim, SimNode};
use crate::world::MS;
use quorate_fencing::agent::{AgentEnd, Verb};
use quorate_membership::Token;
use quorate_recovery::contract::{DeviceWord, Fact, TrialLaunch};

/// Which of a pair of outlets a device switches, by its name.
pub(super) fn feed(name: &str) -> Option<usize> {
    name.strip_suffix("-b")
        .map(|_| 1)
        .or_else(|| name.strip_suffix("-a").map(|_| 0))
}

fn exit(code: i32, output: &str) -> AgentEnd {
    AgentEnd::Exited {
        code,
        output: output.into(),
    }
}

impl<N: SimNode> Sim<N> {
    /// A session at the strip: how long it takes, and how it ends. Whoever comes during another is
    /// turned away.
    pub(super) fn strip(
        &mut self,
        host: usize,
        feed: usize,
        verb: Verb,
        attempt: Token,
    ) -> (u64, AgentEnd) {
        let now = self.world.now();
        if self.strip_until > now {
            return (
                self.fence_rng.range(5 * MS, 30 * MS),
                AgentEnd::NotLetIn { code: 1 },
            );
        }
        let takes = self.fence_rng.range(50 * MS, 250 * MS);
        self.strip_until = now + takes;
        if verb == Verb::Off {
            let act = self.fence_rng.range(0, takes);
            let boot = self.hosts[host].boot;
            let switch = Event::Outlet {
                host,
                boot,
                feed,
                attempt,
                on: false,
            };
            self.world.after(act, switch);
            return (takes, exit(0, ""));
        }
        match self.hosts[host].feeds[feed] {
            true => (takes, exit(0, "Status: ON\n")),
            false => (takes, exit(2, "Status: OFF\n")),
        }
    }

    /// An outlet is switched. Without both a host has no power.
    pub(super) fn outlet(
        &mut self,
        host: usize,
        boot: u32,
        (feed, on): (usize, bool),
        attempt: Token,
    ) {
        let h = &mut self.hosts[host];
        if on && (!h.on || h.boot != boot) {
            return;
        }
        h.feeds[feed] = on;
        let (dark, boot) = (h.feeds == [false; 2], h.boot);
        let returns = h.outlet == Some(DeviceMode::Returns) && !on;
        mark!(
            self,
            host,
            Fence,
            "outlet {feed} is {}",
            if on { "on" } else { "off" }
        );
        if dark {
            self.fence_act(attempt, host);
        } else if returns {
            let back = self.fence_rng.range(100 * MS, 500 * MS);
            let switch = Event::Outlet {
                host,
                boot,
                feed,
                attempt,
                on: true,
            };
            self.world.after(back, switch);
        }
    }

    /// A voter's driver reads a device; nothing is changed.
    pub(super) fn try_device(&mut self, by: usize, launch: &TrialLaunch) {
        let host = (launch.host.0 as usize).wrapping_sub(1);
        if host >= self.plan.hosts {
            return;
        }
        let reach = !self.world.link(self.plan.networks, by, host).cut;
        let h = &self.hosts[host];
        let name = &launch.device.name;
        let used = match name.starts_with(&outlet(host)) {
            true => h.outlet,
            false => h.device,
        };
        let on = h.on;
        let answers = |m: &DeviceMode| reach && (on || *m != DeviceMode::Shares);
        let quick = self.fence_rng.range(20 * MS, 200 * MS);
        let unread = |why: &str| DeviceWord::Unread(why.to_owned());
        let (takes, word) = match used.filter(answers) {
            None | Some(DeviceMode::Gone) => (quick * 5, unread("timed out")),
            // The driver of a trial asks again for a while.
            Some(DeviceMode::Busy) if self.fence_rng.chance(250_000) => {
                (quick, unread("not let in"))
            }
            Some(DeviceMode::Pair | DeviceMode::Returns) => {
                let feed = feed(name).unwrap_or_default();
                match self.strip(host, feed, Verb::Status, Token::NONE) {
                    (takes, AgentEnd::Exited { code: 0, .. }) => (takes, DeviceWord::On),
                    (takes, AgentEnd::Exited { .. }) => (takes, DeviceWord::Off),
                    (takes, _) => (takes, unread("not let in")),
                }
            }
            Some(DeviceMode::Empty) => (quick, DeviceWord::Off),
            Some(_) if on => (quick, DeviceWord::On),
            Some(_) => (quick, DeviceWord::Off),
        };
        let fact = Fact::DeviceRead {
            trial: launch.trial,
            word,
            remark: None,
        };
        self.world.tell(by, takes, Local::fact(fact));
    }
}
