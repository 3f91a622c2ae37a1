//! Millionths of a factor or of a dollar, and their form as text.

/// One, in millionths.
pub const MILLION: u64 = 1_000_000;

/// `millionths` as a decimal number without trailing zeros: `0.075`, `3`.
pub fn millionths_label(millionths: u64) -> String {
    let (whole, decimals) = (millionths / MILLION, millionths % MILLION);
    format!("{whole}.{decimals:06}").trim_end_matches('0').trim_end_matches('.').to_owned()
}
