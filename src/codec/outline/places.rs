//! Which members an outline keeps.

/// The members that an outline keeps, as dotted paths: `response.usage`. Arrays do not show in a path: `choices.usage`
/// is a member of each element of `choices`. An array in an array is not entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The members without which the outline is worth little.
    pub vital: &'static [&'static str],
    /// The other members.
    pub others: &'static [&'static str],
}

impl Places {
    pub(super) fn want(self, path: &str) -> Want {
        let mut want = Want::Skip;
        for rest in self.vital.iter().chain(self.others).filter_map(|place| place.strip_prefix(path)) {
            if rest.is_empty() {
                return Want::Keep;
            }
            if rest.starts_with('.') {
                want = Want::Enter;
            }
        }
        want
    }

    /// Whether the member at `path` is kept even if the outline is large already.
    pub(super) fn is_vital(self, path: &str) -> bool {
        self.vital.contains(&path)
    }
}

/// What to do with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Skip,
    Enter,
    Keep,
}
