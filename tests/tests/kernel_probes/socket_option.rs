//! Socket options the standard library has no name for.

#![expect(unsafe_code, reason = "options are passed as raw memory")]

use std::{io, mem::size_of, net::TcpStream, os::fd::AsRawFd};

use libc::{c_int, sock_filter, sock_fprog};

/// Closing breaks the connection off.
pub(crate) fn break_off_on_close(socket: &impl AsRawFd) {
    set(socket, libc::SOL_SOCKET, libc::SO_LINGER, &libc::linger { l_onoff: 1, l_linger: 0 });
}

/// How often a connection is asked for again before it fails.
pub(crate) fn ask_again(socket: &impl AsRawFd, times: c_int) {
    set(socket, libc::IPPROTO_TCP, libc::TCP_SYNCNT, &times);
}

/// The socket drops every packet that comes for it, as a bad line would: its filter says so.
pub(crate) fn deafen(socket: &impl AsRawFd) {
    // BPF_RET | BPF_K: keep no byte.
    let mut nothing = sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 };
    let filter = sock_fprog { len: 1, filter: &raw mut nothing };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter);
}

/// It hears again.
pub(crate) fn undeafen(socket: &impl AsRawFd) {
    set(socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0);
}

/// Segments sent again, as the kernel counts them.
pub(crate) fn retransmits(socket: &TcpStream) -> u64 {
    // SAFETY: integers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    let place = (&raw mut info).cast();
    // SAFETY: there is room for `length` bytes.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, place, &raw mut length) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    u64::from(info.tcpi_total_retrans)
}

fn set<T>(socket: &impl AsRawFd, level: c_int, name: c_int, value: &T) {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is as long as the length says, and what it points to lives.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}
