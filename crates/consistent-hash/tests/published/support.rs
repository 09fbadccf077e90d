//! Reading the files of vectors, and keeping account of what was read.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Index,
    sync::{Mutex, PoisonError},
    thread,
};

use serde_json::Value;

/// A file of vectors.
#[derive(Clone, Copy)]
pub(crate) struct File {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
}

macro_rules! files {
    ($($name:ident = $file:literal,)*) => {
        $(pub(crate) const $name: File = File {
            name: $file,
            text: include_str!(concat!("../vectors/", $file)),
        };)*
        pub(crate) const FILES: &[File] = &[$($name),*];
    };
}

files! {
    ANCHOR = "anchorhash.json",
    CASSANDRA = "cassandra-tokens.json",
    ELASTIC = "elasticsearch-routing.json",
    ENVOY = "ring-hash-envoy.json",
    FLIP = "fliphash.json",
    HASHES = "hash-functions.json",
    JUMP = "jump.json",
    JUMP_BACK = "jumpback.json",
    KAFKA = "kafka-murmur2.json",
    LIBMEMCACHED = "ketama-libmemcached.json",
    MAGLEV = "maglev.json",
    MCROUTER = "mcrouter.json",
    MONGODB = "mongodb-hashed.json",
    NGINX = "ketama-nginx.json",
    POSTGRES = "postgres-hash.json",
    REDIS = "redis-slots.json",
    REPLICAS = "replica-placement.json",
    SPYMEMCACHED = "ketama-spymemcached.json",
    VITESS = "vitess-vindexes.json",
}

/// What is said of a row, and is no part of it.
const NOTES: [&str; 3] = ["note", "origin", "verified"];

/// Rows that were read to the last field, by file and group.
static READ: Mutex<BTreeMap<(&str, String), usize>> = Mutex::new(BTreeMap::new());

/// Rows that were read so far, by file and group.
pub(crate) fn read() -> BTreeMap<(&'static str, String), usize> {
    READ.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// A row. When it is dropped each of its fields must have been read.
pub(crate) struct Case {
    value: Value,
    unread: RefCell<BTreeSet<String>>,
}

impl Index<&str> for Case {
    type Output = Value;

    fn index(&self, field: &str) -> &Value {
        self.unread.borrow_mut().remove(field);
        &self.value[field]
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        if !thread::panicking() {
            let unread = self.unread.borrow();
            assert!(unread.is_empty(), "nobody looked at {unread:?} of {self}");
        }
    }
}

/// The cases of one group of a file of vectors, at least one.
pub(crate) fn cases(file: File, group: &str) -> Vec<Case> {
    let whole = whole_group(file, group);
    let cases = whole["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    read.insert((file.name, group.to_string()), cases.len());
    cases
        .iter()
        .map(|value| {
            let fields = value.as_object().unwrap().keys();
            let fields = fields.filter(|field| !NOTES.contains(&field.as_str()));
            Case {
                unread: RefCell::new(fields.cloned().collect()),
                value: value.clone(),
            }
        })
        .collect()
}

/// The groups of a file.
pub(crate) fn groups(file: File) -> Vec<Value> {
    whole(file)["groups"].as_array().unwrap().clone()
}

/// A file with what is said of it.
pub(crate) fn whole(file: File) -> Value {
    serde_json::from_str(file.text).unwrap()
}

/// A group with what is said of it.
pub(crate) fn whole_group(file: File, group: &str) -> Value {
    let groups = groups(file);
    let found = groups.iter().find(|found| found["group"] == group);
    found.unwrap_or_else(|| panic!("no group {group}")).clone()
}

/// A number, or the text of one.
pub(crate) fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

/// A signed number, or the text of one.
pub(crate) fn signed(value: &Value) -> i64 {
    value
        .as_i64()
        .unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

/// A small number.
pub(crate) fn small(value: &Value) -> u32 {
    u32::try_from(number(value)).unwrap()
}

/// A number in hexadecimal digits, the highest first.
pub(crate) fn hex_number(value: &Value) -> u128 {
    u128::from_str_radix(value.as_str().unwrap(), 16).unwrap()
}

/// Bytes from hexadecimal digits.
pub(crate) fn hex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}
