//! Where the filter stands: each place at which requests come to it, and by which counters it counts them there. Two
//! that get the same requests and count by the same counters charge each request twice.

use super::chain::Chain;
use super::documents::Document;
use super::find::{Form, Found};
use super::routes::{Reach, reach, reach_of_patch};
use super::tree::{get, list, member, text};
use super::world::World;
use llm_rate_limit::config::{Config, Store};
use serde_json::Value;

/// A place at which requests come to a filter.
#[derive(Clone, Debug)]
pub(in crate::command) struct Stand<'a> {
    pub(super) document: &'a Document,
    /// The place of the filter that was found, which may stand at several.
    found_place: String,
    /// The place.
    pub(super) place: String,
    /// The chain that it is in, and its index there, if that is to be seen.
    pub(in crate::command) chain: Option<(Chain<'a>, usize)>,
    /// Which of the requests there come to it.
    pub(super) reach: Reach,
    /// What has the same requests.
    target: Target,
    /// The counters that it counts by; none if its configuration cannot be read.
    counters: Option<String>,
}

/// What gets requests.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    /// The chain with this number in [`World::chains`].
    Chain(usize),
    /// What a resource selects, as it says that.
    Selected(String),
}

impl Stand<'_> {
    /// Whether it is one of the filter that was `found`.
    pub(super) fn is_of(&self, found: &Found<'_>) -> bool {
        std::ptr::eq(self.document, found.document) && self.found_place == found.place
    }

    /// Whether both charge every request that comes there.
    pub(super) fn charges_as(&self, other: &Self) -> bool {
        let is_everywhere = |stand: &Self| stand.reach == Reach::Everywhere;
        let place = |stand: &Self| stand.chain.as_ref().map(|(_, at)| *at);
        // A filter that chooses one of several is one place of a chain: each request comes to one of them.
        let is_one_of_several = place(self).is_some() && place(self) == place(other);
        self.target == other.target
            && !is_one_of_several
            && self.counters.is_some()
            && self.counters == other.counters
            && is_everywhere(self)
            && is_everywhere(other)
    }
}

/// Each stand of the filter that was `found`.
pub(super) fn of<'a>(found: &Found<'a>, world: &World<'a>) -> Vec<Stand<'a>> {
    let config = Config::from_bytes(found.configuration.text().as_bytes());
    let counters = config.ok().map(|config| counters(&config, &found.form));
    let stand = |place: String, target: Target, reach, chain| Stand {
        document: found.document,
        found_place: found.place.clone(),
        place,
        chain,
        reach,
        target,
        counters: counters.clone(),
    };
    let document = found.document;
    match &found.form {
        Form::Alone => Vec::new(),
        Form::Plugin { chain: Some((filters, at)), .. } => {
            let chains = world.chains.iter().enumerate();
            let mut own = chains.filter(|(_, chain)| std::ptr::eq(chain.filters, *filters));
            own.next().map(|chain| in_chain(chain, *at, world, &stand)).into_iter().collect()
        }
        Form::Plugin { name, .. } if document.kind() == "EnvoyFilter" => {
            patches(document, name, &found.place)
                .map(|(place, patch)| {
                    let selected = text_of(document.value.pointer("/spec/workloadSelector"));
                    let target = format!("{selected} {}", text_of(patch.get("match")));
                    let reach = patch
                        .pointer("/patch/value")
                        .map_or(Reach::Everywhere, |value| reach_of_patch(value, &world.switches));
                    stand(place, Target::Selected(target), reach, None)
                })
                .collect()
        }
        Form::Plugin { name, .. } => {
            // Chains get it by its name.
            let mut stands = Vec::new();
            for (number, chain) in world.chains.iter().enumerate() {
                let is_ours = |filter: &Value| {
                    get(filter, "config_discovery").is_some() && text(filter, &["name"]) == *name
                };
                let places = chain.filters.iter().enumerate().filter(|(_, filter)| is_ours(filter));
                stands.extend(places.map(|(at, _)| in_chain((number, chain), at, world, &stand)));
            }
            stands
        }
        Form::Istio { .. } | Form::Gateway { .. } => {
            let of = |path: &str| text_of(document.value.pointer(path));
            let selected = ["/metadata/namespace", "/spec/selector", "/spec/targetRef", "/spec/targetRefs"];
            let target = selected.map(of).join(" ");
            let name = text(&document.value, &["metadata", "name"]);
            let place = format!("{} {name}, {}", document.kind(), found.place);
            vec![stand(place, Target::Selected(target), Reach::Everywhere, None)]
        }
    }
}

/// The stand of the filter `at` a place in `chain`, with its number.
fn in_chain<'a>(
    (number, chain): (usize, &Chain<'a>),
    at: usize,
    world: &World<'a>,
    stand: &impl Fn(String, Target, Reach, Option<(Chain<'a>, usize)>) -> Stand<'a>,
) -> Stand<'a> {
    stand(chain.at(at), Target::Chain(number), reach(chain, at, world), Some((chain.clone(), at)))
}

/// The patches of an `EnvoyFilter` that put the filter called `name`, or the one at `found_place`, into chains.
fn patches<'a>(
    document: &'a Document,
    name: &str,
    found_place: &str,
) -> impl Iterator<Item = (String, &'a Value)> {
    let patches = list(&document.value, &["spec", "configPatches"]).iter().enumerate();
    patches.filter_map(move |(index, patch)| {
        let path = format!("spec.configPatches[{index}]");
        let is_by_name = patch
            .pointer("/patch/value")
            .is_some_and(|value| get(value, "typed_config").is_none() && text(value, &["name"]) == name);
        let is_there = found_place.starts_with(&document.at(&member(&path, "patch")));
        let is_ours = text(patch, &["applyTo"]) == "HTTP_FILTER" && (is_by_name || is_there);
        is_ours.then(|| (document.at(&path), patch))
    })
}

/// The counters that a filter counts by, as far as its store says. Envoy keeps those of each VM apart.
fn counters(config: &Config, form: &Form<'_>) -> String {
    let store = match (config.store(), form) {
        (Store::Redis(redis), _) => redis.cluster.as_str(),
        (Store::Local(_), Form::Plugin { plugin, .. }) => text(plugin, &["vm_config", "vm_id"]),
        (Store::Local(_), _) => "",
    };
    format!("{store:?} {}", config.namespace())
}

fn text_of(value: Option<&Value>) -> String {
    value.map(Value::to_string).unwrap_or_default()
}
