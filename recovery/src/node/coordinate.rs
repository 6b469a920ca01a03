//! What a node does for the cluster each round: proposals, requests, suspicion.

use super::Node;
use crate::command::Command;
use crate::contract::{Effect, EventKind};
use crate::planner::kind;
use quorate_membership::cluster::HostState;
use quorate_membership::entry::Entry;
use quorate_membership::{Time, Token};

impl Node {
    pub(super) fn coordinator_part(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.planner.observe(now, &self.member);
        self.planner.enter_results(now, &mut self.member);
        self.requests.retry(now, &mut self.member);
        for (client, reply) in self.requests.answered() {
            out.push(Effect::Reply { client, reply });
        }
        let me = self.member.me();
        let retry = self.member.cluster().timing.heartbeat;
        let stated = self
            .member
            .app()
            .fencing
            .get(&me)
            .map_or(&[][..], Vec::as_slice);
        if self.member.admitted()
            && stated != self.fencing.as_slice()
            && self.member.cool(now, kind::FENCING, 0, retry)
        {
            let levels = self.fencing.clone();
            self.member
                .propose(now, Entry::App(Command::SetFencing { host: me, levels }));
        }
        self.say_holds(now);
        self.say_images(now);
        self.say_locks(now);
        if let Some(until) = self.member.acting(now) {
            self.planner.plan(now, until, &mut self.member);
        }
        self.try_devices(now, out);
        self.member.flush(now);
        self.notice_suspects(now, out);
    }

    fn notice_suspects(&mut self, now: Time, out: &mut Vec<Effect>) {
        let mut suspects = self.member.silent_hosts(now);
        let hosts = &self.member.cluster().hosts;
        suspects.retain(|n| hosts[n].state() == HostState::Member);
        for new in suspects.iter().filter(|n| !self.suspects.contains(n)) {
            let text = format!(
                "unheard for {:.1} s",
                self.member.silent(now, *new).as_secs_f64()
            );
            let e = self.event(Token::NONE, EventKind::Suspect, Some(*new), None, text);
            out.push(Effect::Event(e));
        }
        self.suspects = suspects;
    }
}
