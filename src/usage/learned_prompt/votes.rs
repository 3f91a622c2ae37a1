//! The votes of senders, as the local store and the command `count` keep them. Twin of `lua/learn.lua`.

use super::{
    BOUNDS, Cell, ENOUGH, Factor, Factors, Lesson, MAX_CELLS, MAX_LESSONS, MAX_NEEDED, MAX_VOTERS, Voter,
};
use crate::sort;
use serde::{Deserialize, Serialize};

/// The votes about each cell, the one that was taught last at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Votes {
    cells: Vec<(Cell, Ballot)>,
}

/// The votes about one cell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ballot {
    /// The lessons so far, up to [`ENOUGH`].
    lessons: u32,
    /// The shares of each sender's last lessons, oldest first; the sender that has voted last at the end.
    voters: Vec<(Voter, Vec<u16>)>,
}

impl Votes {
    /// Takes a lesson.
    pub fn teach(&mut self, lesson: &Lesson) {
        if self.cells.len() >= MAX_CELLS && self.cells.iter().all(|(cell, _)| *cell != lesson.cell) {
            self.cells.remove(self.dispensable(lesson.voter));
        }
        self.ballot(lesson.cell).take(lesson);
    }

    /// The place of the cell that makes room for one of `voter`.
    fn dispensable(&self, voter: Voter) -> usize {
        let alone: Vec<(usize, Voter)> = self
            .cells
            .iter()
            .enumerate()
            .filter_map(|(at, (_, ballot))| match ballot.voters.as_slice() {
                [(only, _)] => Some((at, *only)),
                _ => None,
            })
            .collect();
        // The new one counts as the voter's.
        let count =
            |of: Voter| alone.iter().filter(|(_, only)| *only == of).count() + usize::from(of == voter);
        // Of as many, the oldest.
        let most = alone.iter().rev().max_by_key(|(_, only)| (count(*only), *only == voter));
        most.map_or(0, |(at, _)| *at)
    }

    /// The cells that have votes, the one that was taught last at the end.
    pub fn cells(&self) -> impl Iterator<Item = Cell> {
        self.cells.iter().map(|(cell, _)| *cell)
    }

    /// The factors by all votes so far.
    pub fn factors(&self) -> Factors {
        let enough = self.cells.iter().filter_map(|(cell, ballot)| Some((*cell, ballot.factor()?)));
        enough.collect()
    }

    /// Reads votes; none if `bytes` are not what [`Votes::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Self {
        postcard::from_bytes(bytes).unwrap_or_default()
    }

    /// The votes as bytes: never none.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_else(|_| vec![0])
    }

    /// The votes about `cell`, which becomes the last.
    fn ballot(&mut self, cell: Cell) -> &mut Ballot {
        move_to_end(&mut self.cells, cell, MAX_CELLS)
    }
}

impl Ballot {
    fn take(&mut self, lesson: &Lesson) {
        self.lessons = (self.lessons + 1).min(ENOUGH);
        let shares = move_to_end(&mut self.voters, lesson.voter, MAX_VOTERS);
        shares.push(lesson.permille);
        if shares.len() > MAX_LESSONS {
            shares.remove(0);
        }
    }

    /// The median of the votes, if there have been enough lessons.
    fn factor(&self) -> Option<Factor> {
        if self.lessons < ENOUGH {
            return None;
        }
        // Within the bounds, so that of two votes the wilder one does not count for more.
        let vote = |shares: &[u16]| Some(Factor::from_permille(median(shares.to_vec())?).permille());
        let all: usize = self.voters.iter().map(|(_, shares)| shares.len()).sum();
        let needed = (all / self.voters.len().max(1)).clamp(1, MAX_NEEDED);
        let enough = self.voters.iter().filter(|(_, shares)| shares.len() >= needed);
        let votes = enough.filter_map(|(_, shares)| vote(shares));
        Some(Factor::from_permille(median(votes.collect())?))
    }
}

/// The value of `key` among the last `most`, which becomes the last of all.
fn move_to_end<K: PartialEq, V: Default>(entries: &mut Vec<(K, V)>, key: K, most: usize) -> &mut V {
    let known = entries.iter().position(|(known, _)| *known == key);
    let value = known.map(|at| entries.remove(at).1).unwrap_or_default();
    if entries.len() >= most {
        entries.remove(0);
    }
    entries.push((key, value));
    let last = entries.len() - 1;
    #[expect(clippy::indexing_slicing, reason = "it has just been added")]
    &mut entries[last].1
}

/// The middle one of `values`, or, of an even number, the middle of the two in the middle, rounded down.
fn median(mut values: Vec<u16>) -> Option<u16> {
    sort::by(&mut values, Ord::cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get(values.len().saturating_sub(1) / 2)?;
    Some(lower.midpoint(upper))
}

const _: () = assert!(BOUNDS.0 <= 1_000 && 1_000 <= BOUNDS.1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::PromptKind;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn cell() -> Cell {
        Cell::new("m", PromptKind::Plain)
    }

    fn lesson(voter: u64, permille: u16) -> Lesson {
        Lesson { cell: cell(), voter: Voter::new(&voter.to_string()), permille }
    }

    fn taught(lessons: impl IntoIterator<Item = (u64, u16)>) -> Votes {
        let mut votes = Votes::default();
        for (voter, permille) in lessons {
            votes.teach(&lesson(voter, permille));
        }
        votes
    }

    fn factor(votes: &Votes) -> u16 {
        votes.factors().of(cell()).permille()
    }

    #[test]
    fn twenty_answers_correct_and_nineteen_do_not() {
        let of = |count| taught((0..count).map(|n| (n % 3, 1_300)));
        assert!(of(19).factors().is_empty());
        assert_eq!(factor(&of(20)), 1_300);
        assert_eq!(of(20).factors().of(Cell::new("m", PromptKind::Tools)), Factor::ONE);
    }

    #[test]
    fn a_flood_from_one_sender_is_one_vote() {
        let honest = || (0..30).map(|n| (n % 5, 1_100));
        assert_eq!(factor(&taught(honest().chain((0..10_000).map(|_| (9, 9_000))))), 1_100);
        assert_eq!(factor(&taught((0..10_000).map(|_| (9, 1)).chain(honest()))), 1_100);
    }

    #[test]
    fn a_sender_votes_by_its_last_answers() {
        let changed = (0..100).map(|_| (1, 900)).chain((0..8).map(|_| (1, 1_200)));
        assert_eq!(factor(&taught(changed)), 1_200);
        let rare = (0..100).map(|_| (1, 1_200)).chain((0..7).map(|_| (1, 9_000)));
        assert_eq!(factor(&taught(rare)), 1_200);
    }

    #[test]
    fn one_answer_is_no_vote_beside_those_of_many() {
        let honest = (0..50).map(|n| (n % 5, 1_000));
        let few = (10..30).map(|voter| (voter, 9_000)).take(6);
        assert_eq!(factor(&taught(honest.clone().chain(few))), 1_000);
        let more = (0..30).map(|n| (10 + n % 6, 9_000));
        assert_eq!(factor(&taught(honest.chain(more))), 1_500, "each has sent several");
        assert_eq!(factor(&taught((0..20).map(|voter| (voter, 1_200)))), 1_200, "nobody has sent more");
    }

    #[test]
    fn nobody_pushes_out_what_others_have_taught() {
        let teach = |votes: &mut Votes, model: String, voter: &str| {
            let cell = Cell::new(&model, PromptKind::Plain);
            votes.teach(&Lesson { cell, voter: Voter::new(voter), permille: 1_200 });
        };
        let knows = |votes: &Votes, model: &str| {
            let cell = Cell::new(model, PromptKind::Plain);
            votes.cells.iter().any(|(known, _)| *known == cell)
        };
        let mut votes = Votes::default();
        for voter in 0..10 {
            teach(&mut votes, format!("own-{voter}"), &voter.to_string());
            teach(&mut votes, "common".to_owned(), &voter.to_string());
        }
        (0..1_000).for_each(|n| teach(&mut votes, format!("invented-{n}"), "attacker"));
        assert_eq!(votes.cells.len(), MAX_CELLS);
        assert!(knows(&votes, "common") && (0..10).all(|voter| knows(&votes, &format!("own-{voter}"))));
        assert!(knows(&votes, "invented-999"));
        // Another's new model makes it give room.
        teach(&mut votes, "new".to_owned(), "newcomer");
        assert!(knows(&votes, "new") && (0..10).all(|voter| knows(&votes, &format!("own-{voter}"))));
        assert_eq!(votes.cells.len(), MAX_CELLS);
    }

    #[test]
    fn of_two_votes_the_middle_counts() {
        assert_eq!(factor(&taught((0..20).map(|n| (n % 2, if n % 2 == 0 { 1_000 } else { 1_201 })))), 1_100);
        assert_eq!((median(vec![]), median(vec![7]), median(vec![9, 1, 2])), (None, Some(7), Some(2)));
    }

    #[test]
    fn invented_models_and_senders_take_bounded_memory() {
        let mut votes = Votes::default();
        for model in 0..2 * MAX_CELLS {
            for voter in 0..2 * MAX_VOTERS {
                let cell = Cell::new(&model.to_string(), PromptKind::Images);
                let voter = Voter::new(&voter.to_string());
                (0..2 * MAX_LESSONS).for_each(|_| votes.teach(&Lesson { cell, voter, permille: 10_000 }));
            }
        }
        assert_eq!(votes.cells.len(), MAX_CELLS);
        for (_, ballot) in &votes.cells {
            assert_eq!(ballot.voters.len(), MAX_VOTERS);
            assert!(ballot.voters.iter().all(|(_, shares)| shares.len() == MAX_LESSONS));
        }
        assert!(votes.encode().len() < 256 * 1024, "{}", votes.encode().len());
        assert_eq!(Votes::decode(&votes.encode()), votes);
        assert_eq!(Votes::decode(&[255; 9]), Votes::default());
        assert_eq!(votes.factors().to_string().split(',').count(), MAX_CELLS);
    }

    proptest! {
        #[test]
        fn a_factor_is_within_bounds_and_the_votes(
            lessons in vec((0..80_u64, 1..=10_000_u16), 20..400),
        ) {
            let votes = taught(lessons.iter().copied());
            let factor = factor(&votes);
            prop_assert!((BOUNDS.0..=BOUNDS.1).contains(&factor));
            let shares = || lessons.iter().map(|(_, share)| (*share).clamp(BOUNDS.0, BOUNDS.1));
            prop_assert!(factor >= shares().min().unwrap() && factor <= shares().max().unwrap());
        }

        #[test]
        fn one_sender_moves_a_factor_no_further_than_the_votes_beside_the_middle(
            votes in vec(900..=1_500_u16, 20..60),
            flood in vec(1..=10_000_u16, 1..100),
        ) {
            let others = taught(votes.iter().enumerate().map(|(at, vote)| (at as u64, *vote)));
            let mut flooded = others;
            flood.iter().for_each(|share| flooded.teach(&lesson(999, *share)));
            let mut sorted = votes;
            sorted.sort_unstable();
            let len = sorted.len();
            let moved = factor(&flooded);
            prop_assert!((sorted[(len - 2) / 2]..=sorted[len.div_ceil(2)]).contains(&moved));
        }
    }
}
