//! Goes through an indexed text as serde does, over long values in no time.

use super::escape::unescape;
use super::{Indexed, Long};
use crate::codec::lenient;
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// The name of serde_json's `RawValue` among types, and of the member that it reads its text from.
const RAW: &str = "$serde_json::private::RawValue";

/// A walk through a text.
#[derive(Debug)]
pub struct Walk<'de> {
    indexed: &'de Indexed,
    /// The place of the next byte.
    at: usize,
    /// The numbers of the next long string or white space, and of the next long array or object.
    next: (usize, usize),
    /// The bytes that were read one by one.
    read: usize,
    /// The most of them.
    most: usize,
}

/// There is more between the long values than the walk may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMuch;

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too much in one value")
    }
}

impl std::error::Error for TooMuch {}

impl Error for TooMuch {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl<'de> Walk<'de> {
    /// A walk from the byte `at` on, between two values, that reads `most` bytes between long values, and perhaps one
    /// value more.
    pub fn new(indexed: &'de Indexed, at: usize, most: usize) -> Self {
        let long = indexed.long.partition_point(|long| long.at.start < at);
        let container = indexed.containers.partition_point(|container| container.start < at);
        Self { indexed, at, next: (long, container), read: 0, most }
    }

    /// Lets the walk read `most` more bytes.
    pub const fn allow(&mut self, most: usize) {
        self.most = self.read.saturating_add(most);
    }

    /// The place of the next byte.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// The bytes that were read one by one.
    pub const fn read(&self) -> usize {
        self.read
    }

    /// The next byte that is neither white space, nor a comma, nor a colon; none at the end.
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = self.byte()?;
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => match self.long() {
                    Some(space) => self.at = space.at.end,
                    None => self.pass(1),
                },
                b',' | b':' => self.pass(1),
                _ => return Some(byte),
            }
        }
    }

    /// Passes the bracket that [`Walk::peek`] has returned.
    pub fn bracket(&mut self) {
        self.pass(1);
    }

    /// Whether the next value is a long array.
    pub fn is_long_array(&mut self) -> bool {
        self.peek() == Some(b'[') && self.container().is_some()
    }

    /// The name of the next member, which is not the end of the object.
    pub fn name(&mut self) -> Cow<'de, str> {
        self.peek();
        self.string()
    }

    /// Passes over the next value.
    pub fn skip(&mut self) {
        let mut open = 0_usize;
        while let Some(byte) = self.peek() {
            if let Some(end) = self.container() {
                self.at = end;
                if open == 0 {
                    return;
                }
                continue;
            }
            match byte {
                b'"' => drop(self.raw_string()),
                b'[' | b'{' => {
                    self.pass(1);
                    open = self.skip_short(open.saturating_add(1));
                }
                b']' | b'}' => {
                    open = open.saturating_sub(1);
                    self.pass(1);
                }
                _ => self.pass(self.word().len()),
            }
            if open == 0 {
                return;
            }
        }
    }

    /// Passes over what comes before the next long value, but no further than the end of the outermost of the `open`
    /// arrays and objects; returns how many of them are still open. Byte by byte, because most strings in what is
    /// skipped are names: reading each as a value took four times as many instructions, a tenth of those for a request
    /// of 200 tools.
    fn skip_short(&mut self, mut open: usize) -> usize {
        let (long, container) = (self.next_long(), self.next_container());
        let begins = [long.map(|long| long.at.start), container.map(|container| container.start)];
        let end = begins.into_iter().flatten().min().unwrap_or(usize::MAX).min(self.text().len());
        let short = self.text().as_bytes().get(self.at..end).unwrap_or_default();
        let (mut bytes, mut in_string) = (short.iter(), false);
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => in_string = !in_string,
                b'\\' => drop(bytes.next()),
                b'[' | b'{' if !in_string => open = open.saturating_add(1),
                b']' | b'}' if !in_string => {
                    open = open.saturating_sub(1);
                    if open == 0 {
                        break;
                    }
                }
                _ => {}
            }
        }
        self.pass(short.len().saturating_sub(bytes.len()));
        open
    }

    fn text(&self) -> &'de str {
        self.indexed.text.as_str()
    }

    fn byte(&self) -> Option<u8> {
        self.text().as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'de str {
        self.text().get(self.at..).unwrap_or_default()
    }

    fn pass(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
        self.read = self.read.saturating_add(bytes);
    }

    /// A number or a literal.
    fn word(&self) -> &'de str {
        let ends = |c: char| matches!(c, ',' | ']' | '}' | ' ' | '\n' | '\r' | '\t');
        let rest = self.rest();
        rest.get(..rest.find(ends).unwrap_or(rest.len())).unwrap_or_default()
    }

    /// The long string or white space that begins here or comes next.
    fn next_long(&mut self) -> Option<&'de Long> {
        let (indexed, next) = (self.indexed, &mut self.next.0);
        while indexed.long.get(*next).is_some_and(|long| long.at.start < self.at) {
            *next = next.saturating_add(1);
        }
        indexed.long.get(*next)
    }

    /// The long array or object that begins here or comes next.
    fn next_container(&mut self) -> Option<&'de Range<usize>> {
        let (indexed, next) = (self.indexed, &mut self.next.1);
        while indexed.containers.get(*next).is_some_and(|container| container.start < self.at) {
            *next = next.saturating_add(1);
        }
        indexed.containers.get(*next)
    }

    /// The long string or white space that begins here, if one does.
    fn long(&mut self) -> Option<&'de Long> {
        let at = self.at;
        self.next_long().filter(|long| long.at.start == at)
    }

    /// The end of the long array or object that begins here, if one does.
    fn container(&mut self) -> Option<usize> {
        let at = self.at;
        self.next_container().filter(|container| container.start == at).map(|container| container.end)
    }

    /// The inside of the string that begins here, as it is written, and the long value that it is.
    fn raw_string(&mut self) -> (&'de str, Option<&'de Long>) {
        if let Some(long) = self.long() {
            self.at = long.at.end;
            let inside = long.at.start.saturating_add(1)..long.at.end.saturating_sub(1);
            return (self.text().get(inside).unwrap_or_default(), Some(long));
        }
        self.pass(1);
        let rest = self.rest();
        let mut end = 0_usize;
        while let Some(found) = rest.as_bytes().get(end..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
        {
            end = end.saturating_add(found);
            if rest.as_bytes().get(end) == Some(&b'"') {
                break;
            }
            end = end.saturating_add(2);
        }
        self.pass(end.saturating_add(1));
        (rest.get(..end).unwrap_or_default(), None)
    }

    /// The string that begins here.
    fn string(&mut self) -> Cow<'de, str> {
        let (raw, long) = self.raw_string();
        if let Some(text) = long.and_then(|long| self.indexed.unescaped.get(long.unescaped.clone()?)) {
            return Cow::Borrowed(text);
        }
        if long.is_some() || !raw.contains('\\') {
            return Cow::Borrowed(raw);
        }
        let mut text = String::with_capacity(raw.len());
        unescape(raw, &mut text);
        Cow::Owned(text)
    }
}

impl<'de> Deserializer<'de> for &mut Walk<'de> {
    type Error = TooMuch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TooMuch> {
        if self.read > self.most {
            return Err(TooMuch);
        }
        match self.peek() {
            Some(b'"') => match self.string() {
                Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
                Cow::Owned(text) => visitor.visit_string(text),
            },
            Some(b'{') => {
                self.pass(1);
                visitor.visit_map(Members(self))
            }
            Some(b'[') => {
                self.pass(1);
                let mut elements = Elements::new(self, usize::MAX);
                visitor.visit_seq(&mut elements)
            }
            Some(byte) => {
                self.pass(self.word().len());
                match byte {
                    b't' | b'f' => visitor.visit_bool(byte == b't'),
                    b'n' => visitor.visit_unit(),
                    // Whoever wants the number itself reads it as it is written.
                    _ => visitor.visit_u64(0),
                }
            }
            None => visitor.visit_unit(),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TooMuch> {
        if self.read > self.most {
            return Err(TooMuch);
        }
        self.peek();
        self.skip();
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, TooMuch> {
        if self.read > self.most {
            return Err(TooMuch);
        }
        let first = self.peek();
        match (name, first) {
            (RAW | lenient::JSON, _) | (lenient::TEXT, Some(b'[' | b'{')) => {}
            (lenient::TEXT, Some(b'"')) => return self.deserialize_any(visitor),
            (lenient::TEXT, _) => return self.deserialize_ignored_any(visitor),
            _ => return self.deserialize_any(visitor),
        }
        let begin = self.at;
        self.skip();
        let raw = self.text().get(begin..self.at).unwrap_or_default();
        visitor.visit_map(Raw(Some(raw)))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq
        tuple tuple_struct map struct enum identifier
    }
}

/// The members of the object that has begun.
struct Members<'w, 'de>(&'w mut Walk<'de>);

impl<'de> MapAccess<'de> for Members<'_, 'de> {
    type Error = TooMuch;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, TooMuch> {
        if let None | Some(b'}') = self.0.peek() {
            self.0.pass(1);
            return Ok(None);
        }
        seed.deserialize(&mut *self.0).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, TooMuch> {
        seed.deserialize(&mut *self.0)
    }
}

/// The elements of an array that has begun: those that come next, if it is long.
#[derive(Debug)]
pub struct Elements<'w, 'de> {
    walk: &'w mut Walk<'de>,
    /// No more elements are read once so many bytes have been.
    enough: usize,
    has_ended: bool,
}

impl<'w, 'de> Elements<'w, 'de> {
    /// The elements that come next, at least one, until the walk has read `enough` bytes.
    pub const fn new(walk: &'w mut Walk<'de>, enough: usize) -> Self {
        Self { walk, enough, has_ended: false }
    }

    /// Whether the array has ended.
    pub const fn has_ended(&self) -> bool {
        self.has_ended
    }
}

impl<'de> SeqAccess<'de> for &mut Elements<'_, 'de> {
    type Error = TooMuch;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, TooMuch> {
        if self.has_ended {
            return Ok(None);
        }
        if let None | Some(b']') = self.walk.peek() {
            self.walk.pass(1);
            self.has_ended = true;
            return Ok(None);
        }
        if self.walk.read >= self.enough {
            return Ok(None);
        }
        seed.deserialize(&mut *self.walk).map(Some)
    }
}

/// Gives the elements as the value of a member.
impl<'de> MapAccess<'de> for &mut Elements<'_, 'de> {
    type Error = TooMuch;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, _seed: K) -> Result<Option<K::Value>, TooMuch> {
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, TooMuch> {
        seed.deserialize(Array(self))
    }
}

struct Array<'e, 'w, 'de>(&'e mut Elements<'w, 'de>);

impl<'de> Deserializer<'de> for Array<'_, '_, 'de> {
    type Error = TooMuch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TooMuch> {
        visitor.visit_seq(self.0)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq
        newtype_struct tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// Gives the value that comes next, the value of a member of which the name has been read.
#[derive(Debug)]
pub struct One<'w, 'de>(pub &'w mut Walk<'de>);

impl<'de> MapAccess<'de> for One<'_, 'de> {
    type Error = TooMuch;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, _seed: K) -> Result<Option<K::Value>, TooMuch> {
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, TooMuch> {
        seed.deserialize(&mut *self.0)
    }
}

/// A value as it is written, in the form in which serde_json's `RawValue` reads it, and [`lenient::json`].
struct Raw<'de>(Option<&'de str>);

impl<'de> MapAccess<'de> for Raw<'de> {
    type Error = TooMuch;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, TooMuch> {
        if self.0.is_none() {
            return Ok(None);
        }
        seed.deserialize(BorrowedStrDeserializer::new(RAW)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, TooMuch> {
        seed.deserialize(BorrowedStrDeserializer::new(self.0.take().unwrap_or_default()))
    }
}
