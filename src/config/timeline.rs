//! What would happen, when, under a timing that is refused.
//!
//! Moments are in real time, with every clock at its worst: the one that must stop runs slow by r,
//! the one that waits runs fast by r. The story begins when the last renewal was sent, because a
//! holder counts from there and a grantor can have acknowledged at that very instant.

use quorate_membership::{Timing, TimingError};
use std::time::Duration;

/// One line per moment, in order, then what is wrong with the order.
pub(super) fn violation(timing: &Timing, error: &TimingError) -> Vec<String> {
    let TimingError::Broken {
        promise,
        right_name,
        ..
    } = error
    else {
        return Vec::new();
    };
    match (*promise, right_name.starts_with("silence")) {
        ("S3", _) => takeover(timing),
        ("S6", _) => coordinator(timing),
        ("L2", _) => Vec::new(),
        (_, true) => blip(timing),
        (_, false) => one_lost_beat(timing),
    }
}

struct Moments {
    lines: Vec<(f64, String)>,
}

impl Moments {
    fn from(start: &str) -> Moments {
        Moments {
            lines: vec![(0.0, start.to_owned())],
        }
    }

    fn at(mut self, seconds: f64, text: &str) -> Moments {
        self.lines.push((seconds, text.to_owned()));
        self
    }

    fn end(mut self, verdict: String) -> Vec<String> {
        self.lines.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut out: Vec<String> = self
            .lines
            .into_iter()
            .map(|(at, text)| format!("{at:9.3} s  {text}"))
            .collect();
        out.push(verdict);
        out
    }
}

fn rates(timing: &Timing) -> (f64, f64) {
    let r = f64::from(timing.clock_rate_ppm) / 1e6;
    (1.0 + r, 1.0 - r)
}

fn takeover(t: &Timing) -> Vec<String> {
    let (slow, fast) = rates(t);
    let end = t.kill.max(t.watchdog * 2 + t.watchdog_granularity);
    let lease = t.lease.as_secs_f64() * slow;
    let ended = (t.lease + end).as_secs_f64() * slow;
    let written = (t.lease + end + t.drain).as_secs_f64() * slow + t.slack.as_secs_f64();
    let start = t.takeover().as_secs_f64() * fast;
    Moments::from("the host sends the beat of its last lease; a quorum acknowledges it, then the host is cut off")
        .at(lease, "L: the lease ends by the host's slow clock; it begins to end its guests")
        .at(ended, "max(K, 2·W + g): the last guest is ended, by hand or by the watchdog")
        .at(written, "Q, E: the last write of the old copies has landed")
        .at(start, "G: by a fast clock the lease counts as over; another host may start the guests")
        .end(format!(
            "For {:.3} s two copies of a guest could write to one disk.",
            written - start
        ))
}

fn coordinator(t: &Timing) -> Vec<String> {
    let (slow, fast) = rates(t);
    let stop = t.coordinator_lease.as_secs_f64() * slow + t.slack.as_secs_f64();
    let start = t.coordinator_takeover().as_secs_f64() * fast;
    Moments::from("the coordinator sends its last renewal, then a successor's term is applied")
        .at(
            stop,
            "L_c, E: by its slow clock the old coordinator gives its last order",
        )
        .at(
            start,
            "G_c: by a fast clock the new coordinator gives its first order",
        )
        .end(format!(
            "For {:.3} s two coordinators could give orders.",
            stop - start
        ))
}

fn blip(t: &Timing) -> Vec<String> {
    let seconds = |d: Duration| d.as_secs_f64();
    let heard = t.least_lease();
    Moments::from(
        "the host sends the last beat that is acknowledged; the next is heard, its answer lost",
    )
    .at(
        seconds(t.lease.saturating_sub(t.pause_margin)),
        "L − P: it pauses its guests",
    )
    .at(seconds(t.lease), "L: it ends its guests")
    .at(
        seconds(t.silence() + t.heartbeat),
        "h + T_d: only now does anybody call the host silent",
    )
    .at(
        seconds(heard),
        "h + T_d + 2 round trips: a network back in time for that would have renewed the lease",
    )
    .end(format!(
        "A silence that nobody acts on would end every guest of the host {:.3} s early.",
        seconds(heard) - seconds(t.lease)
    ))
}

fn one_lost_beat(t: &Timing) -> Vec<String> {
    let seconds = |d: Duration| d.as_secs_f64();
    Moments::from("the host sends a beat that is acknowledged")
        .at(seconds(t.heartbeat), "h: the next beat is lost")
        .at(seconds(t.heartbeat * 2), "2·h: the beat after it is sent")
        .at(
            seconds(t.lease.saturating_sub(t.pause_margin)),
            "L − P: the host pauses its guests",
        )
        .end("One lost beat would pause every guest of the host.".into())
}
