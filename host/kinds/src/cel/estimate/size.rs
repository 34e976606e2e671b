//! How large a value can be: characters of a text, bytes, items of a list, entries of a map.
//! Invariant: sums and products never wrap; at the top they stay there.

use std::ops::{Add, Mul};

/// Units for each character that is walked over.
const WALK_FACTOR: f64 = 0.1;
/// Units for each character of a regular expression.
const PATTERN_FACTOR: f64 = 0.25;

/// See the module. The default is the size of nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Size {
    pub min: u64,
    pub max: u64,
}

impl Size {
    /// Nothing is known.
    pub const ANY: Size = Size {
        min: 0,
        max: u64::MAX,
    };

    pub(super) fn exactly(count: u64) -> Self {
        Self {
            min: count,
            max: count,
        }
    }

    pub(super) fn up_to(max: u64) -> Self {
        Self { min: 0, max }
    }

    /// What holds both.
    #[must_use]
    pub(super) fn union(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    /// The one that ends first, as far as comparing goes.
    pub(super) fn shorter(self, other: Self) -> Self {
        Self::up_to(self.max.min(other.max))
    }

    /// Units for walking over it once.
    pub(super) fn walk(self) -> u64 {
        self.times(WALK_FACTOR)
    }

    /// Units for walking over it twice.
    pub(super) fn walk_twice(self) -> u64 {
        self.times(2.0 * WALK_FACTOR)
    }

    /// Units of a regular expression of this size, for each unit of its text.
    pub(super) fn pattern(self) -> u64 {
        self.times(PATTERN_FACTOR)
    }

    /// Units at a cost for each element, rounded up.
    pub(super) fn times(self, factor: f64) -> u64 {
        // A float past the top is cast to the top.
        (self.max as f64 * factor).ceil() as u64
    }
}

impl Add for Size {
    type Output = Size;

    fn add(self, other: Size) -> Size {
        Size {
            min: self.min.saturating_add(other.min),
            max: self.max.saturating_add(other.max),
        }
    }
}

impl Mul for Size {
    type Output = Size;

    fn mul(self, other: Size) -> Size {
        Size {
            min: self.min.saturating_mul(other.min),
            max: self.max.saturating_mul(other.max),
        }
    }
}
