//! The server: connections, each on one of a few threads.

mod protocol;
mod store;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use protocol::{OUT_MAX, Step, serve};
use store::Store;

/// A connection, not in any runtime yet, and its place among those that there may be.
type Accepted = (std::net::TcpStream, OwnedSemaphorePermit);

/// Connections at once, as in memcached; more wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;
/// Room for requests at first. It grows to a line and the largest value.
const FIRST: usize = 16 << 10;

/// Serves on a port (0 for any) within so many bytes, on so many threads; tells `ready` the address.
pub(crate) fn run(
    port: u16,
    bytes: u64,
    threads: u64,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), Box<dyn Error>> {
    let store = Arc::new(Store::new(bytes));
    // One runtime a thread: a connection stays where it is.
    let mut workers = Vec::new();
    for _ in 0..threads.max(1) {
        let (sender, mut accepted) = mpsc::channel::<Accepted>(16);
        workers.push(sender);
        let store = Arc::clone(&store);
        let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
        thread::spawn(move || {
            runtime.block_on(async {
                while let Some((stream, permit)) = accepted.recv().await {
                    let store = Arc::clone(&store);
                    tokio::spawn(async move {
                        // A client that goes away is no news.
                        if let Ok(stream) = TcpStream::from_std(stream) {
                            let _gone = talk(&store, stream).await;
                        }
                        drop(permit);
                    });
                }
            });
        });
    }
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(accept(port, &workers, ready))
}

async fn accept(
    port: u16,
    workers: &[mpsc::Sender<Accepted>],
    ready: impl FnOnce(SocketAddr),
) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    ready(listener.local_addr()?);
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    for worker in workers.iter().cycle() {
        let permit = Arc::clone(&connections).acquire_owned().await?;
        let stream = listener.accept().await?.0;
        stream.set_nodelay(true)?;
        worker.send((stream.into_std()?, permit)).await?;
    }
    Ok(())
}

/// Serves one connection.
async fn talk(store: &Store, mut stream: TcpStream) -> std::io::Result<()> {
    let mut input = Vec::with_capacity(FIRST);
    let mut out = Vec::with_capacity(FIRST);
    // Bytes that are to come and to be dropped.
    let mut skip = 0;
    loop {
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        loop {
            let skipped = skip.min(input.len());
            skip -= skipped;
            input.drain(..skipped);
            let step = serve(store, &input, &mut out);
            let is_full = out.len() >= OUT_MAX;
            if !out.is_empty() {
                stream.write_all(&out).await?;
                out.clear();
                out.shrink_to(2 * OUT_MAX);
            }
            match step {
                Step::Quit => return Ok(()),
                Step::Skip(read, more) => {
                    input.drain(..read);
                    skip = more;
                }
                Step::Read(read) => {
                    input.drain(..read);
                    if !is_full {
                        break;
                    }
                }
            }
        }
        if input.is_empty() {
            input.shrink_to(FIRST);
        }
        // Doubling would make more room than a request needs.
        input.reserve(FIRST);
    }
}
