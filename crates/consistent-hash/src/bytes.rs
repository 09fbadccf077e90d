//! Placements as bytes: with a version of the format, and a fingerprint by which two processes agree.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    Anchor, AnchorError, BuildError, Member, MemberId, MemberState, Members, MembersError,
    MultiProbe, NodeIx, Rendezvous, Ring, SlotTable,
};

/// Version of the format that is written, and the only one that is read.
pub const FORMAT_VERSION: u16 = 1;

const MAGIC: [u8; 4] = *b"SBPL";
/// Magic, version, kind, a byte of zero, and the fingerprint of all that follows them and of the kind.
const HEADER: usize = 16;

/// Why bytes are no placement. What was in force stays in force.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("the bytes end within {field}: {needed} are needed and {left} are left")]
    #[non_exhaustive]
    Truncated {
        /// What was being read.
        field: &'static str,
        /// Bytes that it needs.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// The bytes are something else: they do not begin with `SBPL`.
    #[error("these bytes are no placement")]
    NotAPlacement,
    /// The bytes were written by a release that knows another format.
    #[error("format version {found}; this release reads {known}")]
    #[non_exhaustive]
    Version {
        /// The version of the bytes.
        found: u16,
        /// [`FORMAT_VERSION`].
        known: u16,
    },
    /// The bytes are a placement of another kind.
    #[error("kind {found} where {wanted} is wanted")]
    #[non_exhaustive]
    Kind {
        /// The kind of the bytes.
        found: u8,
        /// The kind that was asked for.
        wanted: u8,
    },
    /// The bytes were damaged.
    #[error("the fingerprint is {computed:016x}, and the bytes say {stored:016x}")]
    #[non_exhaustive]
    Fingerprint {
        /// What the bytes say.
        stored: u64,
        /// What they add up to.
        computed: u64,
    },
    /// A value that nothing would have written.
    #[error("{field} has a value that cannot be")]
    #[non_exhaustive]
    Field {
        /// The field.
        field: &'static str,
    },
    /// The members are refused.
    #[error(transparent)]
    Members(#[from] MembersError),
    /// The placement is refused.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The numbers of an [`Anchor`] are refused.
    #[error(transparent)]
    Anchor(#[from] AnchorError),
}

/// What can be written: one kind, and how it is laid out.
trait Layout: Sized {
    const KIND: u8;
    fn write(&self, to: &mut Vec<u8>);
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

fn encode<T: Layout>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + 64);
    bytes.extend(MAGIC);
    bytes.extend(FORMAT_VERSION.to_le_bytes());
    bytes.extend([T::KIND, 0]);
    bytes.extend([0; 8]);
    value.write(&mut bytes);
    let fingerprint = fingerprint_of(&bytes);
    bytes[8..HEADER].copy_from_slice(&fingerprint.to_le_bytes());
    bytes
}

/// Of the kind and of what follows the header.
fn fingerprint_of(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(&bytes[HEADER..], xxh3_64(&bytes[..8]))
}

fn decode<T: Layout>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut header = Reader(bytes);
    if header.array::<4>("the header")? != MAGIC {
        return Err(DecodeError::NotAPlacement);
    }
    let found = u16::from_le_bytes(header.array("the header")?);
    if found != FORMAT_VERSION {
        return Err(DecodeError::Version {
            found,
            known: FORMAT_VERSION,
        });
    }
    let [found, zero] = header.array("the header")?;
    if found != T::KIND {
        return Err(DecodeError::Kind {
            found,
            wanted: T::KIND,
        });
    }
    if zero != 0 {
        return Err(DecodeError::Field {
            field: "the header",
        });
    }
    let stored = header.u64("the header")?;
    let computed = fingerprint_of(bytes);
    if stored != computed {
        return Err(DecodeError::Fingerprint { stored, computed });
    }
    let value = T::read(&mut header)?;
    if header.0.is_empty() {
        Ok(value)
    } else {
        Err(DecodeError::Field { field: "the end" })
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, field: &'static str, needed: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.0.split_at_checked(needed) else {
            return Err(DecodeError::Truncated {
                field,
                needed,
                left: self.0.len(),
            });
        };
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(field, N)?);
        Ok(array)
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_le_bytes)
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_le_bytes)
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// A count, and as many items of `N` bytes. Nothing is allocated before they are known to be there.
    fn items<const N: usize>(
        &mut self,
        field: &'static str,
        max: u64,
    ) -> Result<impl ExactSizeIterator<Item = [u8; N]> + use<'a, N>, DecodeError> {
        let count = self.u32(field)?;
        if u64::from(count) > max {
            return Err(DecodeError::Field { field });
        }
        let bytes = self.take(field, (count as usize).saturating_mul(N))?;
        Ok(bytes.as_chunks::<N>().0.iter().copied())
    }

    /// Text after the number of its bytes.
    fn text(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let length = usize::from(self.u16(field)?);
        let text = core::str::from_utf8(self.take(field, length)?);
        text.map(ToString::to_string)
            .map_err(|_| DecodeError::Field { field })
    }
}

fn write_u32(to: &mut Vec<u8>, value: usize) {
    to.extend(crate::mix::to_u32(value).to_le_bytes());
}

fn write_text(to: &mut Vec<u8>, text: &str) {
    // Names and zones are checked to be shorter than 2^16.
    to.extend(&crate::mix::to_u32(text.len()).to_le_bytes()[..2]);
    to.extend(text.as_bytes());
}

impl Layout for Members {
    const KIND: u8 = 0;

    fn write(&self, to: &mut Vec<u8>) {
        write_u32(to, self.len());
        for member in self {
            to.extend(member.id().get().to_le_bytes());
            to.extend(member.weight().to_bits().to_le_bytes());
            to.push(match member.state() {
                MemberState::Joining => 0,
                MemberState::Live => 1,
                MemberState::Draining => 2,
                MemberState::Dead => 3,
            });
            write_text(to, member.name());
            write_text(to, member.zone());
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = from.u32("the number of members")?;
        if count as usize > Self::COUNT_MAX {
            return Err(DecodeError::Field {
                field: "the number of members",
            });
        }
        let mut list = Vec::new();
        let mut before = None;
        for _ in 0..count {
            let id = from.u64("a member's id")?;
            // In the order of the ids, so that one set has one form.
            if before.is_some_and(|before| before >= id) {
                return Err(DecodeError::Field {
                    field: "a member's id",
                });
            }
            before = Some(id);
            let weight = f64::from_bits(from.u64("a member's weight")?);
            // Minus zero would be another form of zero.
            if weight == 0.0 && weight.is_sign_negative() {
                return Err(DecodeError::Field {
                    field: "a member's weight",
                });
            }
            let state = match from.array("a member's state")? {
                [0] => MemberState::Joining,
                [1] => MemberState::Live,
                [2] => MemberState::Draining,
                [3] => MemberState::Dead,
                _ => {
                    return Err(DecodeError::Field {
                        field: "a member's state",
                    });
                }
            };
            let name = from.text("a member's name")?;
            let zone = from.text("a member's zone")?;
            list.push(
                Member::new(name)
                    .with_id(MemberId::new(id))
                    .with_weight(weight)
                    .with_state(state)
                    .with_zone(zone),
            );
        }
        Ok(Self::new(list)?)
    }
}

impl Layout for Rendezvous {
    const KIND: u8 = 1;

    fn write(&self, to: &mut Vec<u8>) {
        self.members().write(to);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::new(&Members::read(from)?)?)
    }
}

impl Layout for Ring {
    const KIND: u8 = 2;

    fn write(&self, to: &mut Vec<u8>) {
        self.members().write(to);
        let (exact, points) = self.raw();
        to.push(u8::from(exact));
        write_u32(to, self.point_count());
        for (position, node) in points {
            to.extend(position.to_le_bytes());
            to.extend(node.to_le_bytes());
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        const FIELD: &str = "a point";
        let members = Members::read(from)?;
        let exact = match from.array("the kind of positions")? {
            [0] => false,
            [1] => true,
            _ => {
                return Err(DecodeError::Field {
                    field: "the kind of positions",
                });
            }
        };
        let mut points = Vec::new();
        let mut before = None;
        for item in from.items::<12>("the points", Self::POINTS_TOTAL_MAX)? {
            let mut item = Reader(&item);
            let (position, node) = (item.u64(FIELD)?, item.u32(FIELD)?);
            let known = members.iter().nth(node as usize);
            let owns = known.is_some_and(Member::owns_keys);
            if !owns || before.is_some_and(|before| before >= position) {
                return Err(DecodeError::Field { field: FIELD });
            }
            before = Some(position);
            points.push((position, node));
        }
        Self::from_raw(&members, exact, points).ok_or(DecodeError::Field {
            field: "the points",
        })
    }
}

impl Layout for SlotTable {
    const KIND: u8 = 3;

    fn write(&self, to: &mut Vec<u8>) {
        self.members().write(to);
        write_u32(to, self.slots().len());
        for node in self.slots() {
            to.extend(node.get().to_le_bytes());
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let members = Members::read(from)?;
        let mut owners = Vec::new();
        for node in from.items("the slots", u64::from(Self::SLOTS_MAX))? {
            let node = NodeIx::new(u32::from_le_bytes(node));
            let member = members.iter().nth(node.index());
            let member = member.ok_or(DecodeError::Field { field: "a slot" })?;
            owners.push(member.id());
        }
        Ok(Self::with_owners(&members, owners)?)
    }
}

impl Layout for MultiProbe {
    const KIND: u8 = 4;

    fn write(&self, to: &mut Vec<u8>) {
        self.members().write(to);
        to.extend(self.probes().to_le_bytes());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let members = Members::read(from)?;
        Ok(Self::with_probes(&members, from.u32("the probes")?)?)
    }
}

impl Layout for Anchor {
    const KIND: u8 = 5;

    fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.capacity().to_le_bytes());
        to.extend(self.base().to_le_bytes());
        write_u32(to, self.removed().len());
        for node in self.removed() {
            to.extend(node.to_le_bytes());
        }
        // A bit for each number: whoever asks for room brings bytes for it.
        to.extend((0..self.capacity().div_ceil(8)).map(|byte| self.working_bits(byte)));
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        const WORKING: &str = "the working numbers";
        let (capacity, base) = (from.u32("the capacity")?, from.u32("the base")?);
        let removed = from.items("the removed", u64::from(Self::NODES_MAX))?;
        let bits = from.take(WORKING, capacity.div_ceil(8) as usize)?;
        let anchor = Self::restore(capacity, base, removed.map(u32::from_le_bytes))?;
        let same = |(byte, bits): (u32, &u8)| anchor.working_bits(byte) == *bits;
        if (0..).zip(bits).all(same) {
            Ok(anchor)
        } else {
            Err(DecodeError::Field { field: WORKING })
        }
    }
}

impl Anchor {
    /// Of the eight numbers from `8 * byte` on, those that work.
    fn working_bits(&self, byte: u32) -> u8 {
        (0..8).fold(0, |bits, n| {
            bits | u8::from(self.is_working(NodeIx::new(8 * byte + n))) << n
        })
    }
}

macro_rules! bytes {
    ($($layout:ty),*) => {$(
        impl $layout {
            /// As bytes: the same for the same value on every machine. The layout has a version and is described
            /// in the design notes.
            #[must_use]
            pub fn to_bytes(&self) -> Vec<u8> {
                encode(self)
            }

            /// From the bytes of [`to_bytes`](Self::to_bytes).
            ///
            /// # Errors
            ///
            /// [`DecodeError`] for bytes that are damaged, cut off, of another version or kind, or that no release
            /// would have written. What is allocated is bounded by a multiple of their length.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
                decode(bytes)
            }

            /// A number that two processes compare to know that they agree: XXH3 of the bytes.
            #[must_use]
            pub fn fingerprint(&self) -> u64 {
                fingerprint_of(&encode(self))
            }
        }
    )*};
}
bytes!(Members, Rendezvous, Ring, SlotTable, MultiProbe, Anchor);
