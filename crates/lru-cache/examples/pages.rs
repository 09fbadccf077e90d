//! A hundred tasks ask for one page; it is rendered once: `cargo run --example pages`.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use stackbeam_lru_cache::{load::ReadThrough, sync};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = sync::Builder::new(1_000)
        .with_ttl(Duration::from_secs(60))
        .build();
    let pages: ReadThrough<String, Arc<str>, std::io::Error> = ReadThrough::new(cache);
    let rendered = Arc::new(AtomicU32::new(0));
    let askers: Vec<_> = (0..100)
        .map(|_| {
            let (pages, rendered) = (pages.clone(), Arc::clone(&rendered));
            tokio::spawn(async move {
                pages
                    .get_or_load(&"/front".to_owned(), || async {
                        rendered.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        Ok("<h1>front</h1>".into())
                    })
                    .await
            })
        })
        .collect();
    for asker in askers {
        asker.await??;
    }
    println!(
        "100 asked, rendered {} time",
        rendered.load(Ordering::Relaxed)
    );
    println!("{:?}", pages.cache().stats());
    Ok(())
}
