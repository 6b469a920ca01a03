//! The timing of a cluster and the arithmetic that makes it safe.
//!
//! All of it is one cluster value in the log, never a setting of one host: a lease that a holder
//! counts longer than its grantors do is a guest running twice.

use crate::mutants::planted;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long everything takes, and how much every wait must allow for. Letters are those of the
/// safety contract in `ARCHITECTURE.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// h: time between two beats of a host.
    #[serde(with = "millis")]
    pub heartbeat: Duration,
    /// m: beats missed before a host is silent.
    pub misses: u32,
    /// J: lateness of a beat that is still no miss.
    #[serde(with = "millis")]
    pub jitter: Duration,
    /// Longest round trip of a beat and its acknowledgement.
    #[serde(with = "millis")]
    pub round_trip: Duration,
    /// L: how long a host may run guests after sending the beat that a quorum acknowledged.
    #[serde(with = "millis")]
    pub lease: Duration,
    /// P: guests are paused this long before the lease ends.
    #[serde(with = "millis")]
    pub pause_margin: Duration,
    /// W: the longest period of any hardware watchdog in the cluster, as read back.
    #[serde(with = "millis")]
    pub watchdog: Duration,
    /// g: granularity of that watchdog.
    #[serde(with = "millis")]
    pub watchdog_granularity: Duration,
    /// K: longest time to kill all guests of a host.
    #[serde(with = "millis")]
    pub kill: Duration,
    /// Q: longest time from a guest's last submission to its last effect at the storage.
    #[serde(with = "millis")]
    pub drain: Duration,
    /// E: scheduling slack of whoever waits.
    #[serde(with = "millis")]
    pub slack: Duration,
    /// r: worst clock-rate error of any node, in parts per million.
    pub clock_rate_ppm: u32,
    /// T_e: election timeout.
    #[serde(with = "millis")]
    pub election: Duration,
    /// L_c: how long a coordinator may give orders after sending a renewal that was decided.
    #[serde(with = "millis")]
    pub coordinator_lease: Duration,
    /// G: how long after its last acknowledgement a lease is over for certain; computed if absent.
    #[serde(with = "opt_millis")]
    pub takeover: Option<Duration>,
    /// G_c: how long a new coordinator waits; computed if absent.
    #[serde(with = "opt_millis")]
    pub coordinator_takeover: Option<Duration>,
}

impl Default for Timing {
    /// The default profile: 3 s beats, 10 misses.
    fn default() -> Timing {
        let ms = Duration::from_millis;
        Timing {
            heartbeat: ms(3000),
            misses: 10,
            jitter: ms(1000),
            round_trip: ms(100),
            lease: ms(35_000),
            pause_margin: ms(3000),
            watchdog: ms(5000),
            watchdog_granularity: ms(1000),
            kill: ms(5000),
            drain: ms(2000),
            slack: ms(1000),
            clock_rate_ppm: 1000,
            election: ms(1000),
            coordinator_lease: ms(3000),
            takeover: None,
            coordinator_takeover: None,
        }
    }
}

impl Timing {
    /// The fast profile: 0.5 s beats, 6 misses; for networks whose pauses are known to be short.
    #[must_use]
    pub fn fast() -> Timing {
        let ms = Duration::from_millis;
        Timing {
            heartbeat: ms(500),
            misses: 6,
            jitter: ms(200),
            round_trip: ms(50),
            lease: ms(4000),
            pause_margin: ms(700),
            watchdog: ms(2000),
            watchdog_granularity: ms(1000),
            kill: ms(1000),
            drain: ms(1000),
            slack: ms(500),
            clock_rate_ppm: 1000,
            election: ms(300),
            coordinator_lease: ms(900),
            takeover: None,
            coordinator_takeover: None,
        }
    }

    /// T_d = m·h + J: silence this long makes a host silent.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.heartbeat * self.misses + self.jitter
    }

    /// The smallest G that satisfies S3.
    #[must_use]
    pub fn least_takeover(&self) -> Duration {
        let periods = if planted("takeover-with-one-period") {
            1
        } else {
            2
        };
        let watchdog = self.watchdog * periods + self.watchdog_granularity;
        let drain = if planted("takeover-without-drain") {
            Duration::ZERO
        } else {
            self.drain
        };
        self.stretched(self.lease + self.kill.max(watchdog) + drain)
    }

    /// The smallest G_c that satisfies S6.
    #[must_use]
    pub fn least_coordinator_takeover(&self) -> Duration {
        self.stretched(self.coordinator_lease)
    }

    /// G, the wait after which an unrenewed lease is over for certain.
    #[must_use]
    pub fn takeover(&self) -> Duration {
        self.takeover.unwrap_or_else(|| self.least_takeover())
    }

    /// G_c, the wait of a new coordinator before its first order.
    #[must_use]
    pub fn coordinator_takeover(&self) -> Duration {
        self.coordinator_takeover
            .unwrap_or_else(|| self.least_coordinator_takeover())
    }

    /// The wait for writes under way after every proof but an expired lease: Q·(1+r)+E (V1).
    #[must_use]
    pub fn drain_wait(&self) -> Duration {
        let r = u128::from(self.clock_rate_ppm);
        nanos(self.drain.as_nanos() * (1_000_000 + r) / 1_000_000 + 1) + self.slack
    }

    /// (d·(1+r) + E) / (1−r), rounded up to a millisecond.
    fn stretched(&self, d: Duration) -> Duration {
        let r = if planted("takeover-without-clock-rate") {
            0
        } else {
            u128::from(self.clock_rate_ppm.min(999_999))
        };
        let slow = d.as_nanos() * (1_000_000 + r) + self.slack.as_nanos() * 1_000_000;
        let ns = slow.div_ceil(1_000_000 - r);
        nanos(ns.div_ceil(1_000_000) * 1_000_000)
    }

    /// Refuses timing under which a guest could run twice or a forgiven blip kills guests.
    ///
    /// # Errors
    /// The first promise that does not hold, with both sides of its inequality.
    pub fn check(&self) -> Result<(), TimingError> {
        let at_least = |promise, left_name, left: Duration, right_name, right: Duration| {
            if left >= right {
                Ok(())
            } else {
                Err(TimingError::Broken {
                    promise,
                    left_name,
                    left,
                    right_name,
                    right,
                })
            }
        };
        for (key, value) in [
            ("heartbeat", self.heartbeat),
            ("lease", self.lease),
            ("election", self.election),
            ("coordinator_lease", self.coordinator_lease),
            ("kill", self.kill),
        ] {
            if value.is_zero() {
                return Err(TimingError::Zero { key });
            }
        }
        if self.misses == 0 {
            return Err(TimingError::Zero { key: "misses" });
        }
        if self.clock_rate_ppm > 100_000 {
            return Err(TimingError::ClockRate {
                ppm: self.clock_rate_ppm,
            });
        }
        at_least(
            "S3",
            "takeover G",
            self.takeover(),
            "least safe G",
            self.least_takeover(),
        )?;
        at_least(
            "S6",
            "coordinator_takeover G_c",
            self.coordinator_takeover(),
            "least safe G_c",
            self.least_coordinator_takeover(),
        )?;
        at_least(
            "S4",
            "lease L",
            self.lease,
            "silence T_d + heartbeat h + 2 round trips",
            self.least_lease(),
        )?;
        at_least(
            "S4",
            "lease L",
            self.lease,
            "two heartbeats + pause_margin P",
            self.heartbeat * 2 + self.pause_margin,
        )?;
        at_least(
            "L2",
            "election T_e",
            self.election,
            "5 round trips: one fits into each of its ticks",
            self.round_trip * 5,
        )?;
        at_least(
            "L2",
            "coordinator_lease L_c",
            self.coordinator_lease,
            "3 election time-outs",
            self.election * 3,
        )?;
        at_least(
            "L2",
            "lease L",
            self.lease,
            "4 election time-outs: an election ends within a lease",
            self.election * 4,
        )
    }

    /// The least L that satisfies S4. A host that nobody judges was heard within T_d; its lease counts
    /// from the last beat that was *acknowledged*, which may be one beat earlier.
    #[must_use]
    pub fn least_lease(&self) -> Duration {
        self.silence() + self.heartbeat + self.round_trip * 2
    }

    /// The longest cut of a host's network after which nobody ever judges it: (m−1)·h. One beat may
    /// be lost as the cut begins, and the next one heard comes up to h after it ends.
    #[must_use]
    pub fn forgiven_cut(&self) -> Duration {
        self.heartbeat * self.misses.saturating_sub(1)
    }

    /// The L1 bound from failure to start order by a fence, with `levels` the sum of the device
    /// limits of all fence levels.
    #[must_use]
    pub fn worst_case_fenced(&self, levels: Duration) -> Duration {
        self.worst_case_silence() + self.verdict_wait() + levels + self.drain_wait()
    }

    /// The L1 bound from failure to start order by the lease alone.
    #[must_use]
    pub fn worst_case_lease(&self) -> Duration {
        self.worst_case_silence()
            .max(self.heartbeat + self.takeover())
            + self.verdict_wait()
            + self.round_trip * 2
    }

    /// T_d, or the time to a new coordinator if that was lost too and takes longer.
    #[must_use]
    pub fn worst_case_silence(&self) -> Duration {
        self.silence()
            .max(self.election * 4 + self.coordinator_takeover())
    }

    /// Longest wait of a verdict for other hosts that were noticed together: 2·h.
    #[must_use]
    pub fn verdict_wait(&self) -> Duration {
        self.heartbeat * 2
    }

    /// Whether an ordinary slow kill at lease end lets the hardware watchdog fire first (W ≤ K).
    #[must_use]
    pub fn slow_kill_resets_host(&self) -> bool {
        !self.watchdog.is_zero() && self.watchdog <= self.kill
    }

    /// Until when a lease lasts whose renewal was sent at `sent`.
    #[must_use]
    pub fn lease_end(&self, sent: Time) -> Time {
        sent + self.lease
    }
}

fn nanos(ns: u128) -> Duration {
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

/// Why a timing is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// A value that must not be zero.
    #[error("{key} is zero")]
    Zero {
        /// Name of the setting.
        key: &'static str,
    },
    /// No wait could cover such clocks.
    #[error("clock_rate_ppm is {ppm}; above 100000 no lease can be waited out")]
    ClockRate {
        /// The value found.
        ppm: u32,
    },
    /// An inequality of the safety contract does not hold.
    #[error(
        "breaks {promise}: {left_name} is {left:?} but must be at least {right:?} ({right_name})"
    )]
    Broken {
        /// The promise of the contract.
        promise: &'static str,
        /// What is too short.
        left_name: &'static str,
        /// Its value.
        left: Duration,
        /// What it must cover.
        right_name: &'static str,
        /// The least value.
        right: Duration,
    },
}

/// Durations as whole milliseconds, so that configuration and log agree on every digit.
mod millis {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub(super) fn serialize<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        u32::deserialize(d).map(|ms| Duration::from_millis(ms.into()))
    }
}

mod opt_millis {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub(super) fn serialize<S: Serializer>(d: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        match d {
            Some(d) => s.serialize_some(&u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
            None => s.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<Duration>, D::Error> {
        Option::<u32>::deserialize(d).map(|ms| ms.map(|ms| Duration::from_millis(ms.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_satisfy_the_contract_with_the_documented_waits() {
        let (default, fast) = (Timing::default(), Timing::fast());
        default.check().expect("default profile");
        fast.check().expect("fast profile");
        assert_eq!(default.takeover().as_millis(), 49_098);
        assert_eq!(fast.takeover().as_millis(), 10_521);
        let ms = |d: Duration| d.as_millis();
        assert_eq!(ms(default.forgiven_cut()), 27_000);
        assert_eq!(ms(fast.forgiven_cut()), 2500);
    }

    #[test]
    fn timing_under_which_nothing_is_ever_decided_is_refused() {
        let refused = |change: &dyn Fn(&mut Timing), promise: &str, key: &str| {
            let mut t = Timing::fast();
            change(&mut t);
            let e = t.check().expect_err("nothing works under it").to_string();
            assert!(e.contains(promise) && e.contains(key), "{e}");
        };
        let ms = Duration::from_millis;
        refused(&|t| t.coordinator_lease = ms(60), "L2", "coordinator_lease");
        refused(&|t| t.election = ms(1), "L2", "election");
        refused(&|t| t.election = ms(249), "L2", "round trip");
        refused(
            &|t| (t.election, t.coordinator_lease) = (ms(4000), ms(12_000)),
            "L2",
            "lease L",
        );
        refused(&|t| t.lease = ms(3799), "S4", "3.8s");
    }

    #[test]
    fn a_takeover_one_millisecond_short_is_refused_and_named() {
        let mut t = Timing::fast();
        t.takeover = Some(t.least_takeover() - Duration::from_millis(1));
        let e = t.check().expect_err("too short");
        assert!(e.to_string().contains("S3"), "{e}");
        t.takeover = None;
        t.coordinator_takeover = Some(t.coordinator_lease);
        assert!(t.check().expect_err("too short").to_string().contains("S6"));
        t = Timing::fast();
        t.lease = t.silence();
        assert!(t.check().expect_err("too short").to_string().contains("S4"));
    }
}
