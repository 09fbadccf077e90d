//! Each server starts, answers, survives what tests do to it, and is gone at the end.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use stackbeam_test_support::{Error, Server, memcached, nats, nginx, postgres, redis};

fn talk(server: &Server, question: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    stream.write_all(question.as_bytes()).unwrap();
    let mut answer = [0; 4096];
    let read = stream.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

fn gone(server: Server) {
    let (id, folder, address) = (server.id(), server.folder().to_owned(), server.address());
    drop(server);
    assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    assert!(!folder.exists());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
#[ignore = "needs redis: cargo xtask services"]
fn redis_comes_back_empty_unless_told_to_keep() {
    let mut server = redis::start().unwrap();
    assert_eq!(talk(&server, "SET a 1\r\n"), "+OK\r\n");
    server.kill().unwrap();
    assert!(!server.is_running().unwrap());
    server.restart().unwrap();
    assert_eq!(talk(&server, "GET a\r\n"), "$-1\r\n");

    let mut keeping =
        redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).unwrap();
    assert_eq!(talk(&keeping, "SET a 1\r\n"), "+OK\r\n");
    keeping.kill().unwrap();
    keeping.restart().unwrap();
    assert_eq!(talk(&keeping, "GET a\r\n"), "$1\r\n1\r\n");
    gone(server);
    gone(keeping);
}

#[test]
#[ignore = "needs redis: cargo xtask services"]
fn a_frozen_server_is_silent_and_then_goes_on() {
    let mut server = redis::start().unwrap();
    server.freeze().unwrap();
    assert!(server.is_running().unwrap());
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    stream.write_all(b"PING\r\n").unwrap();
    assert!(stream.read(&mut [0; 16]).is_err());
    server.thaw().unwrap();
    assert_eq!(talk(&server, "PING\r\n"), "+PONG\r\n");
    // A frozen server must end too.
    server.freeze().unwrap();
    gone(server);
}

#[test]
#[ignore = "needs redis: cargo xtask services"]
fn a_redis_replica_has_what_its_primary_acknowledged() {
    let primary = redis::start().unwrap();
    let replica = redis::replica_of(&primary).unwrap();
    // On one connection, because WAIT asks about its own writes: until one replica has them.
    let mut client = TcpStream::connect(primary.address()).unwrap();
    client.write_all(b"SET a 1\r\nWAIT 1 30000\r\n").unwrap();
    let answers: Vec<String> = BufReader::new(client)
        .lines()
        .take(2)
        .map(Result::unwrap)
        .collect();
    assert_eq!(answers, ["+OK", ":1"]);
    assert_eq!(talk(&replica, "GET a\r\n"), "$1\r\n1\r\n");
    gone(replica);
    gone(primary);
}

#[test]
#[ignore = "needs redis: cargo xtask services"]
fn a_test_that_panics_leaves_nothing() {
    let (tell, hear) = std::sync::mpsc::channel();
    let test = std::thread::spawn(move || {
        let server = redis::start().unwrap();
        tell.send((server.id(), server.folder().to_owned()))
            .unwrap();
        panic!("as a test that fails");
    });
    assert!(test.join().is_err());
    let (id, folder) = hear.recv().unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    assert!(!folder.exists());
}

#[test]
#[ignore = "needs memcached: cargo xtask services"]
fn memcached_answers_and_goes() {
    let server = memcached::start().unwrap();
    assert_eq!(talk(&server, "set a 0 0 1\r\n1\r\n"), "STORED\r\n");
    gone(server);
}

#[test]
#[ignore = "needs nats: cargo xtask services"]
fn nats_has_jetstream_and_restarts_on_its_port() {
    let mut server = nats::start().unwrap();
    let address = server.address();
    server.stop().unwrap();
    server.restart().unwrap();
    assert_eq!(server.address(), address);
    assert!(talk(&server, "").contains("\"jetstream\":true"));
    gone(server);
}

#[test]
#[ignore = "needs nginx: cargo xtask services"]
fn nginx_serves_the_given_configuration() {
    let server =
        nginx::start(|listen| format!("server {{ listen {listen}; return 200 'it is me'; }}"))
            .unwrap();
    assert!(talk(&server, "GET / HTTP/1.0\r\n\r\n").ends_with("it is me"));
    gone(server);
}

#[test]
#[ignore = "needs nginx: cargo xtask services"]
fn a_server_that_cannot_start_says_why() {
    let error = nginx::start(|_| "no_such_directive;".to_owned()).unwrap_err();
    assert!(matches!(error, Error::Ended { .. }), "{error}");
    assert!(error.to_string().contains("no_such_directive"), "{error}");
}

#[test]
#[ignore = "needs postgres: cargo xtask services"]
fn a_killed_primary_is_replaced_and_comes_back_as_a_replica() {
    let mut cluster = postgres::Cluster::start(1).unwrap();
    cluster[0]
        .sql("create table t (n int); insert into t values (1)")
        .unwrap();
    cluster[1].catch_up(&cluster[0]).unwrap();
    assert!(!cluster[0].is_replica().unwrap());
    assert!(cluster[1].is_replica().unwrap());

    cluster[0].kill().unwrap();
    assert!(cluster[0].sql("select 1").is_err());
    cluster[1].promote().unwrap();
    cluster[1].sql("insert into t values (2)").unwrap();

    cluster.follow(0, 1).unwrap();
    cluster[1].sql("insert into t values (3)").unwrap();
    cluster[0].catch_up(&cluster[1]).unwrap();
    assert!(cluster[0].is_replica().unwrap());
    assert_eq!(
        cluster[0].sql("select n from t order by n").unwrap(),
        "1\n2\n3"
    );
}

#[test]
#[ignore = "needs postgres: cargo xtask services"]
fn two_replicas_stream_from_one_primary() {
    let cluster = postgres::Cluster::start(2).unwrap();
    cluster[0]
        .sql("create table t (n int); insert into t values (7)")
        .unwrap();
    for replica in [1, 2] {
        cluster[replica].catch_up(&cluster[0]).unwrap();
        assert_eq!(cluster[replica].sql("select n from t").unwrap(), "7");
    }
    let streaming = "select count(*) from pg_stat_replication where state = 'streaming'";
    assert_eq!(cluster[0].sql(streaming).unwrap(), "2");
}
