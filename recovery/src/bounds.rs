//! How much the replicated state holds. A bound refuses only what clients add: what recovery notes
//! about a guest later was reserved when the guest was accepted.

use crate::guest::{GuestId, GuestSpec};
use crate::images::Images;
use crate::machine::Guests;
use quorate_fencing::{Device, Level};
use quorate_membership::NodeId;

/// The most guests of a cluster.
const GUESTS: usize = 10_000;
/// The most bytes that the descriptions of all guests take, with what is reserved for each: far enough
/// below the 16 MiB of a session message for the whole state to go to a follower in one.
const GUEST_BYTES: usize = 10 << 20;
/// The most bytes with what records take that follow their guests' images, or a person: nobody who adds
/// guests may take this from them.
const FOLLOW_BYTES: usize = GUEST_BYTES + (1 << 20);
/// What recovery may note about one guest, in bytes; images that take more count as they are.
const RESERVED: usize = 1 << 10;
/// The most bytes of the fence levels of one host, and of all.
const LEVEL_BYTES: usize = 16 << 10;
const ALL_LEVEL_BYTES: usize = 2 << 20;

impl Guests {
    /// Refuses a guest for which there is no space.
    pub(crate) fn has_space_for(&self, spec: &GuestSpec) -> Result<(), String> {
        if self.guests.len() >= GUESTS {
            return Err(format!("there are {GUESTS} guests, which is the most"));
        }
        fits(self.bytes(None), spec.size() + RESERVED, GUEST_BYTES)
    }

    /// Refuses a longer description of a guest, or more images, for which there is no space.
    pub(crate) fn has_space_instead(
        &self,
        guest: GuestId,
        spec: &GuestSpec,
        images: &Images,
    ) -> Result<(), String> {
        let new = taken(spec, images);
        let old = self.guests.get(&guest);
        if old.is_some_and(|r| new <= taken(&r.spec, &r.images)) {
            return Ok(());
        }
        fits(self.bytes(Some(guest)), new, FOLLOW_BYTES)
    }

    /// What the records of all guests take, but of one.
    fn bytes(&self, but: Option<GuestId>) -> usize {
        let others = self.guests.iter().filter(|(guest, _)| Some(**guest) != but);
        others.map(|(_, r)| taken(&r.spec, &r.images)).sum()
    }

    /// Refuses fence levels of a host for which there is no space.
    pub(crate) fn has_space_for_levels(
        &self,
        host: NodeId,
        levels: &[Level],
    ) -> Result<(), String> {
        let own = size(levels);
        let others = self.fencing.iter().filter(|(h, _)| **h != host);
        let used: usize = others.map(|(_, levels)| size(levels)).sum();
        if own > LEVEL_BYTES || used + own > ALL_LEVEL_BYTES {
            return Err(format!(
                "its fence levels take {own} bytes, with those of the other hosts {}; at most \
                 {LEVEL_BYTES} and {ALL_LEVEL_BYTES} are kept",
                used + own
            ));
        }
        Ok(())
    }
}

/// The bytes of a guest's record.
fn taken(spec: &GuestSpec, images: &Images) -> usize {
    spec.size() + images.size().max(RESERVED)
}

/// Refuses a record of `new` bytes beside others of `used`.
fn fits(used: usize, new: usize, most: usize) -> Result<(), String> {
    if used + new > most {
        return Err(format!(
            "the descriptions of all guests take {used} bytes, with this one {}, and at most {most} are \
             kept",
            used + new
        ));
    }
    Ok(())
}

/// The bytes that fence levels take in the state, nearly: parameters above all.
fn size(levels: &[Level]) -> usize {
    let devices = levels.iter().flat_map(|l| &l.devices);
    let of = |d: &Device| {
        let parameters = d.parameters.iter();
        let words = parameters.map(|(k, v)| k.len() + v.len() + 8);
        d.name.len() + d.agent.len() + 64 + words.sum::<usize>()
    };
    devices.map(of).sum::<usize>() + 16 * levels.len()
}
