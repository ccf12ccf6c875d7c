//! What a kernel complains of on its console.

/// What is in a line that says something in the kernel went wrong.
const FAULTS: [&str; 6] = ["BUG: ", "Oops: ", "int3: ", "Kernel panic", "WARNING: ", "general protection fault"];

/// The code of the instruction `int3`.
const INT3: &str = "cc";

/// The first complaint of a kernel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault<'a> {
    pub(super) line: &'a str,
    /// The processor stopped at a breakpoint that is not there: qemu ran what it had translated before the kernel wrote
    /// other code over it. The kernel did nothing wrong.
    pub(super) stale_code: bool,
}

/// Finds the first complaint.
pub(super) fn fault(console: &str) -> Option<Fault<'_>> {
    let at = console.lines().position(|line| FAULTS.iter().any(|fault| line.contains(fault)))?;
    let mut lines = console.lines().skip(at);
    let line = lines.next()?.trim();
    let stale_code = line.contains("int3: ") && lines.find_map(before_the_next).is_some_and(|byte| byte != INT3);
    Some(Fault { line, stale_code })
}

/// Of a line `Code: 41 89 c4 66 <90> f7`: the byte before the one in brackets, which would have been executed next.
/// `exc_int3` of arch/x86/kernel/traps.c leaves the address behind the breakpoint.
fn before_the_next(line: &str) -> Option<&str> {
    let (_, bytes) = line.split_once("Code: ")?;
    bytes.split_once('<')?.0.split_whitespace().next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginning of an oops of Linux 6.12, with the bytes around the instruction.
    fn oops(bytes: &str) -> String {
        format!(
            "[  149.9] systemd: ready\n[  150.0] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\n[  150.0] CPU: 1 PID: 7 Comm: x\n\
             [  150.0] RIP: 0010:__mod_timer+0x1c3/0x370\n[  150.0] Code: {bytes}\n[  150.0] RSP: 0018:ffffaf1600013e00\n"
        )
    }

    #[test]
    fn a_breakpoint_that_is_not_there_is_code_of_before() {
        let text = oops("83 e3 01 41 8b 4f 20 66 <90> f7 c1 00");
        let fault = fault(&text).unwrap();
        assert_eq!(fault, Fault { line: "[  150.0] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI", stale_code: true });
    }

    #[test]
    fn a_breakpoint_that_is_there_is_the_kernels() {
        let text = oops("83 e3 01 41 8b 4f 20 cc <90> f7 c1 00");
        assert!(!fault(&text).unwrap().stale_code);
        let text = oops("Unable to access opcode bytes at 0xffffffffffffffd6.");
        assert!(!fault(&text).unwrap().stale_code, "nothing says so");
    }

    #[test]
    fn other_complaints_are_the_kernels_and_talk_is_none() {
        let text = "a\n[ 1.0] WARNING: CPU: 0 at x\n[ 1.0] Code: 0f 0b <66> 90\n[ 2.0] Oops: int3: 0000\n[ 2.0] Code: 66 <90>\n";
        assert_eq!(fault(text).unwrap(), Fault { line: "[ 1.0] WARNING: CPU: 0 at x", stale_code: false });
        assert_eq!(fault("[ 0.1] Booting\n[ 0.2] Code: 66 <90>\n"), None);
    }
}
