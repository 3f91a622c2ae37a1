//! Lessons on their way to a store.

use super::{ENOUGH, Lesson};
use std::collections::VecDeque;

/// The most lessons that wait. Beyond it the oldest are dropped: others will come.
const MAX_WAITING: usize = 256;

/// The most of them that are of one sender and one cell, so that a flood leaves room for others: more would change
/// nothing.
const MAX_OF_ONE: usize = ENOUGH as usize;

/// Lessons that wait, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Lessons(VecDeque<Lesson>);

impl Lessons {
    /// Adds one.
    pub fn push(&mut self, lesson: Lesson) {
        let is_alike = |known: &Lesson| (known.cell, known.voter) == (lesson.cell, lesson.voter);
        if self.0.iter().filter(|known| is_alike(known)).count() >= MAX_OF_ONE
            && let Some(oldest) = self.0.iter().position(is_alike)
        {
            self.0.remove(oldest);
        }
        if self.0.len() >= MAX_WAITING {
            self.0.pop_front();
        }
        self.0.push_back(lesson);
    }

    /// Takes the oldest.
    pub fn pop(&mut self) -> Option<Lesson> {
        self.0.pop_front()
    }

    /// Takes all.
    pub fn take(&mut self) -> Vec<Lesson> {
        std::mem::take(&mut self.0).into()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cell, Voter};
    use super::*;
    use crate::tokens::PromptKind;

    #[test]
    fn a_flood_leaves_room_for_the_lessons_of_others() {
        let lesson = |voter: &str, permille| {
            let (cell, voter) = (Cell::new("m", PromptKind::Plain), Voter::new(voter));
            Lesson { cell, voter, permille }
        };
        let mut lessons = Lessons::default();
        lessons.push(lesson("quiet", 7));
        (1..=1_000).for_each(|n| lessons.push(lesson("loud", n)));
        let left: Vec<u16> = lessons.take().iter().map(|lesson| lesson.permille).collect();
        assert_eq!(left, std::iter::once(7).chain(981..=1_000).collect::<Vec<u16>>());
        (0..1_000).for_each(|n: u32| lessons.push(lesson(&n.to_string(), 1)));
        assert_eq!(lessons.take().len(), MAX_WAITING);
        assert!(lessons.is_empty() && lessons.pop().is_none());
    }
}
