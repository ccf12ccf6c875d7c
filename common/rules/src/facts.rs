//! What is known of an event beyond what was recorded, by the names rules use: `skep.*`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use smallvec::SmallVec;

/// The fields. [`Field::NAMES`] has what each is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "NAMES says what each is")]
#[repr(u8)]
pub enum Field {
    Tool,
    Class,
    Arg,
    Path,
    Read,
    Write,
    Change,
    Remove,
    Says,
    Runs,
    RunsClass,
    Script,
    Parent,
    ParentClass,
    Ancestor,
    DaemonAncestor,
    Trusted,
    Login,
    Root,
    Fileless,
    ExeDeleted,
    VolDir,
    HiddenPath,
    ScriptPlace,
    Masquerade,
    StdioInet,
    PipeFrom,
    PrivGain,
    Setuid,
    EnvHijack,
    FirstSeen,
    FirstSeenShellParent,
    BurstDiscovery,
    Remote,
    Tty,
    Destination,
    Repeat,
    PipeTo,
}

impl Field {
    /// Name in rules, and what it says.
    pub const NAMES: [(&'static str, &'static str); 38] = [
        (
            "skep.tool",
            "names of the program, without path, with and without version; behind sudo, env and the like also the program they run",
        ),
        ("skep.class", "its classes, as in words.toml: shell, interpreter, downloader and so on"),
        (
            "skep.arg",
            "arguments behind the program's name; --name=value also as --name and value, -xvf also as -x, -v and -f",
        ),
        ("skep.path", "classes of the paths named in the arguments, as in words.toml"),
        ("skep.read", "classes of the paths it reads"),
        ("skep.write", "classes of the paths it writes to"),
        ("skep.change", "classes of the paths whose mode, owner, times or attributes it changes"),
        ("skep.remove", "classes of the paths it removes, empties or overwrites"),
        ("skep.says", "classes of the texts in the command line, as in words.toml"),
        ("skep.runs", "names of the programs and builtins in the script of sh -c, and behind find -exec and the like"),
        ("skep.runs_class", "their classes"),
        (
            "skep.script",
            "what the code on the command line does: download_run, decode_run, reverse_shell, inline, stdin",
        ),
        ("skep.parent", "name of the parent's program, with and without version"),
        ("skep.parent_class", "its classes"),
        ("skep.ancestor", "names of the programs from the parent outwards, without version"),
        ("skep.daemon_ancestor", "the server among them with nothing but shells and interpreters of its own between"),
        (
            "skep.trusted",
            "kinds of trusted programs among them: package, build, provision, scanner, monitor, backup, upkeep",
        ),
        ("skep.login", "true when a login shell or a terminal is right above"),
        ("skep.root", "true for root, real or effective"),
        ("skep.fileless", "true when the program lives in memory only, or was named by a descriptor"),
        ("skep.exe_deleted", "true when no name leads to the program any more"),
        ("skep.vol_dir", "where the program lies, if anybody may write there: tmp, shm, run"),
        ("skep.hidden_path", "true when a part of its path is hidden and is no tool chain's"),
        ("skep.script_place", "where the script lies that an interpreter was given: tmp, shm, run, hidden, odd"),
        ("skep.masquerade", "how its name deceives: kernel_thread, system_name, space, extension, renamed"),
        ("skep.stdio_inet", "true when a standard stream is an internet socket"),
        ("skep.pipe_from", "classes of the program whose output it reads through a pipe"),
        ("skep.priv_gain", "true when it gained root outside the known setuid programs"),
        ("skep.setuid", "true when the program is set-user-id"),
        ("skep.env_hijack", "variables that load foreign code from a folder anybody may write to, or hide history"),
        (
            "skep.first_seen",
            "what its workload never did before: executable, pair, destination; after a time of learning",
        ),
        (
            "skep.first_seen_shell_parent",
            "true when this program never started a shell here before, after a time of learning",
        ),
        ("skep.burst_discovery", "true at the fifth different look around from one parent within a minute"),
        ("skep.remote", "kinds of addresses in the arguments: url, address (a public one by number), tunnel"),
        ("skep.tty", "true with a controlling terminal"),
        ("skep.destination", "kind of a connection's other end: public, private, local"),
        ("skep.repeat", "scan when one process met ten ports or addresses within a minute"),
        (
            "skep.pipe_to",
            "what it feeds through a pipe to whom, where the reader was there first: fetcher_to_shell, decoding_to_shell, dialer_to_shell, and likewise _to_interpreter",
        ),
    ];

    /// The field of this name.
    pub fn named(name: &str) -> Option<usize> {
        NUMBERS.get(name).copied()
    }
}

/// Rules ask by name, and often.
static NUMBERS: LazyLock<HashMap<&str, usize, foldhash::fast::RandomState>> =
    LazyLock::new(|| Field::NAMES.iter().enumerate().map(|(number, (name, _))| (*name, number)).collect());

/// The facts about one event.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// Most have one or two, which need no memory of their own.
    values: [SmallVec<[Cow<'a, str>; 2]>; Field::NAMES.len()],
}

impl Default for Facts<'_> {
    fn default() -> Self {
        Self { values: std::array::from_fn(|_| SmallVec::new()) }
    }
}

/// Most values of one field; an event has fewer, or is made to cost.
const MAX_VALUES: usize = 2_048;

impl<'a> Facts<'a> {
    /// Adds a value, once.
    pub fn add(&mut self, field: Field, value: impl Into<Cow<'a, str>>) {
        let value = value.into();
        let values = &mut self.values[field as usize];
        // Arguments may repeat; looking for each among thousands would be quadratic.
        let look = field != Field::Arg;
        if values.len() < MAX_VALUES && !(value.is_empty() || look && values.contains(&value)) {
            values.push(value);
        }
    }

    /// Adds values.
    pub fn extend(&mut self, field: Field, values: impl IntoIterator<Item = &'a str>) {
        values.into_iter().for_each(|value| self.add(field, value));
    }

    /// The fields that have values, by number.
    pub(crate) fn known(&self) -> impl Iterator<Item = (usize, &[Cow<'a, str>])> {
        self.values.iter().map(SmallVec::as_slice).enumerate().filter(|(_, values)| !values.is_empty())
    }

    /// Adds values that differ from each other, by the field's number.
    pub(crate) fn tell(&mut self, field: usize, told: &'a [Box<str>]) {
        let Some(values) = self.values.get_mut(field) else { return };
        if values.is_empty() {
            values.extend(told.iter().map(|value| Cow::Borrowed(&**value)));
            return;
        }
        for value in told {
            if values.len() < MAX_VALUES && !values.iter().any(|own| **own == **value) {
                values.push(Cow::Borrowed(value));
            }
        }
    }

    /// Sets a field that is true or absent.
    pub fn set(&mut self, field: Field, whether: bool) {
        if whether {
            self.add(field, "true");
        }
    }

    /// Adds a value where that is so.
    pub fn set_if(&mut self, field: Field, value: &'static str, whether: bool) {
        if whether {
            self.add(field, value);
        }
    }

    /// Values of a field.
    pub fn get(&self, field: Field) -> &[Cow<'a, str>] {
        &self.values[field as usize]
    }

    /// Whether a field has this value.
    pub fn has(&self, field: Field, value: &str) -> bool {
        self.get(field).iter().any(|own| own == value)
    }

    /// Values by the number [`Field::named`] gives.
    pub fn at(&self, index: usize) -> &[Cow<'a, str>] {
        self.values.get(index).map_or(&[], SmallVec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        assert_eq!(Field::named("skep.tool"), Some(Field::Tool as usize));
        assert_eq!(Field::named("skep.repeat"), Some(Field::Repeat as usize));
        assert_eq!(Field::named("skep.pipe_from"), Some(Field::PipeFrom as usize));
        assert_eq!(Field::named("Image"), None);
    }
}
