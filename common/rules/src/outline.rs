//! Rules in outline: which texts must be there, and what follows from that.
//!
//! `skep.tool: [curl, wget]` with `CommandLine|contains: http` is decided by three texts, wherever they stand in other rules
//! too. What no text decides (a pattern, a number) is looked at where that matters, after all that is cheaper.

use std::collections::HashMap;

use rsigma_eval::matcher::GroupMode;
use rsigma_eval::{CompiledDetection, CompiledDetectionItem, CompiledMatcher, CompiledRule, Event};
use rsigma_parser::{ConditionExpr, Quantifier};

use crate::facts::Field;
use crate::literal::needed;
use crate::rule::About;
use crate::view::{AUDIT_FIELDS, PROCESS_FIELDS, argument};

/// Where a text is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Place {
    /// Either path of the program.
    Image,
    CommandLine,
    /// One argument of the vector.
    Argument,
    CurrentDirectory,
    User,
    ParentImage,
    ParentCommandLine,
    /// A value of this [`Field`].
    Fact(u8),
}

/// A text that may be somewhere, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Text {
    pub(crate) place: Place,
    pub(crate) text: String,
    /// It is all of a value, not a part of one.
    pub(crate) whole: bool,
}

/// The texts of all rules, each once.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    pub(crate) all: Vec<Text>,
    numbers: HashMap<Text, usize>,
}

impl Texts {
    fn number(&mut self, text: Text) -> usize {
        *self.numbers.entry(text).or_insert_with_key(|text| {
            self.all.push(text.clone());
            self.all.len() - 1
        })
    }
}

/// A rule, as far as texts and single fields decide it.
#[derive(Debug)]
pub(crate) enum Outline {
    /// False where the text of this number is not; where it is, true if it is sure.
    Text {
        number: usize,
        sure: bool,
    },
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Known(bool),
    /// What texts say of a field, and how to look at it where they do not decide.
    Field(Box<Self>, Box<CompiledDetectionItem>),
    Open,
}

/// One of these texts must be there; of none, nothing can be.
pub(crate) type Need = Vec<usize>;

impl Outline {
    /// Of a rule.
    pub(crate) fn of(about: About, rule: &CompiledRule, texts: &mut Texts) -> Self {
        let mut reader = Reader { about, named: &rule.detections, texts };
        Self::any(rule.conditions.iter().map(|condition| reader.condition(condition)))
    }

    fn all(parts: impl Iterator<Item = Self>) -> Self {
        Self::All(cheapest_first(parts))
    }

    fn any(parts: impl Iterator<Item = Self>) -> Self {
        Self::Any(cheapest_first(parts))
    }

    /// How much it takes to tell, by the dearest part.
    fn cost(&self) -> usize {
        match self {
            Self::Text { .. } | Self::Known(_) => 0,
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::cost).max().unwrap_or(0),
            Self::Not(part) => part.cost(),
            Self::Field(..) => 1,
            Self::Open => 2,
        }
    }

    /// Whether texts decide it, whatever they are.
    fn is_decided(&self) -> bool {
        match self {
            Self::Text { sure, .. } => *sure,
            Self::All(parts) | Self::Any(parts) => parts.iter().all(Self::is_decided),
            Self::Not(part) => part.is_decided(),
            Self::Known(_) => true,
            Self::Field(..) | Self::Open => false,
        }
    }

    /// What it comes to for an event in which these texts are and no other; nothing if it stays open.
    pub(crate) fn told(&self, there: &impl Fn(usize) -> bool, event: &impl Event) -> Option<bool> {
        match self {
            Self::Text { number, .. } if !there(*number) => Some(false),
            Self::Text { sure, .. } => sure.then_some(true),
            Self::All(parts) => decided(parts, false, there, event),
            Self::Any(parts) => decided(parts, true, there, event),
            Self::Not(part) => part.told(there, event).map(|told| !told),
            Self::Known(known) => Some(*known),
            Self::Field(texts, item) => texts.told(there, event).or_else(|| Some(holds(item, event))),
            Self::Open => None,
        }
    }

    /// What must be there for it to be true: of each of these, one.
    pub(crate) fn needs(&self) -> Vec<Need> {
        let mut needs = match self {
            Self::Text { number, .. } => vec![vec![*number]],
            Self::Field(texts, _) => texts.needs(),
            Self::All(parts) => parts.iter().flat_map(Self::needs).collect(),
            Self::Any(parts) => any(parts.iter().map(Self::needs).collect()),
            Self::Not(_) | Self::Open | Self::Known(true) => Vec::new(),
            Self::Known(false) => vec![Vec::new()],
        };
        for need in &mut needs {
            need.sort_unstable();
            need.dedup();
        }
        // Those of few texts are met least.
        needs.sort_by(|one, other| one.len().cmp(&other.len()).then_with(|| one.cmp(other)));
        needs.dedup();
        needs
    }
}

fn cheapest_first(parts: impl Iterator<Item = Outline>) -> Vec<Outline> {
    let mut parts: Vec<Outline> = parts.collect();
    parts.sort_by_key(Outline::cost);
    parts
}

/// Whether a field is as a rule says, which is what rsigma does with it.
fn holds(item: &CompiledDetectionItem, event: &impl Event) -> bool {
    let Some(field) = &item.field else {
        return item.exists.map_or_else(|| item.matcher.matches_keyword(event), |exists| !exists);
    };
    match (item.exists, event.get_field(field)) {
        (Some(exists), value) => value.is_some_and(|value| !value.is_null()) == exists,
        (None, Some(value)) => item.matcher.matches(&value, event),
        (None, None) => matches!(item.matcher, CompiledMatcher::Null),
    }
}

/// Whether one of the parts is `decisive`, which decides the whole.
fn decided(parts: &[Outline], decisive: bool, there: &impl Fn(usize) -> bool, event: &impl Event) -> Option<bool> {
    let mut open = false;
    for part in parts {
        match part.told(there, event) {
            Some(told) if told == decisive => return Some(decisive),
            Some(_) => {}
            None => open = true,
        }
    }
    (!open).then_some(!decisive)
}

/// What any of several ways needs: one of what the first needs or of what the second needs.
fn any(mut ways: Vec<Vec<Need>>) -> Vec<Need> {
    ways.retain(|needs| !needs.iter().any(Vec::is_empty));
    let Some(most) = ways.iter().map(Vec::len).max() else { return vec![Vec::new()] };
    if ways.iter().any(Vec::is_empty) {
        return Vec::new();
    }
    let joined = |index: usize| {
        let parts = ways.iter().filter_map(|needs| needs.get(index).or_else(|| needs.last()));
        parts.flatten().copied().collect()
    };
    (0..most).map(joined).collect()
}

/// What is known of a field before there is an event.
#[derive(Debug, Clone, Copy)]
enum Known {
    /// It is the text at this place.
    Is(Place),
    /// It is a part of that, or one of several.
    Within(Place),
    /// It always has these values.
    Always(&'static [&'static str]),
    /// Nobody records it.
    Absent,
    /// It may be a number, or no text that is looked at.
    Unknown,
}

struct Reader<'r> {
    about: About,
    named: &'r HashMap<String, CompiledDetection>,
    texts: &'r mut Texts,
}

impl Reader<'_> {
    fn condition(&mut self, condition: &ConditionExpr) -> Outline {
        match condition {
            ConditionExpr::Identifier(name) => {
                let named = self.named.get(name);
                named.map_or(Outline::Known(false), |named| self.detection(named))
            }
            ConditionExpr::And(parts) => Outline::all(parts.iter().map(|part| self.condition(part))),
            ConditionExpr::Or(parts) => Outline::any(parts.iter().map(|part| self.condition(part))),
            ConditionExpr::Not(part) => Outline::Not(Box::new(self.condition(part))),
            ConditionExpr::Selector { quantifier, pattern } => {
                let mut named: Vec<_> =
                    self.named.iter().filter(|(name, _)| pattern.matches_detection_name(name)).collect();
                named.sort_unstable_by_key(|(name, _)| *name);
                let parts = named.into_iter().map(|(_, detection)| self.detection(detection));
                match quantifier {
                    Quantifier::All => Outline::all(parts),
                    Quantifier::Any | Quantifier::Count(1) => Outline::any(parts),
                    Quantifier::Count(0) => Outline::Known(true),
                    // One of them is needed, and more to be sure.
                    Quantifier::Count(_) => Outline::All(vec![Outline::any(parts), Outline::Open]),
                }
            }
        }
    }

    fn detection(&mut self, detection: &CompiledDetection) -> Outline {
        match detection {
            CompiledDetection::AllOf(items) => Outline::all(items.iter().map(|item| self.item(item))),
            CompiledDetection::AnyOf(parts) => Outline::any(parts.iter().map(|part| self.detection(part))),
            CompiledDetection::And(parts) => Outline::all(parts.iter().map(|part| self.detection(part))),
            CompiledDetection::Keywords(matcher) => {
                let matcher = matcher.clone();
                self.item(&CompiledDetectionItem { field: None, matcher, exists: None, bloom_eligible: false })
            }
            CompiledDetection::ArrayMatch { .. } | CompiledDetection::Conditional { .. } => Outline::Open,
        }
    }

    fn item(&mut self, item: &CompiledDetectionItem) -> Outline {
        let texts = match item.field.as_deref().map_or(Known::Is(Place::CommandLine), |field| known(self.about, field))
        {
            _ if item.exists.is_some() => Outline::Open,
            Known::Absent => Outline::Known(matches!(item.matcher, CompiledMatcher::Null)),
            known => self.matcher(&item.matcher, known),
        };
        if texts.is_decided() { texts } else { Outline::Field(Box::new(texts), Box::new(item.clone())) }
    }

    fn matcher(&mut self, matcher: &CompiledMatcher, known: Known) -> Outline {
        use CompiledMatcher as M;
        match matcher {
            M::Exact { value, case_insensitive } => {
                self.text(value, *case_insensitive, How::Whole, known, |always| always == value)
            }
            M::Contains { value, case_insensitive } => {
                self.text(value, *case_insensitive, How::Part, known, |always| always.contains(value.as_str()))
            }
            M::StartsWith { value, case_insensitive } => {
                self.text(value, *case_insensitive, How::End, known, |always| always.starts_with(value.as_str()))
            }
            M::EndsWith { value, case_insensitive } => {
                self.text(value, *case_insensitive, How::End, known, |always| always.ends_with(value.as_str()))
            }
            M::AhoCorasickSet { case_insensitive, needles, .. } => {
                let part = |needle: &String| {
                    self.text(needle, *case_insensitive, How::Part, known, |always| always.contains(needle.as_str()))
                };
                Outline::Any(needles.iter().map(part).collect())
            }
            M::Regex(pattern) => self.pattern(pattern.as_str(), known),
            M::RegexSetMatch { set, mode } => {
                let parts = set.patterns().iter().map(|pattern| self.pattern(pattern, known)).collect();
                match mode {
                    GroupMode::Any => Outline::Any(parts),
                    GroupMode::All => Outline::All(parts),
                }
            }
            M::AnyOf(parts) => Outline::Any(parts.iter().map(|part| self.matcher(part, known)).collect()),
            M::AllOf(parts) => Outline::All(parts.iter().map(|part| self.matcher(part, known)).collect()),
            // Of several values it must be one and the same that has all parts.
            M::CaseInsensitiveGroup { children, mode } => {
                let parts = children.iter().map(|part| self.matcher(part, known)).collect();
                let one = matches!(known, Known::Is(place) if !matches!(place, Place::Image | Place::Fact(_)));
                match mode {
                    GroupMode::Any => Outline::Any(parts),
                    GroupMode::All if one => Outline::All(parts),
                    GroupMode::All => Outline::All(vec![Outline::All(parts), Outline::Open]),
                }
            }
            _ => Outline::Open,
        }
    }

    /// What a pattern needs is not enough to know that it matches.
    fn pattern(&mut self, pattern: &str, known: Known) -> Outline {
        let Some(texts) = needed(pattern) else { return Outline::Open };
        let part = |text: &String| self.text(text, false, How::Part, known, |_| false);
        Outline::Any(texts.iter().map(part).collect())
    }

    fn text(&mut self, value: &str, folded: bool, how: How, known: Known, fits: impl Fn(&str) -> bool) -> Outline {
        // What is compared by case is found in lower case too; beyond ASCII that is not certain.
        if value.is_empty() || !folded && !value.is_ascii() {
            return Outline::Open;
        }
        let (place, exactly) = match known {
            Known::Is(place) => (place, true),
            Known::Within(place) => (place, false),
            // They are in lower case here.
            Known::Always(values) if folded => return Outline::Known(values.iter().any(|always| fits(always))),
            Known::Always(_) | Known::Absent | Known::Unknown => return Outline::Open,
        };
        // Only facts are looked up as wholes.
        let whole = how == How::Whole && matches!(place, Place::Fact(_));
        let sure = exactly && folded && (whole || how == How::Part);
        Outline::Text { number: self.texts.number(Text { place, text: value.to_lowercase(), whole }), sure }
    }
}

/// Which part of a value a text must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Whole,
    Part,
    /// Its beginning or its end.
    End,
}

/// Where a view has what a rule calls so.
fn known(about: About, field: &str) -> Known {
    let fact = || Field::named(field).and_then(|field| u8::try_from(field).ok()).map(Place::Fact).map(Known::Is);
    match (about, field) {
        (About::Process, "Image") | (About::Audit, "exe") => Known::Is(Place::Image),
        (About::Process, "OriginalFileName") | (About::Audit, "comm") => Known::Within(Place::Image),
        (About::Process, "CommandLine") | (About::Audit, "proctitle") => Known::Is(Place::CommandLine),
        (About::Process, "CurrentDirectory") | (About::Audit, "cwd") => Known::Is(Place::CurrentDirectory),
        (About::Process, "User") => Known::Is(Place::User),
        (About::Process, "ParentImage") => Known::Is(Place::ParentImage),
        (About::Process, "ParentCommandLine") => Known::Is(Place::ParentCommandLine),
        (About::Process, field) if PROCESS_FIELDS.contains(&field) => Known::Unknown,
        (About::Process, _) => fact().unwrap_or(Known::Absent),
        (About::Audit, "type") => Known::Always(&["execve", "syscall"]),
        (About::Audit, "SYSCALL" | "syscall") => Known::Always(&["execve", "59"]),
        (About::Audit, "success") => Known::Always(&["yes"]),
        (About::Audit, field) if AUDIT_FIELDS.contains(&field) => Known::Unknown,
        (About::Audit, field) if argument(field).is_some() => Known::Within(Place::Argument),
        (About::Audit | About::Keyword, _) => Known::Absent,
        _ => Known::Unknown,
    }
}
