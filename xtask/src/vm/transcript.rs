//! What a machine said: sections, each between `@@ NAME` and `@@ NAME ended STATUS`.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// One section.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Section<'a> {
    pub(super) text: &'a str,
    /// Exit status.
    pub(super) status: i32,
}

/// Finds a section.
pub(super) fn section<'a>(said: &'a str, name: &str) -> Result<Section<'a>> {
    let missing = || format!("the machine said nothing of {name}");
    let (_, rest) = said.split_once(&format!("@@ {name}\n")).with_context(missing)?;
    let (text, rest) = rest.split_once(&format!("@@ {name} ended ")).with_context(missing)?;
    let status = rest.lines().next().and_then(|status| status.trim().parse().ok()).with_context(missing)?;
    Ok(Section { text, status })
}

/// One line of `skep-agent doctor --format json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) name: String,
    pub(super) ok: bool,
    pub(super) detail: String,
    pub(super) figures: Vec<(String, u64)>,
}

/// Reads the output of doctor.
pub(super) fn checks(text: &str) -> Result<Vec<Check>> {
    let value: Value = serde_json::from_str(text).with_context(|| format!("doctor's answer is no JSON: {text}"))?;
    let objects = value.as_array().context("doctor's answer is no list")?;
    let checks: Vec<Check> = objects.iter().map(check).collect();
    ensure!(!checks.is_empty(), "doctor found nothing to look at");
    Ok(checks)
}

fn check(object: &Value) -> Check {
    let text = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
    let figures = object["figures"].as_object().into_iter().flatten();
    Check {
        name: text("check"),
        ok: object["ok"] == true,
        detail: text("detail"),
        figures: figures.filter_map(|(name, value)| Some((name.clone(), value.as_u64()?))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_has_text_and_status() {
        let said = "noise\n@@ a\none\ntwo\n@@ a ended 3\n@@ b\n@@ b ended 0\n@@ c\nhalf";
        assert_eq!(section(said, "a").unwrap(), Section { text: "one\ntwo\n", status: 3 });
        assert_eq!(section(said, "b").unwrap(), Section { text: "", status: 0 });
        assert!(section(said, "c").is_err());
        assert!(section(said, "d").is_err());
    }

    #[test]
    fn doctors_answer_is_read() {
        let text = "[{\"check\":\"cpu\",\"ok\":true,\"essential\":false,\"detail\":\"x\"},\n\
             {\"check\":\"verifier\",\"ok\":true,\"detail\":\"y\",\"figures\":{\"sys_enter\":33}}]";
        let checks = checks(text).unwrap();
        assert!(checks[0].ok && checks[0].figures.is_empty());
        assert_eq!(checks[1].figures, [("sys_enter".to_owned(), 33)]);
        assert!(super::checks("[]").is_err() && super::checks("killed").is_err());
    }
}
