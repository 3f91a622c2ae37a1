//! The status page as HTML. It shows no id in full, and `maud` escapes whatever it shows.

use super::history::{MINUTES, Minute};
use crate::top::{Busy, Near, Owner, Ranking};
use llm_rate_limit::answer::{amount_of_limit, go_duration};
use llm_rate_limit::identity::{ANONYMOUS, KINDS};
use llm_rate_limit::policy::limit::Metric;
use llm_rate_limit::policy::{self, NEW_IDENTITIES};
use llm_rate_limit::quantity::{Millis, Units};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::time::Duration;

/// The style; the page's policy names its hash.
pub const STYLE: &str = include_str!("page.css");

/// The seconds between two refreshes.
pub const REFRESH_SECONDS: u32 = 5;

/// The first characters of an id, which tell one from another and are of no use to anybody else.
const SHOWN_OF_ID: usize = 8;

/// The height of a chart; it is as wide as there are minutes.
const CHART_HEIGHT: u64 = 20;

/// What the page shows.
#[derive(Debug)]
pub struct Status {
    /// How long Redis took to answer, or why it did not.
    pub redis: Result<Duration, String>,
    /// How long the sidecar has run.
    pub uptime: Duration,
    /// The last hour, the current minute last.
    pub minutes: [Minute; MINUTES],
    /// The busiest identities, and those closest to a limit.
    pub ranking: Ranking,
    /// Whether the page refreshes itself.
    pub refreshes: bool,
}

impl Status {
    /// The page.
    pub fn page(&self) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    @if self.refreshes { meta http-equiv="refresh" content=(REFRESH_SECONDS); }
                    title { "llm-rate-limit: " (self.title()) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    a.skip href="#nearest" { "To the limits" }
                    header {
                        h1 { "llm-rate-limit" }
                        span { "this sidecar, up " (go_duration(whole_seconds(self.uptime))) }
                        @if self.refreshes {
                            a href="?refresh=off" { "Stop refreshing" }
                        } @else {
                            a href="?" { "Refresh every " (REFRESH_SECONDS) " seconds" }
                        }
                    }
                    main {
                        (self.cards())
                        (self.charts())
                        (nearest(&self.ranking.nearest))
                        (busiest(&self.ranking))
                    }
                }
            }
        }
    }

    fn title(&self) -> &'static str {
        if self.redis.is_ok() { "Redis answers" } else { "Redis does not answer" }
    }

    fn sum(&self, of: impl Fn(&Minute) -> u64) -> u64 {
        self.minutes.iter().map(of).fold(0, u64::saturating_add)
    }

    fn cards(&self) -> Markup {
        html! {
            div.cards {
                div.card {
                    "Redis"
                    @match &self.redis {
                        Ok(took) => {
                            b.good { "answers" }
                            span.dim { "in " (format!("{:.1} ms", took.as_secs_f64() * 1e3)) }
                        }
                        Err(why) => { b.bad { "does not answer" } span.dim { (why) } }
                    }
                }
                (card("Admitted, last hour", self.sum(|minute| minute.admitted)))
                (card("Refused, last hour", self.sum(|minute| minute.refused)))
                @if self.minutes.iter().any(|minute| minute.has_tokens) {
                    (card("Tokens, last hour", self.sum(|minute| minute.tokens)))
                } @else {
                    div.card { "Tokens, last hour" b { "–" } span.dim { "nobody has measured any" } }
                }
            }
        }
    }

    fn charts(&self) -> Markup {
        let requests = self.minutes.iter().map(|minute| minute.admitted.saturating_add(minute.refused));
        let most = requests.max().unwrap_or_default();
        let most_tokens = self.minutes.iter().map(|minute| minute.tokens).max().unwrap_or_default();
        html! {
            h2 { "Requests a minute" }
            (chart(
                &format!("Requests a minute, at most {}: admitted, and refused on top", grouped(most)),
                most,
                &self.minutes,
                &[("admitted", |minute| minute.admitted), ("refused", |minute| minute.refused)],
            ))
            h2 { "Tokens a minute" }
            (chart(&format!("Tokens a minute, at most {}", grouped(most_tokens)), most_tokens, &self.minutes,
                &[("tokens", |minute| minute.tokens)]))
        }
    }
}

fn card(name: &str, number: u64) -> Markup {
    html! { div.card { (name) b { (grouped(number)) } } }
}

/// A part of a column: its class, and its height.
type Part = (&'static str, fn(&Minute) -> u64);

/// Columns for the minutes, each with its parts on top of each other.
fn chart(label: &str, most: u64, minutes: &[Minute], parts: &[Part]) -> Markup {
    // Thousandths, so that a small part is seen.
    let height = |units: u64| u128::from(units) * u128::from(CHART_HEIGHT * 1000) / u128::from(most.max(1));
    let decimal = |thousandths: u128| format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
    html! {
        svg role="img" aria-label=(label) viewBox=(format!("0 0 {MINUTES} {CHART_HEIGHT}")) preserveAspectRatio="none" {
            @for (x, minute) in minutes.iter().enumerate() {
                @let tops = parts.iter().scan(0, |top, (class, of)| {
                    *top += height(of(minute));
                    Some((class, *top, height(of(minute))))
                });
                @for (class, top, height) in tops {
                    @if height > 0 {
                        rect class=(class) x=(x) width="0.9" height=(decimal(height))
                            y=(decimal(u128::from(CHART_HEIGHT * 1000).saturating_sub(top))) {}
                    }
                }
            }
        }
        p.dim { (label) "; the last hour, now on the right." }
    }
}

fn nearest(nearest: &[Near]) -> Markup {
    html! {
        h2 id="nearest" tabindex="-1" { "Closest to a limit" }
        div.scroll tabindex="0" role="region" aria-label="Closest to a limit" {
            table {
                caption { "As they were after the last request of each; of slots, after its end." }
                thead { tr {
                    th scope="col" { "Identity" } th scope="col" { "Limit" } th scope="col" class="number" { "Used" }
                    th scope="col" class="number" { "of" } th scope="col" { "" } th scope="col" { "Empty in" }
                } }
                tbody {
                    @for near in nearest {
                        // In tenths, so that a limit of a few has its thresholds too.
                        @let limit = near.limit.get().max(1);
                        @let [max, low, high] = [10, 8, 9].map(|tenths| limit.saturating_mul(tenths));
                        @let used = near.used.get().saturating_mul(10).min(max);
                        @let [used_text, limit_text] = [near.used, near.limit].map(|it| amount(&near.name, it));
                        tr {
                            td { (owner(&near.owner)) }
                            td { (near.name) " in " (near.window) }
                            td.number { (used_text) }
                            td.number { (limit_text) }
                            td {
                                meter min="0" max=(max) low=(low) high=(high) optimum="0" value=(used)
                                    aria-label=(format!("{used_text} of {limit_text} used")) {}
                            }
                            td { (go_duration(Millis::new(near.reset_ms.get().div_ceil(1000) * 1000))) }
                        }
                    }
                    @if nearest.is_empty() { tr { td colspan="6" { "Nobody has used anything of a limit." } } }
                }
            }
        }
    }
}

fn busiest(ranking: &Ranking) -> Markup {
    let over = go_duration(Millis::new(ranking.over_ms.get() / 1000 * 1000));
    html! {
        h2 { "Busiest" }
        div.scroll tabindex="0" role="region" aria-label="Busiest" {
            table {
                caption {
                    "Requests over the last " (over) ", and tokens of those that have ended"
                    @if ranking.missing > 0 { "; each count may lack " (grouped(ranking.missing)) }
                    "."
                }
                thead { tr {
                    th scope="col" { "Identity" } th scope="col" class="number" { "Requests" }
                    th scope="col" class="number" { "Refused" } th scope="col" class="number" { "Tokens" }
                } }
                tbody {
                    @for Busy { owner: of, requests, refused, tokens } in &ranking.busiest {
                        tr {
                            td { (owner(of)) }
                            td.number { (grouped(*requests)) }
                            td.number { (grouped(*refused)) }
                            td.number { (tokens.map_or_else(|| "–".to_owned(), grouped)) }
                        }
                    }
                    @if ranking.busiest.is_empty() { tr { td colspan="4" { "Nobody has come." } } }
                }
            }
        }
    }
}

/// The beginning of an identity, and of its scope where that is another.
fn owner(of: &Owner) -> Markup {
    html! {
        code { (short(&of.identity)) }
        @if of.scope != of.identity { " of " code { (short(&of.scope)) } }
        @if !of.namespace.is_empty() { " in " (of.namespace) }
    }
}

/// An id's beginning, after the word for its kind. Names, such as that of a group, are whole.
fn short(id: &str) -> String {
    let is_name = policy::is_shared(id) || [ANONYMOUS, NEW_IDENTITIES].contains(&id);
    let kind = KINDS.iter().find(|kind| id.starts_with(**kind)).copied().unwrap_or_default();
    let rest = id.strip_prefix(kind).unwrap_or(id);
    match rest.char_indices().nth(SHOWN_OF_ID) {
        Some((end, _)) if !is_name => format!("{kind}{}…", rest.get(..end).unwrap_or_default()),
        _ => id.to_owned(),
    }
}

/// Units of the limit `name`: dollars for one on cost, else a number.
fn amount(name: &str, units: Units) -> String {
    match Metric::of_limit(name) {
        Some(Metric::CostUsd) => amount_of_limit(name, units),
        _ => grouped(units.get()),
    }
}

/// A number with spaces between its thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn whole_seconds(duration: Duration) -> Millis {
    Millis::new(duration.as_secs().saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner_of(identity: &str) -> Owner {
        Owner { namespace: "".into(), scope: identity.into(), identity: identity.into() }
    }

    fn status(ranking: Ranking) -> String {
        let mut minutes = [Minute::default(); MINUTES];
        minutes[MINUTES - 1] = Minute { admitted: 1_234_567, refused: 5, tokens: 9, has_tokens: true };
        let redis = Err("<script>alert(1)</script>".to_owned());
        let status = Status { redis, uptime: Duration::from_secs(61), minutes, ranking, refreshes: true };
        status.page().into_string()
    }

    fn ranking(identity: &str, name: &str) -> Ranking {
        let near = Near {
            owner: owner_of(identity),
            name: name.to_owned(),
            window: "1m".to_owned(),
            used: Units::new(7_500_000),
            limit: Units::new(10_000_000),
            reset_ms: Millis::new(1_200),
        };
        let busy = Busy { owner: owner_of(identity), requests: 3, refused: 1, tokens: Some(4_321) };
        Ranking { over_ms: Millis::MINUTE, missing: 0, busiest: vec![busy], nearest: vec![near] }
    }

    #[test]
    fn nothing_that_others_choose_is_markup_and_no_id_is_whole() {
        let id = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let page = status(ranking(id, "<img src=x onerror=alert(1)>/requests"));
        assert!(page.contains("9f86d081…") && !page.contains(id));
        assert!(!page.contains("<img") && !page.contains("<script"), "{page}");
        assert!(page.contains("&lt;img src=x"));
    }

    /// A browser shows a value above `high` in another colour.
    #[test]
    fn the_bar_of_a_full_limit_of_one_is_high() {
        let mut full = ranking("me", "requests");
        full.nearest[0].used = Units::new(1);
        full.nearest[0].limit = Units::new(1);
        let page = status(full);
        assert!(page.contains(r#"max="10" low="8" high="9" optimum="0" value="10""#), "{page}");
    }

    #[test]
    fn names_are_whole_and_ids_are_cut() {
        let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        for (id, shown) in [
            (digest.to_owned(), "9f86d081…"),
            (format!("ip-{digest}"), "ip-9f86d081…"),
            (format!("all-{digest}"), "all-9f86d081…"),
            ("group-engineering-europe".to_owned(), "group-engineering-europe"),
            ("model-claude-sonnet-4*".to_owned(), "model-claude-sonnet-4*"),
            ("global".to_owned(), "global"),
            ("anonymous".to_owned(), "anonymous"),
            ("new-identities".to_owned(), "new-identities"),
        ] {
            assert_eq!(short(&id), shown);
        }
    }

    #[test]
    fn tokens_that_nobody_has_measured_are_no_zero() {
        let minutes = [Minute { admitted: 1, ..Minute::default() }; MINUTES];
        let status = Status {
            redis: Ok(Duration::ZERO),
            uptime: Duration::ZERO,
            minutes,
            ranking: ranking("me", "requests"),
            refreshes: false,
        };
        assert!(status.page().into_string().contains("Tokens, last hour<b>–</b>"));
    }

    #[test]
    fn amounts_are_readable() {
        let page = status(ranking("me", "gpt-4*/cost_usd"));
        for text in ["$7.5", "$10", "1\u{202f}234\u{202f}567", "up 1m1s", "2s", "4\u{202f}321"] {
            assert!(page.contains(text), "{text}: {page}");
        }
        assert_eq!(amount("requests", Units::new(7_500)), "7\u{202f}500");
    }
}
