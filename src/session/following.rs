//! The answer to a request for an earlier response (`GET …/responses/{id}`, `POST …/responses/{id}/cancel`): it passes
//! unchanged, and the usage that it reports settles the reservation of the request that created the response.
//!
//! Whoever asks pays nothing for it, and asking twice changes nothing. Usage of a response that has not ended is not
//! its cost yet.

use super::Session;
use super::background;
use super::context::Cx;
use super::response::{Head, ResponseView, name_source};
use crate::codec::content_encoding::Decoder;
use crate::codec::media_type;
use crate::request::Endpoint;
use crate::store::local::SharedData;
use crate::usage::{Outcome, ResponseReader, Usage};

/// An answer that is passing through.
#[derive(Debug)]
pub struct Following {
    decoder: Decoder,
    reader: ResponseReader,
    usage: Option<Usage>,
}

impl Following {
    /// Begins to read the answer, if it may report usage.
    pub(super) fn begin<S: SharedData>(
        response: &dyn ResponseView,
        end_of_stream: bool,
        cx: &mut Cx<'_, S>,
    ) -> Session {
        let head = Head::read(response);
        name_source(head.status, response, cx);
        let kind = head.content_type.as_deref();
        let may_report = |kind: &str| media_type::is_json(kind) || media_type::is_event_stream(kind);
        if end_of_stream || !(200..300).contains(&head.status) || !kind.is_none_or(may_report) {
            return Session::Idle;
        }
        let Some(decoder) = Decoder::of_response(head.content_encoding.as_deref()) else {
            return Session::Idle;
        };
        let tokenizer = cx.config.encodings().tokenizer(None);
        let reader = ResponseReader::new(Endpoint::Responses, kind, 1, tokenizer).looking_for_state(true);
        Session::Following(Box::new(Self { decoder, reader, usage: None }))
    }

    /// Takes the next chunk, and reports the usage once it is certain.
    pub(super) fn read<S: SharedData>(
        mut self: Box<Self>,
        chunk: &[u8],
        end_of_stream: bool,
        cx: &mut Cx<'_, S>,
    ) -> Session {
        let Self { decoder, reader, usage } = &mut *self;
        decoder.push(chunk, |bytes| {
            if let Some(Outcome::Reported(reported)) = reader.push(bytes) {
                *usage = Some(reported);
            }
            usage.is_some() && !reader.misses_something()
        });
        if end_of_stream || (usage.is_some() && !reader.misses_something()) {
            self.end(cx);
            return Session::Idle;
        }
        Session::Following(self)
    }

    /// Reports the usage of a whole answer.
    pub(super) fn end<S: SharedData>(self: Box<Self>, cx: &mut Cx<'_, S>) {
        let (Some(usage), Some(state)) = (self.usage, self.reader.state()) else { return };
        if let (Some(id), false) = (&state.id, state.is_running == Some(true)) {
            background::report(id, &usage, cx);
        }
    }
}
