//! What an agent says of itself: its parameters and how long its actions may take.

use roxmltree::{Document, ParsingOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Elements and texts of a description; one with more is none.
const NODES_MAX: u32 = 20_000;
/// For an action of which the agent says nothing.
const USUAL: Duration = Duration::from_secs(20);
/// No action is waited for longer, whatever the agent says.
const LONGEST: Duration = Duration::from_secs(3600);

/// The description of an agent, as far as it is used here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Every parameter it names.
    pub parameters: BTreeSet<String>,
    /// Those without which it does not work.
    pub required: BTreeSet<String>,
    timeouts: BTreeMap<String, Duration>,
}

impl Metadata {
    /// Reads what `meta-data` prints.
    ///
    /// # Errors
    /// Place and cause.
    pub fn read(text: &str) -> Result<Metadata, String> {
        // The specification wants a document type; roxmltree fetches nothing and bounds entities.
        let options = ParsingOptions {
            allow_dtd: true,
            nodes_limit: NODES_MAX,
            ..ParsingOptions::default()
        };
        let xml = Document::parse_with_options(text, options).map_err(|e| e.to_string())?;
        let root = xml.root_element();
        if root.tag_name().name() != "resource-agent" {
            return Err(format!(
                "its first element is {:?}, resource-agent is expected",
                root.tag_name().name()
            ));
        }
        let mut found = Metadata::default();
        for node in root.descendants() {
            let Some(name) = node.attribute("name") else {
                continue;
            };
            match node.tag_name().name() {
                "parameter" => {
                    found.parameters.insert(name.to_owned());
                    let given = node.children().any(|c| {
                        c.tag_name().name() == "content"
                            && c.attribute("default").is_some_and(|d| !d.is_empty())
                    });
                    // Some name as required what has a default all the same.
                    if matches!(node.attribute("required"), Some("1" | "true")) && !given {
                        found.required.insert(name.to_owned());
                    }
                }
                "action" => {
                    if let Some(limit) = node.attribute("timeout").and_then(duration) {
                        // A monitor may stand there once for each depth and role.
                        let longest = found.timeouts.entry(name.to_owned()).or_default();
                        *longest = limit.min(LONGEST).max(*longest);
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// The required parameters that are not given.
    #[must_use]
    pub fn missing(&self, given: &BTreeMap<String, String>) -> Vec<&str> {
        let missing = self.required.iter().filter(|n| !given.contains_key(*n));
        missing.map(String::as_str).collect()
    }

    /// Given parameters that the agent says nothing of, in words.
    #[must_use]
    pub fn strange(&self, agent: &str, given: &BTreeMap<String, String>) -> Vec<String> {
        let known: Vec<&str> = self.parameters.iter().map(String::as_str).collect();
        let strange = given.keys().filter(|name| !self.parameters.contains(*name));
        strange
            .map(|name| {
                format!(
                    "agent {agent} does not name the parameter {name}; it names {}",
                    known.join(", ")
                )
            })
            .collect()
    }

    /// How long an action may take.
    #[must_use]
    pub fn timeout(&self, action: &str) -> Duration {
        let said = self.timeouts.get(action).copied();
        said.filter(|d| !d.is_zero()).unwrap_or(USUAL)
    }
}

/// `20`, `20s`, `20sec`, `500ms`, `2min`, `1h`: a bare number is seconds.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let number: u64 = number.parse().ok()?;
    let ms = match unit.trim() {
        "" | "s" | "sec" => number.checked_mul(1000)?,
        "ms" | "msec" => number,
        "m" | "min" => number.checked_mul(60_000)?,
        "h" | "hr" => number.checked_mul(3_600_000)?,
        _ => return None,
    };
    Some(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
<resource-agent name="X" version="1.0"><version>1.0</version>
<parameters>
<parameter name="ip" unique="1" required="1"><content type="string" default=""/></parameter>
<parameter name="device" required="1"><content type="string"/></parameter>
<parameter name="nic" required="1"><content type="string" default="eth0"/></parameter>
</parameters>
<actions>
<action name="start" timeout="60s"/><action name="stop" timeout="500ms"/>
<action name="monitor" depth="0" timeout="20" interval="10s"/>
<action name="monitor" depth="10" timeout="2min"/>
<action name="reload" timeout="soon"/>
</actions></resource-agent>"#;

    #[test]
    fn parameters_and_timeouts_are_read() {
        let read = Metadata::read(GOOD).expect("good");
        assert!(read.parameters.contains("nic"));
        assert_eq!(read.required, ["device".to_owned(), "ip".to_owned()].into());
        assert_eq!(read.timeout("start"), Duration::from_secs(60));
        assert_eq!(read.timeout("stop"), Duration::from_millis(500));
        assert_eq!(read.timeout("monitor"), Duration::from_secs(120));
        assert_eq!(read.timeout("reload"), USUAL);
        assert_eq!(read.timeout("validate-all"), USUAL);
    }

    #[test]
    fn what_is_no_description_is_refused() {
        for bad in ["", "hello", "<a/>", "<resource-agent>", &GOOD[..300]] {
            assert!(Metadata::read(bad).is_err(), "{bad:?}");
        }
        let many = format!(
            "<resource-agent>{}</resource-agent>",
            "<a/>".repeat(NODES_MAX as usize)
        );
        assert!(Metadata::read(&many).is_err());
        let bomb = r#"<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;">]>
<resource-agent><x>&d;&d;&d;&d;&d;&d;&d;&d;</x></resource-agent>"#;
        assert!(Metadata::read(bomb).is_err());
    }
}
