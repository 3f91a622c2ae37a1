//! The definitions of tools. They are kept as they are written, and shown as the model is shown them when they are
//! counted (`shown.rs`): until then, nobody knows the model.

use super::content::Kinds;
use super::prompt::Counted;
use crate::codec::lenient::Accept;
use serde::de::SeqAccess;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The value of `tools` or `functions`: each of them is kept.
pub(super) struct Tools<'t, 'b>(pub(super) &'t mut Kinds<'b>);

impl<'b> Accept<'b> for Tools<'_, 'b> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let tool = array.next_element::<&'b RawValue>()?;
        self.0.extend(tool.map(|tool| (Counted::Tool, Cow::Borrowed(tool.get()))));
        Ok(tool.map(drop))
    }
}
