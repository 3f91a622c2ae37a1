//! The sidecar's token, which the filter must have as `store.auth_token`: where the sidecar gets it from.

use super::Notes;
use super::documents::Document;
use super::find::{Form, Found};
use super::tree::{list, text};
use super::world::World;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use llm_rate_limit::config::{Config, Secret, Store};
use serde_json::Value;

/// The setting of the sidecar that is its token.
const SETTING: &str = "AUTH_TOKEN";

/// The name of the sidecar, in names of containers and images.
const NAME: &str = "llm-rate-limit";

/// A sidecar among Kubernetes's resources.
#[derive(Clone, Debug)]
pub(super) struct Sidecar {
    /// Its kind and its name.
    title: String,
    token: Token,
}

/// Where a sidecar has its token from.
#[derive(Clone, Debug)]
enum Token {
    /// It is there.
    Plain(String),
    /// A secret has it, by its name and that of the value.
    Secret(String, String),
    /// Nowhere that is known.
    None,
}

/// The values in a `Secret`, each by the secret's name and its own.
pub(super) fn secret(secret: &Value) -> Vec<((String, String), String)> {
    let name = text(secret, &["metadata", "name"]);
    let members = |of: &str| secret.get(of).and_then(Value::as_object).into_iter().flatten();
    let decoded = members("data").filter_map(|(key, value)| {
        let bytes = STANDARD.decode(value.as_str()?.trim()).ok()?;
        Some((key, String::from_utf8(bytes).ok()?))
    });
    let plain = members("stringData").filter_map(|(key, value)| Some((key, value.as_str()?.to_owned())));
    decoded.chain(plain).map(|(key, value)| ((name.to_owned(), key.clone()), value)).collect()
}

/// The sidecars among the containers of `document`.
pub(super) fn sidecars(document: &Document) -> Vec<Sidecar> {
    let pod = document.value.pointer("/spec/template/spec").or_else(|| document.value.get("spec"));
    let containers = pod.map(|pod| list(pod, &["containers"])).unwrap_or_default();
    let is_sidecar = |container: &&Value| {
        let has = |name: &str, word: &str| list(container, &[name]).iter().any(|value| value == word);
        (has("args", "sidecar") || has("command", "sidecar"))
            && ["name", "image"].iter().any(|name| {
                let value = text(container, &[name]);
                value.contains(NAME) || value == "sidecar"
            })
    };
    let title = format!("{} {}", document.kind(), text(&document.value, &["metadata", "name"]));
    let sidecars = containers.iter().filter(is_sidecar);
    sidecars.map(|container| Sidecar { title: title.clone(), token: Token::of(container) }).collect()
}

impl Token {
    fn of(container: &Value) -> Self {
        let Some(setting) = list(container, &["env"]).iter().find(|setting| setting["name"] == SETTING)
        else {
            let secret = list(container, &["envFrom"])
                .iter()
                .find_map(|from| from.pointer("/secretRef/name").and_then(Value::as_str));
            return secret.map_or(Self::None, |secret| Self::Secret(secret.to_owned(), SETTING.to_owned()));
        };
        if let Some(value) = setting.get("value").and_then(Value::as_str) {
            return Self::Plain(value.to_owned());
        }
        match setting.pointer("/valueFrom/secretKeyRef") {
            Some(secret) => {
                Self::Secret(text(secret, &["name"]).to_owned(), text(secret, &["key"]).to_owned())
            }
            None => Self::None,
        }
    }
}

/// Whether the filter that was `found` has the token of the sidecars that are there; or says that nobody can see that.
pub(super) fn check(found: &Found<'_>, config: &Config, world: &World<'_>, notes: &mut Notes) {
    let Store::Redis(store) = config.store() else { return };
    let is_kubernetes = matches!(found.form, Form::Istio { .. } | Form::Gateway { .. })
        || found.document.kind() == "EnvoyFilter";
    if matches!(found.form, Form::Alone) || found.document.value.get("configs").is_some() {
        return;
    }
    let given = store.auth_token.as_ref().map(Secret::expose);
    let place = &found.configuration_place;
    if world.sidecars.is_empty() && (given.is_some() || is_kubernetes) {
        notes.hint(
            place,
            "store.auth_token: no file here has the sidecar, so nobody can see whether this is its AUTH_TOKEN: doctor \
             can, with --sidecar",
        );
    }
    for sidecar in &world.sidecars {
        let title = &sidecar.title;
        let token = match &sidecar.token {
            Token::None => None,
            Token::Plain(token) => Some(token.as_str()),
            Token::Secret(secret, key) => match world.secrets.get(&(secret.clone(), key.clone())) {
                Some(token) => Some(token.as_str()),
                None => {
                    notes.hint(
                        place,
                        format!(
                            "store.auth_token: {title} has its AUTH_TOKEN from the Secret {secret:?}, which is in no \
                             file here: nobody can see whether this is the same"
                        ),
                    );
                    continue;
                }
            },
        };
        match (token, given) {
            (Some(token), Some(given)) if token != given => {
                notes.problem(place, format!("store.auth_token: the AUTH_TOKEN of {title} is another"));
            }
            (Some(_), None) => {
                notes.problem(
                    place,
                    format!("store.auth_token: expected the AUTH_TOKEN of {title}, found none"),
                );
            }
            _ => {}
        }
    }
}
