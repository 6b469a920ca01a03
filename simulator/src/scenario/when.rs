//! Steps that wait for something instead of a time.

use super::Bad;
use super::fields::{Fields, Scope, number};
use super::words::{WHENS, value};
use crate::cluster::action::Action;
use crate::cluster::triggers::{Trigger, When};

/// For help: keys and what they mean.
pub(super) const KEYS: &[(&str, &str)] = &[
    ("of = host|guest", "only when it happens to this one"),
    ("nth = N", "not before the Nth time; 1 if left out"),
    ("times = N", "once for each occurrence, N at most; 1"),
    ("delay = seconds", "from the occurrence to the step; 0"),
    (
        "after, before = seconds",
        "it counts between these times only",
    ),
];

/// Everything of a trigger but its action, which is put in afterwards.
pub(super) fn read(f: &mut Fields<'_, '_>, scope: Scope) -> Result<Option<Trigger>, Bad> {
    let Some((word, at)) = f.word("when")? else {
        return Ok(None);
    };
    let when = value(WHENS, "when", &word, at)?;
    let (mut host, mut guest) = (None, None);
    if let Some((name, at)) = f.word("of")? {
        host = number(&name, 'h', scope.hosts);
        let guests = matches!(when, When::Placed | When::GuestStarts | When::GuestStops);
        guest = number(&name, 'g', scope.guests).filter(|_| guests);
        if host.is_none() && guest.is_none() {
            let mut allowed = format!("h1 to h{}", scope.hosts);
            if guests {
                allowed += &format!(", g1 to g{}", scope.guests);
            }
            return Err((at, format!("{word} of {name:?}; allowed: {allowed}")));
        }
    }
    let (after, before) = (f.seconds("after")?, f.seconds("before")?);
    let before_at = f.place("before");
    let (after, before) = (after.unwrap_or(0), before.unwrap_or(u64::MAX));
    if before < after {
        let what = "before is earlier than after; expected a later time".to_owned();
        return Err((before_at, what));
    }
    f.that = true;
    Ok(Some(Trigger {
        when,
        host,
        guest,
        after,
        before,
        nth: f.whole("nth", 1, 1_000_000)?.unwrap_or(1) as u32,
        times: f.whole("times", 1, 1_000_000)?.unwrap_or(1) as u32,
        delay: f.seconds("delay")?.unwrap_or(0),
        action: Action::Heal,
    }))
}
