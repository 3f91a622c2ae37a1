//! Google's Gemini API, and the same on Vertex AI: contents, a system instruction and tools, or contents to embed.
//!
//! Protobuf's JSON has two spellings of each name, `maxOutputTokens` and `max_output_tokens`, and readers take both.
//! Google's models show no structure in what they bill ([`crate::models`] has the numbers). A cache that the request
//! names, and what tools of the provider find, count nothing until the response reports its usage.

use super::beside;
use super::content::{Content, Named};
use super::conversation::Conversation;
use super::prompt::Counted;
use super::shape::{Roles, Shape};
use super::tools::Tools as Declarations;
use crate::codec::lenient::{self, Accept, Text};
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// Reads a member of the request's body into `prompt`.
///
/// # Errors
/// The value is not JSON.
pub(super) fn member<'b, A: MapAccess<'b>>(
    prompt: &mut Conversation<'b>,
    name: &str,
    object: &mut A,
) -> Result<(), A::Error> {
    match name {
        "contents" | "content" => lenient::offer(object, &mut Contents(prompt)),
        "requests" => lenient::offer(object, &mut Requests(prompt)),
        "systeminstruction" | "system_instruction" => {
            let content = &mut prompt.content;
            let before = content.texts.len();
            let read = lenient::offer(object, &mut Message { content, roles: &mut Roles::default() });
            content.count_from(before, Counted::System);
            read
        }
        "tools" => lenient::offer(object, &mut Tools(prompt)),
        "toolconfig" | "tool_config" => lenient::offer(object, &mut ToolConfig(&mut prompt.shape)),
        "cachedcontent" | "cached_content" => {
            prompt.shape.hides |= lenient::raw(object)? != "null";
            Ok(())
        }
        "labels"
        | "outputdimensionality"
        | "output_dimensionality"
        | "safetysettings"
        | "safety_settings"
        | "servicetier"
        | "service_tier"
        | "store"
        | "tasktype"
        | "task_type" => lenient::skip(object),
        _ => beside::read(&mut prompt.shape, &mut prompt.content.texts, name, object),
    }
}

/// Reads a member of `generationConfig` that sets no maximum. Returns the number of answers, if it is that.
///
/// # Errors
/// The value is not JSON.
pub(super) fn option<'b, A: MapAccess<'b>>(
    prompt: &mut Conversation<'b>,
    name: &str,
    object: &mut A,
) -> Result<Option<u64>, A::Error> {
    match name {
        "candidatecount" | "candidate_count" => return lenient::number(object),
        "thinkingconfig" | "thinking_config" => prompt.shape.efforts.take(lenient::raw(object)?),
        "responseschema" | "response_schema" | "responsejsonschema" | "response_json_schema" => {
            prompt.shape.has_schema = true;
            prompt.content.kinds.push((Counted::Schema, Cow::Borrowed(lenient::raw(object)?)));
        }
        // How to answer. What else there may be is in no prompt.
        _ => lenient::skip(object)?,
    }
    Ok(None)
}

/// The value of `contents`: an array; clients' libraries also take one content, or its text.
struct Contents<'p, 'b>(&'p mut Conversation<'b>);

impl<'b> Contents<'_, 'b> {
    /// Counts a content of which the roles have been read.
    fn end_content(&mut self, roles: &Roles) {
        let Conversation { shape, content } = &mut *self.0;
        shape.messages += 1;
        shape.roles += roles.known();
        shape.calls += std::mem::take(&mut content.calls);
    }
}

impl<'b> Accept<'b> for Contents<'_, 'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.0.shape.messages += 1;
        self.0.content.texts.push(text);
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let mut roles = Roles::default();
        let mut message = Message { content: &mut self.0.content, roles: &mut roles };
        let read = lenient::offer_element(array, &mut message)?;
        if read.is_some() {
            self.end_content(&roles);
        }
        Ok(read)
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        let mut roles = Roles::default();
        let read = Message { content: &mut self.0.content, roles: &mut roles }.member(name, object);
        self.0.shape.roles += roles.known();
        read
    }

    fn end(&mut self) {
        self.end_content(&Roles::default());
    }
}

/// A content: a role and parts.
struct Message<'p, 'b> {
    content: &'p mut Content<'b>,
    roles: &'p mut Roles,
}

impl<'b> Accept<'b> for Message<'_, 'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        Named::new(self.content).string(text);
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        Named::new(self.content).element(array)
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "role" => {
                let mut role = Text::default();
                lenient::offer(object, &mut role)?;
                let known =
                    |role: Cow<'b, str>| if role == "model" { Cow::Borrowed("assistant") } else { role };
                self.content.texts.extend(role.0.and_then(|role| self.roles.take(known(role))));
                Ok(())
            }
            "parts" => lenient::offer(object, &mut Named::new(self.content)),
            // A content may be its part.
            _ => Named::new(self.content).member(name, object),
        }
    }
}

/// The value of `requests`: each has a content to embed.
struct Requests<'p, 'b>(&'p mut Conversation<'b>);

impl<'b> Accept<'b> for Requests<'_, 'b> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, self)
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            // The path names it, and the API wants the same here.
            "model" | "requests" => lenient::skip(object),
            _ => member(self.0, name, object),
        }
    }
}

/// The value of `tools`: objects with declarations of functions, or with the name of a tool that the provider runs.
struct Tools<'p, 'b>(&'p mut Conversation<'b>);

impl<'b> Accept<'b> for Tools<'_, 'b> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, self)
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "functiondeclarations" | "function_declarations" => {
                lenient::offer(object, &mut Declarations(&mut self.0.content.kinds))
            }
            _ => {
                let tool = lenient::raw(object)?;
                self.0.shape.hides |= tool != "null";
                if tool.starts_with('{') {
                    self.0.content.kinds.push((Counted::Tool, Cow::Borrowed(tool)));
                }
                Ok(())
            }
        }
    }
}

/// The value of `toolConfig`: `{"functionCallingConfig": {"mode": "ANY"}}`.
struct ToolConfig<'s>(&'s mut Shape);

impl<'b> Accept<'b> for ToolConfig<'_> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "functioncallingconfig" | "function_calling_config" => lenient::offer(object, self),
            "mode" => {
                let mut mode = Text::default();
                lenient::offer(object, &mut mode)?;
                mode.0.iter().for_each(|mode| self.0.choice.take(&mode.to_ascii_lowercase()));
                Ok(())
            }
            _ => lenient::skip(object),
        }
    }
}
