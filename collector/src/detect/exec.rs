//! What an exec row says, in the form rules ask for it.

use skep_wire::chunk::Row;

/// One exec, borrowed from its row.
#[derive(Debug, Clone, Default)]
pub struct Exec<'a> {
    /// Resolved executable; empty when unknown.
    pub exe: &'a str,
    /// Path given to execve.
    pub filename: &'a str,
    /// Argument vector.
    pub argv: Vec<&'a str>,
    /// Working directory; empty when unknown.
    pub cwd: &'a str,
    /// Parent's resolved executable, else its task name.
    pub parent: &'a str,
    /// Executables (task names where unknown) from parent outwards.
    pub ancestors: Vec<&'a str>,
    /// Facts the kernel told.
    pub flags: Vec<&'a str>,
    /// Real user.
    pub uid: Option<i64>,
    /// The arguments joined by blanks.
    pub command_line: String,
}

impl<'a> Exec<'a> {
    /// Reads an exec row; `None` for a row about anything else.
    pub fn read(row: &Row<'a>) -> Option<Self> {
        if row.text("event")? != "exec" {
            return None;
        }
        let argv = row.text_list("argv").unwrap_or_default();
        Some(Self {
            exe: row.text("exe").unwrap_or_default(),
            filename: row.text("filename").unwrap_or_default(),
            command_line: argv.join(" "),
            argv,
            cwd: row.text("cwd").unwrap_or_default(),
            parent: row.text("parent_exe").or_else(|| row.text("parent_comm")).unwrap_or_default(),
            ancestors: row.text_list("ancestors").unwrap_or_default(),
            flags: row.text_list("flags").unwrap_or_default(),
            uid: row.int("uid"),
        })
    }

    /// Whether the kernel told this fact.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// The path that was executed: resolved where known.
    pub fn path(&self) -> &'a str {
        if self.exe.is_empty() { self.filename } else { self.exe }
    }

    /// Whether the program goes by one of these names: as resolved, as given to execve, or as it calls itself.
    pub fn is_any(&self, names: &[&str]) -> bool {
        let own = self.argv.first().copied().unwrap_or_default().trim_start_matches('-');
        [self.exe, self.filename, own]
            .into_iter()
            .any(|path| names.contains(&base_name(path)) || names.contains(&plain_name(path)))
    }

    /// Arguments after the program's own name.
    pub fn arguments(&self) -> &[&'a str] {
        self.argv.get(1..).unwrap_or_default()
    }

    /// Whether an argument is exactly this.
    pub fn has_argument(&self, argument: &str) -> bool {
        self.arguments().contains(&argument)
    }

    /// Whether the command line contains this text.
    pub fn says(&self, text: &str) -> bool {
        self.command_line.contains(text)
    }

    /// Whether the command line contains any of these texts.
    pub fn says_any(&self, texts: &[&str]) -> bool {
        texts.iter().any(|text| self.says(text))
    }

    /// The script of `sh -c SCRIPT` (also `-lc`, `-ec` and the like), for any shell.
    pub fn shell_script(&self) -> Option<&'a str> {
        if !self.is_any(SHELLS) {
            return None;
        }
        let flag =
            |argument: &&str| argument.starts_with('-') && !argument.starts_with("--") && argument.ends_with('c');
        let at = self.arguments().iter().position(flag)?;
        self.arguments().get(at + 1).copied()
    }

    /// The script file an interpreter was given: its first argument that is no option, unless code came with `-c` or
    /// `-e`. A relative path comes back as it is.
    pub fn script_file(&self) -> Option<&'a str> {
        // By what runs, not by what it is called: a script may be called after an interpreter.
        let interpreter =
            INTERPRETERS.contains(&plain_name(self.path())) || INTERPRETERS.contains(&base_name(self.path()));
        if !interpreter || self.shell_script().is_some() {
            return None;
        }
        if self.arguments().iter().any(|argument| matches!(*argument, "-c" | "-e" | "-m" | "-r")) {
            return None;
        }
        self.arguments().iter().find(|argument| !argument.starts_with('-')).copied()
    }
}

/// Shells.
pub const SHELLS: &[&str] = &["sh", "bash", "dash", "zsh", "ksh", "mksh", "ash", "fish", "rbash", "csh", "tcsh"];

/// Shells and interpreters of scripts, versions left out (see [`plain_name`]).
pub const INTERPRETERS: &[&str] = &[
    "sh", "bash", "dash", "zsh", "ksh", "mksh", "ash", "fish", "rbash", "csh", "tcsh", "python", "perl", "ruby", "php",
    "lua", "node", "tclsh", "expect",
];

/// Last part of a path without a trailing version: `/usr/bin/python3.11` is `python`.
pub fn plain_name(path: &str) -> &str {
    let name = base_name(path);
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    // A name that is nothing but a version stays as it is; so does one like `7z`.
    if plain.is_empty() { name } else { plain }
}

/// Last part of a path.
pub fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec<'a>(exe: &'a str, argv: &[&'a str]) -> Exec<'a> {
        Exec { exe, filename: exe, argv: argv.to_vec(), command_line: argv.join(" "), ..Exec::default() }
    }

    #[test]
    fn names_without_versions() {
        for (path, name) in [
            ("/usr/bin/python3.11", "python"),
            ("/usr/sbin/php-fpm8.2", "php-fpm"),
            ("/usr/bin/bash", "bash"),
            ("/usr/bin/7z", "7z"),
            ("/opt/3.1", "3.1"),
        ] {
            assert_eq!(plain_name(path), name);
        }
    }

    #[test]
    fn scripts() {
        assert_eq!(exec("/usr/bin/dash", &["sh", "-c", "id"]).shell_script(), Some("id"));
        assert_eq!(exec("/usr/bin/bash", &["bash", "-lc", "id"]).shell_script(), Some("id"));
        assert_eq!(exec("/usr/bin/bash", &["bash", "x.sh"]).shell_script(), None);
        assert_eq!(exec("/usr/bin/bash", &["bash", "-e", "x.sh"]).script_file(), None);
        assert_eq!(exec("/usr/bin/bash", &["bash", "-x", "/tmp/x.sh"]).script_file(), Some("/tmp/x.sh"));
        assert_eq!(exec("/usr/bin/python3.11", &["python3", "-c", "pass"]).script_file(), None);
        assert_eq!(exec("/usr/bin/cat", &["cat", "/tmp/x.sh"]).script_file(), None);
        let shim = Exec { filename: "/shims/python3", ..exec("/usr/bin/env", &["env", "bash", "/shims/python3"]) };
        assert_eq!(shim.script_file(), None);
    }
}
