//! What audio in a prompt costs: by its length in time.
//!
//! OpenAI's guide "Managing costs" of its realtime models gives one token for 100 milliseconds of a user's audio, and
//! chats are billed alike. The length is exact for WAV, whose header tells the bytes in a second; other formats are
//! taken for [`BYTES_PER_SECOND`], which is a guess on the high side.

use super::payload::Payload;

/// Milliseconds of a token.
const TOKEN_MS: u64 = 100;

/// What compressed audio is taken for, in bytes a second: 32 kbit/s, a low rate for speech.
const BYTES_PER_SECOND: u64 = 4_000;

/// How many chunks of a WAV file are searched for its format.
const MAX_CHUNKS: usize = 16;

/// Tokens of the audio in `payload`.
pub(super) fn tokens(payload: Payload<'_>) -> u64 {
    let bytes_per_second = wav_rate(payload.bytes()).filter(|rate| *rate > 0).unwrap_or(BYTES_PER_SECOND);
    let ms = payload.bytes_len().saturating_mul(1_000).div_ceil(bytes_per_second);
    ms.div_ceil(TOKEN_MS)
}

/// Bytes a second of the WAV file that `bytes` begin: in its `fmt ` chunk, after format, channels and sample rate.
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

    /// Base64 of a WAV header of 24 kHz, 16 bit, mono (48,000 bytes a second), after which `zeros` stand for samples.
    fn wav(zeros: usize) -> String {
        let header = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAwF0AAIC7AAACABAAZGF0YQAA";
        format!("{header}{}", "A".repeat(zeros))
    }

    #[test]
    fn wav_tells_its_length_and_other_audio_is_guessed() {
        for (base64, expected) in [
            // 42 bytes and 480,000 are ten seconds and a little.
            (wav(640_000), 101),
            (wav(0), 1),
            // 12,000 bytes at 4,000 a second.
            ("/".repeat(16_000), 30),
            (wav(0).replace("ZmF0", "AAAA").chars().take(30).collect(), 1),
            ("UklGRiQAAABXQVZFZGF0YQAA".to_owned() + &"A".repeat(15_976), 30),
            (String::new(), 0),
        ] {
            assert_eq!(tokens(Payload::read(&base64).1), expected);
        }
    }
}
