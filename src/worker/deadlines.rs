//! The deadlines of requests, in their order.

use super::by_stream::ByStream;
use crate::quantity::Millis;
use std::collections::BTreeSet;

/// Deadlines, at most one per stream.
#[derive(Clone, Debug, Default)]
pub struct Deadlines {
    in_order: BTreeSet<(Millis, u32)>,
    by_stream: ByStream<Millis>,
}

impl Deadlines {
    /// Sets the deadline of `stream`, or removes it.
    pub fn set(&mut self, stream: u32, due: Option<Millis>) {
        let before = match due {
            Some(due) => self.by_stream.insert(stream, due),
            None => self.by_stream.remove(&stream),
        };
        if before == due {
            return;
        }
        if let Some(before) = before {
            self.in_order.remove(&(before, stream));
        }
        if let Some(due) = due {
            self.in_order.insert((due, stream));
        }
    }

    /// The earliest deadline.
    pub fn next_due(&self) -> Option<Millis> {
        self.in_order.first().map(|(due, _)| *due)
    }

    /// The streams that have deadlines.
    pub fn streams(&self) -> Vec<u32> {
        self.in_order.iter().map(|(_, stream)| *stream).collect()
    }

    /// Takes the stream with the earliest deadline, if that has come.
    pub fn pop(&mut self, now: Millis) -> Option<u32> {
        let (due, stream) = *self.in_order.first()?;
        if due > now {
            return None;
        }
        self.set(stream, None);
        Some(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_due_in_the_order_of_their_deadlines() {
        let mut deadlines = Deadlines::default();
        let at = |ms| Some(Millis::new(ms));
        deadlines.set(1, at(30));
        deadlines.set(2, at(10));
        deadlines.set(3, at(20));
        deadlines.set(2, at(25));
        deadlines.set(4, at(5));
        deadlines.set(4, None);
        assert_eq!(deadlines.next_due(), at(20));
        let mut pop = |ms| deadlines.pop(Millis::new(ms));
        assert_eq!(
            [pop(19), pop(30), pop(30), pop(29), pop(30), pop(30)],
            [None, Some(3), Some(2), None, Some(1), None]
        );
        assert_eq!((deadlines.next_due(), deadlines.by_stream.len()), (None, 0));
    }
}
