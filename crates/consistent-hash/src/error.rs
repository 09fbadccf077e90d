//! The ways in which members or a placement can be refused.

use alloc::string::String;

use crate::MemberId;

/// Why a set of members was refused. The set that was there before stays as it was.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MembersError {
    /// Two members have the same id: the same name was given twice, or two ids were set by hand.
    #[error("members {first:?} and {second:?} have the same id {id}")]
    #[non_exhaustive]
    Duplicate {
        /// The id that both have.
        id: MemberId,
        /// Name of the one that was there.
        first: String,
        /// Name of the one that came later.
        second: String,
    },
    /// No member has this id.
    #[error("no member has the id {id}")]
    #[non_exhaustive]
    Unknown {
        /// The id that was asked for.
        id: MemberId,
    },
    /// A weight is NaN, infinite, negative, or outside the range that shares can be computed in.
    #[error("weight of member {name:?} is {weight}; it must be 0, or from {min} to {max}")]
    #[non_exhaustive]
    Weight {
        /// Name of the member.
        name: String,
        /// The weight that was refused.
        weight: f64,
        /// [`Members::WEIGHT_MIN`](crate::Members::WEIGHT_MIN).
        min: f64,
        /// [`Members::WEIGHT_MAX`](crate::Members::WEIGHT_MAX).
        max: f64,
    },
    /// A name is empty or too long.
    #[error("a member's name has {bytes} bytes; it must have 1 to {max}")]
    #[non_exhaustive]
    NameLength {
        /// Bytes in the name.
        bytes: usize,
        /// [`Members::NAME_BYTES_MAX`](crate::Members::NAME_BYTES_MAX).
        max: usize,
    },
    /// A zone path is too long or has too many parts.
    #[error(
        "zone of member {name:?} has {bytes} bytes and {parts} parts; at most {bytes_max} and {parts_max}"
    )]
    #[non_exhaustive]
    Zone {
        /// Name of the member.
        name: String,
        /// Bytes in the path.
        bytes: usize,
        /// Parts between slashes.
        parts: usize,
        /// [`Members::ZONE_BYTES_MAX`](crate::Members::ZONE_BYTES_MAX).
        bytes_max: usize,
        /// [`Members::ZONE_PARTS_MAX`](crate::Members::ZONE_PARTS_MAX).
        parts_max: usize,
    },
    /// More members than a set may hold.
    #[error("{count} members; at most {max}")]
    #[non_exhaustive]
    TooMany {
        /// Members that were given.
        count: usize,
        /// [`Members::COUNT_MAX`](crate::Members::COUNT_MAX).
        max: usize,
    },
}

/// Why a placement could not be built. Whatever placement was in force stays in force.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No member may own keys: there is none, or none is live with a weight above zero.
    #[error("no member can own keys: of {members} members none is live with a weight above zero")]
    #[non_exhaustive]
    NoOwner {
        /// Members in the set.
        members: usize,
    },
    /// A point, slot or weight was given for somebody who is no member.
    #[error("no member has the id {id}")]
    #[non_exhaustive]
    Unknown {
        /// The id that was given.
        id: MemberId,
    },
    /// A size is outside its bounds.
    #[error("{field} is {value}; it must be from {min} to {max}")]
    #[non_exhaustive]
    Size {
        /// Name of the setting.
        field: &'static str,
        /// The value that was refused.
        value: u64,
        /// Smallest value allowed.
        min: u64,
        /// Largest value allowed.
        max: u64,
    },
    /// A size must be a prime number.
    #[error("{field} is {value}; it must be a prime number")]
    #[non_exhaustive]
    NotPrime {
        /// Name of the setting.
        field: &'static str,
        /// The value that was refused.
        value: u64,
    },
    /// A fraction is NaN, infinite, or outside its bounds.
    #[error("{field} is {value}; it must be from {min} to {max}")]
    #[non_exhaustive]
    Fraction {
        /// Name of the setting.
        field: &'static str,
        /// The value that was refused.
        value: f64,
        /// Smallest value allowed.
        min: f64,
        /// Largest value allowed.
        max: f64,
    },
}

/// Checks a size against its bounds.
pub(crate) fn check_size(
    field: &'static str,
    value: u64,
    min: u64,
    max: u64,
) -> Result<(), BuildError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(BuildError::Size {
            field,
            value,
            min,
            max,
        })
    }
}

/// Checks a fraction against its bounds; NaN is outside of all.
pub(crate) fn check_fraction(
    field: &'static str,
    value: f64,
    min: f64,
    max: f64,
) -> Result<(), BuildError> {
    if value >= min && value <= max {
        Ok(())
    } else {
        Err(BuildError::Fraction {
            field,
            value,
            min,
            max,
        })
    }
}
