//! Every engine passes the suite; the servers are real.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use stackbeam_mq::Queue;
use stackbeam_mq::engine::conformance::{self, Scale};

fn embedded(dir: &tempfile::TempDir) -> Queue {
    let options = Queue::options().segment_bytes(1 << 20);
    options.open(dir.path().join("q")).unwrap()
}

/// Runs what blocks off the runtime and keeps what it returns (a server, say).
#[cfg(any(feature = "postgres", feature = "redis"))]
async fn blocking<T: Send + 'static>(
    keep: &std::cell::RefCell<Option<T>>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<(), String> {
    let done = tokio::task::spawn_blocking(work).await;
    keep.replace(Some(done.map_err(|e| e.to_string())?));
    Ok(())
}

#[tokio::test]
async fn the_embedded_queue_passes() {
    let dir = tempfile::tempdir().unwrap();
    let queue = embedded(&dir);
    conformance::all(&queue, Scale::short()).await.unwrap();
}

#[cfg(feature = "server")]
mod served {
    use std::time::Duration;

    use stackbeam_mq::net::{Client, Server};

    use super::*;

    #[tokio::test]
    async fn a_served_queue_passes() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let server = Server::bind(embedded(&dir), socket).await.unwrap();
        let client = Client::connect(server.address().clone());
        conformance::all(&client, Scale::short()).await.unwrap();
    }

    #[tokio::test]
    async fn a_served_queue_comes_back_with_all_that_was_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let queue = embedded(&dir);
        let server = Server::bind(queue.clone(), socket.clone()).await.unwrap();
        let client = Client::connect(server.address().clone());
        let running = std::cell::RefCell::new(None);
        let restart = async {
            drop(server);
            queue.close();
            drop(queue);
            tokio::time::sleep(Duration::from_millis(100)).await;
            let server = Server::bind(embedded(&dir), socket).await;
            running.replace(Some(server.map_err(|e| e.to_string())?));
            Ok(())
        };
        let survived = conformance::survives(&client, Scale::short(), restart).await;
        survived.unwrap();
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use stackbeam_mq::bridge::Bridge;
    use stackbeam_mq::engine::Postgres;
    use stackbeam_mq::{Durability, Engine, GroupOptions, Message, TopicError, TopicOptions};
    use stackbeam_test_support::postgres;

    use super::*;

    fn synced() -> postgres::Cluster {
        postgres::Options::new()
            .setting("fsync = on")
            .start()
            .unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs postgres: cargo xtask services"]
    async fn postgres_passes() {
        let server = synced();
        let engine = Postgres::connect(&server[0].url(), "mq").await.unwrap();
        conformance::all(&engine, Scale::short()).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs postgres: cargo xtask services"]
    async fn postgres_comes_back_with_all_that_was_acknowledged() {
        let mut server = synced();
        let engine = Postgres::connect(&server[0].url(), "mq").await.unwrap();
        let keep = std::cell::RefCell::new(None);
        let restart = blocking(&keep, move || {
            server[0].kill().unwrap();
            server[0].restart().unwrap();
            server
        });
        let survived = conformance::survives(&engine, Scale::short(), restart).await;
        survived.unwrap();
    }

    #[tokio::test]
    #[ignore = "needs postgres: cargo xtask services"]
    async fn what_was_committed_with_the_applications_rows_is_relayed_and_nothing_else() {
        let server = synced();
        let url = server[0].url();
        let engine = Postgres::connect(&url, "mq").await.unwrap();
        let outbox = engine.producer("outbox", TopicOptions::new()).await;
        let outbox = outbox.unwrap();
        let options = GroupOptions::new().deliveries_max(0);
        let group = engine.consumer("outbox", "relay", options).await.unwrap();
        let connected = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
        let (mut app, connection) = connected.unwrap();
        tokio::spawn(connection);
        let table = "create table orders (n int)";
        app.batch_execute(table).await.unwrap();
        for n in 0..20_i32 {
            let order = app.transaction().await.unwrap();
            let row = "insert into orders values ($1)";
            order.execute(row, &[&n]).await.unwrap();
            let message = Message::new(n.to_string());
            outbox.publish_in(&order, &[message]).await.unwrap();
            if n % 3 == 0 {
                order.rollback().await.unwrap();
            } else {
                order.commit().await.unwrap();
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let queue = embedded(&dir);
        let target = queue.topic("orders").unwrap();
        let relay = Bridge::new("orders");
        let mut copied = 0;
        while copied < 13 {
            copied += relay.step(&group, &target).await.unwrap().copied;
        }
        let rows = app.query("select n from orders order by n", &[]).await;
        let rows: Vec<_> = rows
            .unwrap()
            .iter()
            .map(|r| r.get::<_, i32>(0).to_string())
            .collect();
        let got = target.group("g").unwrap().take(100).await.unwrap();
        let got: Vec<_> = got.iter().map(|l| l.message().body().clone()).collect();
        assert_eq!(got, rows);
    }

    #[tokio::test]
    #[ignore = "needs postgres: cargo xtask services"]
    async fn a_postgres_without_fsync_is_refused_unless_buffered_is_asked_for() {
        let server = postgres::Cluster::start(0).unwrap();
        let engine = Postgres::connect(&server[0].url(), "mq").await.unwrap();
        let refused = engine.producer("t", TopicOptions::new()).await;
        assert!(
            matches!(refused, Err(TopicError::Unsupported(_))),
            "{refused:?}"
        );
        let buffered = TopicOptions::new().durability(Durability::Buffered);
        conformance::all(&engine, Scale::short().topics(buffered))
            .await
            .unwrap();
    }
}

#[cfg(feature = "redis")]
mod redis {
    use stackbeam_mq::engine::Redis;
    use stackbeam_mq::{Durability, Engine, TopicError, TopicOptions};
    use stackbeam_test_support::{Server, redis};

    use super::*;

    fn synced() -> Server {
        redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs redis: cargo xtask services"]
    async fn redis_passes() {
        let server = synced();
        let engine = Redis::connect(&server.url(), "mq").await.unwrap();
        conformance::all(&engine, Scale::short()).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs redis: cargo xtask services"]
    async fn redis_comes_back_with_all_that_was_acknowledged() {
        let mut server = synced();
        let engine = Redis::connect(&server.url(), "mq").await.unwrap();
        let keep = std::cell::RefCell::new(None);
        let restart = blocking(&keep, move || {
            server.kill().unwrap();
            server.restart().unwrap();
            server
        });
        let survived = conformance::survives(&engine, Scale::short(), restart).await;
        survived.unwrap();
    }

    #[tokio::test]
    #[ignore = "needs redis: cargo xtask services"]
    async fn a_redis_that_forgets_is_refused_unless_buffered_is_asked_for() {
        let server = redis::start().unwrap();
        let engine = Redis::connect(&server.url(), "mq").await.unwrap();
        let refused = engine.producer("t", TopicOptions::new()).await;
        assert!(
            matches!(refused, Err(TopicError::Unsupported(_))),
            "{refused:?}"
        );
        let buffered = TopicOptions::new().durability(Durability::Buffered);
        conformance::all(&engine, Scale::short().topics(buffered))
            .await
            .unwrap();
    }
}
