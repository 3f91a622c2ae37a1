//! Reads JSON that is meant for another reader: takes every value that it understands, and skips the rest.
//!
//! The filter does not validate the bodies that pass it. A member of the wrong type must not lose the count of all
//! others, a member that occurs twice or in another case must not hide anything, and nothing is copied without need. So
//! each value is offered to an [`Accept`], which takes the forms that it knows. serde_json skips all other values
//! without recursion, however deep they are, and limits the values that an `Accept` enters to 128 levels.
//!
//! What is read here is JSON. [`loose_json`](crate::codec::loose_json) makes JSON of what only some readers take for
//! it.

mod compact;
mod mend;
mod name;
mod number;
mod text;

pub use compact::{Compacting, compact};
pub use mend::mend;
pub use name::folded;
pub(super) use text::{JSON, TEXT};
pub use text::{json, text};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// A place that takes JSON values. Each method takes one form of value; by default it skips the value.
///
/// A place may be offered several values, if a member occurs twice. The upstream may read either, so counts add up.
pub trait Accept<'de>: Sized {
    /// Takes a string.
    fn string(&mut self, _text: Cow<'de, str>) {}

    /// Takes a number, without its value.
    fn number(&mut self) {}

    /// Takes a null.
    fn null(&mut self) {}

    /// Takes the next element of an array, if there is one.
    ///
    /// # Errors
    /// The array is not JSON from here on.
    fn element<A: SeqAccess<'de>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        array.next_element::<IgnoredAny>().map(|element| element.map(drop))
    }

    /// Takes a member of an object, by its name as it is written. By default, [`Accept::member`] takes it by its
    /// [`folded`] name: some readers ignore case, and whatever any of them may read counts.
    ///
    /// # Errors
    /// The value is not JSON.
    fn member_as_written<A: MapAccess<'de>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        self.member(&folded(name), object)
    }

    /// Takes a member of an object, by its name in lower case. `object` is before the member's value, which must be
    /// read or [`skip`]ped.
    ///
    /// # Errors
    /// The value is not JSON.
    fn member<A: MapAccess<'de>>(&mut self, _name: &str, object: &mut A) -> Result<(), A::Error> {
        skip(object)
    }

    /// An object has ended.
    fn end(&mut self) {}
}

/// Skips the next value of `object`.
///
/// # Errors
/// The value is not JSON.
pub fn skip<'de, A: MapAccess<'de>>(object: &mut A) -> Result<(), A::Error> {
    object.next_value::<IgnoredAny>().map(drop)
}

/// Offers the next value of `object` to `place`.
///
/// # Errors
/// The value is not JSON.
pub fn offer<'de, A: MapAccess<'de>>(object: &mut A, place: &mut impl Accept<'de>) -> Result<(), A::Error> {
    object.next_value_seed(Offer(place))
}

/// Offers the next element of `array` to `place`, if there is one.
///
/// # Errors
/// The element is not JSON.
pub fn offer_element<'de, A: SeqAccess<'de>>(
    array: &mut A,
    place: &mut impl Accept<'de>,
) -> Result<Option<()>, A::Error> {
    array.next_element_seed(Offer(place))
}

/// Offers the JSON in `text` to `place`.
///
/// # Errors
/// `text` is not JSON. All values before the fault have been taken.
pub fn read<'de>(text: &'de str, place: &mut impl Accept<'de>) -> Result<(), serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    Offer(place).deserialize(&mut json)?;
    json.end()
}

/// A string, if the value is one; the last, if there are several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text<'de>(pub Option<Cow<'de, str>>);

impl<'de> Accept<'de> for Text<'de> {
    fn string(&mut self, text: Cow<'de, str>) {
        self.0 = Some(text);
    }
}

/// A string, if the value is one; all of them, each on a line of its own, if there are several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined<'de>(pub Option<Cow<'de, str>>);

impl<'de> Accept<'de> for Joined<'de> {
    fn string(&mut self, text: Cow<'de, str>) {
        match &mut self.0 {
            Some(joined) => {
                let joined = joined.to_mut();
                joined.push('\n');
                joined.push_str(&text);
            }
            first => *first = Some(text),
        }
    }
}

/// The next value of `object` as it is written: a number must not become a float that may overflow.
///
/// # Errors
/// The value is not JSON.
pub fn raw<'de, A: MapAccess<'de>>(object: &mut A) -> Result<&'de str, A::Error> {
    object.next_value::<&RawValue>().map(RawValue::get)
}

/// The number that is the next value of `object`: not negative, rounded up, at most
/// [`MAX_EXACT`](crate::quantity::MAX_EXACT). A string of digits is a number too, as it is for servers that coerce
/// types. None for any other value.
///
/// # Errors
/// The value is not JSON.
pub fn number<'de, A: MapAccess<'de>>(object: &mut A) -> Result<Option<u64>, A::Error> {
    raw(object).map(number::amount)
}

/// The same, but none for zero and for numbers that are not whole.
///
/// # Errors
/// The value is not JSON.
pub fn whole_number<'de, A: MapAccess<'de>>(object: &mut A) -> Result<Option<u64>, A::Error> {
    raw(object).map(number::whole)
}

/// Whether the next value of `object` is true, or a value that servers that coerce types read as true.
///
/// # Errors
/// The value is not JSON.
pub fn flag<'de, A: MapAccess<'de>>(object: &mut A) -> Result<bool, A::Error> {
    raw(object).map(number::flag)
}

/// The same; none for null.
///
/// # Errors
/// The value is not JSON.
pub fn given_flag<'de, A: MapAccess<'de>>(object: &mut A) -> Result<Option<bool>, A::Error> {
    raw(object).map(|value| (value != "null").then(|| number::flag(value)))
}

struct Offer<'p, P>(&'p mut P);

impl<'de, P: Accept<'de>> DeserializeSeed<'de> for Offer<'_, P> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, P: Accept<'de>> Visitor<'de> for Offer<'_, P> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.null();
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.0.number();
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.0.number();
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.0.number();
        Ok(())
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<(), E> {
        self.0.string(Cow::Borrowed(text));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.string(Cow::Owned(text.to_owned()));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while self.0.element(&mut array)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let mut name = Text::default();
        while object.next_key_seed(Offer(&mut name))?.is_some() {
            self.0.member_as_written(name.0.as_deref().unwrap_or_default(), &mut object)?;
        }
        self.0.end();
        Ok(())
    }
}
