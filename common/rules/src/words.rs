//! What rules call things: classes of programs, of paths and of texts, read from `words.toml`.
//!
//! One pass of an automaton finds every pattern in a path or a text, so that the size of the vocabulary costs memory and
//! not time.

use std::collections::{HashMap, HashSet};

use aho_corasick::{AhoCorasick, AhoCorasickKind, Anchored, Input, MatchKind, StartKind};
use serde::Deserialize;
use thiserror::Error;

use crate::names::plain_name;

/// Why a vocabulary is not taken.
#[derive(Debug, Error)]
pub enum WordsError {
    /// It is not TOML, or not of this shape.
    #[error("the vocabulary does not read")]
    Parse(#[from] toml::de::Error),
    /// Too large for an automaton.
    #[error("there are more words to look for than can be looked for at once")]
    Compile(#[from] aho_corasick::BuildError),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    programs: HashMap<String, Vec<String>>,
    trusted: HashMap<String, Vec<String>>,
    trusted_under: HashMap<String, Vec<String>>,
    names: HashMap<String, HashSet<String, foldhash::fast::RandomState>, foldhash::fast::RandomState>,
    paths: HashMap<String, Vec<String>>,
    texts: HashMap<String, Vec<String>>,
}

/// The vocabulary.
#[derive(Debug)]
pub struct Words {
    names: Vec<String>,
    programs: HashMap<String, Vec<u16>, foldhash::fast::RandomState>,
    trusted: HashMap<String, u16, foldhash::fast::RandomState>,
    /// Folders, looked for where a path begins; the first in the list comes first.
    trusted_under: AhoCorasick,
    trusted_under_classes: Vec<u16>,
    /// There are a handful of lists.
    named: Vec<(String, HashSet<String, foldhash::fast::RandomState>)>,
    exact: HashMap<String, Vec<u16>, foldhash::fast::RandomState>,
    paths: AhoCorasick,
    patterns: Vec<(Pattern, u16)>,
    texts: AhoCorasick,
    text_classes: Vec<u16>,
}

impl Words {
    /// Reads a vocabulary.
    ///
    /// # Errors
    /// [`WordsError`].
    pub fn parse(text: &str) -> Result<Self, WordsError> {
        let file: File = toml::from_str(text)?;
        let mut names = Vec::new();
        let mut programs: HashMap<String, Vec<u16>, _> = HashMap::default();
        for (class, word) in each(file.programs, &mut names) {
            programs.entry(word).or_default().push(class);
        }
        let trusted = each(file.trusted, &mut names).map(|(class, word)| (word, class)).collect();
        let (trusted_under_classes, folders): (Vec<_>, Vec<_>) = each(file.trusted_under, &mut names).unzip();
        let trusted_under = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::DFA))
            .match_kind(MatchKind::LeftmostFirst)
            .start_kind(StartKind::Anchored)
            .build(folders)?;
        let mut exact: HashMap<String, Vec<u16>, _> = HashMap::default();
        let mut patterns = Vec::new();
        for (class, word) in each(file.paths, &mut names) {
            match Pattern::parse(&word) {
                Some(pattern) => patterns.push((pattern, class)),
                None => exact.entry(word).or_default().push(class),
            }
        }
        let triggers = patterns.iter().map(|(pattern, _)| pattern.trigger());
        let paths = AhoCorasick::builder().kind(Some(AhoCorasickKind::DFA)).build(triggers)?;
        let (text_classes, texts): (Vec<_>, Vec<_>) = each(file.texts, &mut names).unzip();
        let texts =
            AhoCorasick::builder().kind(Some(AhoCorasickKind::DFA)).ascii_case_insensitive(true).build(texts)?;
        Ok(Self {
            names,
            programs,
            trusted,
            trusted_under,
            trusted_under_classes,
            named: file.names.into_iter().collect(),
            exact,
            paths,
            patterns,
            texts,
            text_classes,
        })
    }

    fn name(&self, class: u16) -> &str {
        self.names.get(usize::from(class)).map_or("", String::as_str)
    }

    /// Classes of a program, by its name or by its name without version; one may come twice.
    pub fn program<'a>(&'a self, name: &str, mut found: impl FnMut(&'a str)) {
        let plain = plain_name(name);
        let bare = (plain.len() < name.len()).then_some(plain);
        for name in [name].into_iter().chain(bare) {
            for class in self.programs.get(name).into_iter().flatten() {
                found(self.name(*class));
            }
        }
    }

    /// Whether a program is of this class.
    pub fn is_program(&self, name: &str, class: &str) -> bool {
        let of = |name: &str| self.programs.get(name).is_some_and(|all| all.iter().any(|own| self.name(*own) == class));
        let plain = plain_name(name);
        of(name) || plain.len() < name.len() && of(plain)
    }

    /// Whether a name is in this list of names.
    pub fn named(&self, list: &str, name: &str) -> bool {
        self.named.iter().any(|(own, names)| own == list && names.contains(name))
    }

    /// Why an ancestor with this path is trusted to do strange things, if it is.
    pub fn trusted(&self, path: &str) -> Option<&str> {
        let under = self.trusted_under.find(Input::new(path).anchored(Anchored::Yes));
        let name = crate::names::base_name(path);
        let plain = plain_name(name);
        let class = under
            .and_then(|folder| self.trusted_under_classes.get(folder.pattern().as_usize()))
            .or_else(|| self.trusted.get(name))
            .or_else(|| self.trusted.get(plain).filter(|_| plain.len() < name.len()))?;
        Some(self.name(*class))
    }

    /// Classes of an absolute, normalised path; one may come twice.
    pub fn path<'a>(&'a self, path: &str, mut found: impl FnMut(&'a str)) {
        for class in self.exact.get(path).into_iter().flatten() {
            found(self.name(*class));
        }
        if !self.paths.is_match(path) {
            return;
        }
        for hit in self.paths.find_overlapping_iter(path) {
            let Some((pattern, class)) = self.patterns.get(hit.pattern().as_usize()) else { continue };
            if pattern.matches(path) {
                found(self.name(*class));
            }
        }
    }

    /// Classes of what a text says; one may come twice.
    pub fn text<'a>(&'a self, text: &str, mut found: impl FnMut(&'a str)) {
        // Most say nothing, which is told in half the time.
        if !self.texts.is_match(text) {
            return;
        }
        // Overlapping matches need a standard automaton, which this is; leftmost ones would hide the shorter words.
        for hit in self.texts.find_overlapping_iter(text) {
            if let Some(class) = self.text_classes.get(hit.pattern().as_usize()) {
                found(self.name(*class));
            }
        }
    }
}

fn each(table: HashMap<String, Vec<String>>, names: &mut Vec<String>) -> impl Iterator<Item = (u16, String)> {
    let mut pairs = Vec::new();
    let mut table: Vec<_> = table.into_iter().collect();
    table.sort_unstable();
    for (name, words) in table {
        let class = u16::try_from(names.len()).unwrap_or(u16::MAX);
        names.push(name);
        pairs.extend(words.into_iter().map(|word| (class, word)));
    }
    pairs.into_iter()
}

/// A path with stars, or a folder.
#[derive(Debug)]
struct Pattern {
    /// What stands between the stars.
    parts: Vec<String>,
    anchored_start: bool,
    anchored_end: bool,
}

impl Pattern {
    /// `None` for a path that stands for itself.
    fn parse(word: &str) -> Option<Self> {
        let folder = word.len() > 1 && word.ends_with('/');
        if !folder && !word.contains('*') {
            return None;
        }
        let parts: Vec<String> = word.split('*').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        (!parts.is_empty()).then_some(Self {
            parts,
            anchored_start: !word.starts_with('*'),
            anchored_end: !folder && !word.ends_with('*'),
        })
    }

    /// The part that is rarest, by its length; a folder is also found without its last slash.
    fn trigger(&self) -> &str {
        let longest = self.parts.iter().max_by_key(|part| part.len()).map_or("", String::as_str);
        if self.parts.len() == 1 && longest.len() > 1 { longest.trim_end_matches('/') } else { longest }
    }

    fn matches(&self, path: &str) -> bool {
        if let [folder] = self.parts.as_slice()
            && folder.trim_end_matches('/') == path
        {
            return true;
        }
        let mut rest = path;
        let last = self.parts.len() - 1;
        for (index, part) in self.parts.iter().enumerate() {
            rest = match (index == 0 && self.anchored_start, index == last && self.anchored_end) {
                (true, _) => match rest.strip_prefix(part.as_str()) {
                    Some(rest) if index == last && self.anchored_end && !rest.is_empty() => return false,
                    Some(rest) => rest,
                    None => return false,
                },
                (false, true) => return rest.ends_with(part.as_str()),
                (false, false) => match rest.find(part.as_str()) {
                    Some(at) => &rest[at + part.len()..],
                    None => return false,
                },
            };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
[programs]
shell = ["sh", "bash"]
[trusted]
build = ["make"]
[trusted_under]
package = ["/var/lib/dpkg/info/"]
[names]
kernel_thread = ["kworker"]
[paths]
shadow = ["/etc/shadow"]
pam = ["/etc/pam.d/"]
key = ["*/.ssh/id_*", "*.pem"]
memory = ["/proc/*/mem"]
[texts]
dev_tcp = ["/dev/tcp/"]
"#;

    fn path(words: &Words, path: &str) -> Vec<String> {
        let mut found = Vec::new();
        words.path(path, |class| found.push(class.to_owned()));
        found.dedup();
        found
    }

    #[test]
    fn paths_are_of_their_classes() {
        let words = Words::parse(SMALL).unwrap();
        for (given, class) in [
            ("/etc/shadow", "shadow"),
            ("/etc/pam.d/sshd", "pam"),
            ("/etc/pam.d", "pam"),
            ("/root/.ssh/id_rsa", "key"),
            ("/x/y.pem", "key"),
            ("/proc/12/mem", "memory"),
        ] {
            assert_eq!(path(&words, given), [class], "{given}");
        }
        for given in ["/etc/shadowed", "/etc/pam.data", "/x/y.pem.txt", "/proc/mem", "/proc/1/members", "/"] {
            assert_eq!(path(&words, given), [""; 0], "{given}");
        }
    }

    #[test]
    fn programs_texts_and_trust() {
        let words = Words::parse(SMALL).unwrap();
        assert!(words.is_program("bash", "shell") && words.is_program("bash5.2", "shell"));
        assert!(!words.is_program("cat", "shell"));
        let mut found = Vec::new();
        words.text("exec 3<>/DEV/TCP/h/1", |class| found.push(class));
        assert_eq!(found, ["dev_tcp"]);
        assert_eq!(words.trusted("/usr/bin/make"), Some("build"));
        assert_eq!(words.trusted("/var/lib/dpkg/info/x.postinst"), Some("package"));
        assert_eq!(words.trusted("/usr/bin/bash"), None);
    }

    #[test]
    fn the_vocabulary_of_the_pack_reads() {
        Words::parse(crate::pack::WORDS).unwrap();
    }
}
