//! Images in a prompt: how large they are, and what they cost.
//!
//! The size is in the image's own header, if the request has the image; nothing decodes the image itself. An image that
//! the request only names, by an address or a file's id, counts as [`ASSUMED_SIZE`].

mod cost;
mod header;

use super::payload::Payload;

/// The size to assume of an unknown image: a square of 1,024 pixels, the example in OpenAI's guide "Images and vision".
pub(super) const ASSUMED_SIZE: Size = Size { width: 1024, height: 1024 };

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

/// An image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) size: Size,
    pub(super) detail: Detail,
}

/// The size of the image at `url`, a JSON string with or without quotes: from the image's header, if it is a data URL.
pub(super) fn size_at(url: &str) -> Size {
    Payload::in_url(url).map_or(ASSUMED_SIZE, |(_, payload)| size_in(payload))
}

/// The size of the image in `payload`.
pub(super) fn size_in(payload: Payload<'_>) -> Size {
    header::size(payload.bytes()).unwrap_or(ASSUMED_SIZE)
}
