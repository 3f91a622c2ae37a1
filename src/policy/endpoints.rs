//! The requests that limits apply to, by their paths.
//!
//! The most specific pattern of the configuration decides, then what is known of the end of the path, and last the
//! configuration's `*`. A path may have several readings ([`crate::request::path`]); the strictest treatment of them
//! counts, so that no spelling gets a request past a limit.

use crate::policy::Candidates;
use crate::policy::pattern::Pattern;
use crate::request::path::{Reading, readings};
use crate::request::{Api, Endpoint, deployment};
use crate::sort;
use std::cmp::{Ordering, Reverse};

/// The treatment of requests to a path, from the laxest to the strictest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Treatment {
    /// They pass untouched.
    Pass,
    /// To read it passes untouched; all else counts.
    Health,
    /// They cost nothing, and no limit refuses them.
    Free,
    /// They are requests without tokens.
    WithoutTokens,
    /// They are requests, with the tokens that can be known without a format.
    Count,
    /// The same, but a WebSocket to it is one to a model.
    Realtime,
    /// Their bodies have the format of this endpoint.
    Format,
    /// They are answered 403.
    Reject,
}

/// A configured treatment, with the format if it names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The treatment.
    pub treatment: Treatment,
    /// The endpoint with the format.
    pub format: Option<Endpoint>,
}

impl Rule {
    /// A treatment without a format.
    pub const fn of(treatment: Treatment) -> Self {
        Self { treatment, format: None }
    }

    /// The treatment of bodies in the format of `endpoint`.
    pub const fn format(endpoint: Endpoint) -> Self {
        Self { treatment: Treatment::Format, format: Some(endpoint) }
    }
}

/// The treatment of every path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// In the order in which patterns win.
    rules: Vec<(Pattern, Rule)>,
    /// The treatment of paths that no other rule is for, if it is given.
    others: Option<Rule>,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self::new([], None)
    }
}

/// The way of a request through the filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The treatment of the request.
    pub treatment: Treatment,
    /// The endpoint: the format of bodies, and the form of errors.
    pub endpoint: Endpoint,
    /// The model that the path names; any, if it names one that is too long to be kept.
    pub deployment: Option<Candidates>,
}

impl Route {
    /// The name of a model in the path.
    pub fn model(&self) -> Option<&str> {
        self.deployment.as_ref()?.names().first().map(|name| &**name)
    }
}

impl Endpoints {
    /// The treatment by `rules`, over patterns in lower case, with `others` for paths that have no rule and are not
    /// known either; they count if it is none. Of equally specific patterns, the strictest wins.
    pub fn new(rules: impl IntoIterator<Item = (Pattern, Rule)>, others: Option<Rule>) -> Self {
        let mut rules: Vec<_> = rules.into_iter().collect();
        sort::by_key(&mut rules, |(pattern, rule): &(Pattern, Rule)| {
            (pattern.specificity(), Reverse(rule.treatment), pattern.clone())
        });
        Self { rules, others }
    }

    /// Whether paths that have no rule and are not known count because nothing else is given.
    pub const fn counts_others_by_default(&self) -> bool {
        self.others.is_none()
    }

    /// The way of a request to `path`, which may have a query. Of equally strict readings, the first counts, for
    /// whichever of their models; a format without output is laxer than the others.
    pub fn route(&self, path: &str) -> Route {
        let laxest =
            Route { treatment: Treatment::Pass, endpoint: Endpoint::Other(Api::OpenAi), deployment: None };
        let stricter = |strictest: Route, next: Route| match next.strictness().cmp(&strictest.strictness()) {
            Ordering::Less => strictest,
            Ordering::Equal => strictest.or_for(next.deployment),
            Ordering::Greater => next,
        };
        readings(path).iter().map(|reading| self.route_of(reading)).reduce(stricter).unwrap_or(laxest)
    }

    /// Whether a request with `method` to `path` is answered with a response that was created before: it reads it, or
    /// cancels it.
    pub fn is_of_a_response(&self, method: &str, path: &str) -> bool {
        let creates = |path: &Reading| self.rule(path).format == Some(Endpoint::Responses);
        let is_one = |path: &Reading| path.parent().is_some_and(|path| creates(&path));
        let cancels = |path: &Reading| path.segments().next_back() == Some("cancel");
        match method {
            "GET" => readings(path).iter().any(is_one),
            "POST" if path.contains("cancel") => {
                let of_cancel = |path: &Reading| path.parent().is_some_and(|path| is_one(&path));
                readings(path).iter().any(|path| cancels(path) && of_cancel(path))
            }
            _ => false,
        }
    }

    /// The rule for `path`. A slash at its end is nothing to some servers, and to others the beginning of another name:
    /// the stricter rule counts.
    fn rule(&self, path: &Reading) -> Rule {
        let configured = |path: &str| self.rules.iter().find(|(pattern, _)| pattern.matches(path));
        let rule = configured(path.folded()).map(|(_, rule)| *rule);
        let rule = rule.or_else(|| known(path)).or(self.others).unwrap_or(Rule::of(Treatment::Count));
        match path.folded_with_slash().and_then(|path| configured(&path)) {
            Some((_, with_slash)) if with_slash.treatment > rule.treatment => *with_slash,
            _ => rule,
        }
    }

    fn route_of(&self, path: &Reading) -> Route {
        let rule = self.rule(path);
        let endpoint = rule.format.map_or_else(|| Endpoint::other(path), |format| format.at(path));
        Route { treatment: rule.treatment, endpoint, deployment: deployment(path, endpoint) }
    }
}

impl Route {
    /// The same way, for what this path or another reading of it names. No model has a name with an escape in it.
    fn or_for(mut self, other: Option<Candidates>) -> Self {
        let is_escaped = |models: &Candidates| models.names().iter().any(|name| name.contains('%'));
        if self.deployment != other && !other.as_ref().is_some_and(is_escaped) {
            // Where one of them names none, the body may name any.
            let [one, other] = [self.deployment, other].map(|models| models.unwrap_or(Candidates::UNKNOWN));
            self.deployment = Some(one.or(other));
        }
        self
    }

    fn strictness(&self) -> (Treatment, bool) {
        (self.treatment, self.endpoint.has_output() || !self.endpoint.has_format())
    }
}

/// The treatment of a path that servers of LLM APIs have in common.
fn known(path: &Reading) -> Option<Rule> {
    if let Some(endpoint) = Endpoint::of(path) {
        return Some(Rule::format(endpoint));
    }
    if Endpoint::counts_tokens(path) {
        return Some(Rule::of(Treatment::WithoutTokens));
    }
    let mut from_end = path.segments().rev();
    let treatment = match (from_end.next()?, from_end.next(), from_end.next()) {
        // At the root only: strangers may read it.
        ("health" | "healthz" | "livez" | "readyz" | "ping", None, _) => Treatment::Health,
        ("cancel", Some(_), Some("responses")) => Treatment::Free,
        ("count_tokens", Some("messages"), _)
        | ("input_tokens", Some("responses"), _)
        | ("tokenize" | "detokenize" | "moderations", _, _) => Treatment::WithoutTokens,
        ("realtime", _, _) => Treatment::Realtime,
        _ => return None,
    };
    Some(Rule::of(treatment))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoints(rules: &[(&str, Rule)], others: Option<Rule>) -> Endpoints {
        Endpoints::new(rules.iter().map(|(pattern, rule)| (Pattern::new(*pattern), *rule)), others)
    }

    fn treatment(endpoints: &Endpoints, path: &str) -> Treatment {
        endpoints.route(path).treatment
    }

    #[test]
    fn a_slash_at_the_end_gets_past_no_pattern() {
        let endpoints = endpoints(
            &[("/adm/*", Rule::of(Treatment::Reject)), ("/open/*", Rule::of(Treatment::Pass))],
            Some(Rule::of(Treatment::Count)),
        );
        for path in
            ["/adm/", "/adm//", "/adm/.", "/adm/x/..", "/adm/%2e", "/adm/;", "/Adm%2F", "/adm\\", "/adm/?x"]
        {
            assert_eq!(treatment(&endpoints, path), Treatment::Reject, "{path}");
        }
        for path in ["/adm", "/adm?/", "/open/", "/open"] {
            assert_eq!(treatment(&endpoints, path), Treatment::Count, "{path}");
        }
        assert_eq!(treatment(&endpoints, "/open/x/"), Treatment::Pass);
    }

    #[test]
    fn what_llm_apis_have_in_common_is_known() {
        for (path, expected) in [
            ("/v1/chat/completions", Treatment::Format),
            ("/v1/messages/count_tokens?beta=true", Treatment::WithoutTokens),
            ("/openai/v1/responses/input_tokens", Treatment::WithoutTokens),
            ("/tokenize", Treatment::WithoutTokens),
            ("/vllm/Detokenize/", Treatment::WithoutTokens),
            ("/v1/moderations", Treatment::WithoutTokens),
            ("/v1beta/models/gemini-2.5-flash:generateContent?key=x", Treatment::Format),
            ("/v1/models/gemini-2.5-flash:streamGenerateContent?alt=sse", Treatment::Format),
            ("/v1beta/models/gemini-embedding-001:batchEmbedContents", Treatment::Format),
            ("/v1beta/models/gemini-2.5-flash:countTokens", Treatment::WithoutTokens),
            ("/v1/publishers/anthropic/models/count-tokens:rawPredict", Treatment::WithoutTokens),
            ("/v1/responses/compact", Treatment::Format),
            ("/api/chat", Treatment::Format),
            ("/v2/chat", Treatment::Format),
            ("/v1/rerank", Treatment::Format),
            ("/api/generate", Treatment::Format),
            ("/api/tags", Treatment::Count),
            ("/v1beta/models/gemini-2.5-flash:batchGenerateContent", Treatment::Count),
            ("/v1/responses/resp_1/cancel", Treatment::Free),
            ("/v1/batches/b_1/cancel", Treatment::Count),
            ("/v1/realtime?model=gpt-realtime", Treatment::Realtime),
            ("/v1/realtime/sessions", Treatment::Count),
            ("/health", Treatment::Health),
            ("/ping/", Treatment::Health),
            ("/v1/health", Treatment::Count),
            ("/v1/threads/t_1/messages", Treatment::Count),
            ("/v1/responses/resp_1", Treatment::Count),
            ("/v1/images/generations", Treatment::Count),
            ("/", Treatment::Count),
        ] {
            assert_eq!(treatment(&Endpoints::default(), path), expected, "{path}");
        }
    }

    #[test]
    fn the_most_specific_pattern_wins_and_the_star_comes_last() {
        let rules = endpoints(
            &[
                ("/v1/*", Rule::of(Treatment::Count)),
                ("/v1/files*", Rule::of(Treatment::Reject)),
                ("/v1/files/public*", Rule::of(Treatment::Pass)),
                ("*/my/llm", Rule::format(Endpoint::ChatCompletions)),
                ("/health", Rule::of(Treatment::Reject)),
            ],
            Some(Rule::of(Treatment::Pass)),
        );
        for (path, expected) in [
            ("/v1/chat/completions", Treatment::Count),
            ("/V1/Files/f_1", Treatment::Reject),
            ("/v1/files/public/f_1", Treatment::Pass),
            ("/any/my/llm/", Treatment::Format),
            ("/openai/v1/chat/completions", Treatment::Format),
            ("/health", Treatment::Reject),
            ("/ping", Treatment::Health),
            ("/else", Treatment::Pass),
        ] {
            assert_eq!(treatment(&rules, path), expected, "{path}");
        }
        assert_eq!(rules.route("/any/my/llm").endpoint, Endpoint::ChatCompletions);
        assert!(!rules.counts_others_by_default() && Endpoints::default().counts_others_by_default());
    }

    #[test]
    fn of_equally_specific_patterns_the_exact_and_then_the_strictest_wins() {
        let rules = endpoints(
            &[
                ("*/v1/files", Rule::of(Treatment::Reject)),
                ("/v1/files", Rule::of(Treatment::Pass)),
                ("/a/b*", Rule::of(Treatment::Reject)),
                ("*/a/b", Rule::of(Treatment::Pass)),
                ("*/c/d", Rule::format(Endpoint::Messages)),
                ("/c/d*", Rule::of(Treatment::Count)),
            ],
            None,
        );
        for (path, expected) in [
            ("/v1/files", Treatment::Pass),
            ("/x/v1/files", Treatment::Reject),
            ("/a/b", Treatment::Reject),
            ("/c/d", Treatment::Format),
            ("/c/d/e", Treatment::Count),
        ] {
            assert_eq!(treatment(&rules, path), expected, "{path}");
        }
    }

    #[test]
    fn of_two_formats_the_one_with_output_counts() {
        for path in
            ["/v1/chat/completions%3F/../../../embeddings", "/v1/embeddings%3F/../../chat/completions"]
        {
            assert_eq!(Endpoints::default().route(path).endpoint, Endpoint::ChatCompletions, "{path}");
        }
    }

    #[test]
    fn what_is_answered_with_a_response_follows_from_where_responses_are_created() {
        let rules = endpoints(
            &[
                ("/my/llm", Rule::format(Endpoint::Responses)),
                ("/other/responses", Rule::of(Treatment::Count)),
            ],
            None,
        );
        for (method, path, expected) in [
            ("GET", "/v1/responses/resp_1", true),
            ("GET", "/openai/responses/resp_1?api-version=1&stream=true", true),
            ("GET", "//v1/Responses/resp%5F1/", true),
            ("GET", "/my/llm/resp_1", true),
            ("POST", "/v1/responses/resp_1/cancel", true),
            ("POST", "/my/llm/resp_1/cancel/", true),
            ("POST", "/v1/responses/resp_1", false),
            ("POST", "/v1/responses/cancel", false),
            ("GET", "/v1/responses/resp_1/cancel", false),
            ("GET", "/v1/responses/resp_1/input_items", false),
            ("GET", "/v1/responses", false),
            ("GET", "/other/responses/resp_1", false),
            ("HEAD", "/v1/responses/resp_1", false),
            ("DELETE", "/v1/responses/resp_1", false),
            ("GET", "/v1/chat/completions/chat_1", false),
            ("GET", "/", false),
        ] {
            assert_eq!(rules.is_of_a_response(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn of_several_readings_the_strictest_counts() {
        let rules = endpoints(
            &[("/public/*", Rule::of(Treatment::Pass)), ("/admin/*", Rule::of(Treatment::Reject))],
            None,
        );
        for (path, expected) in [
            ("/public/a;b%20c.css", Treatment::Pass),
            ("/public/..%2Fv1/chat/completions", Treatment::Format),
            ("/public/%252e%252e/v1/chat/completions", Treatment::Format),
            ("/public/..;/v1/messages", Treatment::Format),
            ("/public\\..\\v1/chat/completions", Treatment::Format),
            ("/v1/messages%3F/count_tokens", Treatment::Format),
            ("/v1/chat/completions%23/../../health", Treatment::Format),
            ("/admin/%2e%2e/v1/chat/completions", Treatment::Reject),
            ("/health/..;/v1/embeddings", Treatment::Format),
        ] {
            assert_eq!(treatment(&rules, path), expected, "{path}");
        }
    }

    #[test]
    fn errors_have_the_form_of_the_api_that_the_path_belongs_to() {
        let rules = endpoints(&[("/v1/messages", Rule::of(Treatment::Reject))], None);
        assert_eq!(rules.route("/v1/messages").endpoint, Endpoint::Other(Api::Anthropic));
        assert_eq!(rules.route("/v1/files").endpoint, Endpoint::Other(Api::OpenAi));
        let azure = rules.route("/openai/deployments/gpt-4o/chat/completions");
        assert_eq!(azure.model(), Some("gpt-4o"));
        let google = rules.route("/v1beta/models/gemini-2.5-flash:countTokens");
        assert_eq!(
            (google.endpoint, google.model()),
            (Endpoint::Other(Api::Google), Some("gemini-2.5-flash"))
        );
    }

    #[test]
    fn a_path_is_for_the_models_of_all_its_readings() {
        let deployment = |path: &str| endpoints(&[], None).route(path).deployment;
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let of = |of: &[&str]| Some(Candidates::of(names(of)));
        for (path, expected) in [
            ("/openai/deployments/my%20model/embeddings", of(&["my model"])),
            ("/openai/deployments//gpt%2d4o;x=y/chat/completions", of(&["gpt-4o"])),
            ("/openai/deployments/o3//../gpt-4o/chat/completions", of(&["gpt-4o", "o3/gpt-4o"])),
            (
                "/openai/deployments/o3/chat/completions%3F/../../../gpt-4o/chat/completions",
                of(&["gpt-4o", "o3"]),
            ),
            (
                "/openai/deployments/o3/chat/completions%3F/../../../../../v1/chat/completions",
                Some(Candidates::Any(names(&["o3"]))),
            ),
            ("/v1/chat%2Fcompletions", None),
        ] {
            assert_eq!(deployment(path), expected, "{path}");
        }
    }

    /// `path` spelled in another way, at or after its character `at`.
    fn respelled(path: &str, way: usize, at: usize) -> String {
        let at = at % path.len();
        let (before, after) = path.split_at(at);
        let (letter, rest) = after.split_at(1);
        let slash = after.find(['/', '\\']).map_or(path.len(), |slash| at + slash);
        let (left, right) = path.split_at(slash);
        match way {
            0 => format!("{before}{}{rest}", letter.to_ascii_uppercase()),
            1 => format!("{before}%{:02x}{rest}", letter.as_bytes()[0]),
            2 => format!("{left};a=b{right}"),
            3 => format!("{left}/{right}"),
            4 => format!("{left}/.{right}"),
            5 => format!("{left}/x/..{right}"),
            _ => format!("{left}\\{}", right.trim_start_matches(['/', '\\'])),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn any_spelling_of_an_action_is_that_action(
            plain in prop::sample::select(vec![
                "/v1beta/models/gemini:generateContent", "/v1/models/gemini:embedContent",
            ]),
            ways in prop::collection::vec((0..7_usize, 0..1_000_usize), 0..6),
            end in prop::sample::select(vec!["", "?key=a", "%3Fa", "#a", "%23", "%00", "%20"]),
        ) {
            let spelled = ways.into_iter().fold(plain.to_owned(), |path, (way, at)| respelled(&path, way, at)) + end;
            let of = |path: &str| {
                let route = Endpoints::default().route(path);
                (route.treatment, route.endpoint, route.model().map(str::to_lowercase))
            };
            prop_assert_eq!(of(plain), of(&spelled), "{} as {}", plain, spelled);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn any_spelling_of_an_endpoint_is_that_endpoint(
            plain in prop::sample::select(vec![
                "/v1/chat/completions", "/v1/embeddings", "/openai/v1/responses", "/v1/messages",
            ]),
            ways in prop::collection::vec((0..7_usize, 0..1_000_usize), 0..6),
            end in prop::sample::select(vec!["", "?a=/health", "%3Fa", "#a", "%23", "%00", "%20"]),
        ) {
            let spelled = ways.into_iter().fold(plain.to_owned(), |path, (way, at)| respelled(&path, way, at)) + end;
            let [plain, spelled] = [plain, &spelled].map(|path| (path.to_owned(), Endpoints::default().route(path)));
            prop_assert_eq!(plain.1, spelled.1, "{} as {}", plain.0, spelled.0);
        }
    }
}
