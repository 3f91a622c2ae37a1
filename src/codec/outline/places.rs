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
    /// What to do with the member at `path`, and whether it is kept even if the outline is large already. Every member
    /// of a document is looked up here, and most are at no place: their first bytes tell.
    pub(super) fn want(self, path: &str) -> (Want, bool) {
        let mut want = Want::Skip;
        for (places, are_vital) in [(self.vital, true), (self.others, false)] {
            for place in places.iter().filter(|place| place.as_bytes().first() == path.as_bytes().first()) {
                match place.strip_prefix(path) {
                    Some("") => return (Want::Keep, are_vital),
                    Some(rest) if rest.starts_with('.') => want = Want::Enter,
                    _ => {}
                }
            }
        }
        (want, false)
    }
}

/// What to do with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Skip,
    Enter,
    Keep,
}
