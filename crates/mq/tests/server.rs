//! Stories of a queue that several clients share.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::net::SocketAddr;
use std::time::Duration;

use stackbeam_mq::net::{Address, Client, Server};
use stackbeam_mq::{Delivery, GroupOptions, Message, Queue, TopicOptions};

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn open(dir: &std::path::Path) -> Queue {
    Queue::options().segment_bytes(1 << 20).open(dir).unwrap()
}

#[tokio::test]
async fn two_clients_compete_and_each_message_is_done_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::bind(open(dir.path()), loopback()).await.unwrap();
    let web = Client::connect(server.address().clone());
    let topic = web.topic("t", TopicOptions::new()).await.unwrap();
    for n in 0..40 {
        topic.publish(format!("{n}")).await.unwrap();
    }
    let mut tasks = Vec::new();
    for _ in 0..2 {
        let client = Client::connect(server.address().clone());
        tasks.push(tokio::spawn(async move {
            let topic = client.topic("t", TopicOptions::new()).await.unwrap();
            let group = topic.group("g", GroupOptions::new()).await.unwrap();
            let mut seen = Vec::new();
            while let Ok(Ok(leases)) =
                tokio::time::timeout(Duration::from_millis(500), group.take(3)).await
            {
                for lease in leases {
                    seen.push(lease.message().body().clone());
                    lease.ack().await.unwrap();
                }
            }
            seen
        }));
    }
    let mut all = Vec::new();
    for t in tasks {
        all.extend(t.await.unwrap());
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 40);
    let stats = web.stats().await.unwrap();
    let g = stats.group("t", "g").unwrap();
    assert_eq!((g.published, g.acked), (40, 40));
}

#[tokio::test]
async fn clients_go_on_when_the_server_comes_back_and_nothing_is_stored_twice() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("mq.sock");
    let files = dir.path().join("q");
    let queue = open(&files);
    let server = Server::bind(queue.clone(), socket.clone()).await.unwrap();
    let client = Client::connect(Address::Unix(socket.clone()));
    let topic = client.topic("t", TopicOptions::new()).await.unwrap();
    let group = topic.group("g", GroupOptions::new()).await.unwrap();
    topic.publish(Message::new("a")).await.unwrap();
    drop(server);
    queue.close();
    drop(queue);
    let publish = {
        let topic = topic.clone();
        tokio::spawn(async move { topic.publish("b").await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    let queue = open(&files);
    let _server = Server::bind(queue.clone(), socket).await.unwrap();
    publish.await.unwrap().unwrap();
    let leases = group.take(10).await.unwrap();
    let bodies: Vec<_> = leases.iter().map(|l| l.message().body().clone()).collect();
    assert_eq!(bodies, ["a", "b"]);
    assert_eq!(queue.stats().topics[0].published, 2);
}

#[tokio::test]
async fn a_take_that_is_dropped_or_whose_client_dies_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::bind(open(dir.path()), loopback()).await.unwrap();
    let client = Client::connect(server.address().clone());
    let topic = client.topic("t", TopicOptions::new()).await.unwrap();
    let options = GroupOptions::new().lease(Duration::from_millis(200));
    let group = topic.group("g", options.clone()).await.unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(30), group.take(1))
            .await
            .is_err()
    );
    topic.publish("x").await.unwrap();
    // The abandoned take may have got it: then its lease ends.
    let lease = tokio::time::timeout(Duration::from_secs(5), group.take(1))
        .await
        .unwrap()
        .unwrap()
        .pop()
        .unwrap();
    assert_eq!(lease.message().body(), "x");
    lease.ack().await.unwrap();
}

#[tokio::test]
async fn garbage_on_the_socket_ends_that_connection_only() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let dir = tempfile::tempdir().unwrap();
    let server = Server::bind(open(dir.path()), loopback()).await.unwrap();
    let Address::Tcp(addr) = server.address().clone() else {
        panic!()
    };
    let mut raw = tokio::net::TcpStream::connect(addr).await.unwrap();
    raw.write_all(&[0xFF; 64]).await.unwrap();
    let mut end = Vec::new();
    drop(
        tokio::time::timeout(Duration::from_secs(5), raw.read_to_end(&mut end))
            .await
            .unwrap(),
    );
    // A well-framed request that means nothing is answered as such.
    let mut raw = tokio::net::TcpStream::connect(addr).await.unwrap();
    raw.write_all(&[10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0xFF])
        .await
        .unwrap();
    let mut answer = [0; 13];
    raw.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[12], 9);
    let client = Client::connect(addr);
    client
        .topic("t", TopicOptions::new())
        .await
        .unwrap()
        .publish("x")
        .await
        .unwrap();
}

#[tokio::test]
async fn only_who_shows_the_secret_is_served_and_it_is_shown_again_after_a_reconnect() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("q");
    let queue = open(&files);
    let server = Server::bind_with_secret(queue.clone(), loopback(), "open sesame")
        .await
        .unwrap();
    let Address::Tcp(addr) = server.address().clone() else {
        panic!()
    };
    let friend = Client::connect_with_secret(addr, "open sesame");
    let topic = friend.topic("t", TopicOptions::new()).await.unwrap();
    topic.publish("x").await.unwrap();
    for stranger in [
        Client::connect(addr),
        Client::connect_with_secret(addr, "open barley"),
        Client::connect_with_secret(addr, ""),
        Client::connect_with_secret(addr, "x".repeat(1 << 20)),
    ] {
        let asked = tokio::time::timeout(Duration::from_millis(200), stranger.stats());
        assert!(asked.await.is_err(), "a stranger got an answer");
    }
    // What a web page or a port scanner sends is cut off, not waited for.
    for bytes in [
        b"POST /x HTTP/1.1\r\nhost: a\r\n\r\n".as_slice(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
    ] {
        let mut raw = tokio::net::TcpStream::connect(addr).await.unwrap();
        raw.write_all(bytes).await.unwrap();
        let mut end = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(2), raw.read_to_end(&mut end));
        drop(closed.await.expect("the connection is cut off"));
        assert_eq!(end, b"");
    }
    drop(server);
    queue.close();
    drop(queue);
    let queue = open(&files);
    // The old listener goes with its task, a moment after the server.
    let _server = loop {
        match Server::bind_with_secret(queue.clone(), addr, "open sesame").await {
            Ok(server) => break server,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    topic.publish("y").await.unwrap();
    assert_eq!(queue.stats().topics[0].published, 2);
    for length in [0, 257] {
        let refused = Server::bind_with_secret(queue.clone(), loopback(), vec![b'x'; length]);
        assert!(refused.await.is_err(), "{length} bytes");
    }
}
