//! Images of guests, as the auditor reckons them up.

use super::audit::{Audit, Finding, GuestRecord};
use quorate_membership::{NodeId, Token};
use quorate_recovery::domain::layout::Layout;
use quorate_recovery::guest::{Definition, GuestId};
use quorate_recovery::hold::HoldKind;
use quorate_recovery::images::{Life, NewTop, ScratchImage};

/// The top image that a description names; guests of the simulator have one disk at most.
pub(super) fn named(definition: &Definition) -> Option<String> {
    let Definition::Domain { xml } = definition else {
        return None;
    };
    let layout = Layout::read(xml)?;
    let plate = layout.disks.values().next()?;
    plate.top.as_ref().map(|t| t.source.to_string())
}

impl Audit {
    /// The record of a guest, if that life of it is the open one.
    fn runs(&mut self, guest: GuestId, life: &Life) -> Result<&mut GuestRecord, Finding> {
        let g = self.guests.get_mut(&guest);
        let g = g.ok_or(Finding::Void("unknown guest"))?;
        let holder = (life.host, life.incarnation);
        if g.closed || g.holder != Some(holder) || g.epoch != life.epoch {
            return Err(Finding::Void("it does not run there under that epoch"));
        }
        Ok(g)
    }

    pub(super) fn follows(
        &mut self,
        at: Token,
        guest: GuestId,
        life: &Life,
        tops: &[NewTop],
        over: bool,
    ) -> Finding {
        let g = match self.runs(guest, life) {
            Ok(g) => g,
            Err(void) => return void,
        };
        let new = tops.last().map(|t| t.top.source.to_string());
        if new.is_none() || new == g.top {
            return Finding::Void("no other image");
        }
        g.top = new;
        g.followed = at;
        g.readers = Some([life.host].into());
        g.scratch.retain(|s| Some(&s.path) != g.top.as_ref());
        if over {
            g.holds.remove(&HoldKind::NewTop);
        }
        Finding::Plain
    }

    pub(super) fn scratch(
        &mut self,
        guest: GuestId,
        life: &Life,
        images: &[ScratchImage],
    ) -> Finding {
        let g = match self.runs(guest, life) {
            Ok(g) => g,
            Err(void) => return void,
        };
        if g.scratch == images {
            return Finding::Void("the same images");
        }
        g.scratch = images.to_vec();
        Finding::Plain
    }

    pub(super) fn reads(&mut self, guest: GuestId, followed: Token, host: NodeId) -> Finding {
        let g = self.guests.get_mut(&guest);
        let g = g.filter(|g| g.followed == followed && followed != Token::NONE);
        match g.and_then(|g| g.readers.as_mut()) {
            Some(readers) if !readers.contains(&host) => {
                readers.insert(host);
                Finding::Plain
            }
            _ => Finding::Void("nothing to be read"),
        }
    }

    pub(super) fn adopts(&mut self, guest: GuestId, epoch: Token, xml: &str) -> Finding {
        match self.guests.get_mut(&guest).filter(|g| g.epoch == epoch) {
            Some(g) => {
                let xml = xml.to_owned();
                g.top = named(&Definition::Domain { xml });
                (g.followed, g.readers) = (Token::NONE, None);
                g.scratch.clear();
                for kind in [HoldKind::Drift, HoldKind::NewTop, HoldKind::Backing] {
                    g.holds.remove(&kind);
                }
                Finding::Plain
            }
            None => Finding::Void("another epoch"),
        }
    }
}
