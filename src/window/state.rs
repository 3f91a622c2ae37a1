//! The state of a counter: the units used, the time until it is empty, and whether a cost fits.

use crate::quantity::{Millis, NonZeroMillis, Units};

/// Whether a cost fits into a window now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It fits.
    Now,
    /// It fits after this duration if nothing more is charged.
    After(NonZeroMillis),
    /// It is larger than the window's capacity and never fits.
    Never,
}

/// The state of a counter after a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowState {
    /// The units in the window, including those of this request if it was admitted.
    pub used: Units,
    /// The duration until the window is empty if nothing more is charged.
    pub reset: Millis,
    /// Whether the cost fitted before the decision.
    pub fit: Fit,
    /// The units that fit beyond the limit for a while, because an operator has granted them.
    pub granted: Units,
}
