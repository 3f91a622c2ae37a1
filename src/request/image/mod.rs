//! Images in a prompt: how large they are, and what they cost.
//!
//! The size is in the image's own header, if the request has the image; nothing decodes the image itself. An image that
//! the request only names, by an address or a file's id, or whose size cannot be read, counts as the most that the
//! model charges for any image in its detail.

mod cost;
mod header;

use super::payload::Payload;

/// Width and height in pixels, neither of them zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) width: u32,
    pub(super) height: u32,
}

/// The detail in which a model sees an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Detail {
    /// The model's default.
    #[default]
    Auto,
    /// A small version.
    Low,
    /// A version of usual size.
    High,
    /// The original, as far as the model can see it.
    Original,
}

impl Detail {
    /// The detail called `name`; an unknown name is the default.
    pub(super) fn from_name(name: &str) -> Self {
        match name {
            "low" => Self::Low,
            "high" => Self::High,
            "original" => Self::Original,
            _ => Self::Auto,
        }
    }
}

/// The details that a request names for an image: one, or several, of which a reader takes one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Details(u8);

impl Details {
    const ALL: [Detail; 4] = [Detail::Auto, Detail::Low, Detail::High, Detail::Original];

    pub(super) const fn add(&mut self, detail: Detail) {
        self.0 |= 1 << detail as u8;
    }

    /// Each of them; the model's default if there is none.
    fn iter(self) -> impl Iterator<Item = Detail> {
        let bits = if self.0 == 0 { 1 << Detail::Auto as u8 } else { self.0 };
        Self::ALL.into_iter().filter(move |detail| bits & (1 << *detail as u8) != 0)
    }
}

/// An image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// Its size; none if it is not known.
    pub(super) size: Option<Size>,
    pub(super) details: Details,
}

/// The size of the image at `url`, a JSON string with or without quotes: from the image's header, if it is a data URL.
pub(super) fn size_at(url: &str) -> Option<Size> {
    Payload::in_url(url).and_then(|(_, payload)| size_in(payload))
}

/// The size of the image in `payload`.
pub(super) fn size_in(payload: Payload<'_>) -> Option<Size> {
    header::size(payload.bytes())
}
