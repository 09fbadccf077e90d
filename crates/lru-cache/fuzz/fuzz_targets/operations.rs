//! A stream of operations, a byte a choice: every value that comes out is what it must be, none is lost,
//! and the cache is whole after each operation.
#![no_main]

#[path = "../../tests/torture/driver.rs"]
mod driver;

use std::sync::Once;

use libfuzzer_sys::fuzz_target;
use stackbeam_lru_cache::{Adaptive, Gdsf, Lru, WTinyLfu};

/// The driver's loaders panic on purpose, and it catches that; libfuzzer's hook would abort.
static HOOK: Once = Once::new();

fuzz_target!(|input: &[u8]| {
    HOOK.call_once(|| {
        let abort = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload_as_str() != Some("a loader panics") {
                abort(info);
            }
        }));
    });
    let Some((kind, choices)) = input.split_first() else {
        return;
    };
    let mut choices = choices.iter();
    let dice = move |bound: u64| {
        let low = u64::from(*choices.next()?);
        Some(low % bound.max(1))
    };
    let shards = 1 << (kind >> 2 & 1);
    match kind & 3 {
        0 => driver::run::<Adaptive>(shards, dice),
        1 => driver::run::<Lru>(shards, dice),
        2 => driver::run::<Gdsf>(shards, dice),
        _ => driver::run::<WTinyLfu>(shards, dice),
    };
});
