//! The coordinator's shell over the simulated copies, on paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use stackbeam_replica_pool::{
    Action, Coordinator, CoordinatorOptions, Engine, Epoch, Evidence, FailoverConfig, Failure,
    MemberId, Notice,
};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::sim::World;

/// The simulated copies as an engine. Orders take a while; a frozen copy never answers.
pub(crate) struct Sim {
    pub(crate) world: Mutex<World>,
    pub(crate) frozen: Mutex<[bool; 3]>,
    pub(crate) panics: Mutex<bool>,
    under_way: AtomicUsize,
    /// Connections that are open now.
    pub(crate) open: Arc<AtomicUsize>,
}

/// A connection to a copy.
pub(crate) struct Link {
    pub(crate) member: MemberId,
    open: Arc<AtomicUsize>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Nobody listens there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection refused")]
pub(crate) struct Refused;

/// Counts what is under way, also when it is dropped.
struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Sim {
    async fn reach(&self, member: MemberId) {
        sleep(Duration::from_millis(2)).await;
        if self.frozen.lock()[usize::from(member)] {
            std::future::pending::<()>().await;
        }
    }
}

impl Engine for Sim {
    type Connection = Link;
    type Error = Refused;

    async fn connect(&self, member: MemberId) -> Result<Link, Refused> {
        self.reach(member).await;
        if !self.world.lock().copies[usize::from(member)].up {
            return Err(Refused);
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(Link {
            member,
            open: Arc::clone(&self.open),
        })
    }

    async fn may_write(&self, link: &mut Link, epoch: Epoch) -> Result<bool, Refused> {
        self.reach(link.member).await;
        let world = self.world.lock();
        let copy = &world.copies[usize::from(link.member)];
        Ok(copy.up && copy.reign.is_some_and(|(reign, _)| reign == epoch))
    }

    async fn perform(&self, action: &Action) -> Result<Evidence, Failure> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let _end = UnderWay(&self.under_way);
        self.reach(action.member()).await;
        assert!(!*self.panics.lock(), "a fault in an engine");
        self.world.lock().perform(action)
    }
}

/// Ends the replication when a test is over.
pub(crate) struct Replication(AbortHandle);

impl Drop for Replication {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Blank copies that replicate and take a write now and then.
pub(crate) fn cluster() -> (Arc<Sim>, Replication) {
    let sim = Arc::new(Sim {
        world: Mutex::new(World::new(true)),
        frozen: Mutex::default(),
        panics: Mutex::default(),
        under_way: AtomicUsize::new(0),
        open: Arc::default(),
    });
    let copies = Arc::clone(&sim);
    let task = tokio::spawn(async move {
        loop {
            sleep(Duration::from_millis(5)).await;
            let frozen = *copies.frozen.lock();
            let mut world = copies.world.lock();
            for id in (0..3).filter(|id| !frozen[*id]) {
                world.write(id);
                let primary = world.copies[id].following.map(usize::from);
                if primary.is_some_and(|primary| !frozen[primary]) {
                    world.pull(id, true);
                }
            }
        }
    });
    (sim, Replication(task.abort_handle()))
}

fn options(seed: u64) -> CoordinatorOptions {
    CoordinatorOptions {
        seed: Some(seed),
        ..CoordinatorOptions::default()
    }
}

pub(crate) fn start(sim: &Arc<Sim>, seed: u64) -> Coordinator {
    Coordinator::start(Arc::clone(sim), 0..3, options(seed), |_| {})
}

/// Until one reigns, and how long that took.
pub(crate) async fn reigns(
    coordinator: &Coordinator,
    not: Option<MemberId>,
) -> (MemberId, Duration) {
    let began = Instant::now();
    let mut watch = coordinator.watch();
    let found = async {
        loop {
            let primary = watch.now().primary;
            match primary {
                Some(primary) if Some(primary) != not => return primary,
                _ => watch.changed().await.expect("the coordinator lives"),
            };
        }
    };
    let primary = timeout(Duration::from_secs(10), found)
        .await
        .expect("a primary within ten seconds");
    (primary, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_crashed_primary_is_replaced_and_the_story_is_told_in_order() {
    let (sim, _replication) = cluster();
    let told: Arc<Mutex<Vec<Notice>>> = Arc::default();
    let tale = Arc::clone(&told);
    let coordinator = Coordinator::start(Arc::clone(&sim), 0..3, options(1), move |notice| {
        tale.lock().push(notice.clone());
    });
    let (first, _) = reigns(&coordinator, None).await;
    sleep(Duration::from_secs(1)).await;
    let acknowledged = sim.world.lock().acknowledged.len();
    assert!(acknowledged > 50, "{acknowledged} writes in a second");
    sim.world.lock().crash(usize::from(first));
    let (second, took) = reigns(&coordinator, Some(first)).await;
    assert!(took < Duration::from_millis(250), "took {took:?}");
    // The simulation itself checks that nothing acknowledged is missing there.
    sleep(Duration::from_secs(1)).await;
    assert!(sim.world.lock().acknowledged.len() > acknowledged + 50);
    sim.world.lock().copies[usize::from(first)].up = true;
    sleep(Duration::from_secs(1)).await;
    let situation = coordinator.situation();
    assert_eq!((situation.primary, situation.epoch), (Some(second), 2));
    assert!(situation.copies.iter().all(|copy| copy.alive));
    let follows = |member: MemberId| {
        situation.copies[usize::from(member)]
            .evidence
            .as_ref()
            .and_then(|evidence| evidence.following)
    };
    assert_eq!(follows(first), Some(second));
    assert_eq!(situation.stats.promotions, 2);
    let told = told.lock().clone();
    let lost =
        |notice: &Notice| matches!(notice, Notice::Fencing { lost, .. } if *lost == Some(first));
    let begin = told.iter().position(lost).expect("a loss was told");
    assert!(
        matches!(
            &told[begin..],
            [
                Notice::Fencing { epoch: 2, .. },
                Notice::Promoting { epoch: 2, member, .. },
                Notice::Reigns { epoch: 2, .. },
            ] if *member == second
        ),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_hangs_is_found_out_by_the_deadline_of_its_probes() {
    let (sim, _replication) = cluster();
    let coordinator = start(&sim, 2);
    let (first, _) = reigns(&coordinator, None).await;
    sleep(Duration::from_millis(500)).await;
    sim.frozen.lock()[usize::from(first)] = true;
    let (second, took) = reigns(&coordinator, Some(first)).await;
    // Five misses of 300 ms each, 100 ms apart.
    assert!(took < Duration::from_millis(2_200), "took {took:?}");
    // Thawed, it still thinks that it reigns; it is told, and writes in vain meanwhile.
    sim.frozen.lock()[usize::from(first)] = false;
    sleep(Duration::from_secs(1)).await;
    let world = sim.world.lock();
    assert!(world.copies[usize::from(first)].reign.is_none());
    assert_eq!(world.copies[usize::from(first)].following, Some(second));
}

#[tokio::test(start_paused = true)]
async fn without_a_majority_nobody_is_promoted_and_orders_do_not_pile_up() {
    let (sim, _replication) = cluster();
    let coordinator = start(&sim, 3);
    let (first, _) = reigns(&coordinator, None).await;
    *sim.frozen.lock() = [true; 3];
    sim.frozen.lock()[usize::from(first + 1) % 3] = false;
    sleep(Duration::from_secs(3)).await;
    for _ in 0..50 {
        sleep(Duration::from_millis(97)).await;
        // A copy has one probe and one order, or two where rounds meet.
        let under_way = sim.under_way.load(Ordering::Relaxed);
        assert!(under_way <= 9, "{under_way} orders under way");
    }
    assert_eq!(coordinator.situation().primary, None);
    *sim.frozen.lock() = [false; 3];
    let (_, took) = reigns(&coordinator, None).await;
    assert!(took < Duration::from_millis(2_500), "took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_under_way_when_it_is_stopped_or_dropped() {
    let (sim, _replication) = cluster();
    let busy = |sim: &Sim| sim.under_way.load(Ordering::Relaxed);
    for (stop, wait_ms) in (0..40).map(|round| (round % 2 == 0, round)) {
        let coordinator = start(&sim, wait_ms);
        let mut watch = coordinator.watch();
        // Ends it at another point of the story each time.
        sleep(Duration::from_millis(wait_ms)).await;
        if stop {
            coordinator.stop().await;
        } else {
            drop(coordinator);
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        }
        assert_eq!(busy(&sim), 0, "after {wait_ms} ms");
        let ended = async { while watch.changed().await.is_ok() {} };
        timeout(Duration::from_secs(1), ended)
            .await
            .expect("whoever watches hears of the end");
    }
    // The copies are none the worse for it.
    let coordinator = start(&sim, 77);
    reigns(&coordinator, None).await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_panics_has_missed_a_probe_and_no_more() {
    let (sim, _replication) = cluster();
    let coordinator = start(&sim, 4);
    let (first, _) = reigns(&coordinator, None).await;
    *sim.panics.lock() = true;
    sleep(Duration::from_millis(150)).await;
    *sim.panics.lock() = false;
    sleep(Duration::from_secs(1)).await;
    let situation = coordinator.situation();
    assert_eq!((situation.primary, situation.epoch), (Some(first), 1));
    assert!(situation.stats.misses >= 3);
}

#[tokio::test(start_paused = true)]
async fn two_coordinators_agree_in_the_end_and_no_epoch_has_two_primaries() {
    let (sim, _replication) = cluster();
    let config = FailoverConfig {
        probe_every: Duration::from_millis(73),
        ..FailoverConfig::default()
    };
    let one = start(&sim, 5);
    let options = CoordinatorOptions {
        failover: config,
        ..options(6)
    };
    let other = Coordinator::start(Arc::clone(&sim), 0..3, options, |_| {});
    for round in 0..5 {
        sleep(Duration::from_secs(5)).await;
        let (mine, theirs) = (one.situation(), other.situation());
        assert_eq!(mine.primary, theirs.primary, "round {round}");
        assert_eq!(mine.epoch, theirs.epoch, "round {round}");
        let primary = mine.primary.expect("somebody reigns");
        sim.world.lock().crash(usize::from(primary));
        sleep(Duration::from_millis(400)).await;
        sim.world.lock().copies[usize::from(primary)].up = true;
    }
}
