//! Sockets.
use super::Answer::*;
use super::{Row, row};

pub(super) const ROWS: &[Row] = &[
    row("UNIX sockets: pairs with queued messages and descriptors under way, listening, bound", Saved, "an empty datagram behind others is saved once, and refused from the second checkpoint on that finds it there: the kernel shows it once. On a socket without a connection that cannot be told, and it is lost from the second checkpoint on").criu("saved").dmtcp("streams; no datagram sockets").holds(&["FileKindV1::Socket"]),
    row("a UNIX connection with data in it that its listener has not accepted", Refused, "it does not last"),
    row("TCP and UDP sockets that listen or have no connection, with their options", Saved, "but not the interface of IP_MULTICAST_IF where it was set by number alone: the kernel does not tell it. A port that connections of a killed server hold is freed first").criu("saved; lost: congestion control, TCP_USER_TIMEOUT").dmtcp("TCP; no datagram sockets"),
    row("connections that wait to be accepted", Changed, "from within the job: connected again, or refused for the moment if data has been sent. From outside: left out, the other side finds them reset; `ckpt show` and a warning tell how many").criu("with an option"),
    row("unread UDP datagrams, with sender, destination and hops", Saved, "they arrive again by a raw socket. Sent to a multicast group that the socket is bound to, or held back by a firewall at restore: lost, with a warning. Behind an error that the program has not been told of, half sent (UDP_CORK), UDP-Lite: refused. An empty datagram behind others is seen once: after that, or after a peek of the program's, it is lost").criu("lost").dmtcp("no"),
    row("multicast groups of UDP sockets, with source filters", Saved, "by the interface's name").criu("lost").dmtcp("no"),
    row("TCP connections within the job, also closed on one side or still connecting", Saved, "with queues, window, time stamps, options and congestion control's name. IPv4 and IPv6; IPv6 segments become 8 bytes shorter").criu("with an option").dmtcp("saved"),
    row("TCP connections to the outside, `save --stop`", Saved, "held still by a packet filter (nf_tables, table `inet ckpt-ID`) until the checkpoint is restored on the same machine; the other side sees a network that is slow. Its own time-outs run on. `ckpt rm ID` gives them up").criu("with an option"),
    row("TCP connections to the outside, otherwise", Changed, "what had arrived can be read, then the connection is closed by the other side: the program that was saved went on with it. `restore --tcp reset` breaks them, `--tcp force` goes on all the same; `save --tcp refuse` refuses").criu("with an option").dmtcp("dead sockets"),
    row("TCP connections with urgent data waiting or a protocol in the kernel (kTLS)", Refused, "").criu("lost: kTLS"),
    row("MPTCP connections", Changed, "as those to the outside").criu("refused"),
    row("TCP: MD5 signatures, Fast Open cookies, errors that have not been told", LeftOut, "").criu("lost"),
];
