//! Heights and times, as clients know them.

use std::{fmt, time::Duration};

/// A height of a chain (ICS-002 §"Height"): a block's number within a revision of the chain.
///
/// Heights are ordered by revision, then by number. The zero height stands for "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Height {
    /// The revision: the number at the end of the chain's id (`name-4`), or 0.
    pub revision: u64,
    /// The number of the block.
    pub number: u64,
}

impl Height {
    /// No height: a timeout by height that never comes.
    pub const ZERO: Self = Self { revision: 0, number: 0 };

    /// A height of a chain whose id has no revision.
    #[must_use]
    pub const fn new(revision: u64, number: u64) -> Self {
        Self { revision, number }
    }

    /// Whether this is no height.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.revision == 0 && self.number == 0
    }
}

/// As in keys of the store: `4-1000`.
impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.revision, self.number)
    }
}

/// A point in time, in nanoseconds since the Unix epoch: the unit of IBC's timeouts (ICS-004).
///
/// It reaches to the year 2554.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// No time: a timeout by time that never comes.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// In nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whether this is no time.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// A later time, or the last one that there is.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// What a host is at when it handles something: the time and the height of the block that will
/// hold what comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    /// The time. Never before the time of the last block.
    pub(crate) time: Timestamp,
    /// The height of the block to come.
    pub(crate) height: Height,
}
