//! One process owns the queue, others publish and consume:
//! `cargo run -p stackbeam-mq --features server --example processes`. The parent starts itself again as the worker.

use std::io::Write;
use std::net::SocketAddr;

use stackbeam_mq::net::{Client, Server};
use stackbeam_mq::{Delivery, GroupOptions, Queue, TopicOptions};

const JOBS: u64 = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some(address) = std::env::args().nth(1) {
        return worker(address.parse()?).await;
    }
    let dir = std::env::temp_dir().join(format!("mq-processes-{}", std::process::id()));
    let queue = Queue::open(&dir)?;
    let server = Server::bind(queue.clone(), "127.0.0.1:0".parse::<SocketAddr>()?).await?;
    let stackbeam_mq::net::Address::Tcp(address) = server.address().clone() else {
        return Err("a TCP server has a TCP address".into());
    };
    let client = Client::connect(address);
    let jobs = client.topic("jobs", TopicOptions::new()).await?;
    jobs.group("workers", GroupOptions::new()).await?;
    for n in 0..JOBS {
        jobs.publish(format!("job {n}")).await?;
    }
    let mut child = std::process::Command::new(std::env::current_exe()?)
        .arg(address.to_string())
        .spawn()?;
    let done = tokio::task::spawn_blocking(move || child.wait()).await??;
    let stats = client.stats().await.ok_or("the server is gone")?;
    writeln!(
        std::io::stdout(),
        "{done}: {:?}",
        stats.group("jobs", "workers")
    )?;
    drop(server);
    queue.close();
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

async fn worker(address: SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(address);
    let jobs = client.topic("jobs", TopicOptions::new()).await?;
    let group = jobs.group("workers", GroupOptions::new()).await?;
    let mut done = 0;
    while done < JOBS {
        for delivery in group.take(4).await? {
            delivery.ack().await?;
            done += 1;
        }
    }
    Ok(())
}
