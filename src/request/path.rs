//! The readings of a path: the ways in which servers take one path apart.
//!
//! Servers ignore case, decode once or again, cut parameters off, resolve dots, merge slashes, or do none of that. What
//! a server does is not known here, so a path has several readings, and whoever decides by path decides for the
//! strictest of them. A path of ordinary characters has one.

use std::borrow::Cow;

/// How often escapes are decoded: no server does it more often.
const MAX_ROUNDS: usize = 6;

/// One reading of a path, taken apart: without escapes, parameters, dots, empty segments and a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    path: String,
    folded: String,
    /// Whether there was a slash at its end.
    has_slash: bool,
}

impl Reading {
    fn new(path: String, has_slash: bool) -> Self {
        Self { folded: folded(&path), has_slash: has_slash && path != "/", path }
    }

    /// The path in lower case with the slash at its end, if there was one.
    pub fn folded_with_slash(&self) -> Option<String> {
        self.has_slash.then(|| format!("{}/", self.folded))
    }

    /// The path in lower case, for patterns: `/` alone, or segments with a slash before each.
    pub fn folded(&self) -> &str {
        &self.folded
    }

    /// The segments in lower case.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.folded.split('/').filter(|segment| !segment.is_empty())
    }

    /// The path without its last segment; none at the root.
    pub fn parent(&self) -> Option<Self> {
        let (parent, last) = self.path.rsplit_once('/')?;
        if last.is_empty() {
            return None;
        }
        Some(Self::new(if parent.is_empty() { "/".to_owned() } else { parent.to_owned() }, false))
    }

    /// The segments as they were written.
    pub fn written(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.path.split('/').filter(|segment| !segment.is_empty())
    }
}

/// The readings of `path`, which may have a query: the one that takes most apart first.
pub fn readings(path: &str) -> Vec<Reading> {
    let path = without_authority(path.split('?').next().unwrap_or_default());
    if is_plain(path) {
        let segments = path.split('/').filter(|segment| !segment.is_empty());
        return vec![Reading::new(joined(segments), path.ends_with('/'))];
    }
    let mut readings: Vec<Reading> = Vec::new();
    let once = decoded(path);
    let all = decoded_fully(&once);
    for text in [&*all, &*once, path] {
        // Text that was decoded may be taken for a path with a query once more.
        let cut = text.split(['?', '#', '\0']).next().unwrap_or_default();
        for text in [text, cut] {
            for dots in [Dots::AfterMerging, Dots::BeforeMerging] {
                let reading = Reading::new(resolved(text, dots), ends_with_slash(text));
                if !readings.contains(&reading) {
                    readings.push(reading);
                }
            }
        }
    }
    readings
}

/// The path of a whole URL, in case one comes: HTTP allows it (RFC 9112, section 3.2.2), and Envoy makes a path of it.
fn without_authority(path: &str) -> &str {
    let after_scheme = path.split_once("://").filter(|(scheme, _)| !scheme.contains(['/', '\\']));
    after_scheme.map_or(path, |(_, rest)| rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default())
}

/// Whether every server takes `path` apart in the same way, but for its case and a slash at its end.
fn is_plain(path: &str) -> bool {
    let is_ordinary = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b';' | b'\\' | b'#');
    path.bytes().all(is_ordinary)
        && !path.ends_with('.')
        && !["//", "/.", "./"].iter().any(|unusual| path.contains(unusual))
}

/// When two dots remove the segment before them.
#[derive(Clone, Copy)]
enum Dots {
    /// Once repeated slashes are one: `/a//..` is `/`.
    AfterMerging,
    /// Before that, so that they may remove an empty segment: `/a//..` is `/a`.
    BeforeMerging,
}

/// `path` with its dots resolved, its parameters and its empty segments left out, and slashes for backslashes.
fn resolved(path: &str, dots: Dots) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.strip_prefix('/').unwrap_or(path).split(['/', '\\']) {
        match bare(segment) {
            "." => {}
            ".." => drop(segments.pop()),
            "" if matches!(dots, Dots::AfterMerging) => {}
            segment => segments.push(segment),
        }
    }
    joined(segments.into_iter().filter(|segment| !segment.is_empty()))
}

/// Whether `path` ends with a slash, once what is not seen behind it is left out.
fn ends_with_slash(path: &str) -> bool {
    path.rsplit_once(['/', '\\']).is_some_and(|(_, last)| matches!(bare(last), "" | "." | ".."))
}

/// `segment` without its parameters (`;a=b`), and without the spaces, control characters and dots at its end that some
/// file systems and servers ignore.
fn bare(segment: &str) -> &str {
    let is_blank = |c: char| c.is_whitespace() || c.is_control();
    let segment = segment.split(';').next().unwrap_or_default().trim_matches(is_blank);
    match segment {
        "." | ".." => segment,
        _ => segment.trim_end_matches(|c| c == '.' || is_blank(c)),
    }
}

fn joined<'a>(segments: impl Iterator<Item = &'a str>) -> String {
    let mut path = String::new();
    for segment in segments {
        path.push('/');
        path.push_str(segment);
    }
    if path.is_empty() { "/".to_owned() } else { path }
}

/// `path` in lower case, as the laxest servers compare it: the long s and the Kelvin sign are letters too.
fn folded(path: &str) -> String {
    if path.is_ascii() {
        return path.to_ascii_lowercase();
    }
    path.chars().flat_map(char::to_lowercase).map(|c| if c == 'ſ' { 's' } else { c }).collect()
}

/// `text` decoded until nothing is left to decode.
fn decoded_fully(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    for _ in 0..MAX_ROUNDS {
        match decoded(&text) {
            Cow::Borrowed(_) => break,
            Cow::Owned(next) => text = Cow::Owned(next),
        }
    }
    text
}

/// `text` with its percent-escapes decoded once, those of IIS (`%u002f`) and overlong UTF-8 too. Borrowed if there are
/// none.
fn decoded(text: &str) -> Cow<'_, str> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut rest = text;
    let mut has_any = false;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        rest = after;
        if let Some((byte, after)) = two_digits(rest) {
            bytes.push(byte);
            (rest, has_any) = (after, true);
        } else if let Some((c, after)) = four_digits(rest) {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            (rest, has_any) = (after, true);
        } else {
            bytes.push(b'%');
        }
    }
    if !has_any {
        return Cow::Borrowed(text);
    }
    bytes.extend_from_slice(rest.as_bytes());
    Cow::Owned(lax_utf8(&bytes))
}

/// The byte of an escape, without its percent sign, and the rest of the text.
fn two_digits(text: &str) -> Option<(u8, &str)> {
    let (digits, rest) = text.split_at_checked(2)?;
    let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
    Some((u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?, rest))
}

/// The character of an escape with a `u`.
fn four_digits(text: &str) -> Option<(char, &str)> {
    let (digits, rest) = text.strip_prefix(['u', 'U'])?.split_at_checked(4)?;
    let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
    let c = u32::from_str_radix(digits, 16).ok().filter(|_| is_hex).and_then(char::from_u32)?;
    Some((c, rest))
}

/// Reads UTF-8 as lax decoders do: an ASCII character in two, three or four bytes is that character. U+FFFD replaces
/// what nobody reads.
fn lax_utf8(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
    }
    if text.len() == bytes.len() {
        return text;
    }
    text.clear();
    let mut rest = bytes;
    while !rest.is_empty() {
        if let Some((c, after)) = overlong(rest) {
            text.push(c);
            rest = after;
            continue;
        }
        let width = (1..=4).find(|width| rest.get(..*width).is_some_and(|b| std::str::from_utf8(b).is_ok()));
        let (character, after) = rest.split_at(width.unwrap_or(1));
        text.push_str(&String::from_utf8_lossy(character));
        rest = after;
    }
    text
}

/// The ASCII character that `bytes` begin with in more bytes than it needs.
fn overlong(bytes: &[u8]) -> Option<(char, &[u8])> {
    let (last_bits, rest) = match bytes {
        [lead @ (0xC0 | 0xC1), last, rest @ ..] => ((lead & 1) << 6 | (last & 0x3F), rest),
        [0xE0, middle @ (0x80 | 0x81), last, rest @ ..] => ((middle & 1) << 6 | (last & 0x3F), rest),
        [0xF0, 0x80, middle @ (0x80 | 0x81), last, rest @ ..] => ((middle & 1) << 6 | (last & 0x3F), rest),
        _ => return None,
    };
    Some((char::from(last_bits), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn paths(path: &str) -> Vec<String> {
        readings(path).into_iter().map(|reading| reading.path).collect()
    }

    #[test]
    fn an_ordinary_path_has_one_reading() {
        for (path, expected) in [
            ("/v1/chat/completions?api-version=a/../b", "/v1/chat/completions"),
            ("/v1/chat/completions/", "/v1/chat/completions"),
            ("/v1/models/gpt-4.1@latest:free", "/v1/models/gpt-4.1@latest:free"),
            ("https://user@host:1/v1/chat/completions?x", "/v1/chat/completions"),
            ("http://host", "/"),
            ("*", "/*"),
            ("/", "/"),
            ("", "/"),
        ] {
            assert_eq!(paths(path), [expected], "{path}");
        }
    }

    #[test]
    fn every_spelling_has_the_plain_path_among_its_readings() {
        let plain = "/v1/chat/completions";
        for path in [
            "//v1///chat//completions//",
            "/./v1/x/../chat/./completions/.",
            "/v1/chat/completions/x/..",
            "/v1/%63hat/completion%73",
            "/v1/chat%2Fcompletions",
            "/v1/chat%252fcompletions",
            "/v1/chat%25252525252fcompletions",
            "/v1/%25%36%33hat/completions",
            "/v1/%u0063hat%u002Fcompletions",
            "/v1/chat%c0%afcompletions",
            "/v1/chat%e0%80%afcompletions",
            "/v1/chat%F0%80%80%AFcompletions",
            "/v1/%c1%a3hat/completions",
            "/v1/x/%c0%ae%c0%ae/chat/completions",
            "/v1/x/%2e%2E/chat/completions",
            "/v1/x/.%2e/chat/completions",
            "/v1/x/..;/chat/completions",
            "/v1/x/..;a=b/chat/completions",
            "/v1\\chat\\completions",
            "/v1/chat%5ccompletions",
            "/v1/chat/completions;a=b",
            "/v1;x/chat;y=1;z/completions;",
            "/v1/chat/completions%3Ba=b",
            "/v1/chat/completions%3Fa=b",
            "/v1/chat/completions%23a",
            "/v1/chat/completions#a",
            "/v1/chat/completions%00.txt",
            "/v1/chat/completions%20",
            "/v1/chat/completions%0a",
            "/v1/chat/completions.",
            "/v1/chat/completions%2e",
            "/v1/chat/completions//..",
            "/v1/chat/completions/;/..",
            "/v1/chat/completions/%2F%2e%2e",
        ] {
            assert!(paths(path).iter().any(|reading| reading == plain), "{path}: {:?}", paths(path));
        }
        for path in ["/V1/Chat/COMPLETIONS", "/v1/chat/completion\u{17f}", "/v1/chat/completion%C5%BF"] {
            assert!(readings(path).iter().any(|reading| reading.folded() == plain), "{path}");
        }
    }

    #[test]
    fn an_escape_that_some_servers_take_for_a_character_has_both_readings() {
        let path = "/a%3Fb/chat/completions";
        assert_eq!(paths(path), ["/a?b/chat/completions", "/a", "/a%3Fb/chat/completions"]);
        assert_eq!(paths("/a%zz%4"), ["/a%zz%4"]);
        assert_eq!(paths("/%u00z0/%u"), ["/%u00z0/%u"]);
        assert_eq!(paths("/%FF%C3"), ["/\u{fffd}\u{fffd}", "/%FF%C3"]);
    }

    #[test]
    fn segments_keep_their_case_beside_the_folded_ones() {
        let reading = readings("/openai/Deployments/My%20GPT/chat").remove(0);
        assert_eq!(reading.written().collect::<Vec<_>>(), ["openai", "Deployments", "My GPT", "chat"]);
        assert_eq!(reading.segments().nth(1), Some("deployments"));
    }

    proptest! {
        #[test]
        fn no_path_panics_or_has_many_readings(path in any::<String>(), odd in "[a%25/.;?#\\\\cC0eEuU]{0,60}") {
            for path in [path, odd] {
                let readings = readings(&path);
                prop_assert!((1..=12).contains(&readings.len()));
                for reading in readings {
                    prop_assert!(reading.folded().starts_with('/'));
                    prop_assert_eq!(reading.segments().count(), reading.written().count());
                }
            }
        }

        #[test]
        fn escaping_any_characters_any_number_of_times_keeps_the_plain_reading(
            escapes in prop::collection::vec(0..4_usize, 20),
        ) {
            let mut spelled = String::new();
            for (byte, times) in "/v1/chat/completions".bytes().zip(escapes) {
                let mut escaped = char::from(byte).to_string();
                for _ in 0..times {
                    let escape = |b: u8| format!("%{b:02x}");
                    escaped = match escaped.strip_prefix('%') {
                        Some(rest) => format!("%25{rest}"),
                        None => escaped.bytes().map(escape).collect(),
                    };
                }
                spelled += &escaped;
            }
            prop_assert!(paths(&spelled).iter().any(|path| path == "/v1/chat/completions"), "{}", spelled);
        }
    }
}
