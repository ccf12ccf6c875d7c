//! Names that were probably meant.

/// The candidates near to `wanted`, nearest first, at most three: those a few letters away, or where there are none those
/// that hold it or that it holds.
pub fn near<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let limit = wanted.chars().count().div_ceil(3).max(1);
    let all: Vec<&str> = candidates.into_iter().collect();
    let chosen = |choose: &dyn Fn(usize, &str) -> bool| {
        let steps = all.iter().map(|candidate| (distance(&wanted, candidate), *candidate));
        let mut found: Vec<(usize, &str)> = steps.filter(|(steps, candidate)| choose(*steps, candidate)).collect();
        found.sort();
        found.dedup();
        found
    };
    let mut found = chosen(&|steps, _| steps <= limit);
    if found.is_empty() && wanted.len() >= 3 {
        found = chosen(&|_, candidate| candidate.contains(&wanted) || wanted.contains(candidate));
    }
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
        let tables = ["cpu", "top_cpu", "syscalls", "slow_syscalls", "connections", "processes", "host", "loss"];
        for (wanted, expected) in [
            ("syscall", vec!["syscalls"]),
            ("proceses", vec!["processes"]),
            ("connection", vec!["connections"]),
            ("CPUS", vec!["cpu"]),
            ("sys", vec!["syscalls", "slow_syscalls"]),
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
