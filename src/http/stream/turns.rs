//! Whose turn it is: the partitions of a stream that may have something to send.

use std::collections::VecDeque;

/// Partitions in the order of their turns. A stream of one partition needs no queue for them.
#[derive(Debug)]
pub(super) enum Turns {
    /// Whether the only partition has a turn.
    One(bool),
    /// More than one partition.
    Many(VecDeque<usize>),
}

impl Turns {
    /// Gives a turn to those of `count` partitions for which `is_open` says so.
    pub(super) fn of(count: usize, is_open: impl Fn(usize) -> bool) -> Self {
        if count <= 1 {
            return Self::One(count == 1 && is_open(0));
        }
        Self::Many((0..count).filter(|at| is_open(*at)).collect())
    }

    /// Who is next.
    pub(super) fn first(&self) -> Option<usize> {
        match self {
            Self::One(is_on) => is_on.then_some(0),
            Self::Many(turns) => turns.front().copied(),
        }
    }

    /// Lets the others be next.
    pub(super) fn rotate(&mut self) {
        if let Self::Many(turns) = self
            && !turns.is_empty()
        {
            turns.rotate_left(1);
        }
    }

    /// Takes the turn of the first one away.
    pub(super) fn remove_first(&mut self) {
        match self {
            Self::One(is_on) => *is_on = false,
            Self::Many(turns) => _ = turns.pop_front(),
        }
    }

    /// Gives a partition without a turn one, after all others.
    pub(super) fn push(&mut self, at: usize) {
        match self {
            Self::One(is_on) => *is_on = true,
            Self::Many(turns) => turns.push_back(at),
        }
    }

    /// Number of turns.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(is_on) => usize::from(*is_on),
            Self::Many(turns) => turns.len(),
        }
    }

    /// Tells whether nobody has a turn.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_take_turns() {
        let mut turns = Turns::of(4, |at| at != 1);
        let mut taken = Vec::new();
        while let Some(at) = turns.first() {
            taken.push(at);
            match taken.len() {
                ..=3 => turns.rotate(),
                _ => turns.remove_first(),
            }
            if taken.len() == 5 {
                turns.push(1);
            }
        }
        assert_eq!(taken, [0, 2, 3, 0, 2, 3, 1]);
        turns.rotate();
        assert!(turns.is_empty());
    }

    #[test]
    fn the_only_partition_is_always_next() {
        let mut turns = Turns::of(1, |_| true);
        turns.rotate();
        assert_eq!((turns.first(), turns.len()), (Some(0), 1));
        turns.remove_first();
        assert_eq!((turns.first(), turns.len()), (None, 0));
        turns.push(0);
        assert_eq!(turns.first(), Some(0));
        assert!(Turns::of(1, |_| false).is_empty() && Turns::of(0, |_| true).is_empty());
    }
}
