//! The text of a document, a spreadsheet or a presentation in Office Open XML: a ZIP archive of XML files.
//!
//! Of the archive, only the entries that hold text are inflated, wherever they stand: what lies between the tags is
//! text. Like those of a PDF, at most [`MAX_DECODED`] bytes of the file are decoded, and inflated what [`Inflatable`]
//! allows; the part that was read stands for the rest.
//!
//! Readers find entries by the directory at the end, so what the entries themselves state of their sizes may be false.
//! No text is left out for it: a deflated entry ends itself, another where the next begins, and what may be text and
//! was not read counts by its size.

use super::inflatable::{Inflatable, Left};
use super::{Document, MAX_DECODED};
use crate::request::payload::Payload;
use flate2::read::DeflateDecoder;
use memchr::memmem;

/// What an entry begins with, and how many bytes come before its name.
const ENTRY: &[u8] = b"PK\x03\x04";
const HEADER: usize = 30;

/// The longest name that is read, in bytes.
const MAX_NAME: usize = 256;

/// What the directory behind the entries begins with, and how many bytes may come between it and the last of them.
const DIRECTORY: &[u8] = b"PK\x01\x02";
const DESCRIPTOR: usize = 24;

/// Characters that a cell of a spreadsheet counts for beside its text: it is shown with its place.
const CELL: u64 = 20;

/// What the names of entries with text begin with, in lower case.
const TEXTS: [&str; 7] = [
    "word/document",
    "word/foot",
    "word/end",
    "xl/sharedstrings",
    "xl/worksheets/",
    "ppt/slides/",
    "ppt/notesslides/",
];

/// What is in the names of entries that models are not shown, in lower case.
const NOT_SHOWN: [&str; 13] = [
    ".rels",
    "[content_types].xml",
    "docprops/",
    "/media/",
    "/fonts/",
    "/theme/",
    "/slidelayouts/",
    "/slidemasters/",
    "/styles.xml",
    "/fonttable.xml",
    "settings.xml",
    "/numbering.xml",
    "/workbook.xml",
];

/// The document in `payload`; none if it is no archive with text of such a document.
pub(super) fn read(payload: Payload<'_>, inflatable: &mut Inflatable) -> Option<Document> {
    if !payload.bytes().take(ENTRY.len()).eq(ENTRY.iter().copied()) {
        return None;
    }
    let file: Vec<u8> = payload.bytes().take(MAX_DECODED).collect();
    let found = inflatable.with(|left| Found::read(&file, left));
    let (read, size) = ((file.len() as u64).max(1), payload.bytes_len().max(file.len() as u64));
    let of_all = u128::from(found.characters) * u128::from(size) / u128::from(read);
    // The length of the payload is rounded up, and what some readers leave out may end what is decoded.
    let behind = size.saturating_sub(read);
    let behind = if behind < 3 { 0 } else { behind };
    found.is_office.then(|| Document::Office {
        characters: u64::try_from(of_all).unwrap_or(u64::MAX),
        unread: found.unread.saturating_add(behind),
    })
}

/// What is in an archive.
#[derive(Debug, Default)]
struct Found {
    is_office: bool,
    characters: u64,
    /// Bytes that may be text and were not read.
    unread: u64,
}

impl Found {
    fn read(file: &[u8], left: &mut Left) -> Self {
        let mut found = Self::default();
        let starts: Vec<usize> = memmem::find_iter(file, ENTRY).collect();
        let next = |from: usize| {
            let next = starts.partition_point(|start| *start < from);
            starts.get(next).copied().unwrap_or(file.len())
        };
        for at in &starts {
            let unread = match Entry::read(file, *at, next) {
                Some(entry) if entry.has_text() => {
                    found.is_office = true;
                    let (characters, unread) = entry.characters(left);
                    found.characters = found.characters.saturating_add(characters);
                    unread
                }
                Some(entry) if entry.is_not_shown() => 0,
                Some(entry) => entry.unread(0),
                None => unread(file.get(*at..next(at.saturating_add(1))).unwrap_or_default()),
            };
            found.unread = found.unread.saturating_add(unread);
        }
        found
    }
}

/// How many bytes behind what was read of an entry may be its own.
fn unread(behind: &[u8]) -> u64 {
    let next = behind.get(..DESCRIPTOR.saturating_add(DIRECTORY.len())).unwrap_or(behind);
    let is_end = behind.len() <= DESCRIPTOR || memmem::find(next, DIRECTORY).is_some();
    if is_end { 0 } else { behind.len() as u64 }
}

/// A file in the archive.
struct Entry<'f> {
    /// In lower case.
    name: String,
    method: u16,
    /// Its bytes in the archive, and whatever comes after them.
    bytes: &'f [u8],
    /// How many of them come before the next entry.
    to_next: usize,
    /// How many it states to have; false, or zero, in some.
    size: usize,
}

impl<'f> Entry<'f> {
    /// The entry that begins `at` a place in `file`; `next` has the first that begins at a place or behind it.
    fn read(file: &'f [u8], at: usize, next: impl Fn(usize) -> usize) -> Option<Self> {
        let file = file.get(at..)?;
        let number = |at: usize| {
            let bytes = file.get(at..at.saturating_add(2))?;
            Some(u16::from_le_bytes(bytes.try_into().ok()?))
        };
        let (method, name, extra) = (number(8)?, usize::from(number(26)?), usize::from(number(28)?));
        let size = usize::from(number(18)?) | usize::from(number(20)?) << 16;
        let begin = HEADER.saturating_add(name).saturating_add(extra);
        let bytes = file.get(begin..)?;
        // No document has longer names, and they may be each other's.
        let name = file.get(HEADER..HEADER.saturating_add(name))?;
        let name = if name.len() > MAX_NAME { &[] } else { name };
        let name = String::from_utf8_lossy(name).to_ascii_lowercase().replace('\\', "/");
        // What stands before its bytes may look like another entry.
        let begin = at.saturating_add(begin);
        let to_next = next(begin).saturating_sub(begin);
        Some(Self { name, method, bytes, to_next, size })
    }

    /// Whether it holds text of a document, a spreadsheet or a presentation.
    fn has_text(&self) -> bool {
        let name = self.name.trim_start_matches('/');
        name.ends_with(".xml") && TEXTS.iter().any(|begin| name.starts_with(begin))
    }

    /// Whether it holds what models are not shown.
    fn is_not_shown(&self) -> bool {
        NOT_SHOWN.iter().any(|part| self.name.contains(part))
    }

    /// How many of its bytes were not read, if `read` of them were.
    fn unread(&self, read: usize) -> u64 {
        unread(self.bytes.get(read..self.to_next.max(read)).unwrap_or_default())
    }

    /// The characters of its text, and how many bytes of it were not read.
    fn characters(&self, left: &mut Left) -> (u64, u64) {
        match self.method {
            0 => {
                // No XML has what an entry or the directory begins with.
                let bytes = self.bytes.get(..self.to_next.min(left.size())).unwrap_or(self.bytes);
                let end = memmem::find(bytes, DIRECTORY).unwrap_or(bytes.len());
                let bytes = left.take(bytes.get(..end).unwrap_or(bytes));
                (characters(bytes), self.unread(bytes.len()))
            }
            8 => {
                let inflated = left.inflate(self.bytes, DeflateDecoder::new);
                let found = characters(&inflated.bytes);
                if !inflated.is_cut || inflated.read == 0 {
                    return (found, self.unread(inflated.read));
                }
                let size = self.size.max(self.to_next).min(self.bytes.len()) as u64;
                let of_all = found.saturating_mul(size.div_ceil(inflated.read as u64).max(1));
                (of_all, self.unread(inflated.read))
            }
            // Methods that some readers know.
            _ => (0, self.unread(0)),
        }
    }
}

/// The characters between the tags of `xml`, beside white space alone.
fn characters(xml: &[u8]) -> u64 {
    let (mut characters, mut rest) = (0_u64, xml);
    while let Some(end) = memchr::memchr(b'>', rest) {
        rest = rest.get(end.saturating_add(1)..).unwrap_or_default();
        let tag = memchr::memchr(b'<', rest).unwrap_or(rest.len());
        let text = rest.get(..tag).unwrap_or_default().trim_ascii();
        // Bytes that begin a character.
        let length = text.iter().filter(|byte| **byte & 0xC0 != 0x80).count() as u64;
        let is_cell = rest.get(tag..).is_some_and(|tag| tag.starts_with(b"</v>"));
        characters = characters.saturating_add(length).saturating_add(if is_cell { CELL } else { 0 });
    }
    characters
}

#[cfg(test)]
mod tests {
    use super::super::tests::base64;
    use super::*;
    use flate2::Compression;
    use flate2::write::DeflateEncoder;
    use std::io::Write as _;

    fn entry(name: &str, data: &[u8], method: u16, has_size: bool) -> Vec<u8> {
        let size = if has_size { data.len() as u32 } else { 0 };
        [
            ENTRY,
            &[20, 0, 8, 0],
            &method.to_le_bytes(),
            &[0; 8],
            &size.to_le_bytes(),
            &[0; 4],
            &(name.len() as u16).to_le_bytes(),
            &[0; 2],
            name.as_bytes(),
            data,
        ]
        .concat()
    }

    fn deflated(text: &str) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn found(file: &[u8]) -> Option<u64> {
        document(file).map(|(characters, _)| characters)
    }

    /// The characters of a document, and the bytes that were not read.
    fn document(file: &[u8]) -> Option<(u64, u64)> {
        match read(Payload::read(&base64(file)).1, &mut Inflatable::default()) {
            Some(Document::Office { characters, unread }) => Some((characters, unread)),
            None => None,
            Some(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_text_of_an_office_document_is_found() {
        let xml = "<?xml?>\n<w:p><w:t>Hello</w:t> <w:t>né</w:t></w:p>";
        for (data, method, has_size) in
            [(xml.as_bytes().to_vec(), 0, true), (deflated(xml), 8, true), (deflated(xml), 8, false)]
        {
            let styles = entry("word/styles.xml", b"<s>no text of the document</s>", 0, true);
            let file = [styles, entry("word/document.xml", &data, method, has_size)].concat();
            assert_eq!(found(&file), Some(7));
        }
        let cells = "<c><v>1</v></c><c><v>20</v></c>";
        assert_eq!(found(&entry("xl/worksheets/sheet1.xml", &deflated(cells), 8, true)), Some(3 + 2 * CELL));
        assert_eq!(found(&entry("ppt/slides/slide1.xml", b"<a:t>Title</a:t>", 0, true)), Some(5));
        assert_eq!(found(&entry("readme.xml", b"<a>Title</a>", 0, true)), None);
        assert_eq!(found(b"PK\x03\x04"), None);
    }

    #[test]
    fn a_bomb_is_inflated_to_a_bound_and_counts_for_more() {
        let bomb = entry("word/document.xml", &deflated(&"<t>a</t>".repeat(4 << 20)), 8, true);
        let characters = found(&bomb).unwrap();
        assert!((1 << 20..64 << 20).contains(&characters), "{characters}");
    }

    #[test]
    fn a_false_size_hides_no_text() {
        let text = format!("<t>{}</t>", "word ".repeat(40_000));
        let of_size = |mut entry: Vec<u8>, size: u32| {
            entry[18..22].copy_from_slice(&size.to_le_bytes());
            [entry, [DIRECTORY, &[0; 100]].concat()].concat()
        };
        for size in [0, 1, 100, 70_000, u32::MAX] {
            for (data, method) in [(text.as_bytes().to_vec(), 0), (deflated(&text), 8)] {
                let file = of_size(entry("word/document.xml", &data, method, true), size);
                assert_eq!(document(&file), Some((199_999, 0)), "{size} {method}");
            }
        }
        // What looks like an entry that is not shown, before the text.
        let fake = entry("word/media/a.png", b"", 0, true);
        for (method, expected) in [(0, (199_999, 0)), (12, (0, text.len() as u64))] {
            let mut file = entry("word/document.xml", &[&fake, text.as_bytes()].concat(), method, true);
            file[28] = fake.len() as u8;
            let found = document(&file).unwrap();
            assert_eq!(found, expected, "{method}");
        }
        let bomb = deflated(&"<t>a</t>".repeat(4 << 20));
        let stated = |size| found(&of_size(entry("word/document.xml", &bomb, 8, true), size)).unwrap();
        assert_eq!(stated(1), stated(bomb.len() as u32));
    }

    #[test]
    fn what_is_not_read_counts_by_its_size() {
        let notes = entry("word/footnotes.xml", b"", 0, true);
        let media = entry("word/media/image1.png", &[1; MAX_DECODED], 0, true);
        let text = entry("word/document.xml", &[b'a'; 40_000], 0, true);
        let (characters, unread) = document(&[&notes[..], &media, &text].concat()).unwrap();
        assert!(characters == 0 && (40_000..41_000).contains(&unread), "{characters} {unread}");
        // What comes behind a character that is no base64.
        let whole = base64(&[&notes[..], &[1; 30_000]].concat());
        let (begin, end) = whole.split_at(100);
        let cut = format!("{begin}!{end}");
        let found = read(Payload::read(&cut).1, &mut Inflatable::default());
        assert!(matches!(found, Some(Document::Office { unread: 29_900.., .. })), "{found:?}");
        // Entries that are coded in another way, or that nobody knows.
        for (name, method) in [("word/document.xml", 12), ("WORD\\Document.xml", 14), ("word/other.xml", 8)] {
            let (_, unread) =
                document(&[&notes[..], &entry(name, &[1; 30_000], method, true)].concat()).unwrap();
            assert!((30_000..30_100).contains(&unread), "{name} {unread}");
        }
        assert_eq!(
            document(&[&notes[..], &entry("word/styles.xml", &[1; 30_000], 8, true)].concat()),
            Some((0, 0))
        );
    }

    #[test]
    fn entries_together_are_read_to_a_bound() {
        // Each states that its bytes begin behind all others.
        let count = 4_000;
        let head = entry("word/document.xml", b"", 0, false);
        let tail = "<t>a</t>".repeat(10_000);
        for (method, tail) in [(0, tail.into_bytes()), (8, [0, 0, 0, 0xFF, 0xFF].repeat(12_000))] {
            let mut file = Vec::new();
            for at in 0..count {
                let mut head = head.clone();
                let extra = ((count - at - 1) * head.len()).min(usize::from(u16::MAX));
                head[8..10].copy_from_slice(&u16::to_le_bytes(method));
                head[28..30].copy_from_slice(&(extra as u16).to_le_bytes());
                file.extend(head);
            }
            file.extend(tail);
            let start = std::time::Instant::now();
            assert!(found(&file).unwrap() < MAX_DECODED as u64 * 2);
            assert!(start.elapsed().as_secs() < 5);
        }
        // Or that its name is all that follows.
        let mut head = entry("", b"", 0, false);
        head[26..28].copy_from_slice(&[0xFF; 2]);
        let start = std::time::Instant::now();
        assert_eq!(document(&head.repeat(MAX_DECODED / head.len())), None);
        assert!(start.elapsed().as_secs() < 5);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..80)) {
            let _ = found(&entry("word/document.xml", &bytes, 8, false));
            let _ = found(&[ENTRY, &bytes].concat());
        }
    }
}
