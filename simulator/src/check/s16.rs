//! S16. The accident: a guest is started from an image that somebody went on from. What was written
//! since is gone, and writing to the old image spoils the new one.

use super::{At, HostName, Violation};
use quorate_recovery::guest::GuestId;
use std::collections::BTreeMap;

/// The image that holds the latest writes of each guest.
#[derive(Debug, Default)]
pub struct S16 {
    newest: BTreeMap<GuestId, Newest>,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    image: u32,
    since: u64,
    /// The one host that has it, if it lies in no shared place.
    only: Option<usize>,
}

impl S16 {
    /// From now on the guest's writes go to that image.
    pub fn goes_on(&mut self, now: u64, guest: GuestId, image: u32, only: Option<usize>) {
        let since = now;
        self.newest.insert(guest, Newest { image, since, only });
    }

    /// `guest` can write to `image` on `host` from now on.
    ///
    /// # Errors
    /// Its latest writes are in another one.
    pub fn begins(
        &self,
        now: u64,
        host: usize,
        guest: GuestId,
        image: u32,
    ) -> Result<(), Violation> {
        let Some(newest) = self.newest.get(&guest) else {
            return Ok(());
        };
        let there = newest.only.is_none_or(|only| only == host);
        if newest.image == image && there {
            return Ok(());
        }
        let where_it_is = newest.only.map_or(String::new(), |only| {
            format!(", on {} alone", HostName(only))
        });
        Err(Violation::new(
            "S16",
            now,
            format!("{guest} was started from a stale image: what was written since is gone"),
            [
                format!(
                    "its writes went to image {} since {}{where_it_is}",
                    newest.image,
                    At(newest.since)
                ),
                format!(
                    "{} runs it from image {image} at {}",
                    HostName(host),
                    At(now)
                ),
            ],
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_from_an_image_that_was_left_is_found() {
        let mut s = S16::default();
        let g = GuestId(1);
        s.begins(0, 0, g, 0).expect("its only image");
        s.goes_on(5, g, 1, None);
        s.begins(6, 1, g, 1).expect("the newest");
        assert!(s.begins(7, 1, g, 0).is_err());
        s.goes_on(8, g, 2, Some(0));
        s.begins(9, 0, g, 2).expect("where it lies");
        assert!(s.begins(9, 1, g, 2).is_err(), "another file of that name");
    }
}
