//! How much the replicated state holds. A bound refuses only what clients add: what recovery notes
//! about a guest later was reserved when the guest was accepted.

use crate::guest::{GuestId, GuestSpec};
use crate::machine::Guests;
use quorate_fencing::{Device, Level};
use quorate_membership::NodeId;

/// The most guests of a cluster.
const GUESTS: usize = 10_000;
/// The most bytes that the descriptions of all guests take, with what is reserved for each: far enough
/// below the 16 MiB of a session message for the whole state to go to a follower in one.
const GUEST_BYTES: usize = 10 << 20;
/// What recovery may note about one guest, in bytes.
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
        self.bytes_allow(0, spec)
    }

    /// Refuses a longer description of a guest for which there is no space.
    pub(crate) fn has_space_instead(&self, guest: GuestId, spec: &GuestSpec) -> Result<(), String> {
        let old = self.guests.get(&guest).map_or(0, |r| r.spec.size());
        if spec.size() <= old {
            return Ok(());
        }
        self.bytes_allow(old + RESERVED, spec)
    }

    /// Refuses `spec` if it does not fit when so many bytes are given up for it.
    fn bytes_allow(&self, freed: usize, spec: &GuestSpec) -> Result<(), String> {
        let of = |spec: &GuestSpec| spec.size() + RESERVED;
        let used: usize = self.guests.values().map(|r| of(&r.spec)).sum();
        if (used + of(spec)).saturating_sub(freed) > GUEST_BYTES {
            return Err(format!(
                "the descriptions of all guests take {used} bytes, and at most {GUEST_BYTES} are kept"
            ));
        }
        Ok(())
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
