//! The body of a call: a JSON array with a bounded number of elements.

use super::refusal::Refusal;
use llm_rate_limit::store::wire::MAX_ELEMENTS;
use serde::de::{DeserializeOwned, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;

/// The first elements of an array, and how many there are.
struct Batch<T> {
    elements: Vec<T>,
    len: usize,
}

/// Reads a batch. It keeps no more elements than a call may have, whatever the body.
///
/// # Errors
/// The body is not an array of such elements, or has too many.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<Vec<T>, Refusal> {
    let batch: Batch<T> =
        serde_json::from_slice(body).map_err(|why| Refusal::Malformed(mistake::<T>(body, why)))?;
    if batch.len > MAX_ELEMENTS { Err(Refusal::TooMany(batch.len)) } else { Ok(batch.elements) }
}

/// Reads a body that is one object.
///
/// # Errors
/// The body is no such object; the text names the place.
pub fn one<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let mut json = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut json)
        .map_err(|why| Refusal::Malformed(format!("{}: {}", why.path(), why.inner())))
}

/// What `why` is about, with its place in `body`. To know the place takes longer than to read the body, so only a body
/// with a mistake is read for it.
fn mistake<T: DeserializeOwned>(body: &[u8], why: serde_json::Error) -> String {
    let mut json = serde_json::Deserializer::from_slice(body);
    match serde_path_to_error::deserialize::<_, Batch<T>>(&mut json) {
        Ok(_) => why.to_string(),
        Err(why) => format!("{}: {}", why.path(), why.inner()),
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Batch<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Elements(PhantomData))
    }
}

struct Elements<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
    type Value = Batch<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut batch = Batch { elements: Vec::new(), len: 0 };
        while batch.len < MAX_ELEMENTS {
            let Some(element) = seq.next_element()? else { return Ok(batch) };
            batch.elements.push(element);
            batch.len += 1;
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            batch.len += 1;
        }
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(len: usize) -> Result<usize, Refusal> {
        let body = serde_json::to_vec(&vec![7; len]).unwrap();
        read::<u8>(&body).map(|numbers| numbers.len())
    }

    #[test]
    fn a_call_has_a_maximum_of_elements() {
        assert_eq!(numbers(0), Ok(0));
        assert_eq!(numbers(MAX_ELEMENTS), Ok(MAX_ELEMENTS));
        assert_eq!(numbers(MAX_ELEMENTS + 1), Err(Refusal::TooMany(MAX_ELEMENTS + 1)));
        assert_eq!(numbers(40_000), Err(Refusal::TooMany(40_000)));
        let mut body = serde_json::to_vec(&vec![7; 40_000]).unwrap();
        body.push(b']');
        assert!(matches!(read::<u8>(&body), Err(Refusal::Malformed(_))));
    }
}
