//! The message of a refusal: text with placeholders, which a refusal replaces by values.

/// A place for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// `{limit}`: the most that the window admits.
    Limit,
    /// `{metric}`: the quantity that is limited.
    Metric,
    /// `{window}`: the window's length.
    Window,
    /// `{retry_after}`: the time until the request fits.
    RetryAfter,
    /// `{name}`: the configuration's name for the key.
    Name,
}

impl Placeholder {
    const ALL: [(&str, Self); 5] = [
        ("limit", Self::Limit),
        ("metric", Self::Metric),
        ("window", Self::Window),
        ("retry_after", Self::RetryAfter),
        ("name", Self::Name),
    ];
}

/// A message, divided at its placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Placeholder),
}

impl Message {
    /// Reads a message. `{{` and `}}` are braces.
    ///
    /// # Errors
    /// A message about an unknown placeholder or a single brace.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, brace, after)) = next_brace(rest) {
            literal.push_str(before);
            rest = if let Some(after) = after.strip_prefix(brace) {
                literal.push(brace);
                after
            } else {
                let name = after.split_once('}').filter(|_| brace == '{');
                let Some((name, after)) = name else {
                    return Err(format!("expected {brace}{brace} for a brace, found a lone {brace}"));
                };
                let known = Placeholder::ALL.iter().find(|(known, _)| *known == name);
                let Some((_, placeholder)) = known else { return Err(unknown(name)) };
                parts.push(Part::Text(std::mem::take(&mut literal)));
                parts.push(Part::Value(*placeholder));
                after
            };
        }
        literal.push_str(rest);
        parts.push(Part::Text(literal));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self { parts })
    }

    /// The message with the `value` of each placeholder.
    pub fn render(&self, value: impl Fn(Placeholder) -> String) -> String {
        let mut message = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => message.push_str(text),
                Part::Value(placeholder) => message.push_str(&value(*placeholder)),
            }
        }
        message
    }
}

/// The text before the first brace, the brace, and the text after it.
fn next_brace(text: &str) -> Option<(&str, char, &str)> {
    let (before, from) = text.split_at_checked(text.find(['{', '}'])?)?;
    let mut letters = from.chars();
    let brace = letters.next()?;
    Some((before, brace, letters.as_str()))
}

fn unknown(name: &str) -> String {
    let known: Vec<_> = Placeholder::ALL.iter().map(|(name, _)| format!("{{{name}}}")).collect();
    format!(
        "expected a placeholder of {}, found {}",
        known.join(", "),
        super::error::quoted(&format!("{{{name}}}"))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rendered(text: &str) -> Result<String, String> {
        Message::parse(text).map(|message| message.render(|placeholder| format!("<{placeholder:?}>")))
    }

    #[test]
    fn placeholders_are_filled_in() {
        assert_eq!(
            rendered("您 {name}: {limit} {metric} per {window}, {retry_after}{retry_after}!").unwrap(),
            "您 <Name>: <Limit> <Metric> per <Window>, <RetryAfter><RetryAfter>!"
        );
        assert_eq!(rendered("{{\"a\": {limit}}}").unwrap(), "{\"a\": <Limit>}");
        assert_eq!(rendered("").unwrap(), "");
    }

    #[test]
    fn braces_that_mean_nothing_are_errors() {
        let known = "{limit}, {metric}, {window}, {retry_after}, {name}";
        for (text, expected) in [
            ("{foo}", format!("expected a placeholder of {known}, found \"{{foo}}\"")),
            ("{}", format!("expected a placeholder of {known}, found \"{{}}\"")),
            ("{limit", "expected {{ for a brace, found a lone {".to_owned()),
            ("limit}", "expected }} for a brace, found a lone }".to_owned()),
        ] {
            assert_eq!(rendered(text), Err(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn doubled_braces_are_any_text(text in "\\PC*") {
            prop_assert_eq!(rendered(&text.replace('{', "{{").replace('}', "}}")), Ok(text));
        }

        #[test]
        fn no_text_panics(text in "[{}a-z_]*") {
            let _ = Message::parse(&text);
        }
    }
}
