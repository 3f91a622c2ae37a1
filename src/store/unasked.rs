//! Requests that a filter has refused from memory, without asking its store: the next reservation under the same
//! counters brings their number, so that the sidecar's rankings have them.
//!
//! They come in a header of the call, which a sidecar that does not know it ignores. A number may be lost, with a call
//! that fails or a counter that nobody asks for again, and nothing but rankings rests on it.

use super::wire::Reserve;
use std::fmt::Write as _;

/// The header of calls: for each element with numbers, separated by semicolons, its place, `=`, and the number for each
/// of its charges, separated by dots.
pub const HEADER: &str = "x-llm-rate-limit-refused";

/// The longest value, in bytes: servers bound their headers. Elements that do not fit are left out.
const MAX_BYTES: usize = 4096;

/// The header's value for a batch; none if nothing was refused from memory.
pub fn write<'a>(batch: impl IntoIterator<Item = &'a Reserve>) -> Option<String> {
    let mut value = String::new();
    for (place, one) in batch.into_iter().enumerate() {
        if one.refused_unasked.iter().all(|count| *count == 0) {
            continue;
        }
        let before = value.len();
        let separator = if value.is_empty() { "" } else { ";" };
        let mut written = write!(value, "{separator}{place}");
        for (n, count) in one.refused_unasked.iter().enumerate() {
            written = written.and(write!(value, "{}{count}", if n == 0 { '=' } else { '.' }));
        }
        if written.is_err() || value.len() > MAX_BYTES {
            value.truncate(before);
        }
    }
    Some(value).filter(|value| !value.is_empty())
}

/// Enters the numbers of a header's `value` into the elements of its batch. What cannot be read says nothing.
pub fn read(value: &str, batch: &mut [Reserve]) {
    for part in value.split(';') {
        let Some((place, counts)) = part.split_once('=') else { continue };
        let element = place.parse().ok().and_then(|place: usize| batch.get_mut(place));
        let counts: Result<Vec<u32>, _> = counts.split('.').map(str::parse).collect();
        if let (Some(element), Ok(counts)) = (element, counts) {
            element.refused_unasked = counts;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(counts: &[&[u32]]) -> Vec<Reserve> {
        let of = |counts: &&[u32]| Reserve { refused_unasked: counts.to_vec(), ..Reserve::default() };
        counts.iter().map(of).collect()
    }

    #[test]
    fn numbers_arrive_with_their_elements() {
        let sent = batch(&[&[], &[3, 0, 7], &[0, 0], &[u32::MAX]]);
        let value = write(&sent).unwrap();
        assert_eq!(value, "1=3.0.7;3=4294967295");
        let mut arrived = batch(&[&[][..]; 4]);
        read(&value, &mut arrived);
        assert_eq!(arrived, batch(&[&[], &[3, 0, 7], &[], &[u32::MAX]]));
        assert_eq!(write(&batch(&[&[], &[0]])), None);
    }

    #[test]
    fn no_header_is_long_and_none_confuses() {
        let many = batch(&[&[u32::MAX; 30][..]; 200]);
        let value = write(&many).unwrap();
        assert!(value.len() <= MAX_BYTES);
        let mut arrived = batch(&[&[][..]; 200]);
        read(&value, &mut arrived);
        assert_eq!(arrived[5], many[5]);
        for nonsense in ["", ";", "=", "0=", "0=x", "0=1.", "9=1", "-1=1", "0=99999999999", "\u{fc}=1"] {
            let mut arrived = batch(&[&[]]);
            read(nonsense, &mut arrived);
            assert_eq!(arrived, batch(&[&[]]), "{nonsense:?}");
        }
    }
}
