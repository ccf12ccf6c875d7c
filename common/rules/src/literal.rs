//! What must stand in a text for a pattern to match it.
//!
//! `(curl|wget)\s.*https?://` needs `http`: where that is not, the pattern need not be tried.

use regex_syntax::Parser;
use regex_syntax::hir::{Class, Hir, HirKind};

/// Most texts of which one must be there.
const MAX_TEXTS: usize = 24;

/// Shorter ones are everywhere.
const MIN_BYTES: usize = 2;

/// Longer is hardly rarer.
const LONG_BYTES: usize = 5;

/// Texts in lower case of which one stands, in lower case, in all that matches; nothing where none can be told.
pub(crate) fn needed(pattern: &str) -> Option<Vec<String>> {
    let texts = required(&Parser::new().parse(pattern).ok()?)?;
    is_telling(&texts).then_some(texts)
}

fn is_telling(texts: &[String]) -> bool {
    !texts.is_empty() && texts.len() <= MAX_TEXTS && shortest(texts) >= MIN_BYTES
}

fn shortest(texts: &[String]) -> usize {
    texts.iter().map(String::len).min().unwrap_or(0)
}

/// The rarer, by the length of their texts.
fn better(one: Vec<String>, other: Option<Vec<String>>) -> Vec<String> {
    let worth = |texts: &[String]| (shortest(texts).min(LONG_BYTES), std::cmp::Reverse(texts.len()));
    other.filter(|other| worth(other) > worth(&one)).unwrap_or(one)
}

fn required(hir: &Hir) -> Option<Vec<String>> {
    if let Some(texts) = exact(hir) {
        return Some(texts);
    }
    match hir.kind() {
        HirKind::Repetition(repeated) if repeated.min > 0 => required(&repeated.sub),
        HirKind::Capture(group) => required(&group.sub),
        HirKind::Concat(parts) => in_a_row(parts),
        HirKind::Alternation(ways) => {
            let mut all = Vec::new();
            for way in ways {
                all.extend(required(way).filter(|texts| is_telling(texts))?);
            }
            (all.len() <= MAX_TEXTS).then_some(all)
        }
        _ => None,
    }
}

/// Of parts one after the other: the best that one of them needs, or several together.
fn in_a_row(parts: &[Hir]) -> Option<Vec<String>> {
    let mut best = None;
    let mut run = vec![String::new()];
    for part in parts {
        if let Some(texts) = exact(part) {
            run = match joined(&run, &texts) {
                Some(longer) => longer,
                None => {
                    best = Some(better(run, best));
                    texts
                }
            };
        } else {
            best = Some(better(std::mem::replace(&mut run, vec![String::new()]), best));
            if let Some(texts) = required(part) {
                best = Some(better(texts, best));
            }
        }
    }
    Some(better(run, best))
}

fn joined(heads: &[String], tails: &[String]) -> Option<Vec<String>> {
    (heads.len() * tails.len() <= MAX_TEXTS)
        .then(|| heads.iter().flat_map(|head| tails.iter().map(move |tail| format!("{head}{tail}"))).collect())
}

/// All that it matches, where that is little: in lower case, and ASCII.
fn exact(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        // Of no width, so that what is before and behind stands side by side.
        HirKind::Empty | HirKind::Look(_) => Some(vec![String::new()]),
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).ok().filter(|text| text.is_ascii())?;
            Some(vec![text.to_ascii_lowercase()])
        }
        HirKind::Class(class) => letters(class),
        HirKind::Capture(group) => exact(&group.sub),
        HirKind::Concat(parts) => {
            parts.iter().try_fold(vec![String::new()], |heads, part| joined(&heads, &exact(part)?))
        }
        HirKind::Alternation(ways) => {
            let mut all = Vec::new();
            for way in ways {
                all.extend(exact(way)?);
            }
            (all.len() <= MAX_TEXTS).then_some(all)
        }
        HirKind::Repetition(_) => None,
    }
}

/// The characters of a class, if they are few. A class is also what becomes of a letter that stands for either case.
fn letters(class: &Class) -> Option<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    let Class::Unicode(class) = class else { return None };
    for range in class.ranges() {
        if u32::from(range.end()) - u32::from(range.start()) > 8 {
            return None;
        }
        for letter in range.start()..=range.end() {
            let lower: String = letter.to_lowercase().collect();
            if !lower.is_ascii() {
                return None;
            }
            if !found.contains(&lower) {
                found.push(lower);
            }
        }
    }
    (found.len() <= 4).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_patterns_need() {
        for (pattern, texts) in [
            (r"(curl|wget)\s.*https?://\d+", &["http"][..]),
            (r"passwd\s+[a-z_]*", &["passwd"]),
            ("(?i)(XMRig|Miner)D?", &["xmrig", "miner"]),
            (r"of=/dev/null|if=/dev/(sd|vd)", &["of=/dev/null", "if=/dev/sd", "if=/dev/vd"]),
            (r"^(-u|--uid)[ =]0\b", &["-u 0", "-u=0", "--uid 0", "--uid=0"]),
            (r"(ab)+c?", &["ab"]),
            ("a[0-9]b|xyz", &[]),
            ("(abc)?", &[]),
            ("[A-Z]+", &[]),
            ("É1", &[]),
            (r"\s-[bC]\s?\d", &["-c", "-b"]),
        ] {
            assert_eq!(needed(pattern).unwrap_or_default(), texts, "{pattern}");
        }
        // The long s is an s to a pattern that does not mind case, and none in lower case.
        assert_eq!(needed("(?i)stratum"), Some(vec!["tratum".to_owned()]));
    }
}
