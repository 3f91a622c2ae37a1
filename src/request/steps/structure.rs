//! From JSON to a request, some of its members or elements in each step.

use super::counting::Queued;
use super::{Read, Texts};
use crate::codec::indexed::{Elements, Indexed, One, TooMuch, Walk};
use crate::codec::lenient::{self, Accept as _};
use crate::codec::loose_json::Fault;
use crate::request::body::Plainness;
use crate::request::{Endpoint, Request};

/// The most bytes between the long values of one element or member: beyond that nobody reads it. A message with a
/// thousand parts has a tenth of that.
const MAX_UNIT: usize = 512 * 1024;

/// The most texts. A place takes some twenty bytes, and the shortest text takes four of the body.
const MAX_TEXTS: usize = 1 << 20;

/// A body that is JSON, on its way to a request.
#[derive(Debug)]
pub(super) struct Structure {
    endpoint: Endpoint,
    body: Indexed,
    /// How far it was read, in bytes.
    at: usize,
    within: Within,
    /// What was read of it; none once it is given away.
    request: Option<Request<'static>>,
    texts: Vec<Queued>,
    is_done: bool,
}

/// Where in the body the walk is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Within {
    /// Between documents.
    Documents,
    /// In a document, before a member or its end.
    Document,
    /// In the array that is the member with this name, before an element or its end.
    Array { name: String, is_exact: bool },
}

impl Structure {
    pub(super) fn new(endpoint: Endpoint, size: u64, body: Indexed, is_as_sent: bool) -> Self {
        let mut request = Request::new(endpoint, size);
        let is_object = Walk::new(&body, 0, 0).peek() == Some(b'{');
        request.plainness = Plainness::Known(is_as_sent && is_object);
        Self {
            endpoint,
            body,
            at: 0,
            within: Within::Documents,
            request: Some(request),
            texts: Vec::new(),
            is_done: false,
        }
    }

    pub(super) fn held(&self) -> u64 {
        self.body.held().saturating_add((self.texts.capacity() * size_of::<Queued>()) as u64)
    }

    /// The request, if it has been read.
    pub(super) fn take_read(&mut self) -> Option<Read> {
        if !self.is_done {
            return None;
        }
        let request = self.request.take()?;
        let texts = Texts { body: std::mem::take(&mut self.body), texts: std::mem::take(&mut self.texts) };
        Some(Read { request, texts })
    }

    /// Reads about `most` bytes of it between long values. Returns the work that this was.
    pub(super) fn step(&mut self, most: usize) -> u64 {
        let Some(request) = self.request.take() else { return 0 };
        let (body, texts) = (&self.body, &mut self.texts);
        // What is taken from the body is not kept with it.
        let mut request: Request<'_> = request;
        let mut walk = Walk::new(body, self.at, MAX_UNIT);
        let before = texts.len();
        let read = read_some(&mut self.within, most, &mut walk, &mut request);
        self.at = walk.at();
        let work = 1 + (walk.read() / 4) as u64;
        let mut request = request.without_texts(&mut |counted, text| {
            texts.extend(Queued::new(counted, text, body));
        });
        let taken = texts.len().saturating_sub(before) as u64;
        match read {
            Ok(_) if taken + before as u64 > MAX_TEXTS as u64 => {
                request.fault = Some(Fault::whole(format!("expected at most {MAX_TEXTS} texts")));
                self.is_done = true;
            }
            Ok(is_done) => self.is_done = is_done,
            Err(TooMuch) => {
                let fault =
                    Fault::whole(format!("expected at most {MAX_UNIT} bytes of small values in one value"));
                request.fault = Some(fault);
                self.is_done = true;
            }
        }
        if self.is_done {
            request.complete(self.endpoint);
        }
        self.request = Some(request);
        work.saturating_add(taken)
    }
}

/// Reads on until `most` bytes have been read. Returns whether nothing is left.
fn read_some<'b>(
    within: &mut Within,
    most: usize,
    walk: &mut Walk<'b>,
    request: &mut Request<'b>,
) -> Result<bool, TooMuch> {
    while walk.read() < most {
        walk.allow(MAX_UNIT);
        let next = walk.peek();
        match (&*within, next) {
            (_, None) => return Ok(true),
            // Arrays of documents.
            (Within::Documents, Some(b'[' | b']')) => walk.bracket(),
            (Within::Documents, Some(b'{')) => {
                walk.bracket();
                *within = Within::Document;
            }
            (Within::Documents, Some(_)) => walk.skip(),
            (Within::Document, Some(b'}')) => {
                walk.bracket();
                request.end();
                *within = Within::Documents;
            }
            (Within::Document, Some(_)) => {
                let name = walk.name();
                let folded = lenient::folded(&name);
                let is_exact = *folded == *name;
                if request.prompt.is_read_in_parts(&folded) && walk.is_long_array() {
                    walk.bracket();
                    *within = Within::Array { name: folded.into_owned(), is_exact };
                } else {
                    request.take(&folded, is_exact, &mut One(walk))?;
                }
            }
            (Within::Array { .. }, Some(b']')) => {
                walk.bracket();
                *within = Within::Document;
            }
            (Within::Array { name, is_exact }, Some(_)) => {
                let mut elements = Elements::new(walk, most);
                request.take(name, *is_exact, &mut &mut elements)?;
                if elements.has_ended() {
                    *within = Within::Document;
                }
            }
        }
    }
    Ok(false)
}
