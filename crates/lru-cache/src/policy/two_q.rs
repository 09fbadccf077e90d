//! 2Q as CLOCK queues with a correlation window: Clock2Q+.

use super::Policy;
use super::ghost::Plain;
use super::queues::{Main, Queues, Settings};

/// Clock2Q+ (arXiv 2511.21958), the heir of 2Q (Johnson and Shasha, VLDB 1994): newcomers pass through
/// a small queue, a fifth of the entries; the youngest third of that is the *correlation window*, in
/// which reads do not count, because they belong to the same burst as the first one. One read outside the
/// window, or a return soon after leaving, leads into the main queue, which is a CLOCK of three counts. A hit
/// writes one byte.
///
/// Takes 11 bytes a slot, as [`S3Fifo`](super::S3Fifo) does.
#[derive(Debug)]
pub struct TwoQ {
    queues: Queues<Plain>,
}

impl Default for TwoQ {
    fn default() -> Self {
        Self {
            queues: Queues::new(Settings {
                small: 200,
                window: 300,
                reads: 1,
                main: Main::Clock,
                ghost: 1000,
                admit: false,
            }),
        }
    }
}

super::queues::delegate!(TwoQ, 1000);
