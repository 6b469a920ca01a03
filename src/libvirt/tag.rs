//! The tag by which a domain is known as ours, and the description it is created from.

use crate::guardian::records::{self, RunDir, parse_hex};
use quorate_membership::Token;
use quorate_recovery::domain::{parse_uuid, uuid};
use quorate_recovery::guest::GuestId;
use roxmltree::{Document, Node};
use std::fmt::Write as _;
use std::ops::Range;

/// The XML name space of the tag.
pub const NAMESPACE: &str = "https://github.com/quorate/quorate/domain/1";
/// libvirt's own for what it hands on to QEMU.
const QEMU: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

/// Whose a domain is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The guest.
    pub guest: GuestId,
    /// The epoch it was created under.
    pub epoch: Token,
    /// The cluster that protects it.
    pub cluster: String,
    /// UUID of the domain it was made for: a copy of a description takes the tag along. Tags of
    /// before have none.
    pub domain: Option<u128>,
}

impl Tag {
    /// As an element that stands on its own.
    fn element(&self) -> String {
        let domain = self.domain.map(|id| format!(" domain=\"{}\"", uuid(id)));
        format!(
            "<quorate:guest xmlns:quorate=\"{NAMESPACE}\" id=\"{:016x}\" epoch=\"{:016x}\" \
             cluster=\"{}\"{}/>",
            self.guest.0,
            self.epoch.0,
            escape(&self.cluster),
            domain.unwrap_or_default()
        )
    }

    /// Reads the element that libvirt gives back.
    ///
    /// # Errors
    /// It is none of ours or of another version.
    pub fn read(xml: &str) -> Result<Tag, String> {
        let doc = Document::parse(xml).map_err(|e| e.to_string())?;
        let node = doc.root_element();
        let attribute = |name: &str| {
            node.attribute(name)
                .ok_or_else(|| format!("the tag has no {name}"))
        };
        let number = |name: &str| {
            parse_hex(attribute(name)?).ok_or_else(|| format!("the tag's {name} is no number"))
        };
        if node.tag_name().name() != "guest" {
            return Err(format!("the tag is a <{}>", node.tag_name().name()));
        }
        Ok(Tag {
            guest: GuestId(number("id")?),
            epoch: Token(number("epoch")?),
            cluster: attribute("cluster")?.to_owned(),
            domain: match node.attribute("domain") {
                Some(text) => Some(parse_uuid(text).ok_or("the tag's domain is no UUID")?),
                None => None,
            },
        })
    }

    /// Whether it was made for the domain with this UUID, and not for one that this was copied from.
    #[must_use]
    pub fn is_of(&self, domain: u128) -> bool {
        self.domain.is_none_or(|id| id == domain)
    }
}

/// What libvirt does by itself when the guest switches itself off, resets itself or panics. It is
/// ours to decide, so libvirt must not restart anything behind our back, nor end what we want to
/// look at:
///
/// * a guest that switches itself off is off, and one that resets itself goes on in its process;
///   with other settings the one would look like the other;
/// * a panicked guest stays as it is, for the evidence and for the remedy its policy names. Who
///   wants its memory dumped gets that first, and then it ends.
const IMPOSED: [(&str, &str); 3] = [
    ("on_poweroff", "destroy"),
    ("on_reboot", "restart"),
    ("on_crash", "preserve"),
];

/// The description a guest is created from: tagged, with the marks of the run directory in
/// QEMU's environment, and with nothing that libvirt does about its end by itself. A tag or marks
/// that it carries already, from a copy of a protected domain, give way.
///
/// # Errors
/// It is no description of a domain.
pub fn woven(xml: &str, tag: &Tag, run: Option<&RunDir>) -> Result<String, String> {
    let doc = Document::parse(xml).map_err(|e| e.to_string())?;
    let root = doc.root_element();
    if !root.has_tag_name("domain") {
        return Err("it does not describe a domain".into());
    }
    if xml[root.range()].ends_with("/>") {
        return Err("it describes nothing of the domain".into());
    }
    let mut edits: Vec<(Range<usize>, String)> = stale(root);
    let element = tag.element();
    match root.children().find(|n| n.has_tag_name("metadata")) {
        Some(metadata) => edits.push(append(xml, metadata, &element)?),
        None => edits.push(append(
            xml,
            root,
            &format!("<metadata>{element}</metadata>"),
        )?),
    }
    if let Some(run) = run {
        let dir = run.path().to_str();
        let dir = dir.ok_or("the path of the run directory is no UTF-8")?;
        let mut marks = vec![
            (records::MARK_DIR, escape(dir)),
            (records::MARK_GUEST, format!("{:016x}", tag.guest.0)),
            (records::MARK_EPOCH, format!("{:016x}", tag.epoch.0)),
        ];
        marks.extend(tag.domain.map(|id| (records::MARK_DOMAIN, uuid(id))));
        let mut lines = format!("<qm:commandline xmlns:qm=\"{QEMU}\">");
        for (name, value) in marks {
            let _ = write!(lines, "<qm:env name=\"{name}\" value=\"{value}\"/>");
        }
        lines.push_str("</qm:commandline>");
        edits.push(append(xml, root, &lines)?);
    }
    for (name, ours) in IMPOSED {
        let mut found = root.children().filter(|n| n.has_tag_name(name));
        let theirs = found.clone().next().and_then(|n| n.text()).unwrap_or("");
        let dumps = name == "on_crash" && theirs.trim().starts_with("coredump-");
        let action = if dumps { "coredump-destroy" } else { ours };
        let element = format!("<{name}>{action}</{name}>");
        match found.next() {
            Some(node) => edits.push((node.range(), element)),
            None => edits.push(append(xml, root, &element)?),
        }
        // libvirt takes the first of several; none of the others may become it.
        edits.extend(found.map(|n| (n.range(), String::new())));
    }
    // From the end, so that places before stay where they are; in one place, the later first.
    edits.sort_by_key(|(range, _)| range.start);
    let mut text = xml.to_owned();
    for (range, new) in edits.into_iter().rev() {
        text.replace_range(range, &new);
    }
    Ok(text)
}

/// Tags and marks that are there already.
fn stale(root: Node<'_, '_>) -> Vec<(Range<usize>, String)> {
    let marks = [
        records::MARK_DIR,
        records::MARK_GUEST,
        records::MARK_EPOCH,
        records::MARK_DOMAIN,
    ];
    let ours = |n: &Node<'_, '_>| {
        let of = |space: &str| n.tag_name().namespace() == Some(space);
        let mark = n
            .attribute("name")
            .is_some_and(|name| marks.contains(&name));
        (of(NAMESPACE) && n.parent().is_some_and(|p| p.has_tag_name("metadata")))
            || (of(QEMU) && n.tag_name().name() == "env" && mark)
    };
    let found = root.descendants().filter(ours);
    found.map(|n| (n.range(), String::new())).collect()
}

/// Where and how to put `new` at the end of an element.
fn append(xml: &str, node: Node<'_, '_>, new: &str) -> Result<(Range<usize>, String), String> {
    let range = node.range();
    let text = &xml[range.clone()];
    if let Some(open) = text.strip_suffix("/>") {
        // An element without content: its one tag becomes two.
        let name = open[1..].split(|c: char| c.is_whitespace()).next();
        let name = name.unwrap_or_default();
        let end = range.end;
        return Ok((end - 2..end, format!(">{new}</{name}>")));
    }
    let close = text.rfind("</").ok_or("an element has no end")?;
    let at = range.start + close;
    Ok((at..at, new.to_owned()))
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag() -> Tag {
        Tag {
            guest: GuestId(7),
            epoch: Token(u64::MAX),
            cluster: "a & \"b\" <c>".to_owned(),
            domain: Some(0x7ab0),
        }
    }

    /// The one element of a name space in a description, by local name.
    fn of<'a>(doc: &'a Document<'_>, space: &str, name: &str) -> Vec<Node<'a, 'a>> {
        doc.descendants()
            .filter(|n| n.tag_name().namespace() == Some(space) && n.tag_name().name() == name)
            .collect()
    }

    #[test]
    fn a_tag_comes_back_as_it_went() {
        assert_eq!(Tag::read(&tag().element()), Ok(tag()));
        assert!(tag().is_of(0x7ab0) && !tag().is_of(0x7ab1), "a copy of it");
        let before = Tag {
            domain: None,
            ..tag()
        };
        assert_eq!(Tag::read(&before.element()), Ok(before.clone()));
        assert!(before.is_of(9), "it names none");
        assert!(Tag::read("<guest id='1'/>").is_err());
        assert!(Tag::read("").is_err());
    }

    #[test]
    fn every_shape_of_a_description_takes_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let run = RunDir::create(&dir.path().join("a'b&c")).expect("made");
        let foreign = "<metadata><x:y xmlns:x='urn:x'/></metadata>";
        for inner in ["", "<metadata/>", "<metadata></metadata>", foreign] {
            for close in ["</domain>", "</domain >"] {
                let xml =
                    format!("<?xml version='1.0'?>\n<domain type='kvm'>{inner}{close}\n<!-- e -->");
                let once = woven(&xml, &tag(), Some(&run)).expect("woven");
                let mut later = tag();
                later.epoch = Token(3);
                let twice = woven(&once, &later, Some(&run)).expect("woven again");
                for (text, tag) in [(&once, tag()), (&twice, later)] {
                    let doc = Document::parse(text).unwrap_or_else(|e| panic!("{e}: {text}"));
                    let tags = of(&doc, NAMESPACE, "guest");
                    let [one] = tags.as_slice() else {
                        panic!("{} tags in {text}", tags.len());
                    };
                    assert_eq!(one.attribute("cluster"), Some("a & \"b\" <c>"));
                    let epoch = format!("{:016x}", tag.epoch.0);
                    assert_eq!(one.attribute("epoch"), Some(epoch.as_str()));
                    let marks = of(&doc, QEMU, "env");
                    assert_eq!(marks.len(), 4, "{text}");
                    assert_eq!(marks[0].attribute("value"), run.path().to_str());
                    assert_eq!(of(&doc, "urn:x", "y").len(), usize::from(inner == foreign));
                }
            }
        }
        assert!(woven("<domain/>", &tag(), None).is_err());
        assert!(woven("<network/>", &tag(), None).is_err());
    }

    #[test]
    fn what_becomes_of_a_guest_that_fails_is_not_for_libvirt_to_decide() {
        let text = |inner: &str| {
            let xml = format!("<domain type='kvm'><name>a</name>{inner}</domain>");
            let woven = woven(&xml, &tag(), None).expect("woven");
            let doc = Document::parse(&woven).unwrap_or_else(|e| panic!("{e}: {woven}"));
            IMPOSED.map(|(name, _)| {
                let root = doc.root_element();
                let all: Vec<_> = root.children().filter(|n| n.has_tag_name(name)).collect();
                assert_eq!(all.len(), 1, "{woven}");
                all[0].text().unwrap_or_default().to_owned()
            })
        };
        let ours = ["destroy", "restart", "preserve"];
        assert_eq!(text(""), ours);
        assert_eq!(text("<on_crash>restart</on_crash><on_reboot/>"), ours);
        assert_eq!(
            text("<on_reboot>destroy</on_reboot>\n<on_poweroff>restart</on_poweroff>"),
            ours
        );
        assert_eq!(
            text("<on_crash>destroy</on_crash><on_crash>restart</on_crash>"),
            ours
        );
        let [.., crash] = text("<on_crash>\ncoredump-restart</on_crash>");
        assert_eq!(crash, "coredump-destroy");
    }
}
