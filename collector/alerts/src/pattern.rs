//! Which reports a route or a silence is about. Pure.

use crate::report::Labels;

/// One condition on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    label: String,
    /// Parts between stars.
    parts: Vec<String>,
    /// The label must not be like that.
    not: bool,
}

impl Pattern {
    /// Reads `label=value` or `label!=value`; a star stands for anything.
    pub fn parse(text: &str) -> Option<Self> {
        let (label, value) = text.split_once('=')?;
        let (label, not) = label.strip_suffix('!').map_or((label, false), |label| (label, true));
        let label = label.trim();
        if label.is_empty() {
            return None;
        }
        Some(Self { label: label.to_owned(), parts: value.trim().split('*').map(str::to_owned).collect(), not })
    }

    /// Whether it holds. A label that is not there is an empty one.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.label).map_or("", String::as_str);
        is_like(value, &self.parts) != self.not
    }
}

/// Whether all of them hold.
pub fn all_match(patterns: &[Pattern], labels: &Labels) -> bool {
    patterns.iter().all(|pattern| pattern.matches(labels))
}

fn is_like(value: &str, parts: &[String]) -> bool {
    let [first, middle @ .., last] = parts else { return parts.iter().all(|only| only == value) };
    let Some(mut rest) = value.strip_prefix(first.as_str()) else { return false };
    for part in middle {
        let Some(at) = rest.find(part.as_str()) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(pattern: &str, value: &str) -> bool {
        let labels = Labels::from([("node".to_owned(), value.to_owned())]);
        Pattern::parse(pattern).unwrap().matches(&labels)
    }

    #[test]
    fn a_star_stands_for_anything_and_an_exclamation_mark_for_not() {
        for (pattern, value, expected) in [
            ("node=web-1", "web-1", true),
            ("node=web-1", "web-10", false),
            ("node=web-*", "web-10", true),
            ("node=*-db", "a-db", true),
            ("node=a*b*c", "a1b2c", true),
            ("node=a*b*c", "acb", false),
            ("node=ab*ba", "aba", false),
            ("node!=web-*", "db", true),
            ("node!=web-*", "web-1", false),
            ("node = web-1", "web-1", true),
            ("rack=", "any", true),
            ("rack=r1", "any", false),
            ("node=*", "", true),
        ] {
            assert_eq!(holds(pattern, value), expected, "{pattern} {value}");
        }
        assert!(Pattern::parse("node").is_none() && Pattern::parse("=x").is_none());
    }
}
