//! The most output tokens that one answer may have, whatever its request asks for.

use std::num::NonZeroU64;

/// The most output tokens of an answer, as far as one owner of limits says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutputCap {
    /// The most; none if the owner sets no maximum.
    pub(crate) most: Option<NonZeroU64>,
    /// Whether requests that ask for more, or set no maximum, get this one in place of a refusal.
    pub(crate) clamp: Option<bool>,
}

/// A maximum in effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputRule {
    /// The most output tokens of an answer.
    pub most: u64,
    /// Whether requests that ask for more, or set no maximum, get this one in place of a refusal.
    pub clamp: bool,
    /// Whether nothing is refused and nothing changed.
    pub dry_run: bool,
}

/// What becomes of a request under the maxima of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputVerdict {
    /// It asks for no more.
    AsAsked,
    /// It sets no maximum, and may use as many tokens as this.
    AtMost(u64),
    /// It gets this maximum.
    Clamped(u64),
    /// It asks for more than this.
    TooMuch(u64),
}

impl OutputCap {
    /// This maximum, overridden by `own`.
    pub(crate) fn overridden_by(self, own: Self) -> Self {
        Self { most: own.most.or(self.most), clamp: own.clamp.or(self.clamp) }
    }

    /// The maximum in effect, if there is one.
    pub(crate) fn rule(self, dry_run: bool) -> Option<OutputRule> {
        Some(OutputRule { most: self.most?.get(), clamp: self.clamp.unwrap_or_default(), dry_run })
    }
}

impl OutputVerdict {
    /// The verdict of `rules` on a request that asks for so many tokens for each answer. `may_be_more`: some reader
    /// finds no maximum in it.
    pub fn of(rules: &[OutputRule], asked: Option<u64>, may_be_more: bool) -> Self {
        let Some(strictest) = rules.iter().min_by_key(|rule| rule.most) else {
            return Self::AsAsked;
        };
        let most = strictest.most;
        let refuses = |asked| rules.iter().any(|rule| !rule.clamp && asked > rule.most);
        match asked {
            Some(asked) if refuses(asked) => Self::TooMuch(most),
            Some(asked) if asked > most => Self::Clamped(most),
            // Some servers take 0 for no maximum.
            Some(1..) if !may_be_more => Self::AsAsked,
            _ if rules.iter().any(|rule| rule.clamp) => Self::Clamped(most),
            _ => Self::AtMost(most),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn rule(most: u64, clamp: bool) -> OutputRule {
        OutputRule { most, clamp, dry_run: false }
    }

    #[test]
    fn the_smallest_maximum_decides() {
        use OutputVerdict::{AsAsked, AtMost, Clamped, TooMuch};
        for (rules, asked, may_be_more, verdict) in [
            (&[][..], Some(u64::MAX), true, AsAsked),
            (&[rule(10, false)], Some(10), false, AsAsked),
            (&[rule(10, false)], Some(11), false, TooMuch(10)),
            (&[rule(10, false)], None, false, AtMost(10)),
            (&[rule(10, false)], Some(3), true, AtMost(10)),
            (&[rule(10, true)], Some(10), false, AsAsked),
            (&[rule(10, true)], Some(11), false, Clamped(10)),
            (&[rule(10, true)], None, false, Clamped(10)),
            (&[rule(10, true)], Some(3), true, Clamped(10)),
            (&[rule(20, false), rule(10, true)], Some(15), false, Clamped(10)),
            (&[rule(20, false), rule(10, true)], Some(21), false, TooMuch(10)),
            (&[rule(20, true), rule(10, false)], Some(15), false, TooMuch(10)),
            (&[rule(20, true), rule(10, false)], None, false, Clamped(10)),
            (&[rule(10, true)], Some(0), false, Clamped(10)),
            (&[rule(10, false)], Some(0), false, AtMost(10)),
        ] {
            assert_eq!(OutputVerdict::of(rules, asked, may_be_more), verdict, "{rules:?} {asked:?}");
        }
    }

    #[test]
    fn a_key_overrides_its_plan() {
        let plan = OutputCap { most: NonZeroU64::new(100), clamp: Some(true) };
        let own = OutputCap { most: NonZeroU64::new(200), clamp: None };
        assert_eq!(plan.overridden_by(own), OutputCap { most: NonZeroU64::new(200), clamp: Some(true) });
        assert_eq!(plan.overridden_by(OutputCap::default()), plan);
        assert_eq!(OutputCap { most: None, clamp: Some(true) }.rule(false), None);
    }
}
