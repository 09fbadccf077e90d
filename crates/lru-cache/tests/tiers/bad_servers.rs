//! Cache servers that answer garbage, or nothing.

use std::time::Duration;

use stackbeam_lru_cache::load::ReadThrough;
use stackbeam_lru_cache::tier::{Memcached, Redis, Tier, TierError, Tiered};
use stackbeam_lru_cache::{Lru, sync};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::suite::WordsCodec;

/// A server that answers every question with the same bytes, or with nothing, or goes on for ever.
async fn answers(with: Answer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut question = [0; 4096];
                while matches!(stream.read(&mut question).await, Ok(1..)) {
                    match with {
                        Answer::Bytes(bytes) => stream.write_all(bytes).await?,
                        Answer::ForEver(bytes) => loop {
                            stream.write_all(bytes).await?;
                        },
                        Answer::Nothing => {}
                        Answer::HangsUp => break,
                    }
                }
                std::io::Result::Ok(())
            });
        }
    });
    address
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    Bytes(&'static [u8]),
    ForEver(&'static [u8]),
    Nothing,
    HangsUp,
}

const BAD: [Answer; 14] = [
    Answer::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    Answer::Bytes(b"VALUE other 91 1 1\r\nx\r\nEND\r\n"),
    Answer::Bytes(b"VA 1 f91 c1 t-1 kother\r\nx\r\n"),
    Answer::Bytes(b"VA 99999999999 f91 c1 t-1 k%00%00%00%01\r\n"),
    Answer::Bytes(b"VALUE %00%00%00%01 91 2000000 1\r\n"),
    Answer::Bytes(b"STORED\r\n"),
    Answer::Bytes(b"EX\r\nEX\r\nEX\r\n"),
    Answer::Bytes(b"SERVER_ERROR out of memory\r\n"),
    Answer::Bytes(b"\0\0\0\0"),
    Answer::Bytes(b"*2\r\n$1\r\nX\r\n:-1\r\n"),
    Answer::ForEver(b"\xFF\xFF\xFF\xFF"),
    Answer::ForEver(b"\r\n"),
    Answer::Nothing,
    Answer::HangsUp,
];

fn quick(address: &str) -> Memcached {
    Memcached::new(address).with_timeout(Duration::from_millis(50))
}

#[tokio::test]
async fn a_memcached_that_talks_nonsense_is_an_error_and_no_value() {
    for bad in BAD {
        let address = answers(bad).await;
        for tier in [quick(&address), quick(&address).with_text_protocol()] {
            let key = 1_u32.to_be_bytes();
            // Twice: nothing of the first answer may be left for the second question.
            for _ in 0..2 {
                let looked = tier.get(&key).await;
                assert!(
                    matches!(
                        looked,
                        Err(TierError::Garbage(_)
                            | TierError::TimedOut
                            | TierError::Unreachable(_)
                            | TierError::Refused(_))
                    ),
                    "{bad:?} {looked:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_tier_that_is_bad_costs_no_error_and_no_leak() {
    for bad in BAD {
        let address = answers(bad).await;
        let memory: ReadThrough<u32, String, String, Lru> = ReadThrough::new(sync::Cache::new(100));
        let words = Tiered::new(memory, quick(&address), WordsCodec);
        let load = || async { Ok("one".to_owned()) };
        assert_eq!(words.get_or_load(&1, load).await.unwrap(), "one", "{bad:?}");
        let _told = words.invalidate(&1).await;
        assert_eq!(words.get_or_load(&1, load).await.unwrap(), "one", "{bad:?}");
        assert_eq!(words.memory().loads_under_way(), 0);
        assert_eq!(words.tier_stats().failures, 2, "{bad:?}");
    }
}

#[tokio::test]
async fn a_redis_that_talks_nonsense_is_an_error_and_no_value() {
    for bad in BAD {
        let address = answers(bad).await;
        let tier = Redis::new(&format!("redis://{address}"), "")
            .unwrap()
            .with_timeout(Duration::from_millis(50));
        assert!(tier.get(b"k").await.is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable_at_once() {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let tier = Memcached::new(address.to_string());
    assert!(matches!(
        tier.get(b"k").await,
        Err(TierError::Unreachable(_))
    ));
    let tier = Redis::new(&format!("redis://{address}"), "").unwrap();
    assert!(matches!(
        tier.get(b"k").await,
        Err(TierError::Unreachable(_))
    ));
    assert!(Redis::new("not an address", "").is_err());
}

#[tokio::test]
async fn more_calls_than_connections_wait_and_then_are_told() {
    let address = answers(Answer::Nothing).await;
    let tier = Memcached::new(&*address)
        .with_timeout(Duration::from_millis(800))
        .with_connections_max(1);
    let (one, two) = tokio::join!(tier.get(b"a"), tier.get(b"b"));
    let mut errors = [one.unwrap_err(), two.unwrap_err()];
    errors.sort_by_key(|error| matches!(error, TierError::Busy { .. }));
    assert_eq!(errors, [TierError::TimedOut, TierError::Busy { calls: 1 }]);
}
