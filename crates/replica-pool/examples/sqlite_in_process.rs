//! Three SQLite copies in one process. The primary is killed while a writer and a reader work; both go
//! on, and nothing that was acknowledged is missing.
//!
//! `cargo run --example sqlite_in_process --features sqlite,tokio`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction};
use stackbeam_replica_pool::sqlite::{Apply, Local, ServerOptions};
use stackbeam_replica_pool::{
    Coordinator, CoordinatorOptions, Freshness, Lsn, Outcome, Pool, PoolOptions,
};

/// The application's part: what a command does to the database.
struct Notes;

impl Apply for Notes {
    type Answer = ();

    fn migrate(&mut self, db: &Connection) -> rusqlite::Result<()> {
        db.execute_batch("CREATE TABLE IF NOT EXISTS notes (text TEXT PRIMARY KEY)")
    }

    fn apply(&mut self, tx: &Transaction<'_>, _: Lsn, command: &[u8]) -> rusqlite::Result<()> {
        // The key makes a repeated command harmless.
        let text = String::from_utf8_lossy(command);
        tx.execute("INSERT OR IGNORE INTO notes VALUES (?)", [text])?;
        Ok(())
    }
}

/// Writes until it is acknowledged, and says where in the log it is.
async fn write(pool: &Pool<Local<Notes>>, note: &str) -> Result<Lsn, Box<dyn Error>> {
    loop {
        let lease = pool.write().await?;
        match lease.write(note.as_bytes().to_vec()).await {
            Ok((position, ())) => {
                lease.finish(Outcome::At(position));
                return Ok(position);
            }
            // It may have been carried out or not: say it again.
            Err(_) => lease.finish(Outcome::Broken),
        }
    }
}

/// Counts the notes on a copy that has at least `position`. Returns which copy it was.
async fn count(pool: &Pool<Local<Notes>>, position: Lsn) -> Result<(u16, u32), Box<dyn Error>> {
    loop {
        let lease = pool.read(Freshness::AtLeast(position)).await?;
        let query = |db: &Connection| {
            db.query_row("SELECT count(*) FROM notes", [], |row| row.get::<_, u32>(0))
        };
        let wait = Duration::from_millis(100);
        let member = lease.member();
        match lease.read(position, wait, query).await {
            Ok((reached, count)) => {
                lease.finish(Outcome::At(reached));
                return Ok((member, count));
            }
            Err(_) => lease.finish(Outcome::Broken),
        }
    }
}

#[tokio::main]
#[expect(
    clippy::disallowed_methods,
    reason = "an example measures what the reader would"
)]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let copies = Local::start(dir.path(), 3, ServerOptions::default(), || Notes)?;
    let options = CoordinatorOptions::default();
    let coordinator = Coordinator::start(Arc::clone(&copies), 0..3, options, |notice| {
        println!("  {notice:?}");
    });
    let pool = Pool::new(Arc::clone(&copies), 0..3, PoolOptions::default());

    let mut last = 0;
    for n in 0..100 {
        last = write(&pool, &format!("before {n}")).await?;
    }
    let (member, notes) = count(&pool, last).await?;
    println!("100 notes written; copy {member} shows {notes} of them");

    let primary = coordinator.situation().primary.ok_or("nobody reigns")?;
    println!("killing copy {primary}, the primary");
    copies.kill(primary).await;
    let began = Instant::now();
    last = write(&pool, "after 0").await?;
    println!("the next write took {:?}", began.elapsed());
    for n in 1..100 {
        last = write(&pool, &format!("after {n}")).await?;
    }
    let (member, notes) = count(&pool, last).await?;
    println!("100 more written; copy {member} shows {notes}");
    if notes != 200 {
        return Err("an acknowledged note is missing".into());
    }

    println!("opening copy {primary} again");
    copies.open(primary, Notes)?;
    let caught_up = async {
        while copies
            .server(primary)
            .is_none_or(|copy| copy.evidence().applied < last)
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), caught_up).await?;
    println!("it follows, and has everything");
    println!("{:#?}", pool.stats());
    Ok(())
}
