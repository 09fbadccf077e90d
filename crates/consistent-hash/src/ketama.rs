//! Rings of other products: the same points, the same hash of a key, the same owner.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;
use core::ops::ControlFlow;

use xxhash_rust::xxh64::xxh64;

use crate::error::check_size;
use crate::interop::{hashkit, le32, md5, murmur};
use crate::member::Owning;
use crate::mix;
use crate::ring::{Positions, check_total};
use crate::{BuildError, Members, NodeIx, Placement, Ring};

/// Whose ring. Member names are addresses as that product writes them: `10.0.0.1:11211`.
///
/// Where two servers claim one point, the products look at the order of their lists: take
/// [`Members::in_order`], with the servers in the order of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KetamaProfile {
    /// nginx's `hash ... consistent` (and Tengine, OpenResty, pingora v1): 160 points for each unit of a whole
    /// weight, CRC32. Names are written as in the `server` line: with a port only if it is written there, an
    /// IPv6 address in brackets, and `unix:` before a path.
    Nginx,
    /// libmemcached with `KETAMA_WEIGHTED` (PHP's and Ruby's clients with `libketama_compatible`, pylibmc's
    /// `ketama_weighted`): about 160 points a server, shared out by weight in 32-bit floats, MD5. The port 11211
    /// is not part of a label. A server that is very light next to the others gets no point at all.
    LibmemcachedWeighted,
    /// libmemcached with the distribution `KETAMA` alone and servers without weights: 100 points a server, and
    /// the client's default hash, one-at-a-time, for points and keys. (A weight above 1 makes the library
    /// switch to another scheme; here weights are not looked at.)
    Libmemcached,
    /// libmemcached with `KETAMA_WEIGHTED` and the distribution `KETAMA_SPY`: labels with a leading slash
    /// and always a port.
    LibmemcachedSpy,
    /// spymemcached's `KetamaNodeLocator`: 160 points a server whatever its weight, MD5. Names are as Java
    /// writes socket addresses: `host/10.0.0.1:11211` for a server that was given by name.
    Spymemcached,
    /// spymemcached's weighted locator with the key format of libmemcached.
    SpymemcachedWeighted,
    /// Envoy's `ring_hash` with XXH64, its default.
    Envoy(EnvoySize),
    /// Envoy's `ring_hash` with `MURMUR_HASH_2`.
    EnvoyMurmur2(EnvoySize),
}

/// Bounds of Envoy's ring: `minimum_ring_size` and `maximum_ring_size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct EnvoySize {
    /// Fewest points. Defaults to 1024.
    pub min: u64,
    /// Most points. Defaults to 8 Mi, which is also Envoy's own limit.
    pub max: u64,
}

impl EnvoySize {
    /// Largest bound.
    pub const MAX: u64 = 8 << 20;

    /// With bounds of the caller's; checked when a ring is built.
    #[must_use]
    pub const fn new(min: u64, max: u64) -> Self {
        Self { min, max }
    }
}

impl Default for EnvoySize {
    fn default() -> Self {
        Self::new(1024, Self::MAX)
    }
}

impl KetamaProfile {
    /// The hash of a key, as [`Ketama`]'s `owner` takes it. Products with 32-bit rings have it in the upper
    /// half.
    #[must_use]
    pub fn hash(self, key: &[u8]) -> u64 {
        match self {
            Self::Nginx => upper(crc32fast::hash(key)),
            Self::LibmemcachedWeighted
            | Self::LibmemcachedSpy
            | Self::Spymemcached
            | Self::SpymemcachedWeighted => upper(hashkit::md5_32(key)),
            Self::Libmemcached => upper(hashkit::one_at_a_time(key)),
            Self::Envoy(_) => xxh64(key, 0),
            Self::EnvoyMurmur2(_) => murmur::murmur2_64a(key, STD_SEED),
        }
    }

    /// The name and version of the key's hash and the points, as two processes would compare it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "ketama-nginx-crc32/1",
            Self::LibmemcachedWeighted => "ketama-libmemcached-weighted-md5/1",
            Self::Libmemcached => "ketama-libmemcached-one-at-a-time/1",
            Self::LibmemcachedSpy => "ketama-libmemcached-spy-md5/1",
            Self::Spymemcached => "ketama-spymemcached-md5/1",
            Self::SpymemcachedWeighted => "ketama-spymemcached-weighted-md5/1",
            Self::Envoy(_) => "envoy-ring-xxh64/1",
            Self::EnvoyMurmur2(_) => "envoy-ring-murmur2/1",
        }
    }

    /// Whether the product gives a point that two servers claim to the one listed last.
    const fn last_wins(self) -> bool {
        matches!(self, Self::Spymemcached | Self::SpymemcachedWeighted)
    }
}

/// The seed of `std::hash` in GNU's C++ library, which Envoy takes for Murmur.
const STD_SEED: u64 = 0xc70f_6907;
const MEMCACHED_PORT: &str = "11211";

fn upper(hash: u32) -> u64 {
    u64::from(hash) << 32
}

/// A [`Ring`] with the points of another product.
///
/// ```
/// use stackbeam_consistent_hash::{Ketama, KetamaProfile, Member, Members};
///
/// // upstream { hash $uri consistent; server 127.0.0.11:1 weight=5; server 127.0.0.12:1; .. }
/// let members = Members::in_order([
///     Member::new("127.0.0.11:1").with_weight(5.0),
///     Member::new("127.0.0.12:1"),
///     Member::new("127.0.0.13:2").with_weight(3.0),
///     Member::new("127.0.0.13:3").with_weight(10.0),
/// ])?;
/// let ring = Ketama::new(KetamaProfile::Nginx, &members)?;
/// assert_eq!(members[ring.owner_of(b"device:271422")].name(), "127.0.0.11:1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Ketama {
    profile: KetamaProfile,
    ring: Ring,
}

impl Ketama {
    /// The ring of the members that may own keys.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoOwner`] if no member may own keys, or none got a point; [`BuildError::Size`] for too
    /// many points, or bounds of Envoy's ring that are zero, the wrong way round or too large.
    pub fn new(profile: KetamaProfile, members: &Members) -> Result<Self, BuildError> {
        let owning = members.owning()?;
        let name = |member: &Owning| members[NodeIx::new(member.node)].name();
        let total: f64 = owning.iter().map(|member| member.weight).sum();
        let mut points = Vec::new();
        let mut label = String::new();
        let positions = match profile {
            KetamaProfile::Nginx => {
                let count = |member: &Owning| mix::round(160.0 * member.weight);
                check_total(owning.iter().map(count))?;
                for member in &owning {
                    nginx(name(member), count(member), |hash| {
                        points.push((upper(hash), member.node));
                    });
                }
                Positions::Upper44
            }
            KetamaProfile::Libmemcached => {
                check_total([100 * owning.len() as u64])?;
                for member in &owning {
                    let server = memcached(name(member));
                    for n in 0..100 {
                        label.clear();
                        let _ = write!(label, "{}-{n}", server.short);
                        let hash = hashkit::one_at_a_time(label.as_bytes());
                        points.push((upper(hash), member.node));
                    }
                }
                Positions::Upper44
            }
            KetamaProfile::LibmemcachedWeighted
            | KetamaProfile::LibmemcachedSpy
            | KetamaProfile::Spymemcached
            | KetamaProfile::SpymemcachedWeighted => {
                let count = |member: &Owning| match profile {
                    KetamaProfile::Spymemcached => 40,
                    KetamaProfile::SpymemcachedWeighted => {
                        spy_quarter(member.weight, total, owning.len())
                    }
                    _ => libmemcached_quarter(member.weight, total, owning.len()),
                };
                check_total(owning.iter().map(|member| 4 * count(member)))?;
                for member in &owning {
                    let server = memcached(name(member));
                    for n in 0..count(member) {
                        label.clear();
                        let _ = match profile {
                            KetamaProfile::LibmemcachedSpy => write!(label, "/{}-{n}", server.long),
                            KetamaProfile::Spymemcached => {
                                let name = server.long.strip_prefix('/').unwrap_or(&server.long);
                                write!(label, "{name}-{n}")
                            }
                            _ => write!(label, "{}-{n}", server.short),
                        };
                        let digest = md5(&[label.as_bytes()]);
                        points.extend((0..4).map(|n| (upper(le32(&digest, n)), member.node)));
                    }
                }
                Positions::Upper44
            }
            KetamaProfile::Envoy(size) | KetamaProfile::EnvoyMurmur2(size) => {
                check_size("maximum ring size", size.max, 1, EnvoySize::MAX)?;
                check_size("minimum ring size", size.min, 1, size.max)?;
                envoy(&owning, total, size, |member, n| {
                    label.clear();
                    let _ = write!(label, "{}_{n}", name(member));
                    points.push((profile.hash(label.as_bytes()), member.node));
                });
                Positions::All64
            }
        };
        if points.is_empty() {
            return Err(BuildError::NoOwner {
                members: members.len(),
            });
        }
        if profile.last_wins() {
            // The ring keeps the first of a place.
            points.reverse();
            points.sort_by_key(|point| point.0);
            points.dedup_by_key(|point| point.0);
        }
        let ring = Ring::over(members, positions, points);
        Ok(Self { profile, ring })
    }

    /// The owner of a key, by the product's hash.
    #[must_use]
    pub fn owner_of(&self, key: &[u8]) -> NodeIx {
        self.ring.owner(self.profile.hash(key))
    }

    /// Whose ring this is.
    #[must_use]
    pub const fn profile(&self) -> KetamaProfile {
        self.profile
    }

    /// The ring, with its points in order.
    #[must_use]
    pub const fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Whom a client asks, one after the other, while it cannot reach the owner; nodes may come again.
    ///
    /// spymemcached adds hashes of `0key`, `1key` and so on to the first hash, and tries seven more. The
    /// others go on along the ring, here once around.
    pub fn tries_of<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = NodeIx> + 'a {
        let start = self.profile.hash(key);
        let spy = self.profile.last_wins();
        let mut hash = mix::high32(start);
        let mut text = String::new();
        let again = (0..if spy { 7 } else { 0 }).map(move |n| {
            text.clear();
            let _ = write!(text, "{n}");
            let more = md5(&[text.as_bytes(), key]);
            hash = hash.wrapping_add(le32(&more, 0));
            self.ring.owner(upper(hash))
        });
        let along = self.ring.points_from(start).map(|(_, node)| node);
        let along = along.take(if spy { 1 } else { usize::MAX });
        along.chain(again)
    }
}

/// The names of a memcached server in labels.
struct Server {
    /// Without the default port.
    short: String,
    /// Always with a port.
    long: String,
}

fn memcached(name: &str) -> Server {
    let host_and_port = name
        .rsplit_once(':')
        .filter(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    match host_and_port {
        Some((host, MEMCACHED_PORT)) => Server {
            short: host.into(),
            long: name.into(),
        },
        Some(_) => Server {
            short: name.into(),
            long: name.into(),
        },
        None => Server {
            short: name.into(),
            long: alloc::format!("{name}:{MEMCACHED_PORT}"),
        },
    }
}

/// Labels of a server, of which each makes four points: with the rounding errors of 32 bits, which are part
/// of the rule.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "the rule is defined with these conversions"
)]
fn libmemcached_quarter(weight: f64, total: f64, servers: usize) -> u64 {
    let share = weight as f32 / total as f32;
    mix::floor(f64::from(
        share * 160.0_f32 / 4.0_f32 * servers as f32 + 0.000_000_000_1_f32,
    ))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "the rule is defined with these conversions"
)]
fn spy_quarter(weight: f64, total: f64, servers: usize) -> u64 {
    let share = weight as f32 / total as f32;
    let points = f64::from(share * 160.0_f32 / 4.0_f32 * servers as f32) + 0.000_000_000_1;
    mix::floor(f64::from(points as f32))
}

/// Each point is the CRC32 of host, NUL, port and the point before.
fn nginx(name: &str, count: u64, mut point: impl FnMut(u32)) {
    let (host, port) = match name.get(..5) {
        Some(unix) if unix.eq_ignore_ascii_case("unix:") => (&name[5..], ""),
        _ => name
            .rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
            .unwrap_or((name, "")),
    };
    let mut base = crc32fast::Hasher::new();
    base.update(host.as_bytes());
    base.update(&[0]);
    base.update(port.as_bytes());
    let mut before = 0_u32;
    for _ in 0..count {
        let mut hash = base.clone();
        hash.update(&before.to_le_bytes());
        before = hash.finalize();
        point(before);
    }
}

/// Envoy scales the ring so that the lightest host has a whole number of points, and hands them out by a
/// running sum.
#[expect(clippy::cast_precision_loss, reason = "sizes are at most 2^23")]
fn envoy(owning: &[Owning], total: f64, size: EnvoySize, mut point: impl FnMut(&Owning, u64)) {
    let lightest = owning
        .iter()
        .map(|member| member.weight / total)
        .fold(f64::INFINITY, f64::min);
    let least = mix::to_f64(mix::ceil(lightest * size.min as f64)) / lightest;
    let scale = f64::min(least, size.max as f64);
    let (mut current, mut target) = (0.0, 0.0);
    for member in owning {
        target += scale * (member.weight / total);
        let mut n = 0;
        while current < target {
            point(member, n);
            n += 1;
            current += 1.0;
        }
    }
}

impl Placement for Ketama {
    fn node_count(&self) -> usize {
        self.ring.node_count()
    }

    #[inline]
    fn owner(&self, hash: u64) -> NodeIx {
        self.ring.owner(hash)
    }

    fn walk(&self, hash: u64, visit: &mut dyn FnMut(NodeIx) -> ControlFlow<()>) {
        self.ring.walk(hash, visit);
    }
}
