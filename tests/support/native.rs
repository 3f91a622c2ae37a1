//! What Envoy gives a worker, for one that runs in the test's own process: shared data, and headers.

use llm_rate_limit::identity::RequestView;
use llm_rate_limit::session::ResponseView;
use llm_rate_limit::store::local::SharedData;
use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroU32;

/// Envoy's shared data.
#[derive(Debug, Default)]
pub struct Shared(RefCell<HashMap<String, (Vec<u8>, u32)>>);

impl SharedData for &Shared {
    fn get(&self, key: &str) -> Option<(Vec<u8>, NonZeroU32)> {
        let (value, version) = self.0.borrow().get(key)?.clone();
        Some((value, NonZeroU32::new(version)?))
    }

    fn replace(&self, key: &str, value: &[u8], version: NonZeroU32) -> bool {
        let mut map = self.0.borrow_mut();
        let Some(entry) = map.get_mut(key).filter(|entry| entry.1 == version.get()) else { return false };
        *entry = (value.to_vec(), version.get() + 1);
        true
    }

    fn create(&self, key: &str, value: &[u8]) {
        self.0.borrow_mut().insert(key.to_owned(), (value.to_vec(), 1));
    }
}

/// The headers of a request or response.
#[derive(Debug)]
pub struct Headers(pub Vec<(&'static str, String)>);

impl<const N: usize> From<[(&'static str, &str); N]> for Headers {
    fn from(headers: [(&'static str, &str); N]) -> Self {
        Self(headers.map(|(name, value)| (name, value.to_owned())).into())
    }
}

impl Headers {
    fn value(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }
}

impl RequestView for Headers {
    fn header(&self, name: &str) -> Option<String> {
        self.value(name)
    }

    fn property(&self, _: &[&str]) -> Option<Vec<u8>> {
        None
    }
}

impl ResponseView for Headers {
    fn header(&self, name: &str) -> Option<String> {
        self.value(name)
    }

    fn property(&self, _: &[&str]) -> Option<Vec<u8>> {
        None
    }
}
