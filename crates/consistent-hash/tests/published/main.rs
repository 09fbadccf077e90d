//! What other people's software computed, and this crate must.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod compat;
mod functions;
mod hashes;
mod interop;
mod replicas;
mod support;

/// Rows that are not met, with the reason.
const NOT_MET: &[(&str, &str, usize, &str)] = &[
    (
        "vitess-vindexes.json",
        "unicode_loose_md5",
        7,
        "the sort key of Go's collation, by a table of Unicode 6.2, is asked of the caller",
    ),
    (
        "vitess-vindexes.json",
        "unicode_loose_xxhash",
        7,
        "the same",
    ),
];

#[test]
fn every_row_of_every_file_is_checked() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".json"))
        .collect();
    files.sort_unstable();
    let mut known: Vec<&str> = support::FILES.iter().map(|file| file.name).collect();
    known.sort_unstable();
    assert_eq!(files, known);

    for checks in [
        compat::CHECKS,
        functions::CHECKS,
        hashes::CHECKS,
        interop::CHECKS,
        replicas::CHECKS,
    ] {
        for check in checks {
            check();
        }
    }
    let read = support::read();
    let mut rows = 0;
    for file in support::FILES {
        for group in support::groups(*file) {
            let name = group["group"].as_str().unwrap();
            let count = group["cases"].as_array().unwrap().len();
            let not_met = NOT_MET
                .iter()
                .find(|(in_file, in_group, ..)| *in_file == file.name && *in_group == name)
                .map_or(0, |row| row.2);
            let checked = read.get(&(file.name, name.to_string())).copied();
            let checked = checked.unwrap_or(0);
            assert_eq!(checked + not_met, count, "{} {name}", file.name);
            rows += count;
        }
    }
    assert_eq!(rows, 3_221);
}
