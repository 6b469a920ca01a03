//! Scenarios of any [protocol](crate::protocol).
//!
//! ```toml
//! [world]
//! nodes = 3
//! healed = 20
//! end = 30
//!
//! [[at]]
//! time = 5.0
//! do = "isolate"
//! node = "n1"
//! for = 2.5
//! ```
//!
//! Times and lengths are seconds, nodes are `n1`, `n2` and so on. A step without `for` stays.

use super::fields::{Fields, decimal, wrong};
use super::steps::{fraction, millis, seconds};
use super::{Bad, BadScenario};
use crate::protocol::{Fault, Moment, NodeName, Plan, Shape, Side, Step};
use crate::world::{Clock, MS, SECOND, SESSION_CLASS};
use std::fmt::Write;
use toml::Spanned;
use toml::de::DeValue;

/// Most nodes of a world.
const NODES_MAX: u64 = 64;
/// What sessions are called where kinds of messages are.
const SESSIONS: &str = "session";

/// Verb, keys.
const VERBS: &[(&str, &str)] = &[
    ("cut", "from, to [, both]"),
    ("isolate", "node"),
    ("deaf", "node"),
    ("mute", "node"),
    ("partition", "groups"),
    ("bridge", "order [, one-way]"),
    ("ring", "order [, one-way]"),
    ("chain", "order [, one-way]"),
    ("star", "order [, one-way]"),
    ("only", "links = [[from, to], ..]"),
    ("flap", "from, to, period"),
    ("swizzle", "stop, release"),
    ("clog", "node"),
    ("block", "from, to, class"),
    ("noise", "loss, duplicate"),
    ("delay", "jitter-ms [, long, long-ms]"),
    ("crash", "node"),
    (
        "crash-after",
        "node, moment = writes | stored | tells [, nth]",
    ),
    ("pause", "node"),
    ("slow-disk", "node, from-ms, to-ms"),
    ("clock-jump", "node, by"),
    ("clock-rate", "node, ppm"),
    ("heal", ""),
];

/// Reads a scenario of a protocol whose kinds of messages have these names.
///
/// # Errors
/// File, line, column, what was found, what is allowed.
pub(crate) fn parse(file: &str, text: &str, classes: &[&str]) -> Result<Plan, BadScenario> {
    super::opened(file, text, |top, _| read(top, classes))
}

/// Words for help: every verb with its keys.
pub(crate) fn help() -> String {
    let mut text = String::from("verbs of [[at]] (each with `time`, and `for` if it ends):\n");
    for (verb, keys) in VERBS {
        text.push_str(&format!("  {verb:<12} {keys}\n"));
    }
    text
}

fn read(top: &mut Fields<'_, '_>, classes: &[&str]) -> Result<Plan, Bad> {
    let missing = "no [world]: it needs at least nodes";
    let world = top.table("world")?.ok_or((0, missing.to_owned()))?;
    let (healed_at, end_at) = (world.place("healed"), world.place("end"));
    let (mut plan, end) = shape(world)?;
    for (table, at) in top.tables("at")? {
        let mut f = Fields::new(table, at);
        let time = f.seconds("time")?;
        let time = time.ok_or((at, "no `time`: seconds from the beginning".to_owned()))?;
        if let Some(before) = plan.steps.last().map(|s| s.at).filter(|t| *t > time) {
            let (time, before) = (seconds(time), seconds(before));
            let what = format!("time goes back to {time} s; expected: {before} s or later");
            return Err((f.place("time"), what));
        }
        let lasts = f.seconds("for")?;
        let fault = fault(&mut f, plan.nodes, classes)?;
        f.finish()?;
        plan.steps.push(Step {
            at: time,
            lasts,
            fault,
        });
    }
    top.finish()?;
    let last = plan.steps.last().map_or(0, |s| s.at);
    if let Some(healed) = plan.healed.filter(|healed| *healed < last) {
        let (healed, last) = (seconds(healed), seconds(last));
        let what = format!("healed at {healed} s; expected: {last} s or later, the last step's");
        return Err((healed_at, what));
    }
    let last = plan.healed.unwrap_or(0).max(last);
    plan.end = end.unwrap_or(last + 10 * SECOND);
    if plan.end < last {
        let (end, last) = (seconds(plan.end), seconds(last));
        let what = format!("end is {end} s; expected: {last} s or later");
        return Err((end_at, what));
    }
    Ok(plan)
}

fn shape(mut f: Fields<'_, '_>) -> Result<(Plan, Option<u64>), Bad> {
    let at = f.at;
    let nodes = f.whole("nodes", 1, NODES_MAX)?;
    let nodes = nodes.ok_or((at, "no `nodes`".to_owned()))? as usize;
    let seed = super::shape::seed(&mut f)?;
    let mut plan = Plan::new(seed, nodes);
    if let Some([base, jitter]) = f.all_millis("delay-ms")? {
        plan.delay = (base, jitter);
    }
    plan.loss = f.whole("loss", 0, 1_000_000)?.unwrap_or(0) as u32;
    plan.duplicate = f.whole("duplicate", 0, 1_000_000)?.unwrap_or(0) as u32;
    let ahead = |v: &Spanned<DeValue<'_>>| {
        let found = decimal(v.get_ref()).filter(|s| (0.0..=100_000.0).contains(s));
        let ns = found.map(|s| (s * SECOND as f64).round() as u64);
        let allowed = "seconds from 0 to 100000";
        ns.ok_or_else(|| wrong(v, "clock-ahead", v.get_ref(), allowed))
    };
    if let Some(ahead) = f.each("clock-ahead", nodes, "node", ahead)? {
        for (clock, offset) in plan.clocks.iter_mut().zip(ahead) {
            clock.offset = offset;
        }
    }
    if let Some(rates) = f.each("clock-ppm", nodes, "node", ppm)? {
        for (clock, rate_ppb) in plan.clocks.iter_mut().zip(rates) {
            clock.rate_ppb = rate_ppb;
        }
    }
    plan.healed = f.seconds("healed")?;
    let end = f.seconds("end")?;
    f.finish()?;
    Ok((plan, end))
}

/// Parts per million, as parts per billion.
fn ppm(v: &Spanned<DeValue<'_>>) -> Result<i64, Bad> {
    let found = decimal(v.get_ref()).filter(|p| p.abs() <= 100_000.0);
    let allowed = "numbers from -100000 to 100000";
    let found = found.ok_or_else(|| wrong(v, "ppm", v.get_ref(), allowed))?;
    Ok((found * 1000.0).round() as i64)
}

/// Seconds ahead or back, as nanoseconds.
fn jump(v: &Spanned<DeValue<'_>>) -> Result<i64, Bad> {
    let found = decimal(v.get_ref()).filter(|s| s.abs() <= 100_000.0);
    let allowed = "seconds from -100000 to 100000";
    let found = found.ok_or_else(|| wrong(v, "by", v.get_ref(), allowed))?;
    Ok((found * SECOND as f64).round() as i64)
}

/// One value that must be there.
fn single<'t, T: Clone>(
    f: &mut Fields<'_, 't>,
    key: &'static str,
    read: impl Fn(&Spanned<DeValue<'t>>) -> Result<T, Bad>,
) -> Result<Option<T>, Bad> {
    Ok(f.each(key, 1, "step", read)?
        .and_then(|all| all.first().cloned()))
}

fn fault(f: &mut Fields<'_, '_>, nodes: usize, classes: &[&str]) -> Result<Fault, Bad> {
    let at = f.at;
    let verbs = || {
        let names: Vec<&str> = VERBS.iter().map(|v| v.0).collect();
        names.join(", ")
    };
    let found = f.word("do")?;
    let (verb, verb_at) = found.ok_or_else(|| (at, format!("no `do`; allowed: {}", verbs())))?;
    let keys = VERBS.iter().find(|v| v.0 == verb).map_or("", |v| v.1);
    let missing = |key: &str| (at, format!("{verb} needs `{key}` (its keys: {keys})"));
    macro_rules! node {
        ($key:literal) => {{
            let (word, at) = f.word($key)?.ok_or_else(|| missing($key))?;
            node(&word, at, nodes)?
        }};
    }
    macro_rules! whole {
        ($key:literal) => {
            f.whole($key, 0, 1_000_000)?.ok_or_else(|| missing($key))? as u32
        };
    }
    macro_rules! nodes {
        ($key:literal) => {{
            let list = f.array($key)?.ok_or_else(|| missing($key))?;
            list.iter()
                .map(|v| name(v, nodes))
                .collect::<Result<Vec<_>, Bad>>()?
        }};
    }
    macro_rules! lists {
        ($key:literal) => {{
            let list = f.array($key)?.ok_or_else(|| missing($key))?;
            let lists = list.iter().map(|group| match group.get_ref() {
                DeValue::Array(names) => names.iter().map(|v| name(v, nodes)).collect(),
                other => Err(wrong(group, $key, other, "a list of nodes")),
            });
            lists.collect::<Result<Vec<Vec<usize>>, Bad>>()?
        }};
    }
    let shape = |f: &mut Fields<'_, '_>, shape: Shape| {
        let place = f.place("order");
        let list = f.array("order")?.ok_or_else(|| missing("order"))?;
        let order: Vec<usize> = list
            .iter()
            .map(|v| name(v, nodes))
            .collect::<Result<_, _>>()?;
        let mut sorted = order.clone();
        sorted.sort_unstable();
        let least = shape.least();
        if nodes < least {
            return Err((
                verb_at,
                format!("{verb} needs {least} nodes; there are {nodes}"),
            ));
        }
        if sorted != (0..nodes).collect::<Vec<_>>() {
            let what = format!("order must name each of n1 to n{nodes} once");
            return Err((place, what));
        }
        let one_way = f.truth("one-way")?.unwrap_or(false);
        Ok(Fault::Shape {
            shape,
            order,
            one_way,
        })
    };
    Ok(match verb.as_str() {
        "cut" => Fault::Cut {
            from: node!("from"),
            to: node!("to"),
            both: f.truth("both")?.unwrap_or(false),
        },
        "isolate" | "deaf" | "mute" => Fault::Isolate {
            node: node!("node"),
            side: match verb.as_str() {
                "deaf" => Side::In,
                "mute" => Side::Out,
                _ => Side::Both,
            },
        },
        "partition" => Fault::Partition(lists!("groups")),
        "bridge" => shape(f, Shape::Bridge)?,
        "ring" => shape(f, Shape::Ring)?,
        "chain" => shape(f, Shape::Chain)?,
        "star" => shape(f, Shape::Star)?,
        "only" => {
            let place = f.place("links");
            let pairs = lists!("links").into_iter().map(|pair| match pair[..] {
                [a, b] => Ok((a, b)),
                _ => Err((place, "a link is [from, to]".to_owned())),
            });
            Fault::Only(pairs.collect::<Result<_, _>>()?)
        }
        "flap" => {
            let place = f.place("period");
            let period = f.seconds("period")?.ok_or_else(|| missing("period"))?;
            if period < 2 * MS {
                return Err((place, "period is below 0.002; allowed: more".to_owned()));
            }
            Fault::Flap {
                from: node!("from"),
                to: node!("to"),
                period,
            }
        }
        "swizzle" => Fault::Swizzle {
            stop: nodes!("stop"),
            release: nodes!("release"),
        },
        "clog" => Fault::Clog(node!("node")),
        "block" => {
            let (from, to) = (node!("from"), node!("to"));
            let (word, at) = f.word("class")?.ok_or_else(|| missing("class"))?;
            let known = classes.iter().position(|c| *c == word).map(|c| c as u8);
            let known = known.or((word == SESSIONS).then_some(SESSION_CLASS));
            let class = known.ok_or_else(|| {
                let allowed = classes.join(", ");
                (
                    at,
                    format!("class {word:?}; allowed: {allowed}, {SESSIONS}"),
                )
            })?;
            Fault::Block { from, to, class }
        }
        "noise" => Fault::Noise {
            loss: whole!("loss"),
            duplicate: whole!("duplicate"),
        },
        "delay" => Fault::Delay {
            jitter: f.millis("jitter-ms")?.ok_or_else(|| missing("jitter-ms"))?,
            long: f.whole("long", 0, 1_000_000)?.unwrap_or(0) as u32,
            long_max: f.millis("long-ms")?.unwrap_or(0),
        },
        "crash" => Fault::Crash(node!("node")),
        "crash-after" => {
            let (word, at) = f.word("moment")?.ok_or_else(|| missing("moment"))?;
            let known = Moment::ALL.into_iter().find(|m| m.name() == word);
            let moment = known.ok_or_else(|| {
                let allowed = Moment::ALL.map(Moment::name).join(", ");
                (at, format!("moment {word:?}; allowed: {allowed}"))
            })?;
            Fault::CrashAfter {
                node: node!("node"),
                moment,
                nth: f.whole("nth", 1, 1_000_000)?.unwrap_or(1) as u32,
            }
        }
        "pause" => Fault::Pause(node!("node")),
        "slow-disk" => {
            let low = f.millis("from-ms")?.ok_or_else(|| missing("from-ms"))?;
            let high = f.millis("to-ms")?.ok_or_else(|| missing("to-ms"))?;
            Fault::SlowDisk {
                node: node!("node"),
                delay: (low, high),
            }
        }
        "clock-jump" => Fault::ClockJump {
            node: node!("node"),
            by: single(f, "by", jump)?.ok_or_else(|| missing("by"))?,
        },
        "clock-rate" => Fault::ClockRate {
            node: node!("node"),
            ppb: single(f, "ppm", ppm)?.ok_or_else(|| missing("ppm"))?,
        },
        "heal" => Fault::Heal,
        _ => return Err((verb_at, format!("do {verb:?}; allowed: {}", verbs()))),
    })
}

fn name(v: &Spanned<DeValue<'_>>, nodes: usize) -> Result<usize, Bad> {
    match v.get_ref() {
        DeValue::String(word) => node(word, v.span().start, nodes),
        other => Err(wrong(v, "a node", other, "a text such as \"n1\"")),
    }
}

fn node(word: &str, at: usize, nodes: usize) -> Result<usize, Bad> {
    let number: Option<usize> = word.strip_prefix('n').and_then(|n| n.parse().ok());
    let found = number.filter(|n| (1..=nodes).contains(n)).map(|n| n - 1);
    found.ok_or_else(|| (at, format!("node {word:?}; allowed: n1 to n{nodes}")))
}

/// The plan as a scenario; [`parse`] gives it back.
pub(crate) fn write(plan: &Plan, classes: &[&str]) -> String {
    let mut text = String::from("[world]\n");
    let mut put = |key: &str, value: String| {
        let _ = writeln!(text, "{key} = {value}");
    };
    put("nodes", plan.nodes.to_string());
    if plan.seed > i64::MAX as u64 {
        put("seed", format!("\"{}\"", plan.seed));
    } else {
        put("seed", plan.seed.to_string());
    }
    put(
        "delay-ms",
        format!("[{}, {}]", millis(plan.delay.0), millis(plan.delay.1)),
    );
    if plan.loss > 0 {
        put("loss", plan.loss.to_string());
    }
    if plan.duplicate > 0 {
        put("duplicate", plan.duplicate.to_string());
    }
    let list = |one: &dyn Fn(&Clock) -> String| {
        let all: Vec<String> = plan.clocks.iter().map(one).collect();
        format!("[{}]", all.join(", "))
    };
    if plan.clocks.iter().any(|c| c.offset > 0) {
        put("clock-ahead", list(&|c| seconds(c.offset)));
    }
    if plan.clocks.iter().any(|c| c.rate_ppb != 0) {
        put("clock-ppm", list(&|c| signed(c.rate_ppb, 1000, 3)));
    }
    if let Some(healed) = plan.healed {
        put("healed", seconds(healed));
    }
    put("end", seconds(plan.end));
    for step in &plan.steps {
        let _ = write!(text, "\n[[at]]\ntime = {}\n", seconds(step.at));
        let _ = writeln!(text, "do = \"{}\"", step.fault.kind().name());
        for (key, value) in keys(&step.fault, classes) {
            let _ = writeln!(text, "{key} = {value}");
        }
        if let Some(lasts) = step.lasts {
            let _ = writeln!(text, "for = {}", seconds(lasts));
        }
    }
    text
}

/// The keys of a fault and their values.
fn keys(fault: &Fault, classes: &[&str]) -> Vec<(&'static str, String)> {
    let one = |n: &usize| format!("\"{}\"", NodeName(*n));
    let list = |nodes: &[usize]| {
        let names: Vec<String> = nodes.iter().map(one).collect();
        format!("[{}]", names.join(", "))
    };
    let lists = |all: Vec<String>| format!("[{}]", all.join(", "));
    match fault {
        Fault::Cut { from, to, both } => {
            let both = both.then(|| ("both", "true".to_owned()));
            let ends = [("from", one(from)), ("to", one(to))];
            ends.into_iter().chain(both).collect()
        }
        Fault::Isolate { node, .. } | Fault::Clog(node) => vec![("node", one(node))],
        Fault::Crash(node) | Fault::Pause(node) => vec![("node", one(node))],
        Fault::CrashAfter { node, moment, nth } => vec![
            ("node", one(node)),
            ("moment", format!("{:?}", moment.name())),
            ("nth", nth.to_string()),
        ],
        Fault::Partition(groups) => {
            vec![("groups", lists(groups.iter().map(|g| list(g)).collect()))]
        }
        Fault::Shape { order, one_way, .. } => {
            let one_way = one_way.then(|| ("one-way", "true".to_owned()));
            let order = ("order", list(order));
            [order].into_iter().chain(one_way).collect()
        }
        Fault::Only(left) => {
            let links = left.iter().map(|(a, b)| list(&[*a, *b]));
            vec![("links", lists(links.collect()))]
        }
        Fault::Flap { from, to, period } => vec![
            ("from", one(from)),
            ("to", one(to)),
            ("period", seconds(*period)),
        ],
        Fault::Swizzle { stop, release } => {
            vec![("stop", list(stop)), ("release", list(release))]
        }
        Fault::Block { from, to, class } => {
            let class = classes.get(usize::from(*class)).unwrap_or(&SESSIONS);
            let class = format!("{class:?}");
            vec![("from", one(from)), ("to", one(to)), ("class", class)]
        }
        Fault::Noise { loss, duplicate } => vec![
            ("loss", loss.to_string()),
            ("duplicate", duplicate.to_string()),
        ],
        Fault::Delay {
            jitter,
            long,
            long_max,
        } => vec![
            ("jitter-ms", millis(*jitter)),
            ("long", long.to_string()),
            ("long-ms", millis(*long_max)),
        ],
        Fault::SlowDisk { node, delay } => vec![
            ("node", one(node)),
            ("from-ms", millis(delay.0)),
            ("to-ms", millis(delay.1)),
        ],
        Fault::ClockJump { node, by } => {
            vec![("node", one(node)), ("by", signed(*by, SECOND, 9))]
        }
        Fault::ClockRate { node, ppb } => {
            vec![("node", one(node)), ("ppm", signed(*ppb, 1000, 3))]
        }
        Fault::Heal => Vec::new(),
    }
}

fn signed(value: i64, unit: u64, digits: usize) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let value = fraction(value.unsigned_abs(), unit, digits);
    format!("{sign}{value}")
}
