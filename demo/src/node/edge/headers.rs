//! Headers on their way through: hop-by-hop ones stay here, identity is the edge's to give.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::node::peer::PEER_HEADER;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What concerns one connection only (RFC 9110, section 7.6.1), beside what `connection` lists.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Takes out what does not go beyond this hop.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in listed.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Makes a client's headers those of a request to a web server. What a client claims about who it is
/// and which request this is does not count: the edge is the first hop.
pub(super) fn for_upstream(headers: &mut HeaderMap, client: IpAddr, id: &HeaderValue) {
    strip_hop_by_hop(headers);
    headers.remove(header::EXPECT);
    headers.remove(PEER_HEADER);
    headers.remove("forwarded");
    headers.insert(REQUEST_ID, id.clone());
    if let Ok(client) = HeaderValue::from_str(&client.to_string()) {
        headers.insert(FORWARDED_FOR, client);
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
}

/// 128 bits from the system, in hex: never the same twice, also over restarts of the edge.
pub(super) fn new_request_id() -> HeaderValue {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // Without the system's randomness a unique number still keeps requests apart.
        bytes = fastrand::u128(..).to_be_bytes();
    }
    HeaderValue::from_str(&format!("{:032x}", u128::from_be_bytes(bytes)))
        .unwrap_or_else(|_| HeaderValue::from_static("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_connection_header_lists_does_not_pass_and_identity_is_ours() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("te", "trailers"),
            ("x-request-id", "forged"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-stackbeam-peer", "guess"),
            ("accept", "*/*"),
        ] {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        for_upstream(
            &mut headers,
            IpAddr::from([127, 0, 0, 1]),
            &new_request_id(),
        );
        for gone in ["connection", "x-private", "te", "x-stackbeam-peer"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
        assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
        assert_eq!(headers["x-request-id"].len(), 32);
        assert_eq!(headers["accept"], "*/*");
    }

    #[test]
    fn two_requests_never_have_the_same_id() {
        assert_ne!(new_request_id(), new_request_id());
    }
}
