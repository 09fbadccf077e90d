//! The queue in Redis Streams: consumer groups, each change one script.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{FromRedisValue, RedisError, Script, ScriptInvocation};
use tokio::sync::Notify;

use super::common::{
    bounded_micros, check_group, check_messages, check_topic, dead_letter, since_epoch,
};
use super::held::{Held, Leases, receive};
use super::{Capabilities, Engine};
use crate::error::{PublishError, SettleError, TakeError, TopicError};
use crate::lease::Settle;
use crate::log::codec::{Reader, put_bytes};
use crate::message::{Message, MessageId, NotBefore, Receipt};
use crate::options::{Durability, GroupOptions, Start, TopicOptions, WhenFull};
use crate::queue::check_name;
use crate::traits::{Consumer, Producer};

/// How long a waiting consumer goes without looking, when nobody wakes it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

macro_rules! script {
    ($name:ident, $code:literal) => {
        static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!(include_str!("redis.lua"), $code)));
    };
}

// messages_max, dedup window, hold, policy
script!(
    TOPIC,
    "if redis.call('EXISTS', T .. 'o') == 0 then
       redis.call('HSET', T .. 'o', 'max', ARGV[3], 'window', ARGV[4], 'hold', ARGV[5], 'policy', ARGV[6])
     end
     return redis.call('HGET', T .. 'o', 'policy') or '0'"
);

// group, lease, deliveries_max, in_flight_max, dead-letter topic, start
script!(
    GROUP,
    "local first = redis.call('SCARD', T .. 'gs') == 0
     if redis.call('SADD', T .. 'gs', ARGV[3]) == 1 then
       redis.call('HSET', group_key(T, ARGV[3]) .. 'o', 'lease', ARGV[4], 'tries', ARGV[5], 'room', ARGV[6],
         'dead', ARGV[7])
       if first and ARGV[8] == '$' then redis.call('XTRIM', T .. 's', 'MAXLEN', 0) end
       redis.call('XGROUP', 'CREATE', T .. 's', ARGV[3], ARGV[8], 'MKSTREAM')
     end
     return 1"
);

// then five of each message: delay (milliseconds; with '@' since 1970), key, dedup id, headers, body
script!(
    PUBLISH,
    "local max = tonumber(redis.call('HGET', T .. 'o', 'max') or 1000000)
     local held = redis.call('XLEN', T .. 's') + redis.call('ZCARD', T .. 'z')
     if held >= max then return {'full', tostring(held)} end
     local ids = {}
     for i = 3, #ARGV, 5 do
       local delay = ARGV[i]
       if string.sub(delay, 1, 1) == '@' then delay = string.sub(delay, 2) - now end
       ids[#ids + 1] = store(T, tonumber(delay), ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
     end
     wake(topic)
     return ids"
);

// group, max, token
script!(
    TAKE,
    "local group, max, token = ARGV[3], tonumber(ARGV[4]), ARGV[5]
     local G = group_key(T, group)
     local o = redis.call('HMGET', G .. 'o', 'lease', 'tries', 'room')
     if not o[1] then return {-1, 0, {}} end
     local lease, tries, room = tonumber(o[1]), tonumber(o[2]), tonumber(o[3])
     for _, id in ipairs(redis.call('ZRANGEBYSCORE', T .. 'z', '-inf', now, 'LIMIT', 0, 1000)) do
       local f = cmsgpack.unpack(redis.call('HGET', T .. 'b', id))
       redis.call('ZREM', T .. 'z', id)
       redis.call('HDEL', T .. 'b', id)
       add(T, id, f[1], f[2], f[3], f[4])
     end
     for _, e in ipairs(redis.call('ZRANGEBYSCORE', G .. 'l', '-inf', now, 'LIMIT', 0, 1000)) do
       redis.call('ZREM', G .. 'l', e)
       redis.call('ZADD', G .. 'r', 0, e)
     end
     max = math.min(max, room - redis.call('ZCARD', G .. 'l'))
     local out = {}
     local function hand_out(e, attempts)
       local f = entry(e)
       if not f then return done(group, G, e) end
       redis.call('ZREM', G .. 'r', e)
       redis.call('ZADD', G .. 'l', now + lease, e)
       redis.call('HSET', G .. 'a', e, attempts .. ':' .. token)
       out[#out + 1] = {e, f.i, attempts, f.k, f.d, f.h, f.b}
     end
     if max > 0 then
       local again = redis.call('ZRANGEBYSCORE', G .. 'r', '-inf', now, 'LIMIT', 0, max)
       table.sort(again, function(a, b) return tonumber(a) < tonumber(b) end)
       for _, e in ipairs(again) do
         local attempts = tonumber(string.match(redis.call('HGET', G .. 'a', e) or '0:', '^%d+'))
         if tries > 0 and attempts >= tries then
           bury(group, G, e, attempts, used_up(attempts))
         else
           redis.call('XCLAIM', T .. 's', group, token, 0, e .. '-0', 'RETRYCOUNT', attempts + 1, 'JUSTID')
           hand_out(e, attempts + 1)
         end
       end
     end
     if max > #out then
       local new = redis.call('XREADGROUP', 'GROUP', group, 'mq', 'COUNT', max - #out, 'STREAMS', T .. 's', '>')
       for _, found in ipairs(new and new[1][2] or {}) do
         hand_out(string.match(found[1], '^%d+'), 1)
       end
     end
     local wait = -1
     for _, set in ipairs({T .. 'z', G .. 'l', G .. 'r'}) do
       local first = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')
       if first[2] and (wait < 0 or first[2] - now < wait) then wait = math.max(first[2] - now, 1) end
     end
     return {lease, wait, out}"
);

// group, entry, token, how (0 done, 1 retry, 2 release, 3 dead, 4 extend), milliseconds, reason
script!(
    SETTLE,
    "local group, e, token, how, delay = ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
     local G = group_key(T, group)
     local attempts, holder = string.match(redis.call('HGET', G .. 'a', e) or '0:', '^(%d+):(.*)$')
     local ends = redis.call('ZSCORE', G .. 'l', e)
     if holder ~= token or not ends or tonumber(ends) <= now then return 0 end
     attempts = tonumber(attempts)
     local o = redis.call('HMGET', G .. 'o', 'tries', 'room')
     local tries = tonumber(o[1])
     -- Consumers that wait may have to look again.
     if how ~= '0' or redis.call('ZCARD', G .. 'l') >= tonumber(o[2]) then wake(topic) end
     if how == '4' then
       redis.call('ZADD', G .. 'l', now + delay, e)
       return 1
     elseif how == '0' then
       done(group, G, e)
     elseif how == '3' then
       bury(group, G, e, attempts, ARGV[8])
     elseif how == '1' and tries > 0 and attempts >= tries then
       bury(group, G, e, attempts, used_up(attempts))
     else
       if how == '2' then attempts = attempts - 1 end
       redis.call('ZREM', G .. 'l', e)
       redis.call('ZADD', G .. 'r', delay > 0 and now + delay or 0, e)
       redis.call('HSET', G .. 'a', e, attempts .. ':')
     end
     return 1"
);

/// A queue in the streams of one Redis, 7.0 or later (or a primary with replicas; not a Redis Cluster: a script uses
/// keys of several topics).
///
/// Can everything but priorities, per-key order and a bound on bytes. [`Durability::Synced`] is refused unless the
/// server says `appendonly yes` and `appendfsync always`: with anything less, Redis forgets what it acknowledged.
/// A message is deleted when every group has settled it. A consumer group of the topic's stream shows what is in
/// work (`XPENDING`); its times, attempts and tokens are kept beside it.
#[derive(Debug, Clone)]
pub struct Redis {
    shared: Arc<Shared>,
}

struct Shared {
    client: redis::Client,
    connection: ConnectionManager,
    prefix: String,
    /// Makes tokens.
    seed: Mutex<u64>,
    waiting: Mutex<HashMap<String, Arc<Notify>>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a password.
        f.debug_struct("Shared")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl Redis {
    /// Connects to `redis://host:port/`, and again whenever the connection is lost. `prefix` keeps apart what shares
    /// a server. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// [`TopicError::Broker`] when there is no Redis; [`TopicError::Name`] when the prefix is empty or longer than
    /// 255 bytes.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(url: &str, prefix: &str) -> Result<Self, TopicError> {
        use std::hash::BuildHasher;
        check_name(prefix)?;
        let broker = |e: RedisError| TopicError::Broker(e.to_string());
        let client = redis::Client::open(url).map_err(broker)?;
        let config = ConnectionManagerConfig::new().set_response_timeout(Some(ANSWER_MAX));
        let connection = ConnectionManager::new_with_config(client.clone(), config).await;
        let shared = Arc::new(Shared {
            client,
            connection: connection.map_err(broker)?,
            prefix: prefix.to_owned(),
            seed: Mutex::new(std::hash::RandomState::new().hash_one(prefix)),
            waiting: Mutex::new(HashMap::new()),
        });
        tokio::spawn(listen(Arc::downgrade(&shared)));
        Ok(Self { shared })
    }
}

impl Shared {
    fn call<'a>(&self, script: &'a Script, topic: &str) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        call.arg(&self.prefix).arg(topic);
        call
    }

    async fn run<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, RedisError> {
        call.invoke_async(&mut self.connection.clone()).await
    }

    fn waiting(&self, topic: &str) -> Arc<Notify> {
        Arc::clone(self.waiting.lock().entry(topic.to_owned()).or_default())
    }

    fn wake(&self, topic: Option<&str>) {
        for (name, notify) in &*self.waiting.lock() {
            if topic.is_none_or(|t| t == name) {
                notify.notify_waiters();
            }
        }
    }

    /// Whether what was acknowledged is on disk.
    async fn syncs(&self) -> Result<bool, RedisError> {
        let mut connection = self.connection.clone();
        let mut ask = redis::cmd("CONFIG");
        ask.arg("GET").arg("append*");
        let settings: HashMap<String, String> = ask.query_async(&mut connection).await?;
        let is = |name: &str, value: &str| settings.get(name).is_some_and(|v| v == value);
        Ok(is("appendonly", "yes") && is("appendfsync", "always"))
    }
}

/// Wakes consumers when something is published; connects again when the connection is lost.
async fn listen(shared: Weak<Shared>) {
    while let Some(strong) = shared.upgrade() {
        let channel = format!("{}:wake", strong.prefix);
        let client = strong.client.clone();
        drop(strong);
        if let Ok(mut subscriber) = client.get_async_pubsub().await
            && subscriber.subscribe(channel).await.is_ok()
        {
            // What came while nobody listened.
            if let Some(strong) = shared.upgrade() {
                strong.wake(None);
            }
            let mut messages = subscriber.into_on_message();
            loop {
                let Ok(next) = tokio::time::timeout(LOOK_EVERY, messages.next()).await else {
                    if shared.strong_count() == 0 {
                        return;
                    }
                    continue;
                };
                let (Some(message), Some(strong)) = (next, shared.upgrade()) else {
                    break;
                };
                let topic: Result<String, _> = message.get_payload();
                strong.wake(topic.ok().as_deref());
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

impl Engine for Redis {
    type Producer = RedisTopic;
    type Consumer = RedisGroup;
    const CAPABILITIES: Capabilities = Capabilities {
        priorities: false,
        ordered_keys: false,
        ..Capabilities::ALL
    };

    async fn producer(&self, topic: &str, options: TopicOptions) -> Result<RedisTopic, TopicError> {
        check_topic(topic, &options, Self::CAPABILITIES, false)?;
        let broker = |e: RedisError| TopicError::Broker(e.to_string());
        if options.durability == Durability::Synced && !self.shared.syncs().await.map_err(broker)? {
            return Err(TopicError::Unsupported(
                "Durability::Synced on a server without `appendonly yes` and `appendfsync always` (set them, or ask for Durability::Buffered)",
            ));
        }
        let mut call = self.shared.call(&TOPIC, topic);
        call.arg(options.messages_max)
            .arg(bounded_micros(options.dedup_window) / 1000)
            .arg(i32::from(options.hold))
            .arg(i32::from(options.when_full == WhenFull::Refuse));
        let policy: i32 = self.shared.run(&call).await.map_err(broker)?;
        Ok(RedisTopic {
            shared: Arc::clone(&self.shared),
            name: topic.into(),
            refuses: policy == 1,
        })
    }

    async fn consumer(
        &self,
        topic: &str,
        group: &str,
        options: GroupOptions,
    ) -> Result<RedisGroup, TopicError> {
        check_group(topic, group, &options, Self::CAPABILITIES)?;
        let dead = dead_letter(topic, &options);
        check_name(&dead)?;
        let start = if options.start == Start::End {
            "$"
        } else {
            "0"
        };
        let mut call = self.shared.call(&GROUP, topic);
        call.arg(group)
            .arg((bounded_micros(options.lease) / 1000).max(1))
            .arg(options.deliveries_max)
            .arg(options.in_flight_max)
            .arg(dead)
            .arg(start);
        let made: Result<i32, RedisError> = self.shared.run(&call).await;
        made.map_err(|e| TopicError::Broker(e.to_string()))?;
        Ok(RedisGroup {
            shared: Arc::clone(&self.shared),
            topic: topic.into(),
            name: group.into(),
        })
    }
}

/// A topic of [`Redis`].
#[derive(Debug, Clone)]
pub struct RedisTopic {
    shared: Arc<Shared>,
    name: Arc<str>,
    refuses: bool,
}

/// A value that may be absent, as an argument.
fn optional(value: Option<&Bytes>) -> Vec<u8> {
    value.map_or_else(Vec::new, |v| [b"+", &v[..]].concat())
}

fn present(value: &[u8]) -> Option<Bytes> {
    value.strip_prefix(b"+").map(Bytes::copy_from_slice)
}

impl RedisTopic {
    async fn try_publish(
        &self,
        batch: &[Message],
    ) -> Result<Result<Vec<Receipt>, u64>, RedisError> {
        let mut call = self.shared.call(&PUBLISH, &self.name);
        for m in batch {
            // A message comes late rather than early.
            let up = |micros: i64| micros.saturating_add(999) / 1000;
            let delay = match m.not_before {
                NotBefore::Now => "0".to_owned(),
                NotBefore::After(d) => up(bounded_micros(d)).to_string(),
                NotBefore::At(t) => format!("@{}", up(since_epoch(t))),
            };
            let mut headers = Vec::new();
            for (name, value) in &m.headers {
                put_bytes(&mut headers, name.as_bytes());
                put_bytes(&mut headers, value);
            }
            call.arg(delay)
                .arg(optional(m.key.as_ref()))
                .arg(optional(m.dedup.as_ref()))
                .arg(headers)
                .arg(&m.body[..]);
        }
        let ids: Vec<String> = self.shared.run(&call).await?;
        if let [full, held] = &ids[..]
            && full == "full"
        {
            return Ok(Err(held.parse().unwrap_or(0)));
        }
        let receipt = |id: &String| Receipt {
            id: MessageId(id.trim_start_matches('=').parse().unwrap_or(0)),
            duplicate: id.starts_with('='),
        };
        Ok(Ok(ids.iter().map(receipt).collect()))
    }
}

impl Producer for RedisTopic {
    /// # Cancel safety
    /// A dropped future leaves it open whether the messages are stored; publish again with the same dedup ids.
    async fn publish(&self, batch: Vec<Message>) -> Result<Vec<Receipt>, PublishError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let batch = check_messages(batch, Redis::CAPABILITIES)?;
        let mut pause = Duration::from_millis(10);
        loop {
            let done = self.try_publish(&batch).await;
            match done.map_err(|e| PublishError::Unknown(e.to_string()))? {
                Ok(receipts) => return Ok(receipts),
                Err(waiting) if self.refuses => {
                    let messages = batch;
                    return Err(PublishError::Full { messages, waiting });
                }
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(LOOK_EVERY);
        }
    }
}

/// A consumer group of [`Redis`]. Clones, and other processes, compete.
#[derive(Debug, Clone)]
pub struct RedisGroup {
    shared: Arc<Shared>,
    topic: Arc<str>,
    name: Arc<str>,
}

/// A leased message of [`Redis`].
pub type RedisDelivery = Held<RedisGroup>;

/// One delivery: the stream's entry and the token of its lease.
#[derive(Debug)]
pub struct RedisTicket {
    entry: u64,
    token: String,
}

type Entry = (u64, u64, u32, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>);

fn headers(bytes: Vec<u8>) -> Vec<(String, Bytes)> {
    let bytes = Bytes::from(bytes);
    let mut r = Reader::new(&bytes, 0);
    let mut all = Vec::new();
    while let Some((name, value)) = r.string().zip(r.bytes()) {
        all.push((name, value));
    }
    all
}

impl RedisGroup {
    /// Takes what is ready; without any, how long nothing is due.
    async fn look(self, max: usize) -> Result<(Vec<RedisDelivery>, Duration), TakeError> {
        let token = format!("{:x}", crate::sim::splitmix(&mut self.shared.seed.lock()));
        let mut call = self.shared.call(&TAKE, &self.topic);
        call.arg(&*self.name).arg(max).arg(&token);
        let taken: Result<(i64, i64, Vec<Entry>), RedisError> = self.shared.run(&call).await;
        let (lease, wait, entries) = taken.map_err(|e| TakeError::Broker(e.to_string()))?;
        if lease < 0 {
            return Err(TakeError::NoGroup);
        }
        let lease = Duration::from_millis(lease.unsigned_abs());
        let held = |(entry, id, attempt, key, dedup, head, body): Entry| {
            let token = token.clone();
            let message = Message {
                body: body.into(),
                key: present(&key),
                dedup: present(&dedup),
                priority: 0,
                not_before: NotBefore::Now,
                headers: headers(head),
            };
            let ticket = RedisTicket { entry, token };
            Held::new(self.clone(), ticket, message, id, attempt, lease)
        };
        let held = entries.into_iter().map(held).collect();
        let due = u64::try_from(wait).map_or(LOOK_EVERY, Duration::from_millis);
        Ok((held, due.min(LOOK_EVERY)))
    }

    async fn told(
        &self,
        ticket: &RedisTicket,
        how: u8,
        time: Duration,
        reason: &str,
    ) -> Result<(), SettleError> {
        let mut call = self.shared.call(&SETTLE, &self.topic);
        call.arg(&*self.name)
            .arg(ticket.entry)
            .arg(&ticket.token)
            .arg(how)
            .arg(bounded_micros(time).saturating_add(999) / 1000)
            .arg(reason);
        match self.shared.run(&call).await {
            Ok(1) => Ok(()),
            Ok(_) => Err(SettleError::LeaseLost),
            Err(e) => Err(SettleError::Unknown(e.to_string())),
        }
    }
}

impl Leases for RedisGroup {
    type Ticket = RedisTicket;

    async fn settle(&self, ticket: RedisTicket, how: Settle) -> Result<(), SettleError> {
        match how {
            Settle::Done => self.told(&ticket, 0, Duration::ZERO, "").await,
            Settle::Retry { after } => self.told(&ticket, 1, after, "").await,
            Settle::Release => self.told(&ticket, 2, Duration::ZERO, "").await,
            Settle::Dead { reason } => self.told(&ticket, 3, Duration::ZERO, &reason).await,
        }
    }

    async fn extend(&self, ticket: &RedisTicket, by: Duration) -> Result<(), SettleError> {
        self.told(ticket, 4, by, "").await
    }
}

impl Consumer for RedisGroup {
    type Delivery = RedisDelivery;

    /// # Cancel safety
    /// Dropping the future leases nothing; what was on its way is released, which uses up no attempt.
    async fn receive(&self, max: NonZeroUsize) -> Result<Vec<RedisDelivery>, TakeError> {
        let max = max.get().min(10_000);
        let notify = self.shared.waiting(&self.topic);
        receive(&notify, || self.clone().look(max)).await
    }
}
