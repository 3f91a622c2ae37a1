//! How fast texts are counted in `o200k_base`, beside tiktoken-rs.
//!
//! Both count each text in turns. The result is the median of the ratios of the turns. An argument chooses the texts
//! with that word in their names.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]

use std::hint::black_box;
use std::time::Instant;
use token_count::O200K_BASE;

/// Turns per text; odd, so that there is a median.
const TURNS: usize = 15;

/// Bytes of each text, about; a prompt of some pages.
const BYTES: usize = 64 * 1024;

const CHINESE: &str = "大型语言模型按词元计费，而不是按字数。网关在转发请求之前统计提示词的词元，为回答预留额度，并在响应到达之后按照\
服务商返回的用量结算。这样，无论有多少请求同时到达，任何时间窗口内放行的总量都不会超过限额。如果限额已经用完，客户端会得到一个明确的答复：\
哪一项限额拒绝了请求，以及多久之后可以重试。春天来了，院子里的杏树开满了花，孩子们在树下追逐着一只黄色的蝴蝶。";

const MIXED: &str = "Привет, мир! Сегодня хорошая погода, и мы идём гулять в парк. こんにちは、世界。今日はいい天気ですね。\
한국어 문장도 하나 있습니다. ¿Qué tal estás hoy? Très bien, merci — et toi? 🎉 नमस्ते दुनिया, यह एक वाक्य है। ";

fn main() {
    let reference = tiktoken_rs::o200k_base_singleton();
    println!("counting tokens, MB a second, one thread");
    println!("{:<44}{:>12}{:>12}{:>8}", "text", "tiktoken-rs", "here", "ratio");
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    for (name, text) in texts() {
        if wanted.as_ref().is_some_and(|part| !name.contains(part.as_str())) {
            continue;
        }
        assert_eq!(O200K_BASE.count(&text), reference.count_ordinary(&text) as u64, "{name}");
        let turns = (0..TURNS).map(|_| {
            let theirs = speed(&text, || reference.count_ordinary(&text) as u64);
            (theirs, speed(&text, || O200K_BASE.count(&text)))
        });
        let turns: Vec<(f64, f64)> = turns.collect();
        let of = |value: fn(&(f64, f64)) -> f64| median(turns.iter().map(value).collect());
        let (theirs, ours, ratio) = (of(|turn| turn.0), of(|turn| turn.1), of(|turn| turn.1 / turn.0));
        println!("{name:<44}{theirs:>12.1}{ours:>12.1}{ratio:>8.1}");
    }
}

fn texts() -> Vec<(&'static str, String)> {
    let filled = |text: &str| text.chars().cycle().take(BYTES / 2).collect::<String>();
    let mut random = Random(1);
    let mut pick = |from: &[u8]| (0..BYTES).map(|_| char::from(random.pick(from))).collect::<String>();
    let lower: Vec<u8> = (b'a'..=b'z').collect();
    let base64: Vec<u8> = (b'a'..=b'z').chain(b'A'..=b'Z').chain(b'0'..=b'9').chain(*b"+/").collect();
    vec![
        ("English", filled(include_str!("../../docs/design.md"))),
        ("code", filled(include_str!("../src/bpe.rs"))),
        ("JSON", filled(include_str!("../../docs/config.schema.json"))),
        ("Chinese", filled(CHINESE)),
        ("many languages", filled(MIXED)),
        ("hostile: letters at random", pick(&lower)),
        ("hostile: base64", pick(&base64)),
        ("hostile: one letter", "a".repeat(BYTES)),
        ("hostile: spaces", " ".repeat(BYTES)),
    ]
}

/// Megabytes a second.
fn speed(text: &str, count: impl Fn() -> u64) -> f64 {
    let begin = Instant::now();
    black_box(count());
    text.len() as f64 / 1e6 / begin.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Numerical Recipes' generator: any bytes do, if they are the same each time.
struct Random(u32);

impl Random {
    fn pick(&mut self, from: &[u8]) -> u8 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        from.get((self.0 >> 8) as usize % from.len()).copied().unwrap_or_default()
    }
}
