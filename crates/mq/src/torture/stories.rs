//! What topics let go and what they keep, in virtual time.

use std::time::Duration;

use super::world::{World, open};
use crate::message::Message;
use crate::options::{GroupOptions, TopicOptions, WhenFull};
use crate::sim::{Directory, SimDisk};
use crate::state::{Batch, Refused};
use crate::stats::Stats;

struct Story {
    world: World,
    disk: SimDisk,
    topic: u32,
    group: u32,
}

fn story(options: &TopicOptions) -> Story {
    let disk = SimDisk::new(Directory::Strict);
    let mut world = open(&disk, false).expect("open");
    let now = world.now();
    let (topic, group) = {
        let mut s = world.core.state.lock();
        let (topic, _) = s.topic("t", options, now).expect("a topic");
        let (group, _) = s
            .group(topic, "g", &GroupOptions::new(), now)
            .expect("a group");
        (topic, group)
    };
    world.settle_down();
    Story {
        world,
        disk,
        topic,
        group,
    }
}

impl Story {
    fn publish(&mut self, messages: Vec<Message>) -> Result<u64, Refused> {
        let now = self.world.now();
        let batch = Batch::new(self.topic, messages, now);
        let staged = self.world.core.state.lock().publish(self.topic, batch, now);
        self.world.settle_down();
        staged.map(|s| s.first)
    }

    fn ready(&self) -> Vec<String> {
        let state = self.world.core.state.lock();
        let all = state.groups[&self.group].all_outstanding();
        all.into_iter().map(|seq| self.body(&state, seq)).collect()
    }

    fn held(&self) -> Vec<String> {
        let state = self.world.core.state.lock();
        let held = state.held(&state.topics[&self.topic]);
        held.into_iter().map(|seq| self.body(&state, seq)).collect()
    }

    fn body(&self, state: &crate::state::State, seq: u64) -> String {
        let pos = state.locate(self.group, seq).expect("a place");
        let (stored, _) = self.world.core.reader.message(pos, seq).expect("readable");
        let body = stored.body.slice(..stored.body.len().min(8));
        String::from_utf8(body.to_vec())
            .expect("text")
            .trim_end()
            .into()
    }

    fn ack(&mut self, count: usize) {
        let now = self.world.now();
        let (_, picked) = self.world.core.state.lock().take(self.group, count, now);
        for p in picked {
            let done = crate::lease::settle(
                &self.world.core,
                self.group,
                p.seq,
                p.token,
                crate::lease::Settle::Done,
            );
            done.expect("the lease holds");
        }
        self.world.settle_down();
    }

    fn discarded(&self) -> u64 {
        let stats = Stats::of(&self.world.core.state.lock(), self.world.now());
        let g = stats.group("t", "g").expect("the group");
        let sum = g.acked + g.ready + g.leased + g.delayed + g.dead + g.discarded;
        assert_eq!(g.published, sum);
        g.discarded
    }

    fn reopen(self) -> Self {
        let (world, disk) = self.world.reopen(&self.disk);
        Self {
            world,
            disk,
            ..self
        }
    }
}

fn all(bodies: &[&'static str]) -> Vec<Message> {
    bodies.iter().map(|b| Message::new(*b)).collect()
}

#[test]
fn the_oldest_make_room_for_new_ones_where_the_topic_says_so() {
    let options = TopicOptions::new()
        .messages_max(3)
        .when_full(WhenFull::DropOldest);
    let mut s = story(&options);
    s.publish(all(&["a", "b"])).expect("room");
    s.publish(all(&["c", "d"])).expect("room is made");
    assert_eq!(s.ready(), ["b", "c", "d"]);
    s.publish(all(&["e"])).expect("room is made");
    assert_eq!(
        (s.ready(), s.discarded()),
        (vec!["c".into(), "d".into(), "e".into()], 2)
    );
    let s = s.reopen();
    assert_eq!(
        (s.ready(), s.discarded()),
        (vec!["c".into(), "d".into(), "e".into()], 2)
    );
}

#[test]
fn messages_that_are_too_old_are_discarded() {
    let mut s = story(&TopicOptions::new().age_max(Duration::from_secs(60)));
    s.publish(all(&["old"])).expect("room");
    s.world.pass(40_000_000);
    s.publish(all(&["new"])).expect("room");
    s.world.pass(25_000_000);
    assert_eq!((s.ready(), s.discarded()), (vec!["new".into()], 1));
    s.world.pass(60_000_000);
    assert_eq!((s.ready().len(), s.discarded()), (0, 2));
}

#[test]
fn what_is_kept_for_replay_goes_by_size_and_age_but_not_from_who_waits_for_it() {
    let mut s = story(&TopicOptions::new().keep(Duration::from_secs(100), 3_000));
    for n in 0..8 {
        s.publish(vec![Message::new(format!("{n:<900}"))])
            .expect("room");
        s.world.pass(20_000);
    }
    s.ack(6);
    assert_eq!(s.held().len(), 8, "nothing goes before it is looked for");
    s.world.pass(2_000_000);
    assert_eq!(s.held(), ["5", "6", "7"]);
    assert_eq!(s.ready(), ["6", "7"]);
    s.ack(1);
    s.world.pass(101_000_000);
    assert_eq!((s.held(), s.discarded()), (vec!["7".into()], 0));
}

#[test]
fn a_compacted_topic_keeps_the_last_word_on_each_key() {
    let mut s = story(&TopicOptions::new().compact(true));
    let word = |key: &'static str, body: &'static str| Message::new(body).key(key);
    s.publish(vec![word("a", "a1"), word("b", "b1"), word("a", "a2")])
        .expect("room");
    assert_eq!(
        (s.ready(), s.discarded()),
        (vec!["b1".into(), "a2".into()], 1)
    );
    s.ack(2);
    assert_eq!(s.held(), ["b1", "a2"], "kept although it is done");
    s.publish(vec![word("b", "b2"), Message::new("no key")])
        .expect("room");
    s.ack(2);
    assert_eq!(s.held(), ["a2", "b2"]);
    let mut s = s.reopen();
    assert_eq!(s.held(), ["a2", "b2"]);
    let now = s.world.now();
    let late = s
        .world
        .core
        .state
        .lock()
        .group(s.topic, "late", &GroupOptions::new(), now);
    s.world.settle_down();
    s.group = late.expect("a group").0;
    assert_eq!(s.ready(), ["a2", "b2"]);
}

#[test]
fn a_stuck_message_pins_no_segment() {
    let mut s = story(&TopicOptions::new());
    s.publish(vec![Message::new("stuck").delay(Duration::from_hours(1))])
        .expect("room");
    for n in 0..400 {
        s.publish(vec![Message::new(format!("{n:<6000}"))])
            .expect("room");
        s.ack(1);
    }
    s.world.snapshot();
    s.world.snapshot();
    let segments = s.world.core.state.lock().segments.len();
    let files = s.disk.files();
    let on_disk = files.keys().filter(|name| name.ends_with(".seg")).count();
    assert!(on_disk <= 4 && segments <= 4, "{files:?}");
    assert_eq!(s.ready(), ["stuck"]);
    let mut s = s.reopen();
    assert_eq!(s.ready(), ["stuck"]);
    s.world.pass(3_600_000_000);
    s.ack(1);
    assert_eq!(s.held().len(), 0);
}

#[test]
fn a_message_that_cannot_be_read_just_now_is_not_buried_empty() {
    use crate::lease::{Settle, settle};
    let mut s = story(&TopicOptions::new());
    s.publish(all(&["precious"])).expect("room");
    let now = s.world.now();
    let (_, picked) = s.world.core.state.lock().take(s.group, 1, now);
    s.world.settle_down();
    let (seq, token) = (picked[0].seq, picked[0].token);
    let bury = || Settle::Dead {
        reason: "hopeless".into(),
    };
    let segment = s.world.next_frame().segment;
    // Not in memory any more, and the disk refuses.
    s.world.core.reader.forget(segment);
    s.disk.fail(s.disk.calls(), crate::sim::Fault::Eio, true);
    let refused = settle(&s.world.core, s.group, seq, token, bury());
    assert!(refused.is_err(), "{refused:?}");
    s.disk.heal();
    settle(&s.world.core, s.group, seq, token, bury()).expect("the lease goes on");
    s.world.settle_down();
    let found = s.world.found().expect("readable");
    assert_eq!(found.dead, ["precious"]);
}
