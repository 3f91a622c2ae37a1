//! The text of a document, a spreadsheet or a presentation in Office Open XML: a ZIP archive of XML files.
//!
//! Of the archive, only the entries that hold text are inflated, wherever they stand: what lies between the tags is
//! text. Like those of a PDF, at most [`MAX_DECODED`] bytes of the file are decoded and [`MAX_INFLATED`] inflated; the
//! part that was read stands for the rest.

use super::Document;
use crate::request::payload::Payload;
use flate2::read::DeflateDecoder;
use memchr::memmem;
use std::io::Read;

/// The most bytes of a file that are decoded.
const MAX_DECODED: usize = 256 * 1024;

/// The most bytes that its entries may have when inflated, together.
const MAX_INFLATED: u64 = 512 * 1024;

/// What an entry begins with, and how many bytes come before its name.
const ENTRY: &[u8] = b"PK\x03\x04";
const HEADER: usize = 30;

/// Characters that a cell of a spreadsheet counts for beside its text: it is shown with its place.
const CELL: u64 = 20;

/// The document in `payload`; none if it is no archive with text of such a document.
pub(super) fn read(payload: Payload<'_>) -> Option<Document> {
    if !payload.bytes().take(ENTRY.len()).eq(ENTRY.iter().copied()) {
        return None;
    }
    let file: Vec<u8> = payload.bytes().take(MAX_DECODED).collect();
    let (mut characters, mut left, mut is_office) = (0_u64, MAX_INFLATED, false);
    for at in memmem::find_iter(&file, ENTRY) {
        let Some(entry) = Entry::read(file.get(at..).unwrap_or_default()) else { continue };
        if entry.has_text() {
            is_office = true;
            characters = characters.saturating_add(entry.characters(&mut left));
        }
    }
    let (read, size) = ((file.len() as u64).max(1), payload.bytes_len().max(file.len() as u64));
    let of_all = u128::from(characters) * u128::from(size) / u128::from(read);
    is_office.then(|| Document::Office { characters: u64::try_from(of_all).unwrap_or(u64::MAX) })
}

/// A file in the archive.
struct Entry<'f> {
    name: &'f [u8],
    is_deflated: bool,
    /// Its bytes in the archive, and whatever comes after them if its size is not known beforehand.
    bytes: &'f [u8],
}

impl<'f> Entry<'f> {
    /// The entry that `file` begins with.
    fn read(file: &'f [u8]) -> Option<Self> {
        let number = |at: usize| {
            let bytes = file.get(at..at.saturating_add(2))?;
            Some(usize::from(u16::from_le_bytes(bytes.try_into().ok()?)))
        };
        let (method, name, extra) = (number(8)?, number(26)?, number(28)?);
        let size = number(18)? | number(20)? << 16;
        let rest = file.get(HEADER.saturating_add(name).saturating_add(extra)..)?;
        let bytes = if size == 0 { rest } else { rest.get(..size).unwrap_or(rest) };
        let name = file.get(HEADER..HEADER.saturating_add(name))?;
        matches!(method, 0 | 8).then_some(Self { name, is_deflated: method == 8, bytes })
    }

    /// Whether it holds text of a document, a spreadsheet or a presentation.
    fn has_text(&self) -> bool {
        let begins = |folder: &[u8]| self.name.starts_with(folder);
        self.name.ends_with(b".xml")
            && (begins(b"word/document")
                || begins(b"word/foot")
                || begins(b"word/end")
                || begins(b"xl/sharedStrings")
                || begins(b"xl/worksheets/")
                || begins(b"ppt/slides/")
                || begins(b"ppt/notesSlides/"))
    }

    /// The characters of its text, of which `left` bytes may be inflated.
    fn characters(&self, left: &mut u64) -> u64 {
        if !self.is_deflated {
            return characters(self.bytes);
        }
        let mut inflated = Vec::new();
        let mut decoder = DeflateDecoder::new(self.bytes);
        // Of an entry that breaks off, everything before the fault counts.
        let _ = decoder.by_ref().take(*left).read_to_end(&mut inflated);
        let is_cut = *left == inflated.len() as u64;
        *left = left.saturating_sub(inflated.len() as u64);
        let found = characters(&inflated);
        let read = decoder.total_in().max(1);
        if is_cut { found.saturating_mul((self.bytes.len() as u64).div_ceil(read)) } else { found }
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
    use std::io::Write;

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
        match read(Payload::read(&base64(file)).1) {
            Some(Document::Office { characters }) => Some(characters),
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

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..80)) {
            let _ = found(&entry("word/document.xml", &bytes, 8, false));
            let _ = found(&[ENTRY, &bytes].concat());
        }
    }
}
