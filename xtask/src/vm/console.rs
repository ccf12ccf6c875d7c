//! What a kernel complains of on its console.

/// What is in a line that says something in the kernel went wrong.
const FAULTS: [&str; 6] = ["BUG: ", "Oops: ", "int3: ", "Kernel panic", "WARNING: ", "general protection fault"];

/// Finds the first complaint.
pub(super) fn fault(console: &str) -> Option<&str> {
    console.lines().find(|line| FAULTS.iter().any(|fault| line.contains(fault))).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_complaint_is_found_and_talk_is_none() {
        let text = "a\n[ 1.0] WARNING: CPU: 0 at x \n[ 2.0] Oops: int3: 0000\n";
        assert_eq!(fault(text), Some("[ 1.0] WARNING: CPU: 0 at x"));
        assert_eq!(fault("[ 0.1] Booting\n[ 0.2] Code: 66 <90>\n"), None);
    }
}
