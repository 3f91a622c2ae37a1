//! Calendars in time zones: when the days, weeks, months and years of a limit begin.
//!
//! Only this room knows zones. A counter needs no more than the edges of the periods around now, which [`Calendars`]
//! adds to charges on their way to a store (see [`crate::window::calendar`]). To work them out takes thousands of
//! instructions, so each worker keeps those of a calendar until the period ends.
//!
//! **A period begins with its first instant.** Where a clock change skips midnight, that is when the clock has been set
//! forward; where midnight comes twice, it is the first of the two. So days of 23 and 25 hours are what they are, and a
//! day that a zone has skipped has no period.

mod rule;
mod zone;

#[cfg(test)]
mod tests;

pub use rule::{Rule, Start};
pub use zone::Zone;

use crate::quantity::Millis;
use crate::store::wire::ScopeCharges;
use crate::window::Algorithm;
use crate::window::calendar::{CalendarName, Edges};
use std::collections::BTreeMap;

/// The calendars that have been met, and the edges around the last time.
#[derive(Clone, Debug, Default)]
pub struct Calendars(BTreeMap<CalendarName, Known>);

#[derive(Clone, Debug)]
struct Known {
    /// None for the name of another version, whose edges stay as they came.
    rule: Option<Rule>,
    edges: Edges,
}

impl Calendars {
    /// Gives every charge to a window of the calendar the edges around `now`.
    pub fn keep_up(&mut self, scopes: &mut [ScopeCharges], now: Millis) {
        for charge in scopes.iter_mut().flat_map(|scope| &mut scope.charges) {
            if let Algorithm::CalendarWindow(calendar) = &mut charge.window.algorithm
                && let Some(edges) = self.edges(calendar.name, now)
            {
                calendar.edges = edges;
            }
        }
    }

    /// Whether any charge lacks the edges around `now`.
    pub fn have_passed(scopes: &[ScopeCharges], now: Millis) -> bool {
        ScopeCharges::flat(scopes).any(|charge| match charge.window.algorithm {
            Algorithm::CalendarWindow(calendar) => !calendar.edges.are_around(now),
            _ => false,
        })
    }

    fn edges(&mut self, name: CalendarName, now: Millis) -> Option<Edges> {
        let known = || Known { rule: Rule::of(name), edges: Edges::UNKNOWN };
        let Known { rule, edges } = self.0.entry(name).or_insert_with(known);
        if !edges.are_around(now) {
            *edges = rule.as_ref()?.edges(now);
        }
        Some(*edges)
    }
}
