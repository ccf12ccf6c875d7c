//! Names that were probably meant.

/// The candidates near to `wanted`, nearest first, at most three.
pub fn near<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let limit = wanted.chars().count().div_ceil(3).max(1);
    let mut found: Vec<(usize, &str)> = candidates
        .into_iter()
        .filter_map(|candidate| {
            let contained = wanted.len() >= 3 && (candidate.contains(&wanted) || wanted.contains(candidate));
            let steps = distance(&wanted, candidate);
            (steps <= limit || contained).then_some((steps, candidate))
        })
        .collect();
    found.sort();
    found.dedup();
    found.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found() {
        let tables = ["cpu", "syscalls", "connections", "processes", "host", "loss"];
        for (wanted, expected) in [
            ("syscall", vec!["syscalls"]),
            ("proceses", vec!["processes"]),
            ("connection", vec!["connections"]),
            ("CPUS", vec!["cpu"]),
            ("zzzzzz", vec![]),
        ] {
            assert_eq!(near(wanted, tables), expected, "{wanted}");
        }
    }

    #[test]
    fn distances_count_single_changes() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
