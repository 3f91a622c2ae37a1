//! The headers of a request, read all at once: two headers alone cost more (docs/envoy.md#host-call-costs).

/// Headers in the order of their arrival, their names in lower case.
#[derive(Debug, Default)]
pub struct HeaderMap(Vec<(String, Vec<u8>)>);

impl HeaderMap {
    /// A map of these headers.
    pub const fn new(headers: Vec<(String, Vec<u8>)>) -> Self {
        Self(headers)
    }

    /// The value of the header `name`, which is in lower case: several values are joined by commas, and U+FFFD replaces
    /// what is not UTF-8.
    pub fn get(&self, name: &str) -> Option<String> {
        let mut values = self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value);
        let mut joined = String::from_utf8_lossy(values.next()?).into_owned();
        for value in values {
            joined.push(',');
            joined.push_str(&String::from_utf8_lossy(value));
        }
        Some(joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_one_name_are_joined() {
        let header = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
        let map = HeaderMap::new(vec![
            header("a", b"1"),
            header("b", b"\xFF"),
            header("a", b""),
            header("a", b"2"),
        ]);
        assert_eq!(map.get("a").as_deref(), Some("1,,2"));
        assert_eq!(map.get("b").as_deref(), Some("\u{FFFD}"));
        assert_eq!(map.get("c"), None);
    }
}
