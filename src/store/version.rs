//! The version of the wire: the filter and the sidecar each say in a header what they speak, so that neither takes the
//! other's numbers for what they are not.
//!
//! The filter speaks one version. The sidecar speaks several, answers in the caller's, and says so; it answers a call
//! in another with 501. Whichever notices, the filter has no answer then, and `on_error` decides. A side that says
//! nothing is older than this header, and speaks the first version.

use super::Failure;
use crate::quantity::Millis;

/// The header of calls and of answers.
pub const HEADER: &str = "x-llm-rate-limit-wire";

/// The version that this filter speaks, and the newest that this sidecar does. Raise it whenever a call or an answer
/// means something else than before, or has a field that the other side must not ignore.
pub const NEWEST: u32 = 1;

/// The oldest version that this sidecar speaks. Filters of this version may still be running while it is deployed.
pub const OLDEST: u32 = 1;

/// The version of a side that says nothing.
const FIRST: u32 = 1;

/// The log is silent about another version that it has reported already, until calls have met no other version for so
/// long.
const FORGOTTEN_AFTER: Millis = Millis::MINUTE;

/// The version that a header names. `None` if it names none.
pub fn spoken(header: Option<&str>) -> Option<u32> {
    header.map_or(Some(FIRST), |text| text.parse().ok())
}

/// The sidecar's version, as its answers say.
#[derive(Debug, Default)]
pub struct SidecarVersion {
    /// The other version that the log has reported, and when an answer last came in it.
    other: Option<(String, Millis)>,
}

impl SidecarVersion {
    /// Checks the header of an answer.
    ///
    /// # Errors
    /// The sidecar speaks another version: its answer must not be read. The log reports that once.
    pub fn check(&mut self, header: Option<&str>, now: Millis) -> Result<(), Failure> {
        let is_known = |seen: Millis| now < seen + FORGOTTEN_AFTER;
        if spoken(header) == Some(NEWEST) {
            self.other = self.other.take().filter(|(_, seen)| is_known(*seen));
            return Ok(());
        }
        let other =
            header.unwrap_or_default().chars().take(20).collect::<String>().escape_debug().to_string();
        let why = format!(
            "the sidecar speaks version {other} of the wire, and this filter speaks version {NEWEST}"
        );
        if self.other.as_ref().is_none_or(|(last, seen)| *last != other || !is_known(*seen)) {
            log::error!("{why}: run the same release of both; until then, on_error decides");
        }
        self.other = Some((other, now));
        Err(why.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_that_says_nothing_speaks_the_first_version() {
        assert_eq!(spoken(None), Some(1));
        assert_eq!(spoken(Some("7")), Some(7));
        for text in ["", "one", "1.0", "-1", "4294967296"] {
            assert_eq!(spoken(Some(text)), None, "{text}");
        }
    }

    #[test]
    fn an_answer_in_another_version_is_no_answer() {
        let mut version = SidecarVersion::default();
        let newest = NEWEST.to_string();
        assert_eq!(version.check(Some(&newest), Millis::ZERO), Ok(()));
        for text in [(NEWEST + 1).to_string(), "0".into(), "x\n".into(), String::new()] {
            let failure = version.check(Some(&text), Millis::ZERO).unwrap_err();
            assert!(!failure.is_refusal, "on_error decides");
            assert!(failure.why.starts_with("the sidecar speaks version "), "{}", failure.why);
            assert!(!failure.why.contains('\n'));
        }
    }

    #[test]
    fn another_version_is_news_once_and_again_after_a_while() {
        let mut version = SidecarVersion::default();
        let newest = NEWEST.to_string();
        assert!(version.check(Some("9"), Millis::ZERO).is_err());
        assert!(version.check(Some(&newest), Millis::new(1)).is_ok());
        assert!(version.other.is_some(), "two sidecars behind one address take turns");
        assert!(version.check(Some(&newest), Millis::MINUTE).is_ok());
        assert_eq!(version.other, None);
    }
}
