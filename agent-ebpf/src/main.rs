//! The probes: programs that run in the kernel, one file a domain.
//!
//! * [`probe::cpu`]: `sched_switch`: time on a CPU, waits for one, time away.
//! * [`probe::syscall`]: `sys_enter`, `sys_exit`: count, errors and latency of system calls.
//! * [`probe::tcp`]: `inet_sock_set_state`: connections.
//! * [`probe::mishap`]: `tcp_retransmit_skb`, `tcp_send_reset`, `tcp_receive_reset`: what goes wrong with them.
//! * [`probe::socket`]: `sock_send_length`, `sock_recv_length`: what processes send and receive.
//! * [`probe::block`]: `block_rq_issue`, `block_rq_complete`: requests to block devices.
//! * [`probe::security`]: `mark_victim`, `module_load`, and calls that deserve a look.
//! * [`probe::process`], [`probe::exec`]: `sched_process_fork`, `_exec`, `_exit`.
//! * [`probe::cgroup`]: `cgroup_mkdir`, `cgroup_rmdir`, `cgroup_attach_task`: names of workloads.
//!
//! Measurements are counted in what each CPU keeps for itself ([`here`]): caches of lines, and maps behind them for what
//! the caches have no room for ([`line`], [`traffic`]). Both are there twice, once for each parity of the epoch. What is remembered of
//! a thread has its own place ([`thread`]). Discrete events go to one ring buffer that wakes nobody. What is not kept is
//! counted in the ledger. Fields of the kernel's structs are found through [`kernel`]. Everything a program hands on is
//! defined in `skep_common`.
//!
//! For debugging, the programs can write to the agent's log. The level is read-only data that user space sets, 0 unless
//! asked for; at 0 the verifier removes the code.
//!
//! A program never fails: each has an outer function that the kernel calls and an inner one that gives up early.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

#[macro_use]
mod kernel;
#[macro_use]
mod hook;

mod here;
mod ledger;
mod line;
mod path;
mod price;
mod ring;
mod scratch;
mod subject;
mod thread;
mod traffic;

mod probe;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program from which this loop can be reached.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
