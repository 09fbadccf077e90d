//! The machine that the figures are of, and the bytes of its heap.

use std::{fs, process::Command};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region};

/// One line: processor, cores, memory, load, kernel, compiler.
#[must_use]
pub fn machine() -> String {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let field = |text: &str, key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key))
            .map(|rest| rest.trim_start_matches([' ', '\t', ':']).trim().to_owned())
            .unwrap_or_else(|| "?".to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let compiler = Command::new("rustc")
        .arg("--version")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    format!(
        "{}; {cores} cores; memory {}; load {}; Linux {}; {compiler}",
        field(&read("/proc/cpuinfo"), "model name"),
        field(&read("/proc/meminfo"), "MemTotal"),
        read("/proc/loadavg").split(' ').next().unwrap_or("?"),
        read("/proc/sys/kernel/osrelease").trim(),
    )
}

/// What `make` leaves on the heap, and what it made. Counts what was asked of the allocator, in the
/// program `figures` only: it alone installs the counting allocator.
pub fn heap_bytes<T>(make: impl FnOnce() -> T) -> (usize, T) {
    let region = Region::new(&INSTRUMENTED_SYSTEM);
    let made = make();
    let change = region.change();
    let kept = change
        .bytes_allocated
        .saturating_sub(change.bytes_deallocated);
    (kept, made)
}

/// How often `run` asks the allocator for memory, or for more of it; see [`heap_bytes`] for what counts.
pub fn allocations(run: impl FnOnce()) -> usize {
    let region = Region::new(&INSTRUMENTED_SYSTEM);
    run();
    let change = region.change();
    change.allocations + change.reallocations
}
