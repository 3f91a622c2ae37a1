//! Gates: a request may ask that each piece of its answer wait until a test in the same process lets it through.
//!
//! A test that needs an answer to be unfinished while something else happens can wait for that event and then open the
//! gate, instead of guessing a delay that is long enough.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// All gates of a mock, by the names that requests give them.
#[derive(Debug, Default)]
pub struct Gates {
    by_name: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Gates {
    /// Lets this many more pieces through the gate `name`.
    pub fn open(&self, name: &str, pieces: usize) {
        self.gate(name).add_permits(pieces);
    }

    /// Waits until the gate `name` lets one piece through.
    pub(crate) async fn pass(&self, name: &str) {
        // A gate is never closed for good, so this does not fail.
        if let Ok(permit) = self.gate(name).acquire().await {
            permit.forget();
        }
    }

    fn gate(&self, name: &str) -> Arc<Semaphore> {
        // A panic under the lock leaves a valid map.
        let mut gates = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gates.entry(name.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(0))))
    }
}
