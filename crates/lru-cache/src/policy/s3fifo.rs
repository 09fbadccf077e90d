//! S3-FIFO: a queue on probation, a main queue, and the memory of who was let go too early.

use super::Policy;
use super::ghost::Plain;
use super::queues::{Main, Queues, Settings};

/// S3-FIFO (Yang and others, SOSP 2023): newcomers are on probation in a small queue, a tenth of the
/// entries. Who was read twice there goes on to the main queue, which is a CLOCK of three counts; the
/// others leave, and as many of them as there are entries are remembered, so that a quick
/// return leads straight into the main queue. A hit writes one byte. Resists scans.
///
/// Takes 11 bytes a slot, of which 2 are the memory of departures: 10 bits of each hash, so that one
/// newcomer in about 300 is taken for somebody else.
#[derive(Debug)]
pub struct S3Fifo {
    queues: Queues<Plain>,
}

impl Default for S3Fifo {
    fn default() -> Self {
        Self {
            queues: Queues::new(Settings {
                small: 100,
                window: 0,
                reads: 2,
                main: Main::Clock,
                ghost: 1000,
                admit: false,
            }),
        }
    }
}

super::queues::delegate!(S3Fifo, 1000);
