//! The headers of a message, read all at once: two headers alone cost more (docs/envoy.md#host-call-costs).
//!
//! They stay as Envoy writes them, since nobody needs more than a few of them: the number of headers, the sizes of each
//! name and value, and then each name and value with a zero behind it. Numbers have four bytes, the lowest first.

/// Headers in the order of their arrival, their names in lower case.
#[derive(Debug, Default)]
pub struct HeaderMap(Vec<u8>);

impl HeaderMap {
    /// The headers that `bytes` hold. Those that break off are left out.
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The value of the header `name`, which is in lower case: several values are joined by commas, and U+FFFD replaces
    /// what is not UTF-8.
    pub fn get(&self, name: &str) -> Option<String> {
        let mut values = self.values(name.as_bytes());
        let mut joined = String::from_utf8_lossy(values.next()?).into_owned();
        for value in values {
            joined.push(',');
            joined.push_str(&String::from_utf8_lossy(value));
        }
        Some(joined)
    }

    /// The names of all headers, in their order.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.all().map(|(name, _)| name)
    }

    /// The values of the headers `name`.
    fn values<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.all().filter(move |(known, _)| *known == name).map(|(_, value)| value)
    }

    /// All names and values.
    fn all(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (count, rest) = number(&self.0).unwrap_or_default();
        let (sizes, texts) = rest.split_at_checked(count.saturating_mul(8)).unwrap_or_default();
        let mut texts = texts;
        sizes.chunks_exact(8).map_while(move |sizes| {
            let (name_size, rest) = number(sizes)?;
            let (value_size, _) = number(rest)?;
            let (name, rest) = texts.split_at_checked(name_size)?;
            let (value, rest) = rest.get(1..)?.split_at_checked(value_size)?;
            // The last zero may be missing.
            texts = rest.get(1..).unwrap_or_default();
            Some((name, value))
        })
    }
}

/// The number that `bytes` begin with, and the bytes after it.
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((usize::try_from(u32::from_le_bytes(*number)).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The headers as Envoy writes them.
    fn written(headers: &[(String, Vec<u8>)]) -> Vec<u8> {
        let size = |size: usize| u32::try_from(size).unwrap().to_le_bytes();
        let mut bytes = size(headers.len()).to_vec();
        for (name, value) in headers {
            bytes.extend([size(name.len()), size(value.len())].concat());
        }
        for (name, value) in headers {
            bytes.extend([name.as_bytes(), &[0], value, &[0]].concat());
        }
        bytes
    }

    #[test]
    fn values_of_one_name_are_joined() {
        let header = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
        let headers = [header("a", b"1"), header("b", b"\xFF"), header("a", b""), header("a", b"2")];
        let map = HeaderMap::new(written(&headers));
        assert_eq!(map.get("a").as_deref(), Some("1,,2"));
        assert_eq!(map.get("b").as_deref(), Some("\u{FFFD}"));
        assert_eq!(map.get("c"), None);
        assert_eq!(map.names().collect::<Vec<_>>(), [b"a", b"b", b"a", b"a"]);
    }

    #[test]
    fn what_breaks_off_is_left_out() {
        let whole = written(&[("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"22".to_vec())]);
        for length in 0..whole.len() {
            let map = HeaderMap::new(whole[..length].to_vec());
            assert!(map.get("a").is_none_or(|value| value == "1") && map.get("c").is_none());
            assert_eq!(map.get("b").is_some(), length == whole.len() - 1);
        }
        assert_eq!(HeaderMap::default().get("a"), None);
        assert_eq!(HeaderMap::new(vec![0xFF; 64]).get("a"), None);
    }

    proptest! {
        #[test]
        fn every_header_is_found(headers in prop::collection::vec(("[a-c]{0,2}", any::<Vec<u8>>()), 0..8)) {
            let map = HeaderMap::new(written(&headers));
            for name in ["", "a", "b", "ab", "cc"] {
                let values = headers.iter().filter(|(known, _)| known == name);
                let values: Vec<_> = values.map(|(_, value)| String::from_utf8_lossy(value)).collect();
                prop_assert_eq!(map.get(name), (!values.is_empty()).then(|| values.join(",")));
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = HeaderMap::new(bytes).get("a");
        }
    }
}
