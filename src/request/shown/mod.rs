//! Texts that models are not shown as they are written: tools, schemas, and arguments of calls.
//!
//! They are shown when they are counted, because the model is known then: a request is read once, whatever models it
//! may be for, and what its model is not shown costs no time.

mod schema;
mod short;
mod tool;
mod types;

use super::prompt::Counted;
use crate::codec::lenient;
use crate::tokens::Weights;
use serde::de::IgnoredAny;
use std::borrow::Cow;
use tool::Function;

/// The largest text that is shown in another form, in bytes: a larger one would take a worker too long.
const MAX_SHOWN: usize = 64 * 1024;

/// How `text` counts for every model, if it is too large to be shown in another form: tools and schemas as JSON, which
/// is more, and arguments as they are.
pub(super) const fn of_large(counted: Counted, text: &str) -> Option<Counted> {
    if text.len() <= MAX_SHOWN {
        return None;
    }
    match counted {
        Counted::Tool => Some(Counted::LargeTool),
        Counted::Schema => Some(Counted::LargeSchema),
        Counted::Arguments => Some(Counted::Once),
        _ => None,
    }
}

/// How a text is shown.
pub(super) enum Shown<'t> {
    /// As it is.
    AsIs,
    /// As these texts, whose tokens add up.
    Otherwise {
        texts: Vec<(Counted, Cow<'t, str>)>,
        /// What it is, if it is a tool.
        tool: Option<ToolKind>,
    },
}

/// Who describes a tool to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ToolKind {
    /// The request.
    Function,
    /// The provider, which the request names it to.
    Named,
    /// The provider.
    Provided,
}

/// How a model is shown `text`, which counts as `counted`; models with other `weights` may be shown it in another way.
pub(super) fn shown<'t>(counted: Counted, text: &'t str, weights: &Weights) -> Shown<'t> {
    if counted.weight(weights) == 0 {
        return Shown::Otherwise { texts: Vec::new(), tool: None };
    }
    if let Some(large) = of_large(counted, text) {
        let text = if counted == Counted::Arguments { text.into() } else { lenient::compact(text) };
        let tool = (counted == Counted::Tool).then_some(ToolKind::Function);
        return Shown::Otherwise { texts: vec![(large, text)], tool };
    }
    match counted {
        Counted::Tool => tool(text, weights),
        Counted::Schema => Shown::Otherwise { texts: schema_of_answer(text, weights), tool: None },
        Counted::Arguments => {
            let is_short = !text.bytes().any(|byte| byte.is_ascii_whitespace());
            if is_short || serde_json::from_str::<IgnoredAny>(text).is_err() {
                return Shown::AsIs;
            }
            Shown::Otherwise { texts: vec![(counted, lenient::compact(text))], tool: None }
        }
        _ => Shown::AsIs,
    }
}

fn tool<'t>(json: &'t str, weights: &Weights) -> Shown<'t> {
    let as_json = weights.tool_json > 0;
    let Ok(function) = Function::read(json, as_json) else {
        // The text is JSON, but for halves of surrogate pairs.
        let mended = lenient::mend(json.as_bytes());
        return Function::read(&mended, as_json).map_or(Shown::AsIs, |function| owned(&function, weights));
    };
    owned(&function, weights)
}

/// The texts of a function, apart from its definition.
fn owned(function: &Function<'_>, weights: &Weights) -> Shown<'static> {
    let mut texts = Vec::new();
    if function.has_name() {
        if weights.tool_types > 0 {
            texts.push((Counted::ToolTypes, function.as_types().into()));
        }
        if weights.tool_json > 0 {
            texts.extend(function.as_json().into_iter().map(|text| (Counted::ToolJson, text.into())));
        }
    }
    Shown::Otherwise { texts, tool: Some(function.kind()) }
}

/// The schema of the answer.
fn schema_of_answer<'t>(json: &'t str, weights: &Weights) -> Vec<(Counted, Cow<'t, str>)> {
    let mut texts = Vec::new();
    if weights.schema_short > 0 {
        texts.push((Counted::ShortSchema, short::short(json).into()));
    }
    if weights.schema_json > 0 {
        texts.push((Counted::JsonSchema, lenient::compact(json)));
    }
    texts
}

#[cfg(test)]
mod tests;
