//! What comes with skep.

/// The vocabulary.
pub const WORDS: &str = include_str!("../pack/words.toml");

/// The rules, by file.
pub const FILES: &[(&str, &str)] = &[
    ("pack/origin.yml", include_str!("../pack/origin.yml")),
    ("pack/shell.yml", include_str!("../pack/shell.yml")),
    ("pack/foothold.yml", include_str!("../pack/foothold.yml")),
    ("pack/tamper.yml", include_str!("../pack/tamper.yml")),
    ("pack/secret.yml", include_str!("../pack/secret.yml")),
    ("pack/network.yml", include_str!("../pack/network.yml")),
    ("pack/connection.yml", include_str!("../pack/connection.yml")),
    ("pack/impact.yml", include_str!("../pack/impact.yml")),
];
