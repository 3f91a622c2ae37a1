//! The parts of a loose JSON text: strings, words, marks; between them white space and comments.

use super::string::{Progress, Reading};
use super::word::ends_word;
use super::writer::{Container, Writer};

/// What some servers send before JSON, so that no page runs it as a script. Gson leaves it out.
const PREFIX: &str = ")]}'";

/// A part of the text that the grammar is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A string begins. [`Lexer::enter`] reads it, if there may be one.
    Quote(char),
    /// The string has ended.
    Text,
    /// A word without quotes.
    Word(String),
    Open(Container),
    Close(Container),
    Comma,
    Colon,
    /// What is a part of no text.
    Other,
}

impl Token {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Quote(_) | Self::Text => "a string",
            Self::Word(_) => "a word",
            Self::Open(Container::Array) => "\"[\"",
            Self::Open(Container::Object) => "\"{\"",
            Self::Close(Container::Array) => "\"]\"",
            Self::Close(Container::Object) => "\"}\"",
            Self::Comma => "\",\"",
            Self::Colon => "\":\"",
            Self::Other => "something else",
        }
    }
}

/// The most bytes of a word. No reader takes a longer one, and nobody writes one.
const MAX_WORD: usize = 64 * 1024;

/// Finds tokens in pieces of text.
#[derive(Debug, Default)]
pub(super) struct Lexer {
    at: At,
    /// Whether anything but a byte order mark has come.
    has_begun: bool,
}

/// Where in the text the next character is.
#[derive(Debug, Default)]
enum At {
    /// Between tokens.
    #[default]
    Between,
    String(Reading),
    Word(String),
    /// Behind a slash.
    Slash,
    LineComment,
    /// In such a comment, behind a carriage return: a line feed must follow.
    LineEnd,
    /// In a comment that `*/` ends; whether its star has come.
    BlockComment(bool),
    /// Behind `=`, which `>` may follow.
    Equals,
    /// In [`PREFIX`], behind so many of its characters.
    Prefix(usize),
}

impl Lexer {
    /// Reads the beginning of `text`, which is not empty. Returns the number of bytes that were read, and the token
    /// that they end. `writer` gets the text of a string.
    pub(super) fn next(&mut self, text: &str, writer: &mut Writer) -> (usize, Option<Token>) {
        match &mut self.at {
            At::String(reading) => {
                let (read, progress) = reading.read(text, writer);
                let token = match progress {
                    Progress::Within => return (read, None),
                    Progress::Ended => Token::Text,
                    Progress::Malformed => return (read, Some(Token::Other)),
                };
                self.at = At::Between;
                (read, Some(token))
            }
            At::Word(word) => {
                let run = text.find(ends_word).unwrap_or(text.len());
                word.push_str(text.get(..run).unwrap_or_default());
                if word.len() > MAX_WORD {
                    return (run, Some(Token::Other));
                }
                (run, if run < text.len() { self.end_word() } else { None })
            }
            _ => text.chars().next().map_or((0, None), |c| self.next_char(c)),
        }
    }

    /// Whether the next character begins a token.
    pub(super) const fn is_between(&self) -> bool {
        matches!(self.at, At::Between | At::Equals)
    }

    /// Reads the string that has begun.
    pub(super) fn enter(&mut self, quote: char) {
        self.at = At::String(Reading::new(quote));
    }

    /// The text is over: the word that it ends. A string counts as far as it goes.
    pub(super) fn finish(&mut self) -> Option<Token> {
        match std::mem::take(&mut self.at) {
            At::Word(word) => Some(Token::Word(word)),
            At::String(_) => Some(Token::Text),
            _ => None,
        }
    }

    fn next_char(&mut self, c: char) -> (usize, Option<Token>) {
        let (at, token) = match (&self.at, c) {
            (At::Slash, '/') => (At::LineComment, None),
            (At::Slash, '*') => (At::BlockComment(false), None),
            (At::Slash, _) => (At::Between, Some(Token::Other)),
            (At::LineComment, '\n') => (At::Between, None),
            (At::LineComment, '\r') => (At::LineEnd, None),
            // JSON5's readers end a comment here, others do not.
            (At::LineComment, '\u{2028}' | '\u{2029}') => (At::Between, Some(Token::Other)),
            (At::LineComment, _) => (At::LineComment, None),
            (At::LineEnd, '\n') => (At::Between, None),
            // Gson's readers end a comment here, Ruby's do not.
            (At::LineEnd, _) => (At::Between, Some(Token::Other)),
            (At::BlockComment(true), '/') => (At::Between, None),
            (At::BlockComment(_), c) => (At::BlockComment(c == '*'), None),
            (At::Equals, '>') => (At::Between, None),
            (At::Prefix(read), c) => match PREFIX.chars().nth(*read) {
                Some(next) if next == c && *read + 1 == PREFIX.len() => (At::LineComment, None),
                Some(next) if next == c => (At::Prefix(read + 1), None),
                _ => (At::Between, Some(Token::Other)),
            },
            (At::Between | At::Equals, c) => self.begin(c),
            (At::String(_) | At::Word(_), _) => (At::Between, None),
        };
        self.at = at;
        (c.len_utf8(), token)
    }

    /// Reads a character between tokens.
    fn begin(&mut self, c: char) -> (At, Option<Token>) {
        if c.is_whitespace() || c == '\u{FEFF}' || (c < ' ' && c != '\0') {
            return (At::Between, None);
        }
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        let token = match c {
            '"' | '\'' => Token::Quote(c),
            '/' => return (At::Slash, None),
            '#' => return (At::LineComment, None),
            '=' => return (At::Equals, Some(Token::Colon)),
            ')' if is_first => return (At::Prefix(1), None),
            '{' => Token::Open(Container::Object),
            '[' => Token::Open(Container::Array),
            '}' => Token::Close(Container::Object),
            ']' => Token::Close(Container::Array),
            ',' | ';' => Token::Comma,
            ':' => Token::Colon,
            '\0' => Token::Other,
            _ => return (At::Word(c.to_string()), None),
        };
        (At::Between, Some(token))
    }

    fn end_word(&mut self) -> Option<Token> {
        let At::Word(word) = std::mem::take(&mut self.at) else { return None };
        Some(Token::Word(word))
    }
}
