//! S14. The accident: the log says that a host can do nothing any more, everybody acts on it, and
//! it is not so: a device lied, a lease was counted wrong, a host's word was only an observation.

use super::{At, HostName, Violation};
use quorate_membership::Token;
use quorate_recovery::guest::GuestId;

/// What was proved of each host.
#[derive(Debug)]
pub struct S14 {
    /// No guest of an epoch below this token may run there, proved at that time.
    proved: Vec<(Token, u64, &'static str)>,
}

impl S14 {
    /// For so many hosts.
    #[must_use]
    pub fn new(hosts: usize) -> S14 {
        S14 {
            proved: vec![(Token::NONE, 0, ""); hosts],
        }
    }

    /// The entry `token` proves that `host` does nothing by earlier orders. `running` are the
    /// epochs of its guests that can write now.
    ///
    /// # Errors
    /// One of them is older than the proof.
    pub fn proved(
        &mut self,
        now: u64,
        host: usize,
        token: Token,
        how: &'static str,
        running: impl Iterator<Item = (GuestId, Token)>,
    ) -> Result<(), Violation> {
        self.proved[host] = (token, now, how);
        for (guest, epoch) in running {
            self.runs(now, host, guest, epoch)?;
        }
        Ok(())
    }

    /// `guest` can write on `host` under `epoch` from now on.
    ///
    /// # Errors
    /// It was proved that it cannot.
    pub fn runs(
        &self,
        now: u64,
        host: usize,
        guest: GuestId,
        epoch: Token,
    ) -> Result<(), Violation> {
        let (token, at, how) = self.proved[host];
        if epoch >= token {
            return Ok(());
        }
        Err(Violation::new(
            "S14",
            now,
            format!("a proof in the log is false: {} still acts", HostName(host)),
            [
                format!("entry {token} ({how}), known at {}, ended it", At(at)),
                format!("{guest} of epoch {epoch} can write there at {}", At(now)),
            ],
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_membership::Epoch;

    #[test]
    fn a_guest_older_than_the_proof_is_found_then_and_later() {
        let token = |n| Token::new(Epoch(1), n);
        let mut s = S14::new(1);
        s.runs(0, 0, GuestId(1), token(3)).expect("nothing proved");
        let none = std::iter::empty();
        s.proved(5, 0, token(9), "LeaseExpired", none)
            .expect("none runs");
        assert!(
            s.runs(6, 0, GuestId(1), token(3)).is_err(),
            "wakes up later"
        );
        s.runs(7, 0, GuestId(1), token(12)).expect("placed anew");
        let one = [(GuestId(1), token(12))].into_iter();
        assert!(s.proved(8, 0, token(20), "Fenced", one).is_err());
    }
}
