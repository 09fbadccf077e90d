//! A queue and a pool of workers in one process: `cargo run -p stackbeam-mq --features tokio --example workers`.

use std::time::Duration;

use stackbeam_mq::worker::{Outcome, Workers};
use stackbeam_mq::{Message, Queue};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("mq-example-{}", std::process::id()));
    let queue = Queue::open(&dir)?;
    let mail = queue.topic("mail")?;
    for n in 0..20 {
        mail.publish(Message::new(format!("letter {n}"))).await?;
    }
    let pool = Workers::new()
        .concurrency(4)
        .backoff(Duration::from_millis(10), Duration::from_secs(1))
        .start(mail.group("senders")?, |job| async move {
            // Every fifth letter fails the first time.
            if job.id.as_u64().is_multiple_of(5) && job.attempt == 1 {
                Outcome::Retry
            } else {
                Outcome::Done
            }
        });
    while pool.stats().done < 20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (stats, _) = pool.drain().await;
    let mut out = std::io::stdout().lock();
    use std::io::Write;
    writeln!(out, "{stats:?}")?;
    queue.close();
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
