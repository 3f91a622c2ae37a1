//! `docs/throughput.svg`: the throughput of the main table's gateways as bars, readable on light and on dark pages.

use crate::rounds::{Results, Turn};
use crate::stacks::Kind;
use std::fmt::Write as _;

const WIDTH: f64 = 820.0;
/// Where bars begin, and the length of bare Envoy's.
const LEFT: f64 = 312.0;
const FULL: f64 = 350.0;
/// What the picture has room for, on a machine that other work keeps busy.
const LARGEST_SHARE: f64 = 1.1;
const TOP: f64 = 46.0;
const ROW: f64 = 28.0;
const BAR: f64 = 16.0;

/// GitHub shows pictures on pages of either colour, and the browser says which the reader prefers.
pub(crate) const STYLE: &str = "text{font:13px -apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328}\
.title{font-weight:600}.small{font-size:11px;fill:#59636e}.ours{fill:#0969da}.other{fill:#8c959f}\
.line{stroke:#59636e;stroke-width:1.5}.grid{stroke:#d1d9e0;stroke-width:1}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.small{fill:#9198a1}.ours{fill:#4493f8}.other{fill:#656c76}\
.line{stroke:#c8d1da}.grid{stroke:#3d444d}}";

/// The picture of one table: a bar for each gateway, as long as its share of the first one's throughput, with a line
/// from the smallest to the largest of the rounds.
pub fn svg(results: &Results) -> String {
    let cases = &results.table.cases;
    let bottom = TOP + ROW * cases.len() as f64;
    let height = bottom + 34.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n<title>Requests a second, as a share of bare Envoy's</title>\n\
         <style>{STYLE}</style>\n\
         <text class=\"title\" x=\"12\" y=\"24\">Requests a second, as a share of bare Envoy&#8217;s</text>\n"
    );
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        let x = LEFT + FULL * share;
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x}\" x2=\"{x}\" y1=\"{}\" y2=\"{bottom}\"/>",
            TOP - 6.0
        );
        let y = bottom + 14.0;
        let _ =
            writeln!(svg, "<text class=\"small\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{share}</text>");
    }
    for (at, case) in cases.iter().enumerate() {
        let share = results.ratio(at, |turn: &Turn| turn.rate);
        let rate = results.figure(at, |turn: &Turn| turn.rate).median;
        let is_ours = matches!(case.kind, Kind::Local | Kind::Redis | Kind::RedisUnix);
        let class = if is_ours { "ours" } else { "other" };
        let y = TOP + ROW * at as f64;
        let middle = y + BAR / 2.0;
        let [width, least, most] =
            [share.median, share.least, share.most].map(|share| FULL * share.min(LARGEST_SHARE));
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>\n\
             <line class=\"line\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle}\" y2=\"{middle}\"/>\n\
             <text x=\"{:.1}\" y=\"{}\">{:.2}  ({rate:.0}/s)</text>",
            LEFT - 8.0,
            y + 13.0,
            case.name(),
            LEFT + least,
            LEFT + most,
            LEFT + most.max(width) + 8.0,
            y + 13.0,
            share.median,
        );
    }
    let _ = writeln!(
        svg,
        "<text class=\"small\" x=\"12\" y=\"{}\">one Envoy worker, 32 connections, small chats; lines from the slowest \
         to the fastest round</text>\n</svg>",
        bottom + 30.0
    );
    svg
}
