//! What a counter reports of a window: how much is used, when it is empty again, and whether a cost fits.

use crate::quantity::{Millis, NonZeroMillis, Units};

/// Whether a cost fits into a window now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It fits.
    Now,
    /// It fits after this duration if nobody else spends.
    After(NonZeroMillis),
    /// It is larger than the limit and never fits.
    Never,
}

/// A counter after a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowState {
    /// Units charged to the window, those of this request included if it was admitted.
    pub used: Units,
    /// The duration until the window is empty if nobody spends.
    pub reset: Millis,
    /// Whether the cost fits. That of an admitted request did.
    pub fit: Fit,
}
