//! How far the count of a prompt is off, by the usage of earlier answers, for kinds of prompts that nobody can count
//! exactly.
//!
//! A [`Lesson`] is the share of the count that an answer has reported of its prompt. There is a [`Cell`] for each model
//! and kind of prompt, and in it each sender has one vote: the median of the last lessons that its answers gave. One
//! that has given far fewer than others has none yet. The median of the votes corrects the count, within bounds, so
//! that nobody moves it by sending more than others, and nobody far. The two stores count the votes in the same way:
//! [`Votes`] for the local one, `lua/learn.lua` on Redis. What is learned is never a part of what it is learned from: a
//! lesson compares with the count by the rules alone.

mod factors;
mod lesson;
mod lessons;
mod pace;
mod votes;

pub use factors::{Factor, Factors};
pub use lesson::{Cell, Lesson, Voter};
pub use lessons::Lessons;
pub use pace::Pace;
pub use votes::Votes;

/// The most models and kinds of prompts with votes. Of those with one sender alone, one of the sender with the most of
/// them makes room, so that nobody who invents models pushes out those of others; if there are none, any. Of several,
/// it is the one that was taught last the longest ago.
pub const MAX_CELLS: usize = 64;

/// The most senders with a vote about one of them. The one that has voted last the longest ago makes room.
pub const MAX_VOTERS: usize = 64;

/// The lessons of a sender of which the median is its vote.
pub const MAX_LESSONS: usize = 15;

/// The lessons that a sender's vote must come from: fewer only if senders have fewer on average.
pub const MAX_NEEDED: usize = 5;

/// The lessons about a cell without which nothing is corrected.
pub const ENOUGH: u32 = 20;

/// The smallest and the largest factor, in thousandths.
pub const BOUNDS: (u16, u16) = (900, 1_500);

/// The largest share that a lesson has, in thousandths: ten times the count.
pub const MAX_SHARE: u16 = 10_000;
