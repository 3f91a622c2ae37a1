//! Whole responses, in whole and in every split.
