//! Real servers and libraries put random keys where this crate puts them.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
#![expect(clippy::print_stdout, reason = "a failure shows its seed")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use stackbeam_consistent_hash::interop::{nginx::PlainHash, postgres::PartitionKey, redis};
use stackbeam_consistent_hash::{Ketama, KetamaProfile, KeyHash, Member, Members, NodeIx, Xxh3};
use stackbeam_test_support as support;

/// Random numbers, other ones in each run; the seed is printed where a test fails.
struct Random {
    seed: u64,
    drawn: u64,
}

impl Random {
    fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        let seed = RandomState::new().hash_one(0);
        println!("seed {seed}");
        Self { seed, drawn: 0 }
    }

    fn next(&mut self) -> u64 {
        self.drawn += 1;
        Xxh3::with_seed(self.seed).hash_u64(self.drawn)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A word of letters, digits and some signs.
    fn word(&mut self) -> String {
        const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789_.:-";
        let length = 1 + self.below(30);
        (0..length)
            .map(|_| char::from(LETTERS[usize::try_from(self.below(40)).unwrap()]))
            .collect()
    }
}

#[test]
#[ignore = "needs redis: cargo xtask services"]
fn redis_cluster_puts_keys_in_the_same_slots() {
    let bus = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let bus = bus.port().to_string();
    let server =
        support::redis::start_with(&["--cluster-enabled", "yes", "--cluster-port", &bus]).unwrap();
    let stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    let mut replies = BufReader::new(stream.try_clone().unwrap());
    stream.set_nodelay(true).unwrap();
    let mut stream = stream;
    let mut random = Random::new();
    let mut slots = BTreeSet::new();
    for _ in 0..5_000 {
        // Bytes of all kinds, with many braces.
        let length = random.below(24);
        let key: Vec<u8> = (0..length)
            .map(|_| match random.below(8) {
                0 => b'{',
                1 => b'}',
                _ => u8::try_from(random.below(256)).unwrap(),
            })
            .collect();
        let mut command =
            format!("*3\r\n$7\r\nCLUSTER\r\n$7\r\nKEYSLOT\r\n${length}\r\n").into_bytes();
        command.extend(&key);
        command.extend(b"\r\n");
        stream.write_all(&command).unwrap();
        let mut reply = String::new();
        replies.read_line(&mut reply).unwrap();
        let slot = redis::slot(&key);
        assert_eq!(reply.trim_end(), format!(":{slot}"), "{key:?}");
        slots.insert(slot);
    }
    assert!(slots.len() > 1_000);
}

#[test]
#[ignore = "needs postgres: cargo xtask services"]
fn postgres_puts_rows_in_the_same_partitions() {
    let server = support::postgres::start().unwrap();
    let mut random = Random::new();
    let tables = [
        ("i4", "int4", 7_u32),
        ("i8", "int8", 16),
        ("t", "text", 5),
        ("u", "uuid", 11),
    ];
    let mut sql = String::new();
    let mut create = |table: &str, columns: &str, key: &str, modulus: u32| {
        write!(
            sql,
            "create table {table} (n int, {columns}) partition by hash ({key});"
        )
        .unwrap();
        for rest in 0..modulus {
            write!(
                sql,
                "create table {table}_{rest} partition of {table} for values with (modulus {modulus}, remainder {rest});"
            )
            .unwrap();
        }
    };
    for (table, ty, modulus) in tables {
        create(table, &format!("a {ty}"), "a", modulus);
    }
    create("two", "a int8, b text", "a, b", 13);
    server.sql(&sql).unwrap();
    // What partition a row of each table belongs to, by its number.
    let mut wanted = Vec::new();
    let mut rows = String::new();
    let uuid_text = |bytes: [u8; 16]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    };
    for n in 0..400 {
        let key = PartitionKey::new();
        let number = random.next().cast_signed() >> random.below(60);
        let small = i32::try_from(number >> 33).unwrap();
        let text = if n == 0 {
            String::new()
        } else {
            random.word() + "é"
        };
        let mut uuid = [0; 16];
        uuid[..8].copy_from_slice(&random.next().to_le_bytes());
        uuid[8..].copy_from_slice(&random.next().to_le_bytes());
        let null = n % 10 == 3;
        let (two, b) = if null {
            (key.int8(number).null(), "null".into())
        } else {
            (key.int8(number).text(&text), format!("'{text}'"))
        };
        for (table, values, key, modulus) in [
            ("i4", format!("{small}"), key.int4(small), 7),
            ("i8", format!("{number}"), key.int8(number), 16),
            ("t", format!("'{text}'"), key.text(&text), 5),
            ("u", format!("'{}'", uuid_text(uuid)), key.uuid(uuid), 11),
            ("two", format!("{number}, {b}"), two, 13),
        ] {
            write!(rows, "insert into {table} values ({n}, {values});").unwrap();
            wanted.push(format!("{table}_{}|{n}", key.remainder(modulus).unwrap()));
        }
    }
    server.sql(&rows).unwrap();
    let all = ["i4", "i8", "t", "u", "two"]
        .map(|table| format!("select tableoid::regclass, n from {table}"));
    let got = server.sql(&all.join(" union all ")).unwrap();
    let mut got: Vec<String> = got.lines().map(str::to_string).collect();
    got.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(got, wanted);
}

#[test]
#[ignore = "needs nginx: cargo xtask services"]
fn nginx_sends_keys_to_the_same_servers() {
    let mut random = Random::new();
    // Nobody listens there: nginx says whom it asked.
    let servers: Vec<(String, u64)> = (0..9)
        .map(|n| match n {
            0 => ("[::1]:1".to_string(), 1),
            n => (format!("127.0.1.{n}:{}", 1 + n % 3), 1 + random.below(9)),
        })
        .collect();
    let mut upstream = String::new();
    for (name, weight) in &servers {
        write!(upstream, "server {name} weight={weight} max_fails=0; ").unwrap();
    }
    let server = support::nginx::start(|listen| {
        format!(
            "upstream ring {{ hash $arg_key consistent; {upstream} }}\n\
             upstream plain {{ hash $arg_key; {upstream} }}\n\
             server {{ listen {listen}; proxy_next_upstream error; proxy_next_upstream_tries 4; \
             add_header X-Asked $upstream_addr always; \
             location /ring {{ proxy_pass http://ring; }} location /plain {{ proxy_pass http://plain; }} }}"
        )
    })
    .unwrap();
    let members = Members::in_order(servers.iter().map(|(name, weight)| {
        Member::new(name).with_weight(f64::from(u32::try_from(*weight).unwrap()))
    }))
    .unwrap();
    let ring = Ketama::new(KetamaProfile::Nginx, &members).unwrap();
    let plain = PlainHash::new(&members).unwrap();
    let mut seen = BTreeSet::new();
    for n in 0..900 {
        let key = random.word();
        // nginx goes on for 21 rounds, and passes over whom it asked already.
        let tries: Vec<NodeIx> = match n % 3 {
            0 => plain.tries_of(key.as_bytes()).collect(),
            _ => ring.tries_of(key.as_bytes()).take(21).collect(),
        };
        let path = ["plain", "ring", "ring"][n % 3];
        let mut distinct: Vec<&str> = Vec::new();
        for node in tries {
            let name = members[node].name();
            if !distinct.contains(&name) {
                distinct.push(name);
            }
        }
        distinct.truncate(4);
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        write!(stream, "GET /{path}?key={key} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let asked = answer
            .lines()
            .find_map(|line| line.strip_prefix("X-Asked: "));
        let asked: Vec<&str> = asked.unwrap().split(", ").take(distinct.len()).collect();
        assert_eq!(asked, distinct, "{path} {key} {servers:?}");
        seen.insert((path, distinct[0]));
    }
    assert!(seen.len() > 10, "{seen:?}");
}

/// Reads keys, one a line, and says which server libmemcached would ask.
const CLIENT: &str = r#"
#include <libmemcached/memcached.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    memcached_st *client = memcached_create(NULL);
    memcached_return_t error;
    char key[256];
    if (strcmp(argv[1], "plain") == 0) {
        memcached_behavior_set_distribution(client, MEMCACHED_DISTRIBUTION_CONSISTENT_KETAMA);
    } else {
        memcached_behavior_set(client, MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED, 1);
        if (strcmp(argv[1], "spy") == 0) {
            memcached_behavior_set_distribution(client, MEMCACHED_DISTRIBUTION_CONSISTENT_KETAMA_SPY);
            /* The distribution alone takes the weights away. */
            memcached_behavior_set(client, MEMCACHED_BEHAVIOR_KETAMA_HASH, MEMCACHED_HASH_MD5);
        }
    }
    for (int n = 2; n + 2 < argc; n += 3)
        memcached_server_add_with_weight(client, argv[n], atoi(argv[n + 1]), atoi(argv[n + 2]));
    while (fgets(key, sizeof key, stdin)) {
        key[strcspn(key, "\n")] = 0;
        const memcached_instance_st *server = memcached_server_by_key(client, key, strlen(key), &error);
        printf("%s:%d\n", memcached_server_name(server), memcached_server_port(server));
    }
    memcached_free(client);
    return 0;
}
"#;

#[test]
#[ignore = "needs libmemcached: cargo xtask services"]
fn libmemcached_sends_keys_to_the_same_servers() {
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("client.c"), folder.path().join("client"));
    fs::write(&source, CLIENT).unwrap();
    let built = Command::new("gcc")
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .arg("-lmemcached")
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let mut random = Random::new();
    let servers: Vec<(String, u64, u64)> = (0..7)
        .map(|n| {
            (
                format!("cache-{n}.example"),
                if n < 4 { 11_211 } else { 11_300 + n },
                1 + random.below(5),
            )
        })
        .collect();
    let keys: Vec<String> = (0..3_000).map(|_| random.word()).collect();
    // Without weights the library has another scheme; the first weight above 1 makes it switch.
    for (mode, profile) in [
        ("weighted", KetamaProfile::LibmemcachedWeighted),
        ("plain", KetamaProfile::Libmemcached),
        ("spy", KetamaProfile::LibmemcachedSpy),
    ] {
        let mut client = Command::new(&program);
        client.arg(mode);
        for (host, port, weight) in &servers {
            let weight = if mode == "plain" { 1 } else { *weight };
            client.args([host.as_str(), &port.to_string(), &weight.to_string()]);
        }
        let input = folder.path().join("keys");
        fs::write(&input, keys.join("\n") + "\n").unwrap();
        let output = client
            .stdin(Stdio::from(fs::File::open(&input).unwrap()))
            .output()
            .unwrap();
        assert!(output.status.success());
        let members = Members::in_order(servers.iter().map(|(host, port, weight)| {
            Member::new(format!("{host}:{port}"))
                .with_weight(f64::from(u32::try_from(*weight).unwrap()))
        }))
        .unwrap();
        let ring = Ketama::new(profile, &members).unwrap();
        let asked = String::from_utf8(output.stdout).unwrap();
        assert_eq!(asked.lines().count(), keys.len());
        let mut seen = BTreeSet::new();
        for (key, asked) in keys.iter().zip(asked.lines()) {
            let wanted = members[ring.owner_of(key.as_bytes())].name();
            assert_eq!(asked, wanted, "{mode} {key} {servers:?}");
            seen.insert(wanted);
        }
        assert!(seen.len() > 3, "{mode} {seen:?}");
    }
}
