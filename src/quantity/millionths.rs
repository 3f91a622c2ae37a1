//! Millionths of a factor or of a dollar, and their form as text.

/// One, in millionths.
pub const MILLION: u64 = 1_000_000;

/// `millionths` as a decimal number without trailing zeros: `0.075`, `3`.
pub fn millionths_label(millionths: u64) -> String {
    let (whole, decimals) = (millionths / MILLION, millionths % MILLION);
    format!("{whole}.{decimals:06}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The most decimals that a number of millionths has.
pub const DECIMALS: usize = 6;

/// The millionths of a decimal number such as `2.50`. None for other texts, more decimals, or more than fits.
pub fn parse_millionths(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if decimals.len() > DECIMALS || !is_number(whole) || !is_number(decimals) {
        return None;
    }
    let decimals: u64 = format!("{decimals:0<DECIMALS$}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(MILLION)?.checked_add(decimals)
}
