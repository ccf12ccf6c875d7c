//! Names of programs and paths.

use std::borrow::Cow;

/// Last part of a path.
pub fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Last part of a path without a trailing version: `/usr/bin/python3.11` is `python`.
pub fn plain_name(path: &str) -> &str {
    let name = base_name(path);
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    // A name that is nothing but a version stays as it is; so does one like `7z`.
    if plain.is_empty() { name } else { plain }
}

/// A path made absolute and plain: without `.`, `..`, doubled and trailing slashes; `~` and `$HOME` are taken for root's.
pub fn absolute<'a>(path: &'a str, cwd: &str) -> Cow<'a, str> {
    let home = path.strip_prefix('~').or_else(|| path.strip_prefix("$HOME")).or_else(|| path.strip_prefix("${HOME}"));
    let plain = path.starts_with('/')
        && !path.contains("//")
        && !path.contains("/.")
        && (path.len() == 1 || !path.ends_with(['/', '*']));
    if plain {
        return Cow::Borrowed(path);
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
            ("../../etc/shadow", "/etc/shadow"),
            ("~/.ssh/id_rsa", "/root/.ssh/id_rsa"),
            ("/var/log/*", "/var/log"),
            ("/", "/"),
            ("/../..", "/"),
        ] {
            assert_eq!(absolute(path, "/home/ann"), plain, "{path}");
        }
    }
}
