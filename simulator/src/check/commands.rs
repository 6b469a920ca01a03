//! The auditor's reading of commands.

use super::audit::{Audit, Finding, GuestRecord, Placement};
use quorate_membership::{Incarnation, NodeId, Token};
use quorate_recovery::command::{Closure, Command};
use quorate_recovery::guest::{GuestId, Wanted};
use quorate_recovery::hold::{HoldKind, HoldReason};
use std::collections::BTreeMap;

impl Audit {
    /// What a command means at its place.
    pub(super) fn command(&mut self, at: Token, command: &Command) -> Finding {
        use Finding::{Plain, Void};
        match command {
            Command::AddGuest(spec) => {
                if self.guest_named(&spec.name).is_some() {
                    return Void("the name is taken");
                }
                let record = GuestRecord {
                    name: spec.name.clone(),
                    wanted: Wanted::Running,
                    wants: spec.needs.memory_mib,
                    holder: None,
                    epoch: Token::NONE,
                    closed: true,
                    holds: BTreeMap::new(),
                    top: super::images::named(&spec.definition),
                    followed: Token::NONE,
                    readers: None,
                    scratch: Vec::new(),
                };
                self.guests.insert(GuestId(at.0), record);
                if !self.survives_a_loss() {
                    self.guests.remove(&GuestId(at.0));
                    return Void("the loss of a host could not be survived");
                }
                Plain
            }
            Command::RemoveGuest { guest } => match self.guests.get(guest) {
                Some(g) if g.closed && g.wanted == Wanted::Stopped => {
                    self.guests.remove(guest);
                    Plain
                }
                _ => Void("not stopped and closed"),
            },
            Command::SetWanted { guest, wanted } => match self.guests.get_mut(guest) {
                Some(g) => {
                    let before = std::mem::replace(&mut g.wanted, *wanted);
                    if before == Wanted::Stopped
                        && *wanted == Wanted::Running
                        && !self.survives_a_loss()
                    {
                        if let Some(g) = self.guests.get_mut(guest) {
                            g.wanted = before;
                        }
                        return Void("the loss of a host could not be survived");
                    }
                    Plain
                }
                None => Void("unknown guest"),
            },
            Command::Placed {
                guest,
                previous,
                host,
                incarnation,
            } => {
                let void = self
                    .placed(at, *guest, *previous, *host, *incarnation)
                    .err();
                let (guest, host) = (*guest, *host);
                self.placements.insert(at, Placement { guest, host, void });
                void.map_or(Plain, Void)
            }
            Command::Closed {
                guest,
                epoch,
                host,
                incarnation,
                why,
            } => match self.guests.get_mut(guest) {
                Some(g)
                    if g.holder
                        .is_some_and(|(h, life)| h == *host && life <= *incarnation)
                        && self
                            .hosts
                            .get(host)
                            .is_some_and(|r| r.incarnation == *incarnation)
                        && !g.closed
                        && *epoch >= g.epoch =>
                {
                    if let Closure::Taken(words) = why {
                        let reason = HoldReason::ByHand(words.clone());
                        g.holds.insert(HoldKind::ByHand, (at, reason));
                    }
                    if *why == Closure::ShutDown {
                        // Its owner switched it off.
                        g.wanted = Wanted::Stopped;
                    }
                    g.closed = true;
                    Finding::Closed {
                        guest: *guest,
                        host: *host,
                        epoch: *epoch,
                    }
                }
                _ => Void("no such open epoch"),
            },
            Command::SetFencing { host, levels } => {
                self.hosts.entry(*host).or_default().fencing = levels.clone();
                Plain
            }
            Command::Tried { .. } => Plain,
            Command::Publish(bytes) => {
                self.messages.insert(at);
                if let Some(client) = bytes.first_chunk() {
                    self.published.insert(u64::from_le_bytes(*client));
                }
                Plain
            }
            Command::Hold {
                guest,
                epoch,
                reason,
            } => self.held(at, *guest, *epoch, reason),
            Command::Release { holds, by } => self.release(holds, by),
            Command::Follow {
                guest,
                life,
                tops,
                over,
                ..
            } => self.follows(at, *guest, life, tops, *over),
            Command::Reads {
                guest,
                followed,
                host,
            } => self.reads(*guest, *followed, *host),
            Command::Scratch {
                guest,
                life,
                images,
            } => self.scratch(*guest, life, images),
            Command::Adopt { guest, epoch, xml } => self.adopts(*guest, *epoch, xml),
            Command::Locked { host, guests } => self.locked(*host, guests),
        }
    }

    fn placed(
        &mut self,
        at: Token,
        guest: GuestId,
        previous: Token,
        host: NodeId,
        inc: Incarnation,
    ) -> Result<(), &'static str> {
        let g = self.guests.get_mut(&guest).ok_or("unknown guest")?;
        if !g.closed {
            return Err("the previous epoch is open");
        }
        if g.epoch != previous {
            return Err("names another previous epoch");
        }
        let r = self.hosts.get(&host).ok_or("unknown host")?;
        if r.incarnation != inc {
            return Err("not the admitted incarnation");
        }
        if r.revoke.is_some() || r.proved {
            return Err("the host is revoked or proved");
        }
        if r.away {
            return Err("the host is out of service");
        }
        if !r.armed {
            return Err("the host attests nothing behind its lease");
        }
        if g.wanted == Wanted::Stopped {
            return Err("the guest is wanted stopped");
        }
        if !g.holds.is_empty() {
            return Err("the guest is held");
        }
        if g.readers.as_ref().is_some_and(|r| !r.contains(&host)) {
            return Err("the host has not read the guest's images");
        }
        g.holder = Some((host, inc));
        g.epoch = at;
        g.closed = false;
        Ok(())
    }
}
