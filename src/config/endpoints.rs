//! The treatment of endpoints by patterns of their paths, checked.

use super::error::{Path, Problems, quoted};
use super::raw;
use crate::policy::endpoints::{Endpoints, Rule, Treatment};
use crate::policy::pattern::Pattern;
use crate::request::Endpoint;
use std::collections::BTreeMap;

/// The longest pattern, in bytes: longer than any path of an API.
const MAX_BYTES: usize = 256;

/// Builds the treatments at `path`. Only `*` decides after what is known of paths; every other pattern before.
#[inline(never)]
pub(super) fn endpoints(
    raw: &BTreeMap<String, raw::Endpoint>,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Endpoints {
    let mut rules: BTreeMap<String, Rule> = BTreeMap::new();
    let mut others = None;
    for (text, given) in raw {
        let path = path.member(text);
        let rule = rule(*given);
        if !text.is_empty() && text.bytes().all(|byte| byte == b'*') {
            others = Some(rule);
            continue;
        }
        check(text, &path, problems);
        let pattern = text.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(text).to_lowercase();
        if rules.insert(pattern, rule).is_some() {
            let expected = "expected each path once, in any case and with or without a slash at its end";
            problems.add(&path, format!("{expected}, found again"));
        }
    }
    let rules = rules.into_iter().map(|(pattern, rule)| (Pattern::new(pattern), rule));
    Endpoints::new(rules, others)
}

/// Checks a pattern, which is compared with paths that have been taken apart.
fn check(text: &str, path: &Path<'_>, problems: &mut Problems) {
    let is_unusual = |c: char| c.is_whitespace() || c.is_control() || "?#%;\\{}".contains(c);
    let has_dots = text.split('/').any(|segment| matches!(segment, "." | ".."));
    if !text.starts_with(['/', '*']) || text.contains(is_unusual) || text.contains("//") || has_dots {
        let expected = "a path or a pattern of paths such as \"/v1/files*\" or \"*/images/generations\", decoded and \
                        without a query";
        problems.expected(path, expected, quoted(text));
    } else if is_expression(text) {
        let expected = "a path in which only \"*\" is special, such as \"/v1/files/*\"";
        problems.expected(path, expected, format!("another kind of pattern, {}", quoted(text)));
    } else if text.len() > MAX_BYTES {
        problems.expected(path, format!("a pattern of {MAX_BYTES} bytes or less"), text.len());
    }
}

/// Whether `text` means a regular expression or a path with names in it, which it would never be read as.
fn is_expression(text: &str) -> bool {
    text.contains(['^', '$', '|', '[', ']', '(', ')', '<', '>'])
        || [".*", ".+", "/:"].iter().any(|part| text.contains(part))
}

const fn rule(raw: raw::Endpoint) -> Rule {
    match raw {
        raw::Endpoint::ChatCompletions | raw::Endpoint::MistralAgents => {
            Rule::format(Endpoint::ChatCompletions)
        }
        raw::Endpoint::Completions | raw::Endpoint::MistralFim => Rule::format(Endpoint::Completions),
        raw::Endpoint::Embeddings => Rule::format(Endpoint::Embeddings),
        raw::Endpoint::Responses | raw::Endpoint::Compact => Rule::format(Endpoint::Responses),
        raw::Endpoint::Messages | raw::Endpoint::VertexClaude => Rule::format(Endpoint::Messages),
        raw::Endpoint::Gemini => Rule::format(Endpoint::Gemini),
        raw::Endpoint::OllamaChat => Rule::format(Endpoint::OllamaChat),
        raw::Endpoint::OllamaGenerate => Rule::format(Endpoint::OllamaGenerate),
        raw::Endpoint::CohereChat => Rule::format(Endpoint::CohereChat),
        raw::Endpoint::CohereEmbed => Rule::format(Endpoint::CohereEmbed),
        raw::Endpoint::Rerank => Rule::format(Endpoint::Rerank),
        raw::Endpoint::Moderations => Rule::of(Treatment::WithoutTokens),
        raw::Endpoint::Count => Rule::of(Treatment::Count),
        raw::Endpoint::Pass => Rule::of(Treatment::Pass),
        raw::Endpoint::Reject => Rule::of(Treatment::Reject),
    }
}
