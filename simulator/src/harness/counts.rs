//! How often things came up in a run or in many.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// How often something came up, by name; a name of the form `group: name` belongs to that group.
/// Zeros in a hunt mean that it proved nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts(pub BTreeMap<Cow<'static, str>, u64>);

impl Counts {
    /// Counts `n` more of a name; the name is there from then on, if only with 0.
    pub fn add(&mut self, name: impl Into<Cow<'static, str>>, n: u64) {
        *self.0.entry(name.into()).or_insert(0) += n;
    }

    /// So often.
    #[must_use]
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Adds another run's.
    pub fn merge(&mut self, other: &Counts) {
        for (name, n) in &other.0 {
            match self.0.get_mut(name) {
                Some(known) => *known += n,
                None => self.add(name.clone(), *n),
            }
        }
    }
}

impl fmt::Display for Counts {
    /// One line for each group, those of none first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (name, n) in &self.0 {
            let (group, name) = name.split_once(": ").unwrap_or(("", name));
            groups.entry(group).or_default().push(format!("{n} {name}"));
        }
        for (at, (group, words)) in groups.iter().enumerate() {
            let group = if group.is_empty() { "all" } else { group };
            let lead = if at > 0 { "\n" } else { "" };
            write!(f, "{lead}{group:<8} {}", words.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_lines_of_their_own() {
        let mut counts = Counts::default();
        counts.add("runs", 2);
        counts.add("fault: cut", 3);
        counts.add(format!("fault: {}", "crash"), 0);
        let mut more = Counts::default();
        more.add("runs", 1);
        counts.merge(&more);
        assert_eq!(counts.of("runs"), 3);
        assert_eq!(
            counts.to_string(),
            "all      3 runs\nfault    0 crash, 3 cut"
        );
    }
}
