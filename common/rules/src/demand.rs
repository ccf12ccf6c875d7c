//! The rules that an event can match, found for all rules at once.
//!
//! An event's values and texts are looked up among those of all rules ([`crate::outline`]), and of those whose needs are
//! met the rest is looked at. The result is that of asking every rule.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, AhoCorasickKind, BuildError};
use rsigma_eval::Event;

use crate::event::Exec;
use crate::facts::{Facts, Field};
use crate::memo::Memo;
use crate::outline::{Outline, Place, Text, Texts};

/// Arguments that the view of auditd has.
const MAX_ARGUMENTS: usize = 256;

/// Most needs of a rule that are kept: they are bits of a word. With fewer it is looked at more often.
const MAX_NEEDS: usize = 32;

/// Programs, folders and the like whose texts are remembered.
const MAX_SHARED: usize = 1_024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Demand {
    index: Index,
    outlines: Vec<Outline>,
    met: Met,
    /// Which texts are where many execs have the same.
    shared: Memo<Vec<usize>>,
    /// Room for a text in lower case.
    lower: String,
}

/// Texts by what they are.
#[derive(Debug)]
struct Index {
    /// By field and value.
    wholes: [HashMap<String, usize, foldhash::fast::RandomState>; Field::NAMES.len()],
    parts: AhoCorasick,
    /// By pattern of `parts`: at which place it is which text.
    of_part: Vec<Vec<(Place, usize)>>,
    /// Where parts are looked for.
    places: Vec<Place>,
}

/// A need of a rule.
#[derive(Debug, Clone, Copy)]
struct Posting {
    rule: usize,
    bit: u32,
}

/// What of one event is there, and whose needs are met.
#[derive(Debug, Default)]
struct Met {
    needed_by: Vec<Vec<Posting>>,
    there: Vec<u64>,
    needs: Vec<u32>,
    met: Vec<u32>,
    /// Rules that need nothing.
    always: Vec<usize>,
    rules: Vec<usize>,
}

impl Met {
    fn new(outlines: &[Outline], texts: usize) -> Self {
        let mut own =
            Self { needed_by: vec![Vec::new(); texts], there: vec![0; texts.div_ceil(64)], ..Self::default() };
        for (rule, outline) in outlines.iter().enumerate() {
            let mut needs = outline.needs();
            needs.truncate(MAX_NEEDS);
            own.needs.push(1_u32.checked_shl(needs.len() as u32).unwrap_or(0).wrapping_sub(1));
            own.always.extend(needs.is_empty().then_some(rule));
            for (number, need) in needs.iter().enumerate() {
                let posting = Posting { rule, bit: 1 << number };
                need.iter().for_each(|text| own.needed_by[*text].push(posting));
            }
        }
        own.met = vec![0; outlines.len()];
        own
    }

    fn begin(&mut self) {
        self.there.fill(0);
        self.met.fill(0);
        self.rules.clone_from(&self.always);
    }

    fn is_there(&self, text: usize) -> bool {
        self.there.get(text / 64).is_some_and(|word| word & 1 << (text % 64) != 0)
    }

    fn meet(&mut self, text: usize) {
        let Some(word) = self.there.get_mut(text / 64) else { return };
        let before = std::mem::replace(word, *word | 1 << (text % 64));
        if before == *word {
            return;
        }
        for posting in self.needed_by.get(text).into_iter().flatten() {
            let (Some(met), Some(needs)) = (self.met.get_mut(posting.rule), self.needs.get(posting.rule)) else {
                return;
            };
            let before = std::mem::replace(met, *met | posting.bit);
            if before != *met && *met == *needs {
                self.rules.push(posting.rule);
            }
        }
    }
}

impl Demand {
    /// Takes rules in outline, and their texts.
    ///
    /// # Errors
    /// When there is more than an automaton can hold.
    pub(crate) fn new(outlines: Vec<Outline>, texts: &Texts) -> Result<Self, BuildError> {
        let mut wholes: [HashMap<String, usize, _>; Field::NAMES.len()] = std::array::from_fn(|_| HashMap::default());
        let mut parts: HashMap<&str, Vec<(Place, usize)>> = HashMap::new();
        for (number, Text { place, text, whole }) in texts.all.iter().enumerate() {
            match place {
                Place::Fact(field) if *whole => {
                    if let Some(values) = wholes.get_mut(usize::from(*field)) {
                        values.insert(text.clone(), number);
                    }
                }
                place => parts.entry(text).or_default().push((*place, number)),
            }
        }
        let mut places: Vec<Place> = parts.values().flatten().map(|(place, _)| *place).collect();
        places.sort_unstable();
        places.dedup();
        let (patterns, of_part): (Vec<&str>, Vec<_>) = parts.into_iter().unzip();
        let index = Index { wholes, parts: automaton(&patterns)?, of_part, places };
        let met = Met::new(&outlines, texts.all.len());
        Ok(Self { index, outlines, met, shared: Memo::new(MAX_SHARED), lower: String::new() })
    }

    /// Looks at an exec.
    pub(crate) fn look(&mut self, exec: &Exec<'_>, facts: &Facts<'_>) {
        self.met.begin();
        self.wholes(facts);
        let Self { index, met, lower, .. } = self;
        for place in &index.places {
            match *place {
                Place::CommandLine => index.parts(*place, exec.command_line, lower, |text| met.meet(text)),
                Place::Argument => {
                    let arguments = exec.argv.iter().take(MAX_ARGUMENTS);
                    arguments.for_each(|argument| index.parts(*place, argument, lower, |text| met.meet(text)));
                }
                Place::Fact(field) => {
                    let values = facts.at(usize::from(field)).iter();
                    values.for_each(|value| index.parts(*place, value, lower, |text| met.meet(text)));
                }
                _ => {}
            }
        }
        let asked = exec.user.is_empty() && index.places.contains(&Place::User);
        let uid = exec.uid.filter(|_| asked).map_or_else(String::new, |uid| uid.to_string());
        let shared = || index.places.iter().flat_map(|place| shared(*place, exec, &uid));
        let there = self.shared.of(shared().map(|(_, text)| text), || {
            let mut there = Vec::new();
            shared().for_each(|(place, text)| index.parts(place, text, lower, |text| there.push(text)));
            there
        });
        there.iter().for_each(|text| met.meet(*text));
        self.met.rules.sort_unstable();
    }

    /// The rules that it can match, in order.
    pub(crate) fn rules(&self) -> &[usize] {
        &self.met.rules
    }

    /// Whether a rule matches the exec last looked at, in the view it is about; nothing if that stays open.
    pub(crate) fn told(&self, rule: usize, event: &impl Event) -> Option<bool> {
        self.outlines.get(rule).and_then(|outline| outline.told(&|text| self.met.is_there(text), event))
    }

    fn wholes(&mut self, facts: &Facts<'_>) {
        for (field, wanted) in self.index.wholes.iter().enumerate().filter(|(_, wanted)| !wanted.is_empty()) {
            for value in facts.at(field) {
                if let Some(text) = wanted.get(lowered(value, &mut self.lower)) {
                    self.met.meet(*text);
                }
            }
        }
    }
}

impl Index {
    /// Tells the texts that are at this place.
    fn parts(&self, place: Place, text: &str, lower: &mut String, mut found: impl FnMut(usize)) {
        if text.is_empty() {
            return;
        }
        for hit in self.parts.find_overlapping_iter(lowered(text, lower)) {
            let texts = self.of_part.get(hit.pattern().as_usize()).into_iter().flatten();
            texts.filter(|(own, _)| *own == place).for_each(|(_, text)| found(*text));
        }
    }
}

/// What an exec has at a place, if that is what many others have there too.
fn shared<'e>(place: Place, exec: &'e Exec<'_>, uid: &'e str) -> impl Iterator<Item = (Place, &'e str)> {
    let text = match place {
        Place::Image => exec.exe,
        Place::CurrentDirectory => exec.cwd,
        Place::User if exec.user.is_empty() => uid,
        Place::User => exec.user,
        Place::ParentImage => exec.parent,
        Place::ParentCommandLine => exec.parent_command_line,
        Place::CommandLine | Place::Argument | Place::Fact(_) => "",
    };
    let other = (place == Place::Image && exec.filename != exec.exe).then_some((place, exec.filename));
    [(place, text)].into_iter().chain(other)
}

/// One that looks at each byte once where that is affordable.
fn automaton(texts: &[&str]) -> Result<AhoCorasick, BuildError> {
    let fast = AhoCorasick::builder().kind(Some(AhoCorasickKind::DFA)).build(texts);
    fast.or_else(|_| AhoCorasick::new(texts))
}

/// As the engine compares: what is beyond ASCII by the rules of Unicode.
fn lowered<'t>(text: &'t str, room: &'t mut String) -> &'t str {
    let (mut all, mut upper) = (0, false);
    for byte in text.bytes() {
        all |= byte;
        upper |= byte.is_ascii_uppercase();
    }
    if !all.is_ascii() {
        *room = text.to_lowercase();
        return room;
    }
    if !upper {
        return text;
    }
    room.clear();
    room.push_str(text);
    room.make_ascii_lowercase();
    room
}
