//! The factors that correct counts of prompts.

use super::{BOUNDS, Cell, MAX_CELLS};
use crate::sort;
use siphasher::sip::SipHasher13;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::hash::Hasher as _;

/// A factor, in thousandths, within [`BOUNDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Factor(u16);

/// The factor of each cell that has enough votes. Written as `<cell>=<thousandths>`, with commas between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Factors(BTreeMap<Cell, Factor>);

impl Factor {
    /// No correction.
    pub const ONE: Self = Self(1_000);

    /// So many thousandths, moved into [`BOUNDS`].
    pub fn from_permille(permille: u16) -> Self {
        Self(permille.clamp(BOUNDS.0, BOUNDS.1))
    }

    /// Its thousandths.
    pub const fn permille(self) -> u16 {
        self.0
    }

    /// `tokens`, corrected.
    pub fn of(self, tokens: u64) -> u64 {
        let corrected = (u128::from(tokens) * u128::from(self.0) + 500) / 1_000;
        u64::try_from(corrected).unwrap_or(u64::MAX)
    }
}

impl Factors {
    /// The factor of `cell`: one, if little is known of it.
    pub fn of(&self, cell: Cell) -> Factor {
        self.0.get(&cell).copied().unwrap_or(Factor::ONE)
    }

    /// A factor that is no larger than any of them, nor than one.
    pub fn least(&self) -> Factor {
        if self.is_empty() { Factor::ONE } else { Factor(BOUNDS.0) }
    }

    /// Whether nothing is corrected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A number that other factors do not have. Never zero.
    pub fn version(&self) -> u64 {
        let mut hash = SipHasher13::new_with_keys(0, 0);
        hash.write(self.to_string().as_bytes());
        hash.finish().max(1)
    }

    /// Reads factors as they are written. What is none is left out, and so is what is too much.
    pub fn parse(text: &str) -> Self {
        let entries = text.split(',').take(MAX_CELLS).filter_map(|entry| {
            let (cell, permille) = entry.split_once('=')?;
            Some((cell.parse().ok()?, Factor::from_permille(permille.parse().ok()?)))
        });
        entries.collect()
    }
}

impl FromIterator<(Cell, Factor)> for Factors {
    fn from_iter<T: IntoIterator<Item = (Cell, Factor)>>(entries: T) -> Self {
        Self(sort::collected(entries))
    }
}

impl fmt::Display for Factors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (cell, factor)) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_char(',')?;
            }
            write!(f, "{cell}={}", factor.0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::PromptKind;
    use proptest::prelude::*;

    #[test]
    fn factors_read_what_they_write_and_nothing_else() {
        let [a, b] = ["a", "b"].map(|model| Cell::new(model, PromptKind::Plain));
        let factors: Factors = [(a, Factor(1_300)), (b, Factor(900))].into_iter().collect();
        assert_eq!(Factors::parse(&factors.to_string()), factors);
        assert_eq!(factors.of(Cell::new("a", PromptKind::Tools)), Factor::ONE);
        let odd = format!("{a}=60000,{b}=,x=1,=,{b}=-1,{b}=1e3,{b}");
        assert_eq!(Factors::parse(&odd).to_string(), format!("{a}=1500"));
        assert!(Factors::parse("").is_empty());
        let many: Vec<String> =
            (0..1_000).map(|n| format!("{}=1000", Cell::new(&n.to_string(), PromptKind::Plain))).collect();
        assert_eq!(Factors::parse(&many.join(",")).0.len(), MAX_CELLS);
    }

    proptest! {
        #[test]
        fn a_factor_stays_within_bounds(permille: u16, tokens in 0..u64::MAX / 2) {
            let corrected = u128::from(Factor::from_permille(permille).of(tokens));
            prop_assert!(corrected + 1 >= u128::from(tokens) * 9 / 10);
            prop_assert!(corrected <= u128::from(tokens) * 3 / 2 + 1);
            prop_assert_eq!(Factor::ONE.of(tokens), tokens);
        }
    }
}
