//! Where a message of HTTP/1.1 ends. Bodies are counted and not kept.

use memchr::memmem;

/// The end of a chunked body, with the end of the chunk before it.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// A request or response on its way.
#[derive(Debug, Default)]
pub struct Incoming {
    head: Vec<u8>,
    framing: Option<Framing>,
}

/// How the end of a body is known.
#[derive(Debug, PartialEq, Eq)]
enum Framing {
    /// After so many more bytes.
    Length(usize),
    /// By its last chunk; these are the last bytes so far. An empty chunked body has nothing before its last chunk but
    /// the end of the head, which ends in the same way.
    Chunked(Vec<u8>),
}

impl Incoming {
    /// Takes the next bytes; returns whether the message is whole. One message at a time is on a connection, so nothing
    /// follows it.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        if let Some(framing) = &mut self.framing {
            return framing.take(bytes);
        }
        let from = self.head.len().saturating_sub(3);
        self.head.extend_from_slice(bytes);
        let Some(at) = memmem::find(&self.head[from..], b"\r\n\r\n") else { return false };
        let end = from + at + 4;
        let mut framing = Framing::of(&self.head[..end]);
        let is_whole = framing.take(&self.head[end..]);
        self.head.truncate(end);
        self.framing = Some(framing);
        is_whole
    }

    /// The status line or request line and the headers, as far as they have come.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The status of a response.
    ///
    /// # Panics
    /// If it has none.
    pub fn status(&self) -> u16 {
        let status = self.head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        status.and_then(|digits| digits.parse().ok()).expect("a status")
    }

    /// The value of the header `name`, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        header(&self.head, name)
    }

    /// Prepares for the next message of the connection.
    pub fn clear(&mut self) {
        self.head.clear();
        self.framing = None;
    }
}

impl Framing {
    fn of(head: &[u8]) -> Self {
        if header(head, "transfer-encoding").is_some() {
            return Self::Chunked(b"\r\n".to_vec());
        }
        let length = header(head, "content-length").and_then(|value| std::str::from_utf8(value).ok());
        Self::Length(length.and_then(|digits| digits.parse().ok()).unwrap_or(0))
    }

    /// Whether the body is whole with these bytes.
    fn take(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::Length(missing) => {
                *missing = missing.saturating_sub(bytes.len());
                *missing == 0
            }
            Self::Chunked(last) => {
                last.extend_from_slice(&bytes[bytes.len().saturating_sub(LAST_CHUNK.len())..]);
                last.drain(..last.len().saturating_sub(LAST_CHUNK.len()));
                last == LAST_CHUNK
            }
        }
    }
}

fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let (found, value) = line.split_at_checked(name.len())?;
        (found.eq_ignore_ascii_case(name.as_bytes()) && value.starts_with(b":"))
            .then(|| value[1..].trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many bytes of `message` it is whole, if it comes in pieces of `size`.
    fn whole_after(message: &[u8], size: usize) -> Option<usize> {
        let mut incoming = Incoming::default();
        let pieces = message.chunks(size).scan(0, |sent, piece| {
            *sent += piece.len();
            Some((*sent, incoming.push(piece)))
        });
        pieces.into_iter().find_map(|(sent, is_whole)| is_whole.then_some(sent))
    }

    #[test]
    fn a_message_ends_where_it_says_however_it_is_cut() {
        let messages: [&[u8]; 5] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}",
        ];
        for message in messages {
            for size in 1..=message.len() {
                let whole = whole_after(message, size);
                assert_eq!(whole, Some(message.len()), "{:?} by {size}", message.escape_ascii().to_string());
            }
        }
    }

    #[test]
    fn headers_are_found_by_their_whole_names() {
        let mut incoming = Incoming::default();
        assert!(
            incoming.push(
                b"HTTP/1.1 429 x\r\nx-answer-more: 1\r\nX-Answer:  stream \r\ncontent-length: 0\r\n\r\n"
            )
        );
        assert_eq!(incoming.status(), 429);
        assert_eq!(incoming.header("x-answer"), Some(&b"stream"[..]));
        assert_eq!(incoming.header("x-answe"), None);
    }
}
