//! The tokens of audio in a prompt, by its duration.
//!
//! OpenAI's guide "Managing costs" for its realtime models gives one token for 100 milliseconds of a user's audio, and
//! chats cost the same. The duration is exact for WAV, which has the bytes per second in its header. For other formats
//! [`BYTES_PER_SECOND`] is assumed, which more often overestimates than underestimates it.

use super::payload::Payload;
use crate::quantity::{Millis, Units};

/// Milliseconds per token.
const TOKEN_MS: u64 = 100;

/// The assumed rate of compressed audio: 32 kbit/s, a low rate for speech.
const BYTES_PER_SECOND: u64 = 4_000;

/// The most chunks of a WAV file to search for its format.
const MAX_CHUNKS: usize = 16;

/// Tokens of the audio in `payload`.
pub(super) fn tokens(payload: Payload<'_>) -> Units {
    let bytes_per_second = wav_rate(payload.bytes()).filter(|rate| *rate > 0).unwrap_or(BYTES_PER_SECOND);
    let ms = (Millis::SECOND * payload.bytes_len()).get().div_ceil(bytes_per_second);
    Units::new(ms.div_ceil(TOKEN_MS))
}

/// Bytes per second of the WAV file that begins with `bytes`: in its `fmt ` chunk, after format, channels and sample
/// rate.
fn wav_rate(mut bytes: impl Iterator<Item = u8>) -> Option<u64> {
    if word(&mut bytes)? != *b"RIFF" {
        return None;
    }
    word(&mut bytes)?;
    if word(&mut bytes)? != *b"WAVE" {
        return None;
    }
    for _ in 0..MAX_CHUNKS {
        let name = word(&mut bytes)?;
        let length = u32::from_le_bytes(word(&mut bytes)?);
        if name == *b"fmt " {
            bytes.nth(7)?;
            return Some(u32::from_le_bytes(word(&mut bytes)?).into());
        }
        if name == *b"data" {
            return None;
        }
        if let Some(last) = length.checked_sub(1) {
            bytes.nth(usize::try_from(last).ok()?)?;
        }
    }
    None
}

fn word(bytes: &mut impl Iterator<Item = u8>) -> Option<[u8; 4]> {
    Some([bytes.next()?, bytes.next()?, bytes.next()?, bytes.next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Base64 of a WAV header (24 kHz, 16 bit, mono: 48,000 bytes per second) and `zeros` for samples.
    fn wav(zeros: usize) -> String {
        let header = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAwF0AAIC7AAACABAAZGF0YQAA";
        format!("{header}{}", "A".repeat(zeros))
    }

    #[test]
    fn wav_has_its_own_rate_and_other_audio_an_assumed_one() {
        for (base64, expected) in [
            // 480,042 bytes are a little more than ten seconds.
            (wav(640_000), 101),
            (wav(0), 1),
            // 12,000 bytes at 4,000 per second.
            ("/".repeat(16_000), 30),
            (wav(0).replace("ZmF0", "AAAA").chars().take(30).collect(), 1),
            ("UklGRiQAAABXQVZFZGF0YQAA".to_owned() + &"A".repeat(15_976), 30),
            (String::new(), 0),
        ] {
            assert_eq!(tokens(Payload::read(&base64).1), expected);
        }
    }
}
