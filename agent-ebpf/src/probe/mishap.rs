//! What goes wrong with TCP connections: segments sent again, resets either way.
//!
//! These programs run in soft interrupts and tasks alike, so what they count is the connection's owner's, not that of the
//! task they run in. Nobody's is what belongs to no connection, as the reset that refuses one, or to one whose owner is
//! not known: of before the probes, or not accepted yet.

use skep_common::{aggregate::mishap, ledger::probe};

use super::tcp;
use crate::{here::Here, hook::Arguments, kernel, traffic};

// Source: net/ipv4/tcp_output.c `__tcp_retransmit_skb`, `(const struct sock *sk, const struct sk_buff *skb, int err)`; the
// last in the newest kernels, which come here also when the segment could not be sent.
hook!(tcp_retransmit_skb, raw_tcp_retransmit_skb, sent_again);

#[inline(always)]
fn sent_again(arguments: Arguments) {
    if fact!(retransmit_has_error) != 0 && arguments.number(2) as u32 != 0 {
        return;
    }
    let Some(here) = Here::now() else { return };
    let segments = if has!(packet_control) && has!(control_segments) {
        let packet = arguments.address(1);
        u64::from(kernel::fetch_at::<u16>(packet, offset!(packet_control) + offset!(control_segments)))
    } else {
        1
    };
    // A packet of the size of one segment may leave the number out.
    let segments = if segments == 0 { 1 } else { segments };
    let counted = traffic::count_mishap(here, mishap::RETRANSMIT, tcp::owner(arguments.address(0)), segments);
    here.attempted_many(probe::RETRANSMIT, segments);
    if let Err(error) = counted {
        here.refused_many(probe::RETRANSMIT, error, segments);
    }
}

// Source: net/ipv4/tcp_ipv4.c `tcp_v4_send_reset`, net/ipv4/tcp_output.c `tcp_send_active_reset`,
// `(const struct sock *sk, const struct sk_buff *skb, ..)`; there may be no `sk`.
hook!(tcp_send_reset, raw_tcp_send_reset, reset_sent);

#[inline(always)]
fn reset_sent(arguments: Arguments) {
    let Some(here) = Here::now() else { return };
    let sock = arguments.address(0);
    here.attempted(probe::RESET_SENT);
    if let Err(error) = traffic::count_mishap(here, mishap::RESET_SENT, tcp::owner(sock), 1) {
        here.refused(probe::RESET_SENT, error);
    }
    tcp::resets(sock);
}

// Source: net/ipv4/tcp_input.c `tcp_reset`, `(struct sock *sk)`. The state changes afterwards.
hook!(tcp_receive_reset, raw_tcp_receive_reset, reset_received);

#[inline(always)]
fn reset_received(arguments: Arguments) {
    let Some(here) = Here::now() else { return };
    let sock = arguments.address(0);
    here.attempted(probe::RESET);
    if let Err(error) = traffic::count_mishap(here, mishap::RESET_RECEIVED, tcp::owner(sock), 1) {
        here.refused(probe::RESET, error);
    }
    tcp::is_reset(sock);
}
