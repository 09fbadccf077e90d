//! Every engine passes the suite; the servers are real.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use stackbeam_mq::Queue;
use stackbeam_mq::engine::conformance::{self, Scale};

fn embedded(dir: &tempfile::TempDir) -> Queue {
    let options = Queue::options().segment_bytes(1 << 20);
    options.open(dir.path().join("q")).unwrap()
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
