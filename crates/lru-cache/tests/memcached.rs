//! The example `memcached`: what it says to real clients.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

#[path = "../examples/memcached/server/mod.rs"]
mod server;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use stackbeam_lru_cache::tier::{Looked, Memcached, Tier as _};

/// A server in this process.
fn start(bytes: u64) -> SocketAddr {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let ready = move |address| sender.send(address).unwrap();
        server::run(0, bytes, 2, ready).map_err(|error| error.to_string())
    });
    receiver.recv().unwrap()
}

/// What the server says to these bytes, sent in pieces of such a length, until it hangs up.
fn says(address: SocketAddr, bytes: &[u8], piece: usize) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in bytes.chunks(piece) {
        stream.write_all(piece).unwrap();
    }
    stream.write_all(b"quit\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

#[test]
fn requests_are_served_however_they_are_cut() {
    let address = start(1 << 20);
    let requests = b"set a 7 0 3\r\nabc\r\nget a b\r\nappend a 0 0 1\r\nd\r\nget a\r\n\
        set n 0 0 2 noreply\r\n99\r\nincr n 1\r\ndecr n 1000\r\nadd n 0 0 1\r\nx\r\n\
        delete a\r\ndelete a\r\nnonsense\r\nget\r\nms m 2 T60 F5\r\nhi\r\nmg m v f s t\r\n\
        md m\r\nmg m v\r\nmn\r\n";
    let answers = "STORED\r\nVALUE a 7 3\r\nabc\r\nEND\r\nSTORED\r\nVALUE a 7 4\r\nabcd\r\nEND\r\n\
        100\r\n0\r\nNOT_STORED\r\nDELETED\r\nNOT_FOUND\r\nERROR\r\nERROR\r\nHD\r\n\
        VA 2 f5 s2 t59\r\nhi\r\nHD\r\nEN\r\nMN\r\n";
    for piece in [1, 2, 3, 7, 1000] {
        assert_eq!(
            says(address, requests, piece),
            answers,
            "in pieces of {piece}"
        );
    }
}

#[test]
fn what_is_too_large_or_too_long_is_refused_and_the_next_request_is_served() {
    let address = start(8 << 20);
    let mut requests = b"set k 0 0 1048577\r\n".to_vec();
    requests.resize(requests.len() + 1_048_577, b'x');
    requests.extend(b"\r\nget k\r\n");
    let said = says(address, &requests, 10_000);
    assert_eq!(said, "SERVER_ERROR object too large for cache\r\nEND\r\n");
    let said = says(address, b"set k 0 0 1\r\nabc\r\n", 100);
    assert_eq!(said, "CLIENT_ERROR bad data chunk\r\n");
    // What a client may leave unsent takes no more room than a line.
    let mut stream = TcpStream::connect(address).unwrap();
    let _hung_up = stream.write_all(&vec![b'x'; 200_000]);
    let mut said = String::new();
    let _reset = stream.read_to_string(&mut said);
    assert!(
        said.is_empty() || said == "CLIENT_ERROR line too long\r\n",
        "{said}"
    );
}

#[tokio::test]
async fn the_crates_own_tier_keeps_its_leases_there() {
    let address = start(1 << 20).to_string();
    for tier in [
        Memcached::new(&*address),
        Memcached::new(&*address).with_text_protocol(),
    ] {
        let Looked::Nothing(Some(lease)) = tier.get(b"k").await.unwrap() else {
            panic!("no lease");
        };
        let hour = Duration::from_secs(3600);
        tier.remove(b"k").await.unwrap();
        assert!(!tier.fill(b"k", lease, b"old", hour).await.unwrap());
        let Looked::Nothing(Some(lease)) = tier.get(b"k").await.unwrap() else {
            panic!("no lease");
        };
        assert!(tier.fill(b"k", lease, b"new", hour).await.unwrap());
        let looked = tier.get(b"k").await.unwrap();
        assert!(matches!(looked, Looked::Value { bytes, .. } if bytes == b"new"));
        tier.clear().await.unwrap();
    }
}

#[test]
#[ignore = "needs memccapable (libmemcached-tools): cargo xtask services"]
fn memccapable_finds_nothing_to_complain_of() {
    let port = start(64 << 20).port().to_string();
    let tool = Command::new("memccapable")
        .args(["-h", "127.0.0.1", "-p", &port, "-t", "30", "-a"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&tool.stdout) + String::from_utf8_lossy(&tool.stderr);
    assert!(
        tool.status.success() && said.contains("All tests passed"),
        "{said}"
    );
}
