//! A table of a TOML file, read key by key, so that every complaint names its place.
//!
//! Which keys exist is what was asked for: [`Section::finish`] refuses every other one and names
//! the nearest.

use crate::config::error::Fault;
use std::cell::RefCell;
use std::fmt::Display;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One table, its name, and the keys asked for so far.
pub(crate) struct Section<'a, 'i> {
    name: String,
    at: Range<usize>,
    table: &'a DeTable<'i>,
    asked: RefCell<Vec<&'static str>>,
}

/// A value with the place and full name it was found under.
#[derive(Clone, Debug)]
pub(crate) struct Found<T> {
    pub(crate) value: T,
    pub(crate) at: Range<usize>,
    pub(crate) key: String,
}

impl<T> Found<T> {
    /// A fault at this value.
    pub(crate) fn fault(&self, message: impl Into<String>) -> Fault {
        Fault {
            at: self.at.clone(),
            key: self.key.clone(),
            message: message.into(),
        }
    }
}

impl<'a, 'i> Section<'a, 'i> {
    /// The table `name`, standing at `at`.
    pub(crate) fn new(name: &str, at: Range<usize>, table: &'a DeTable<'i>) -> Section<'a, 'i> {
        Section {
            name: name.to_owned(),
            at,
            table,
            asked: RefCell::default(),
        }
    }

    /// A fault of the table as a whole.
    pub(crate) fn fault(&self, message: impl Into<String>) -> Fault {
        Fault {
            at: self.at.clone(),
            key: self.name.clone(),
            message: message.into(),
        }
    }

    /// A fault of what stands under `key`.
    pub(crate) fn fault_at(&self, key: &str, message: impl Into<String>) -> Fault {
        Fault {
            at: self.place_of(key),
            key: self.full(key),
            message: message.into(),
        }
    }

    fn full(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    fn look(&self, key: &'static str) -> Option<Found<&'a DeValue<'i>>> {
        self.asked.borrow_mut().push(key);
        let (_, value) = self.table.iter().find(|(k, _)| k.get_ref() == key)?;
        Some(Found {
            value: value.get_ref(),
            at: value.span(),
            key: self.full(key),
        })
    }

    /// Turns an absent key into a fault that names it.
    pub(crate) fn need<T>(
        &self,
        key: &'static str,
        found: Option<T>,
        allowed: &str,
    ) -> Result<T, Fault> {
        found.ok_or_else(|| Fault {
            at: self.at.clone(),
            key: self.full(key),
            message: format!("is missing; needed: {allowed}"),
        })
    }

    /// A string, if the key is there.
    pub(crate) fn text(&self, key: &'static str) -> Result<Option<Found<String>>, Fault> {
        self.look(key)
            .map(|found| match found.value.as_str() {
                Some(s) => Ok(Found {
                    value: s.to_owned(),
                    at: found.at,
                    key: found.key,
                }),
                None => Err(wrong(&found, "a string in quotes")),
            })
            .transpose()
    }

    /// A string that is parsed, if the key is there.
    pub(crate) fn parsed<T: FromStr>(
        &self,
        key: &'static str,
        allowed: &str,
    ) -> Result<Option<Found<T>>, Fault> {
        self.text(key)?
            .map(|found| parse(&found, allowed))
            .transpose()
    }

    /// A path, if the key is there; it must be absolute, because a daemon has no place of its own.
    pub(crate) fn path(&self, key: &'static str) -> Result<Option<PathBuf>, Fault> {
        self.text(key)?.map(|found| absolute(&found)).transpose()
    }

    /// `true` or `false`, if the key is there.
    pub(crate) fn flag(&self, key: &'static str) -> Result<Option<bool>, Fault> {
        self.look(key)
            .map(|found| match found.value.as_bool() {
                Some(b) => Ok(b),
                None => Err(wrong(&found, "true or false")),
            })
            .transpose()
    }

    /// A whole number within bounds, if the key is there.
    pub(crate) fn number(
        &self,
        key: &'static str,
        least: u64,
        most: u64,
    ) -> Result<Option<Found<u64>>, Fault> {
        self.look(key)
            .map(|found| number(&found, least, most))
            .transpose()
    }

    /// A list of numbers within bounds, if the key is there.
    pub(crate) fn numbers(
        &self,
        key: &'static str,
        least: u64,
        most: u64,
    ) -> Result<Option<Found<Vec<Found<u64>>>>, Fault> {
        self.list(key, "a list of whole numbers", |item| {
            number(item, least, most)
        })
    }

    /// A list of strings, if the key is there.
    pub(crate) fn texts(
        &self,
        key: &'static str,
    ) -> Result<Option<Found<Vec<Found<String>>>>, Fault> {
        self.list(key, "a list of strings", |item| match item.value.as_str() {
            Some(s) => Ok(Found {
                value: s.to_owned(),
                at: item.at.clone(),
                key: item.key.clone(),
            }),
            None => Err(wrong(item, "a string in quotes")),
        })
    }

    fn list<T>(
        &self,
        key: &'static str,
        allowed: &str,
        read: impl Fn(&Found<&'a DeValue<'i>>) -> Result<T, Fault>,
    ) -> Result<Option<Found<Vec<T>>>, Fault> {
        let Some(found) = self.look(key) else {
            return Ok(None);
        };
        let Some(items) = found.value.as_array() else {
            return Err(wrong(&found, allowed));
        };
        let value = items
            .iter()
            .enumerate()
            .map(|(i, item)| read(&element(&found.key, i, item)))
            .collect::<Result<Vec<T>, Fault>>()?;
        Ok(Some(Found {
            value,
            at: found.at,
            key: found.key,
        }))
    }

    /// The table under `key`, if it is there.
    pub(crate) fn table(&self, key: &'static str) -> Result<Option<Section<'a, 'i>>, Fault> {
        self.look(key)
            .map(|found| match found.value.as_table() {
                Some(table) => Ok(Section::new(&found.key, found.at, table)),
                None => Err(wrong(&found, &format!("a table [{}]", self.full(key)))),
            })
            .transpose()
    }

    /// The tables of the list under `key`; none if the key is absent.
    pub(crate) fn tables(&self, key: &'static str) -> Result<Vec<Section<'a, 'i>>, Fault> {
        let allowed = format!("tables [[{}]]", self.full(key));
        let found = self.list(key, &allowed, |item| match item.value.as_table() {
            Some(table) => Ok(Section::new(&item.key, item.at.clone(), table)),
            None => Err(wrong(item, &allowed)),
        })?;
        Ok(found.map(|f| f.value).unwrap_or_default())
    }

    /// Every key of the table with its string, whatever the keys are called.
    pub(crate) fn free_texts(&self) -> Result<Vec<(String, String)>, Fault> {
        self.table
            .iter()
            .map(|(key, value)| {
                // What was found is not shown: it may be a password.
                match value.get_ref().as_str() {
                    Some(s) => Ok((key.get_ref().to_string(), s.to_owned())),
                    None => Err(Fault {
                        at: value.span(),
                        key: self.full(key.get_ref()),
                        message: "is not a string in quotes, the only thing allowed here".into(),
                    }),
                }
            })
            .collect()
    }

    /// Where the value of `key` stands, or the table if the key is absent.
    pub(crate) fn place_of(&self, key: &str) -> Range<usize> {
        self.table
            .iter()
            .find(|(k, _)| k.get_ref() == key)
            .map_or(self.at.clone(), |(_, v)| v.span())
    }

    /// Refuses keys that nobody asked for.
    pub(crate) fn finish(&self) -> Result<(), Fault> {
        let asked = self.asked.borrow();
        let first = self
            .table
            .iter()
            .filter(|(key, _)| !asked.iter().any(|a| key.get_ref() == a))
            .min_by_key(|(key, _)| key.span().start);
        let Some((key, _)) = first else {
            return Ok(());
        };
        let near = asked
            .iter()
            .map(|a| (distance(a, key.get_ref()), *a))
            .min()
            .filter(|(d, a)| *d <= 1 + a.len() / 3);
        let message = match near {
            Some((_, near)) => format!("is unknown; did you mean `{near}`?"),
            None => format!("is unknown; allowed: {}", asked.join(", ")),
        };
        Err(Fault {
            at: key.span(),
            key: self.full(key.get_ref()),
            message,
        })
    }
}

fn element<'a, 'i>(
    list: &str,
    index: usize,
    item: &'a Spanned<DeValue<'i>>,
) -> Found<&'a DeValue<'i>> {
    Found {
        value: item.get_ref(),
        at: item.span(),
        key: format!("{list}[{index}]"),
    }
}

/// Parses a string that was found.
pub(crate) fn parse<T: FromStr>(found: &Found<String>, allowed: &str) -> Result<Found<T>, Fault> {
    match found.value.parse() {
        Ok(value) => Ok(Found {
            value,
            at: found.at.clone(),
            key: found.key.clone(),
        }),
        Err(_) => Err(found.fault(expected(format!("{:?}", found.value), allowed))),
    }
}

/// Refuses a path that is not absolute.
pub(crate) fn absolute(found: &Found<String>) -> Result<PathBuf, Fault> {
    let path = PathBuf::from(&found.value);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(found.fault(expected(format!("{:?}", found.value), "an absolute path")))
    }
}

fn number(found: &Found<&DeValue<'_>>, least: u64, most: u64) -> Result<Found<u64>, Fault> {
    let allowed = format!("a whole number from {least} to {most}");
    let Some(integer) = found.value.as_integer() else {
        return Err(wrong(found, &allowed));
    };
    let value = u64::from_str_radix(integer.as_str(), integer.radix())
        .ok()
        .filter(|n| (least..=most).contains(n))
        .ok_or_else(|| found.fault(expected(integer.as_str(), &allowed)))?;
    Ok(Found {
        value,
        at: found.at.clone(),
        key: found.key.clone(),
    })
}

fn wrong(found: &Found<&DeValue<'_>>, allowed: &str) -> Fault {
    let what = match found.value {
        DeValue::String(s) => format!("the string {:?}", s.as_ref()),
        DeValue::Integer(n) => format!("the number {}", n.as_str()),
        DeValue::Float(n) => format!("the number {}", n.as_str()),
        DeValue::Boolean(b) => b.to_string(),
        DeValue::Datetime(d) => format!("the date {d}"),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    };
    found.fault(expected(&what, allowed))
}

/// The common form of a complaint.
pub(crate) fn expected(found: impl Display, allowed: &str) -> String {
    format!("found {found}; allowed: {allowed}")
}

/// Letters to insert, drop or replace to turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replace = corner + usize::from(ca != *cb);
            corner = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}
