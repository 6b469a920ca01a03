//! What a fence agent says of itself: its parameters and verbs.

use roxmltree::{Document, ParsingOptions};
use std::collections::{BTreeMap, BTreeSet};

/// Elements and texts of a description; one with more is none.
const NODES_MAX: u32 = 20_000;
/// Chosen per call, or handed over always.
const OURS: [&str; 2] = ["action", "nodename"];

/// The description of a fence agent, as far as it is used here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    /// Names of parameters in one spelling, older names too.
    known: BTreeSet<String>,
    /// Those without which it does not work, each with its other names.
    needed: BTreeMap<String, Vec<String>>,
    verbs: BTreeSet<String>,
}

/// Agents take `-` and `_` as the same.
fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

impl Metadata {
    /// Reads what `metadata` prints; what stands before the description is passed over. `None` if
    /// there is no description, as with agents that have none.
    pub(super) fn read(text: &str) -> Option<Metadata> {
        let begin = text
            .find("<?xml")
            .or_else(|| text.find("<resource-agent"))?;
        let options = ParsingOptions {
            allow_dtd: true,
            nodes_limit: NODES_MAX,
            ..ParsingOptions::default()
        };
        let xml = Document::parse_with_options(&text[begin..], options).ok()?;
        let root = xml.root_element();
        if root.tag_name().name() != "resource-agent" {
            return None;
        }
        let mut found = Metadata::default();
        for node in root.descendants() {
            let Some(name) = node.attribute("name").map(folded) else {
                continue;
            };
            match node.tag_name().name() {
                "parameter" => {
                    let older: Vec<String> = node
                        .attribute("obsoletes")
                        .map(folded)
                        .into_iter()
                        .collect();
                    let given = node.children().any(|c| c.attribute("default").is_some());
                    let deprecated = node.attribute("deprecated") == Some("1");
                    if node.attribute("required") == Some("1") && !given && !deprecated {
                        found.needed.insert(name.clone(), older.clone());
                    }
                    found.known.extend(older);
                    found.known.insert(name);
                }
                "action" => drop(found.verbs.insert(name)),
                _ => {}
            }
        }
        (!found.known.is_empty()).then_some(found)
    }

    /// Whether the agent names this verb.
    pub(super) fn has(&self, verb: &str) -> bool {
        self.verbs.contains(verb)
    }

    /// What is wrong with these parameters, in words.
    pub(super) fn judge(&self, parameters: &BTreeMap<String, String>) -> Option<String> {
        let given: BTreeSet<String> = parameters.keys().map(|n| folded(n)).collect();
        // Old agents take one for the other without naming both.
        let alike = |name: &str| match name {
            "port" => Some("plug"),
            "plug" => Some("port"),
            _ => None,
        };
        let known = |n: &&String| {
            let other = alike(n).is_some_and(|other| self.known.contains(other));
            self.known.contains(*n) || OURS.contains(&n.as_str()) || other
        };
        let strange: Vec<&str> = given
            .iter()
            .filter(|n| !known(n))
            .map(String::as_str)
            .collect();
        let lacks = |(name, older): &(&String, &Vec<String>)| {
            let other = alike(name).is_some_and(|other| given.contains(other));
            let named = given.contains(*name) || older.iter().any(|n| given.contains(n));
            !named && !other && !OURS.contains(&name.as_str())
        };
        let lacking: Vec<&str> = self
            .needed
            .iter()
            .filter(lacks)
            .map(|(n, _)| n.as_str())
            .collect();
        let mut words = Vec::new();
        if !strange.is_empty() {
            words.push(format!(
                "its agent knows no parameter {}",
                strange.join(", ")
            ));
        }
        if !lacking.is_empty() {
            words.push(format!(
                "its agent needs the parameter {}",
                lacking.join(", ")
            ));
        }
        (!words.is_empty()).then(|| words.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APC: &str = r#"Warning: locale
<?xml version="1.0" ?>
<resource-agent name="fence_apc" shortdesc="x">
<parameters>
 <parameter name="action" required="1"><content type="string" default="reboot"/></parameter>
 <parameter name="ip" required="1" obsoletes="ipaddr"><content type="string"/></parameter>
 <parameter name="ipaddr" required="1" deprecated="1"><content type="string"/></parameter>
 <parameter name="plug" required="1" obsoletes="port"><content type="string"/></parameter>
 <parameter name="ssh_options" required="0"><content type="string"/></parameter>
</parameters>
<actions><action name="off"/><action name="status"/><action name="monitor"/></actions>
</resource-agent>"#;

    fn judged(parameters: &[(&str, &str)]) -> Option<String> {
        let parameters = parameters.iter();
        let parameters = parameters.map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Metadata::read(APC)
            .expect("a description")
            .judge(&parameters.collect())
    }

    #[test]
    fn misspelt_and_missing_parameters_are_named() {
        assert_eq!(judged(&[("ip", "a"), ("plug", "1")]), None);
        assert_eq!(
            judged(&[("ipaddr", "a"), ("port", "1"), ("ssh-options", "x")]),
            None
        );
        let wrong = judged(&[("ip", "a"), ("plg", "1")]).expect("wrong");
        assert!(
            wrong.contains("no parameter plg") && wrong.contains("needs the parameter plug"),
            "{wrong}"
        );
    }

    #[test]
    fn verbs_are_known_and_no_description_is_none() {
        let apc = Metadata::read(APC).expect("a description");
        assert!(apc.has("monitor") && !apc.has("reset"));
        for none in ["", "usage: x", "<a/>", "<resource-agent name='x'>"] {
            assert_eq!(Metadata::read(none), None, "{none}");
        }
    }
}
