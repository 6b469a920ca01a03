//! Reading a TOML table key by key, with the place of everything that is wrong.

use super::Bad;
use crate::cluster::action::Who;
use crate::world::SECOND;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// What names can stand for in a scenario.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    pub(super) hosts: usize,
    pub(super) guests: usize,
    pub(super) networks: usize,
}

/// A text, and where each of its lines begins.
pub(super) struct Lines<'a>(&'a str, Vec<usize>);

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Lines<'a> {
        let newlines = text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
        let starts = std::iter::once(0).chain(newlines.map(|(i, _)| i + 1));
        Lines(text, starts.collect())
    }

    /// The line, from 1, of a byte offset.
    pub(super) fn of(&self, offset: usize) -> usize {
        self.1.partition_point(|start| *start <= offset)
    }

    /// The column, from 1 and in characters, of a byte offset.
    pub(super) fn column(&self, offset: usize) -> usize {
        let start = self.1[self.of(offset) - 1];
        let before = self.0.get(start..offset).unwrap_or_default();
        before.chars().count() + 1
    }
}

/// A table whose keys are taken one by one; what is left over is an error.
pub(super) struct Fields<'t, 'a> {
    table: &'t DeTable<'a>,
    asked: Vec<&'static str>,
    /// Where the table is.
    pub(super) at: usize,
    /// `that-host` means something here: the step waits for something to happen to a host.
    pub(super) that: bool,
}

impl<'t, 'a> Fields<'t, 'a> {
    pub(super) fn new(table: &'t DeTable<'a>, at: usize) -> Fields<'t, 'a> {
        Fields {
            table,
            asked: Vec::new(),
            at,
            that: false,
        }
    }

    fn get(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'a>>> {
        self.asked.push(key);
        let found = self.table.iter().find(|(k, _)| k.get_ref() == key);
        found.map(|(_, v)| v)
    }

    /// Every key was asked for.
    pub(super) fn finish(&self) -> Result<(), Bad> {
        let unknown = |k: &str| !self.asked.contains(&k);
        match self.table.iter().find(|(k, _)| unknown(k.get_ref())) {
            Some((k, _)) => {
                let allowed = self.asked.join(", ");
                let what = format!("key {:?} is unknown here; allowed: {allowed}", k.get_ref());
                Err((k.span().start, what))
            }
            None => Ok(()),
        }
    }

    pub(super) fn table(&mut self, key: &'static str) -> Result<Option<Fields<'t, 'a>>, Bad> {
        let Some(v) = self.get(key) else {
            return Ok(None);
        };
        match v.get_ref() {
            DeValue::Table(t) => Ok(Some(Fields::new(t, v.span().start))),
            other => Err(wrong(v, key, other, "a table")),
        }
    }

    pub(super) fn tables(
        &mut self,
        key: &'static str,
    ) -> Result<Vec<(&'t DeTable<'a>, usize)>, Bad> {
        let Some(v) = self.get(key) else {
            return Ok(Vec::new());
        };
        let DeValue::Array(items) = v.get_ref() else {
            return Err(wrong(v, key, v.get_ref(), "a list of tables"));
        };
        let one = |item: &'t Spanned<DeValue<'a>>| match item.get_ref() {
            DeValue::Table(t) => Ok((t, item.span().start)),
            other => Err(wrong(item, key, other, "a table")),
        };
        items.iter().map(one).collect()
    }

    pub(super) fn array(&mut self, key: &'static str) -> Result<Option<&'t DeArray<'a>>, Bad> {
        let Some(v) = self.get(key) else {
            return Ok(None);
        };
        match v.get_ref() {
            DeValue::Array(items) => Ok(Some(items)),
            other => Err(wrong(v, key, other, "a list")),
        }
    }

    pub(super) fn word(&mut self, key: &'static str) -> Result<Option<(String, usize)>, Bad> {
        let Some(v) = self.get(key) else {
            return Ok(None);
        };
        match v.get_ref() {
            DeValue::String(s) => Ok(Some((s.to_string(), v.span().start))),
            other => Err(wrong(v, key, other, "a text")),
        }
    }

    /// One text, or a list of them.
    pub(super) fn texts(&mut self, key: &'static str) -> Result<Option<Vec<(String, usize)>>, Bad> {
        let Some(v) = self.get(key) else {
            return Ok(None);
        };
        let one = |v: &Spanned<DeValue<'_>>| match v.get_ref() {
            DeValue::String(s) => Ok((s.to_string(), v.span().start)),
            other => Err(wrong(v, key, other, "a text, or a list of texts")),
        };
        match v.get_ref() {
            DeValue::Array(items) => items.iter().map(one).collect::<Result<_, _>>().map(Some),
            _ => Ok(Some(vec![one(v)?])),
        }
    }

    pub(super) fn truth(&mut self, key: &'static str) -> Result<Option<bool>, Bad> {
        let Some(v) = self.get(key) else {
            return Ok(None);
        };
        truth(v, key).map(Some)
    }

    /// Seconds, as nanoseconds: every nanosecond of a drawn plan can be written and read back.
    pub(super) fn seconds(&mut self, key: &'static str) -> Result<Option<u64>, Bad> {
        let Some(v) = self.get(key) else {
            return Ok(None);
        };
        match decimal(v.get_ref()) {
            Some(s) if (0.0..=100_000.0).contains(&s) => {
                Ok(Some((s * SECOND as f64).round() as u64))
            }
            _ => Err(wrong(v, key, v.get_ref(), "seconds from 0 to 100000")),
        }
    }

    /// Milliseconds up to a minute, as nanoseconds.
    pub(super) fn millis(&mut self, key: &'static str) -> Result<Option<u64>, Bad> {
        let Some(v) = self.get(key) else {
            return Ok(None);
        };
        let found = millis(v.get_ref()).ok_or_else(|| wrong(v, key, v.get_ref(), MILLIS))?;
        Ok(Some(found))
    }

    /// Exactly `N` lengths in milliseconds, as nanoseconds.
    pub(super) fn all_millis<const N: usize>(
        &mut self,
        key: &'static str,
    ) -> Result<Option<[u64; N]>, Bad> {
        let at = self.place(key);
        let Some(items) = self.array(key)? else {
            return Ok(None);
        };
        let one = |item: &Spanned<DeValue<'_>>| {
            millis(item.get_ref()).ok_or_else(|| wrong(item, key, item.get_ref(), MILLIS))
        };
        let found: Vec<u64> = items.iter().map(one).collect::<Result<_, _>>()?;
        let count = found.len();
        let wrong = |_| (at, format!("{key} has {count} numbers; expected {N}"));
        found.try_into().map(Some).map_err(wrong)
    }

    /// Where a key's value is; the table's place if it has none.
    pub(super) fn place(&self, key: &str) -> usize {
        let found = self.table.iter().find(|(k, _)| k.get_ref() == key);
        found.map_or(self.at, |(_, v)| v.span().start)
    }

    /// Whether a key's value is a text.
    pub(super) fn is_text(&self, key: &str) -> bool {
        let found = self.table.iter().find(|(k, _)| k.get_ref() == key);
        found.is_some_and(|(_, v)| matches!(v.get_ref(), DeValue::String(_)))
    }

    /// One value for all hosts or guests, or a list with one for each; `what` are `many` things.
    pub(super) fn each<T: Clone>(
        &mut self,
        key: &'static str,
        many: usize,
        what: &str,
        read: impl Fn(&Spanned<DeValue<'a>>) -> Result<T, Bad>,
    ) -> Result<Option<Vec<T>>, Bad> {
        let Some(v) = self.get(key) else {
            return Ok(None);
        };
        let DeValue::Array(items) = v.get_ref() else {
            return Ok(Some(vec![read(v)?; many]));
        };
        if items.len() != many {
            let count = items.len();
            let what = format!("{key} is a list of {count}; expected {many}, one for each {what}");
            return Err((v.span().start, what));
        }
        items.iter().map(read).collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn whole(
        &mut self,
        key: &'static str,
        low: u64,
        high: u64,
    ) -> Result<Option<u64>, Bad> {
        let Some(v) = self.get(key) else {
            return Ok(None);
        };
        let number = match v.get_ref() {
            DeValue::Integer(i) => i.to_string().parse::<u64>().ok(),
            _ => None,
        };
        match number {
            Some(n) if (low..=high).contains(&n) => Ok(Some(n)),
            _ => {
                let allowed = format!("a whole number from {low} to {high}");
                Err(wrong(v, key, v.get_ref(), &allowed))
            }
        }
    }

    pub(super) fn guest(&mut self, key: &'static str, guests: usize) -> Result<Option<usize>, Bad> {
        let Some((word, at)) = self.word(key)? else {
            return Ok(None);
        };
        let found = number(&word, 'g', guests);
        found
            .map(Some)
            .ok_or((at, format!("{key} {word:?}; allowed: g1 to g{guests}")))
    }

    pub(super) fn host_number(
        &mut self,
        key: &'static str,
        hosts: usize,
    ) -> Result<Option<usize>, Bad> {
        let Some((word, at)) = self.word(key)? else {
            return Ok(None);
        };
        let found = number(&word, 'h', hosts);
        found
            .map(Some)
            .ok_or((at, format!("{key} {word:?}; allowed: h1 to h{hosts}")))
    }

    pub(super) fn who(&mut self, key: &'static str, scope: Scope) -> Result<Option<Who>, Bad> {
        match self.word(key)? {
            Some((word, at)) => self.named(&word, at, scope).map(Some),
            None => Ok(None),
        }
    }

    /// A list of hosts.
    pub(super) fn whos(
        &mut self,
        key: &'static str,
        scope: Scope,
    ) -> Result<Option<Vec<Who>>, Bad> {
        match self.array(key)? {
            Some(items) => self.members(items, scope).map(Some),
            None => Ok(None),
        }
    }

    /// Lists of hosts; none stands in two of them.
    pub(super) fn groups(
        &mut self,
        key: &'static str,
        scope: Scope,
    ) -> Result<Option<Vec<Vec<Who>>>, Bad> {
        let Some(lists) = self.array(key)? else {
            return Ok(None);
        };
        let mut groups = Vec::new();
        let mut before: Vec<Who> = Vec::new();
        for group in lists.iter() {
            let place = group.span().start;
            let DeValue::Array(items) = group.get_ref() else {
                return Err((place, "a group is a list of hosts".to_owned()));
            };
            let members = self.members(items, scope)?;
            if let Some(twice) = members.iter().position(|m| before.contains(m)) {
                let place = items.get(twice).map_or(place, |v| v.span().start);
                let what = "this host stands in two groups; expected one at most";
                return Err((place, what.to_owned()));
            }
            before.extend(members.iter().cloned());
            groups.push(members);
        }
        Ok(Some(groups))
    }

    fn members(&self, items: &DeArray<'_>, scope: Scope) -> Result<Vec<Who>, Bad> {
        let one = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
            DeValue::String(name) => self.named(name, item.span().start, scope),
            _ => Err((item.span().start, "a group is a list of hosts".to_owned())),
        };
        items.iter().map(one).collect()
    }

    fn named(&self, word: &str, at: usize, scope: Scope) -> Result<Who, Bad> {
        let found = who(word, at, scope)?;
        if found == Who::That && !self.that {
            let what = "that-host is for steps with `when` only: it is whom that happened to";
            return Err((at, what.to_owned()));
        }
        Ok(found)
    }
}

/// What lengths in milliseconds may be.
const MILLIS: &str = "milliseconds from 0 to 60000";

fn millis(v: &DeValue<'_>) -> Option<u64> {
    let number = decimal(v).filter(|ms| (0.0..=60_000.0).contains(ms))?;
    Some((number * (SECOND / 1000) as f64).round() as u64)
}

/// A number with or without a fraction.
pub(super) fn decimal(v: &DeValue<'_>) -> Option<f64> {
    match v {
        DeValue::Integer(i) => i.to_string().parse().ok(),
        DeValue::Float(f) => f.to_string().parse().ok(),
        _ => None,
    }
}

/// True or false.
pub(super) fn truth(v: &Spanned<DeValue<'_>>, key: &str) -> Result<bool, Bad> {
    match v.get_ref() {
        DeValue::Boolean(b) => Ok(*b),
        other => Err(wrong(v, key, other, "true or false")),
    }
}

pub(super) fn number(word: &str, letter: char, most: usize) -> Option<usize> {
    let digits = word.strip_prefix(letter)?;
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    let n: usize = digits.parse().ok().filter(|_| plain)?;
    (1..=most).contains(&n).then(|| n - 1)
}

/// A host by name or by what it is.
fn who(word: &str, at: usize, scope: Scope) -> Result<Who, Bad> {
    let Scope { hosts, guests, .. } = scope;
    let found = match word {
        "coordinator" => Some(Who::Coordinator),
        "other-voter" => Some(Who::OtherVoter),
        "that-host" => Some(Who::That),
        _ => match word.strip_prefix("host-of-") {
            Some(guest) => number(guest, 'g', guests).map(Who::HostOf),
            None => number(word, 'h', hosts).map(Who::Host),
        },
    };
    found.ok_or_else(|| {
        let what = format!(
            "host {word:?}; allowed: h1 to h{hosts}, coordinator, other-voter, that-host, host-of-g1 to host-of-g{guests}"
        );
        (at, what)
    })
}

pub(super) fn wrong(
    v: &Spanned<DeValue<'_>>,
    key: &str,
    found: &DeValue<'_>,
    allowed: &str,
) -> Bad {
    let found = match found {
        DeValue::String(s) => format!("{:?}", s.as_ref()),
        DeValue::Integer(i) => i.to_string(),
        DeValue::Float(f) => f.to_string(),
        DeValue::Boolean(b) => b.to_string(),
        DeValue::Datetime(d) => d.to_string(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    };
    (
        v.span().start,
        format!("{key} is {found}; allowed: {allowed}"),
    )
}
