//! Doors for spans that have sockets of their own.

use crate::decode::{Sink, section};
use crate::values::ListenAddress;
use crate::yaml::Node;

section! {
    /// A door for Jaeger's clients that send to an agent, over UDP; compact and binary thrift are told apart.
    pub struct JaegerUdpDoor {
        /// Where to listen, `host:port`; an agent's ports are 6831 and 6832. Required.
        pub address: Option<ListenAddress> = None,
        /// Listen beyond loopback. Default false.
        pub allow_anonymous: bool = false,
    }
    check JaegerUdpDoor::check
}

impl JaegerUdpDoor {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        sink.require(self.address.is_some(), node.pos, "a jaeger_udp door needs an address");
    }
}
