//! Images, audio and documents, in every form in which clients send them.

use super::*;

/// The most that an image of unknown size costs for GPT-4o: eight tiles.
const MOST: u64 = 85 + 8 * 170;

const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAB4AAAAQ4CAYAAAA=";

fn of_chat(model: &str, part: &Value) -> u64 {
    let body = |content: Value| json!({"model": model, "messages": [{"role": "user", "content": content}]});
    input_tokens(&body(json!([part]))) - input_tokens(&body(json!([])))
}

/// An image of 1920 x 1080 pixels: 1365 x 768 in six tiles.
#[test]
fn an_image_costs_its_size_in_any_place() {
    let url = format!("data:image/png;base64,{PNG}");
    for (part, expected) in [
        (json!({"type": "image_url", "image_url": {"url": url}}), 85 + 6 * 170),
        (json!({"type": "image_url", "image_url": {"url": url, "detail": "high"}}), 85 + 6 * 170),
        (json!({"type": "image_url", "image_url": {"detail": "low", "url": url}}), 85),
        (json!({"type": "input_image", "image_url": url}), 85 + 6 * 170),
        (json!({"type": "text", "text": "", "image_url": null}), 0),
        (json!({"type": "input_image", "detail": "low", "image_url": url}), 85),
        (json!({"type": "input_image", "file_id": "file-1"}), MOST),
        (json!({"type": "input_image", "image_url": "https://example.com/a.png"}), MOST),
        (
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}),
            85 + 6 * 170,
        ),
        (
            json!({"source": {"data": PNG, "media_type": "image/png", "type": "base64"}, "type": "image"}),
            85 + 6 * 170,
        ),
        (json!({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}), MOST),
        (json!({"type": "image", "source": {"type": "file", "file_id": "file_1"}}), MOST),
        (json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}), MOST),
        (json!({"type": "image_url", "image_url": {"url": 7}}), MOST),
        (json!({"type": "image"}), 0),
    ] {
        assert_eq!(of_chat("gpt-4o", &part), expected, "{part}");
    }
    let part = json!({"type": "image_url", "image_url": {"url": url}});
    assert_eq!(of_chat("gpt-4.1-mini", &part), (52 * 29_u64 * 162).div_ceil(100) + 1);
    assert_eq!(of_chat("claude-opus-4-7", &part), 69 * 39 + 4);
}

#[test]
fn escaped_base64_counts_the_same() {
    let body = |url: &str| {
        format!(r#"{{"messages":[{{"content":[{{"type":"image_url","image_url":{{"url":"{url}"}}}}]}}]}}"#)
    };
    let plain = read(body(&format!("data:image/png;base64,{PNG}")).as_bytes());
    assert_eq!(plain.0, 3 + 69 * 39 + 4 + 3);
    let escaped = PNG.replace('/', r"\/").replace('A', r"\u0041");
    assert_eq!(read(body(&format!(r"data:image\/png;base64,{escaped}")).as_bytes()), plain);
}

#[test]
fn audio_and_documents_cost_by_their_size() {
    let megabyte = "A".repeat(1_398_104);
    let pdf = format!("data:application/pdf;base64,{megabyte}");
    let hello = json!([{"type": "text", "text": "hello"}]);
    // Ten pages of 2,850 characters, each with its image.
    const UNKNOWN: u64 = 10 * (215 + 750);
    for (part, expected) in [
        // 1,048,578 bytes at 4,000 per second are 262.2 seconds.
        (json!({"type": "input_audio", "input_audio": {"data": megabyte, "format": "mp3"}}), 2_622),
        (json!({"type": "input_audio", "input_audio": {}}), 0),
        (
            json!({"type": "file", "file": {"filename": "a.pdf", "file_data": pdf}}),
            1_048_578_u64.div_ceil(28) + 8,
        ),
        (
            json!({"type": "input_file", "filename": "a.pdf", "file_data": pdf}),
            1_048_578_u64.div_ceil(28) + 8,
        ),
        (
            json!({"type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": megabyte}}),
            1_048_578_u64.div_ceil(28) + 8,
        ),
        (
            json!({"type": "input_file", "file_data": format!("data:text/plain;base64,{megabyte}")}),
            262_145 + 8 - 1,
        ),
        (json!({"type": "file", "file": {"file_id": "file-1"}}), UNKNOWN),
        (json!({"type": "input_file", "file_url": "https://example.com/a.pdf"}), UNKNOWN),
        (json!({"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}), UNKNOWN),
        (
            json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hello\nworld"}}),
            3 + 16,
        ),
        (json!({"type": "document", "source": {"type": "content", "content": hello}, "title": "world"}), 2),
        (json!({"type": "search_result", "source": "hello", "title": "world", "content": hello}), 3),
    ] {
        let name: String = part.to_string().chars().take(80).collect();
        assert_eq!(of_chat("gpt-4o", &part), expected, "{name}");
    }
}

/// The factor stands in for a tokenizer that is not published; an image counts by the model's own rule.
#[test]
fn no_factor_applies_to_images_and_token_ids() {
    let part = json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}});
    let body = json!({"model": "gpt-4o", "messages": [{"content": [part, {"type": "text", "text": "hi"}]}]})
        .to_string();
    let factor = Factor::new(2.0).unwrap();
    let tokenizer = Tokenizer::new(Counting { encoding: Encoding::O200kBase, factor });
    let tokens = |endpoint, body: &str| {
        let body = Body::new(body.as_bytes());
        count(&Request::read(endpoint, &body), tokenizer)
    };
    assert_eq!(tokens(Endpoint::ChatCompletions, &body), 3 + 2 + 3 + MOST);
    assert_eq!(tokens(Endpoint::Embeddings, r#"{"input":[1,2,3]}"#), 3);
}

/// 20 MB of base64 take no noticeable time. The bound is generous: tests run unoptimised, on machines that do other
/// work.
#[test]
fn a_large_image_is_not_tokenized() {
    let url = format!("data:image/png;base64,{PNG}{}", "A".repeat(20_000_000));
    let body =
        format!(r#"{{"messages":[{{"content":[{{"type":"image_url","image_url":{{"url":"{url}"}}}}]}}]}}"#);
    let start = std::time::Instant::now();
    assert_eq!(read(body.as_bytes()).0, 3 + 69 * 39 + 4 + 3);
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}

#[test]
fn parts_of_unknown_types_count_by_their_size() {
    let tokens = |content: &str| {
        let body = format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":{content}}}]}}"#);
        let body = Body::new(body.as_bytes());
        let request = Request::read(Endpoint::ChatCompletions, &body);
        let tokenizer = Encodings::default().tokenizer(Some("gpt-4o"));
        let text = request.text_tokens(&Meter::unlimited(tokenizer));
        request.input_tokens(text, Some("gpt-4o"), tokenizer)
    };
    let nothing = tokens("[]");
    let long = "x".repeat(398);
    for (content, more) in [
        (format!(r#"[{{"type":"block","payload":"{long}"}}]"#), 100),
        (format!(r#"{{"payload":"{long}"}}"#), 100),
        (format!(r#"{{"a":{{"b":{{"c":"{}"}}}}}}"#, "x".repeat(386)), 100),
        (format!(r#"[{{"type":"redacted_thinking","data":"{long}"}}]"#), 0),
        (r#"[{"type":"text","text":{"value":"hi"}}]"#.to_owned(), 5),
        (r#"[{"type":"text","text":"hi","payload":"many words that nobody counts"}]"#.to_owned(), 1),
        (r#"[{"type":"text","text":"","cache_control":{"type":"ephemeral"}}]"#.to_owned(), 0),
    ] {
        assert_eq!(tokens(&content) - nothing, more, "{content}");
    }
}

/// Base64 of a PDF of a few kilobytes whose text has 12 MiB when inflated.
fn bomb() -> String {
    use flate2::{Compression, write::ZlibEncoder};
    use std::io::Write as _;
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&[&b"BT Tj "[..], &b"(a)".repeat(4 << 20)].concat()).unwrap();
    let pdf =
        [b"%PDF-1.7 /FlateDecode\nstream\n", encoder.finish().unwrap().as_slice(), b"\nendstream"].concat();
    super::super::document::tests::base64(&pdf)
}

#[test]
fn the_documents_of_a_request_are_inflated_to_one_bound() {
    let part = json!({"type": "input_file", "file_data": bomb()});
    let message = json!({"role": "user", "content": [part]});
    let parts = json!({"role": "user", "content": vec![&part; 5]});
    let summary = json!({"type": "reasoning", "summary": [part]});
    for (endpoint, member, item, each) in [
        (Endpoint::ChatCompletions, "messages", &message, 1),
        (Endpoint::Messages, "messages", &message, 1),
        (Endpoint::ChatCompletions, "messages", &parts, 5),
        (Endpoint::Responses, "input", &message, 1),
        (Endpoint::Responses, "input", &summary, 1),
    ] {
        let of =
            |items: usize| input_tokens_at(endpoint, &json!({"model": "gpt-4o", member: vec![item; items]}));
        let (one, all) = (of(1) / each, of(40 / each as usize));
        assert!((one * 7..one * 12).contains(&all), "{endpoint:?} {item}: {one} {all}");
    }
}

#[test]
fn a_part_with_many_types_and_data_takes_time_for_each_once() {
    let part =
        format!("{{{}{}\"x\":1}}", r#""type":"a","#.repeat(20_000), r#""file_data":"","#.repeat(15_000));
    let start = std::time::Instant::now();
    read(format!(r#"{{"messages":[{{"content":[{part}]}}]}}"#).as_bytes());
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}
