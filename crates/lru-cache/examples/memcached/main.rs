//! A memcached: the text and the meta protocol over the shared cache, for real clients.
//!
//! ```sh
//! cargo run --release --example memcached -- 11211 64 4   # port, MiB, threads
//! ```
//!
//! What it has of memcached's `doc/protocol.txt`: the text protocol but for delays of `flush_all` and what
//! asks about slabs; of the meta protocol `mg`, `ms`, `md` and `mn` with the flags that a second level needs. It
//! evicts by the adaptive policy, counts what an item costs besides its value, and never holds more than
//! it may.

mod server;

use std::error::Error;
use std::io::Write as _;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |or: u64| arguments.next().map_or(Ok(or), |word| word.parse());
    let (port, mebibytes, threads) = (number(11_211)?, number(64)?, number(4)?);
    let bytes = mebibytes.saturating_mul(1 << 20);
    server::run(u16::try_from(port)?, bytes, threads, |address| {
        // Nobody may be listening.
        let _told = writeln!(std::io::stdout(), "{address}");
    })
}
