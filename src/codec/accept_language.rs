//! Chooses a language by `accept-language`.
//!
//! Preferences are tried in the order of their weights, each first whole, and then with its last subtags cut off one by
//! one (RFC 4647, section 3.4). Beyond the RFC, `zh` also matches `zh-CN`.

use crate::sort;
use std::cmp::Reverse;

/// The language in `available` that a client with the header `accepted` prefers; none if the header names none of them.
/// `available` is in lower case.
pub fn choose<'a>(accepted: &str, available: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let mut ranges: Vec<_> = accepted.split(',').filter_map(range).collect();
    // The sort is stable: ranges with the same weight keep their order.
    sort::by_key(&mut ranges, |(_, thousandths)| Reverse(*thousandths));
    ranges.into_iter().find_map(|(range, _)| best(&range, available.clone()))
}

/// The language range in `text` and its weight in thousandths. None if the weight is zero, or if `text` is no range.
fn range(text: &str) -> Option<(String, u16)> {
    let (tag, parameters) = text.split_once(';').unwrap_or((text, ""));
    let tag = tag.trim().to_ascii_lowercase();
    let quality = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    let thousandths = quality.map_or(Some(1_000), thousandths)?;
    (thousandths > 0 && !tag.is_empty() && tag != "*").then_some((tag, thousandths))
}

/// A weight, from `0` to `1` with at most three decimals (RFC 9110, section 12.4.2), in thousandths.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 {
        return None;
    }
    let decimals: u16 = format!("{decimals:0<3}").parse().ok()?;
    Some(whole.parse::<u16>().ok()?.checked_mul(1_000)?.checked_add(decimals)?)
        .filter(|value| *value <= 1_000)
}

/// The language of `available` that matches `range` best.
fn best<'a>(range: &str, available: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let mut cut = Some(range);
    while let Some(tag) = cut {
        if let Some(found) = available.clone().find(|found| *found == tag) {
            return Some(found);
        }
        cut = tag.rsplit_once('-').map(|(shorter, _)| shorter);
    }
    let mut available = available;
    available.find(|found| found.strip_prefix(range).is_some_and(|rest| rest.starts_with('-')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chosen(accepted: &str) -> Option<&'static str> {
        choose(accepted, ["de", "en", "zh-cn", "zh-tw"].into_iter())
    }

    #[test]
    fn the_preferred_language_is_chosen() {
        for (accepted, expected) in [
            ("de", Some("de")),
            ("fr, en;q=0.5, de;q=0.8", Some("de")),
            ("en;q=0.8,de;q=0.8", Some("en")),
            ("DE-at", Some("de")),
            ("zh-TW-x-y", Some("zh-tw")),
            ("zh", Some("zh-cn")),
            ("zh-hk", None),
            ("de;q=0, en;q=0.001", Some("en")),
            ("de; Q = 0.1 , en;level=1;q=0.2", Some("en")),
            ("de;q=1.5, en;q=nonsense", None),
            ("*", None),
            ("", None),
        ] {
            assert_eq!(chosen(accepted), expected, "{accepted}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(accepted in "\\PC*") {
            let _ = chosen(&accepted);
        }

        #[test]
        fn the_only_available_language_is_chosen(at in 0..4_usize, other in "[a-c]{2}") {
            let wanted = ["de", "en", "zh-cn", "zh-tw"][at];
            prop_assert_eq!(chosen(&format!("{other};q=0.9, {wanted};q=0.1")), Some(wanted));
        }
    }
}
