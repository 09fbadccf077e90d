//! Finding ports that are free on loopback.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

/// Hands out loopback ports, each once, moving past those that are taken.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    given: HashSet<u16>,
}

impl Ports {
    /// The first free port at or after `from`. Somebody else may still take it before our child
    /// does; the child then moves on by itself and reports where it went.
    pub(crate) fn free(&mut self, from: u16) -> Option<SocketAddr> {
        (from..=u16::MAX)
            .filter(|port| !self.given.contains(port))
            .map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
            .find(|addr| TcpListener::bind(addr).is_ok())
            .inspect(|addr| {
                self.given.insert(addr.port());
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_passed_over_and_none_is_given_twice() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let from = taken.local_addr().unwrap().port().min(60_000);
        let mut ports = Ports::default();
        let first = ports.free(from).unwrap();
        let second = ports.free(from).unwrap();
        assert_ne!(
            Some(first.port()),
            taken.local_addr().ok().map(|a| a.port())
        );
        assert!(second.port() > first.port());
    }
}
