//! Answers in words: aligned columns, no colours, nothing a script should parse (that is `--json`).

use serde_json::Value;

fn text(v: &Value) -> String {
    match v {
        Value::Null => "-".into(),
        Value::String(s) => s.clone(),
        Value::Number(n) if n.is_f64() => format!("{:.1}", n.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

/// Rows under headings, each column as wide as its widest cell.
fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|h| h.len()).collect();
    for row in rows {
        for (w, cell) in widths.iter_mut().zip(row) {
            *w = (*w).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(c, w)| format!("{c:<w$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(headings.to_vec())];
    lines.extend(
        rows.iter()
            .map(|r| line(r.iter().map(String::as_str).collect())),
    );
    lines.join("\n")
}

fn rows(v: &Value, keys: &[&str]) -> Vec<Vec<String>> {
    let row = |r: &Value| keys.iter().map(|k| text(&r[*k])).collect();
    v.as_array()
        .map(|a| a.iter().map(row).collect())
        .unwrap_or_default()
}

pub(super) fn hosts(v: &Value) -> String {
    let keys = [
        "name",
        "state",
        "voter",
        "witness",
        "incarnation",
        "unheard",
        "guests",
        "reason",
    ];
    let heads = [
        "HOST",
        "STATE",
        "VOTER",
        "WITNESS",
        "LIFE",
        "UNHEARD s",
        "GUESTS",
        "REASON",
    ];
    table(&heads, &rows(v, &keys))
}

pub(super) fn tried(v: &Value) -> String {
    let keys = ["host", "device", "agent", "said", "why"];
    table(&["HOST", "DEVICE", "AGENT", "SAID", "WHY"], &rows(v, &keys))
}

pub(super) fn guests(v: &Value) -> String {
    let keys = [
        "name", "wanted", "state", "host", "epoch", "failures", "reason",
    ];
    let heads = [
        "GUEST", "WANTED", "STATE", "HOST", "EPOCH", "FAILURES", "REASON",
    ];
    table(&heads, &rows(v, &keys))
}

pub(super) fn status(v: &Value) -> String {
    let mut lines = vec![
        format!("cluster      {}", text(&v["cluster"])),
        format!(
            "node         {} (incarnation {})",
            text(&v["node"]),
            text(&v["incarnation"])
        ),
        format!(
            "quorum       {}",
            if v["quorate"] == true {
                "reached"
            } else {
                "NOT reached"
            }
        ),
        format!("view         {}", text(&v["view"]["number"])),
        format!("coordinator  {}", text(&v["view"]["coordinator"])),
        format!("own lease    {} s left", text(&v["lease_left"])),
    ];
    for remark in v["remarks"].as_array().into_iter().flatten() {
        lines.push(format!("note         {}", text(remark)));
    }
    lines.push(String::new());
    lines.push(hosts(&v["view"]["members"]));
    lines.join("\n")
}

pub(super) fn why(v: &Value) -> String {
    let mut head = format!("{} is {}", text(&v["guest"]), text(&v["state"]));
    if !v["host"].is_null() {
        head = format!("{head} on {}", text(&v["host"]));
    }
    if !v["reason"].is_null() {
        head = format!("{head}: {}", text(&v["reason"]));
    }
    let steps = v["steps"].as_array().cloned().unwrap_or_default();
    let steps: Vec<Vec<String>> = steps
        .iter()
        .map(|s| {
            let ago = s["ago"].as_f64();
            let ago = ago.map_or_else(|| "-".to_owned(), |a| format!("{a:.1}"));
            let cells = ["token", "kind", "host", "text"]
                .iter()
                .map(|k| text(&s[*k]));
            std::iter::once(ago).chain(cells).collect()
        })
        .collect();
    let heads = ["s AGO", "TOKEN", "STEP", "HOST", "WHAT"];
    format!("{head}\n\n{}", table(&heads, &steps))
}

/// One event line as the daemon sent it, in words.
pub(super) fn event(line: &str) -> String {
    let Ok(v) = serde_json::from_str::<Value>(line) else {
        return line.to_owned();
    };
    let about: Vec<String> = ["host", "guest"]
        .iter()
        .filter(|k| !v[**k].is_null())
        .map(|k| text(&v[*k]))
        .collect();
    format!(
        "{}  {:>8}  {:<11}  {:<10}  {}",
        text(&v["time"]),
        text(&v["token"]),
        text(&v["kind"]),
        about.join(" "),
        text(&v["text"])
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_line_up_and_absent_values_are_a_dash() {
        let v = json!([{"name": "a-long-name", "state": "running", "host": null}, {"name": "b"}]);
        let out = guests(&v);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[1].find("-  "), lines[0].find("WANTED"), "{out}");
        assert!(lines[2].starts_with("b            -"), "{out}");
    }
}
