//! Outlines: the chunks of a document do not change its outline, which is small, and is JSON if the document is.
//!
//! The last byte is the size of the chunks.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_rate_limit::codec::broken_off;
use llm_rate_limit::codec::outline::Outline;
use llm_rate_limit::usage::PLACES;

fn outline(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut outline = Outline::new(PLACES);
    bytes.chunks(size).for_each(|chunk| outline.push(chunk));
    outline.finish()
}

fn value(json: &[u8]) -> Option<serde_json::Value> {
    serde_json::from_slice(json).ok()
}

fuzz_target!(|data: &[u8]| {
    let Some((size, bytes)) = data.split_last() else { return };
    let whole = outline(bytes, bytes.len().max(1));
    assert_eq!(outline(bytes, usize::from(*size).max(1)), whole);
    assert!(whole.len() <= bytes.len() + 16, "no longer than the document but for brackets");
    if let Some(document) = value(bytes).filter(serde_json::Value::is_object) {
        let outlined = value(&whole).expect("the outline of JSON is JSON");
        // Of a member that occurs twice, the last counts for both.
        assert_eq!(outlined.get("usage"), document.get("usage"));
    }
    let closed = broken_off::closed(bytes);
    assert!(closed.len() <= bytes.len() + 1);
    assert_eq!(broken_off::closed(&closed), closed, "a string that is closed stays so");
});
