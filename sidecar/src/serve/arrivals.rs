//! Bodies on their way: the bytes that all of them hold together are bounded, and a body that crawls gives way to those
//! that come at once.
//!
//! A call takes its place in the queue when its body is there, so a client that sends half of one keeps nobody out.
//! What it has sent takes memory all the same. When that runs short, the body that began first is dropped: an honest
//! one arrives in milliseconds, so it is hardly ever the one. The bytes of a body count until its call is answered.

use super::refusal::Refusal;
use axum::body::Body;
use http_body_util::BodyExt;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// The time limit for a body to arrive; its sender is close by.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The bodies of all calls.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// The maximum size of one body, in bytes.
    largest: usize,
    /// The maximum size of all, in bytes.
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The bytes of all bodies.
    held: usize,
    /// The number of the next body.
    next: u64,
    /// The bodies that are not whole, the first to begin first.
    arriving: BTreeMap<u64, Arriving>,
}

#[derive(Debug)]
struct Arriving {
    bytes: usize,
    /// Dropped to drop the body.
    _stays: oneshot::Sender<()>,
}

/// The bytes of one body. Dropping it gives them back.
#[derive(Debug)]
pub(super) struct Held {
    arrivals: Arc<Arrivals>,
    number: u64,
    /// The bytes of the body once it is whole.
    whole: Option<usize>,
}

impl Arrivals {
    /// Bodies of at most `largest` bytes each, and `most` together.
    pub(super) fn new(largest: usize, most: usize) -> Arc<Self> {
        Arc::new(Self { largest, most: most.max(largest), state: Mutex::default() })
    }

    /// The bytes that all bodies hold now.
    pub(super) fn held(&self) -> usize {
        self.state().held
    }

    /// Reads a body.
    ///
    /// # Errors
    /// It is too large, does not arrive in time, or makes room for another; or the connection breaks.
    pub(super) async fn read(self: &Arc<Self>, body: Body) -> Result<(Vec<u8>, Held), Refusal> {
        let (mut held, dropped) = Held::begin(Arc::clone(self));
        let read = async {
            tokio::select! {
                read = held.fill(body) => read,
                _ = dropped => Err(Refusal::Crowded),
            }
        };
        let bytes = timeout(BODY_TIMEOUT, read).await.map_err(|_| Refusal::TooSlow)??;
        held.complete();
        Ok((bytes, held))
    }

    /// The state. A panic cannot leave it half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether there is room for `more` bytes of body `number`, after dropping bodies that began earlier.
    fn make_room(&mut self, number: u64, more: usize, most: usize) -> bool {
        while self.held.saturating_add(more) > most {
            match self.arriving.first_entry() {
                Some(first) if *first.key() < number => {
                    self.held = self.held.saturating_sub(first.remove().bytes);
                }
                _ => return false,
            }
        }
        true
    }
}

impl Held {
    fn begin(arrivals: Arc<Arrivals>) -> (Self, oneshot::Receiver<()>) {
        let (stays, dropped) = oneshot::channel();
        let mut state = arrivals.state();
        let number = state.next;
        state.next += 1;
        state.arriving.insert(number, Arriving { bytes: 0, _stays: stays });
        drop(state);
        (Self { arrivals, number, whole: None }, dropped)
    }

    async fn fill(&mut self, mut body: Body) -> Result<Vec<u8>, Refusal> {
        let largest = self.arrivals.largest;
        let too_large = || Refusal::TooLarge(largest);
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|why| Refusal::Malformed(why.to_string()))?.into_data() else {
                continue;
            };
            if bytes.len().saturating_add(data.len()) > largest {
                return Err(too_large());
            }
            self.add(data.len())?;
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    }

    /// Adds `more` bytes to a body that arrives.
    fn add(&self, more: usize) -> Result<(), Refusal> {
        let mut state = self.arrivals.state();
        if !state.make_room(self.number, more, self.arrivals.most) {
            return Err(Refusal::Crowded);
        }
        let arriving = state.arriving.get_mut(&self.number).ok_or(Refusal::Crowded)?;
        arriving.bytes += more;
        state.held += more;
        Ok(())
    }

    /// Keeps the bytes, which no other body may push out any more.
    fn complete(&mut self) {
        let arriving = self.arrivals.state().arriving.remove(&self.number);
        self.whole = Some(arriving.map_or(0, |arriving| arriving.bytes));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.arrivals.state();
        let bytes = self.whole.or_else(|| state.arriving.remove(&self.number).map(|arriving| arriving.bytes));
        state.held = state.held.saturating_sub(bytes.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(arrivals: &Arc<Arrivals>) -> (Held, oneshot::Receiver<()>) {
        Held::begin(Arc::clone(arrivals))
    }

    #[test]
    fn the_body_that_began_first_makes_room() {
        let arrivals = Arrivals::new(60, 100);
        let (first, mut first_dropped) = held(&arrivals);
        let (second, mut second_dropped) = held(&arrivals);
        assert_eq!(first.add(60), Ok(()));
        assert_eq!(second.add(40), Ok(()));
        let (third, _stays) = held(&arrivals);
        assert_eq!(third.add(50), Ok(()));
        assert!(first_dropped.try_recv().is_err_and(|why| why == oneshot::error::TryRecvError::Closed));
        assert!(second_dropped.try_recv().is_err_and(|why| why == oneshot::error::TryRecvError::Empty));
        assert_eq!(first.add(1), Err(Refusal::Crowded), "it is gone");
        assert_eq!(arrivals.held(), 90);
        drop(first);
        assert_eq!(arrivals.held(), 90, "its bytes were given back once");
        drop(second);
        assert_eq!(arrivals.held(), 50);
    }

    #[test]
    fn a_body_pushes_out_none_that_began_after_it_and_none_that_is_whole() {
        let arrivals = Arrivals::new(100, 100);
        let (first, _stays) = held(&arrivals);
        let (mut second, _stays_too) = held(&arrivals);
        assert_eq!(second.add(100), Ok(()));
        assert_eq!(first.add(1), Err(Refusal::Crowded));
        second.complete();
        let (third, _stays) = held(&arrivals);
        assert_eq!(third.add(1), Err(Refusal::Crowded));
        drop(second);
        assert_eq!((third.add(1), arrivals.held()), (Ok(()), 1));
    }
}
