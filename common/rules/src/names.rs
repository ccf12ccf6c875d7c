//! Names of programs and paths.

use std::borrow::Cow;

/// Last part of a path.
pub fn base_name(path: &str) -> &str {
    match path.bytes().rposition(|byte| byte == b'/') {
        Some(at) => &path[at + 1..],
        None => path,
    }
}

/// Last part of a path without a trailing version: `/usr/bin/python3.11` is `python`.
pub fn plain_name(path: &str) -> &str {
    let name = base_name(path);
    match name.bytes().rposition(|byte| !(byte.is_ascii_digit() || matches!(byte, b'.' | b'-'))) {
        Some(last) => {
            // What is cut off is ASCII, so that this is no middle of a character.
            name.get(..=last).unwrap_or(name)
        }
        // A name that is nothing but a version stays as it is; so does one like `7z`.
        None => name,
    }
}

/// A path made absolute and plain: without `.`, `..`, doubled and trailing slashes; `~` and `$HOME` are taken for root's.
pub fn absolute<'a>(path: &'a str, cwd: &str) -> Cow<'a, str> {
    let home = path.strip_prefix('~').or_else(|| path.strip_prefix("$HOME")).or_else(|| path.strip_prefix("${HOME}"));
    if is_plain(path) {
        return Cow::Borrowed(path);
    }
    // As most operands are: a name in the folder one is in.
    let simple = !path.starts_with(['/', '~', '$', '.', '*']) && !path.contains('/') && !path.is_empty();
    if simple && is_plain(cwd) {
        return Cow::Owned(if cwd.len() > 1 { format!("{cwd}/{path}") } else { format!("/{path}") });
    }
    let joined = match home {
        Some(rest) => format!("/root/{rest}"),
        None if path.starts_with('/') => path.to_owned(),
        None => format!("{cwd}/{path}"),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    // All that is in a folder is the folder.
    if parts.last() == Some(&"*") {
        parts.pop();
    }
    Cow::Owned(format!("/{}", parts.join("/")))
}

/// Whether a path is absolute and has nothing to be taken out.
fn is_plain(path: &str) -> bool {
    let mut before = 0;
    let steady = path.bytes().all(|byte| {
        let odd = before == b'/' && matches!(byte, b'/' | b'.');
        before = byte;
        !odd
    });
    steady && path.starts_with('/') && (path.len() == 1 || !path.ends_with(['/', '*']))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn paths_become_plain() {
        for (path, plain) in [
            ("/etc/passwd", "/etc/passwd"),
            ("//etc/./pam.d/../shadow", "/etc/shadow"),
            ("x", "/home/ann/x"),
            ("*", "/home/ann"),
            (".", "/home/ann"),
            ("..", "/home"),
            ("", "/home/ann"),
            ("../../etc/shadow", "/etc/shadow"),
            ("~/.ssh/id_rsa", "/root/.ssh/id_rsa"),
            ("/var/log/*", "/var/log"),
            ("/", "/"),
            ("/../..", "/"),
        ] {
            assert_eq!(absolute(path, "/home/ann"), plain, "{path}");
        }
        for (cwd, whole) in [("/", "/x"), ("", "/x"), ("/a/../b", "/b/x"), ("/a/", "/a/x"), ("a", "/a/x")] {
            assert_eq!(absolute("x", cwd), whole, "{cwd}");
        }
    }
}
