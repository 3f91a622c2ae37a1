//! An identity provider: its public keys, and the tokens that it signs. `openssl` does the cryptography.

use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use tempfile::TempDir;

/// The letters of URL-safe Base64, RFC 4648, section 5.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// An identity provider with one key pair.
#[derive(Debug)]
pub struct Issuer {
    directory: TempDir,
}

impl Issuer {
    /// Makes one.
    ///
    /// # Panics
    /// If there is no `openssl`.
    pub fn create() -> Self {
        let it = Self { directory: tempfile::tempdir().unwrap() };
        it.run(&["genrsa", "-out", "key.pem", "2048"]);
        fs::write(it.directory.path().join("jwks.json"), it.keys().to_string()).unwrap();
        it
    }

    /// The file with its public keys, as a JSON Web Key Set.
    ///
    /// # Panics
    /// If the system's directory for temporary files is not UTF-8.
    pub fn jwks(&self) -> String {
        self.directory.path().join("jwks.json").to_str().unwrap().to_owned()
    }

    /// A token of `https://id.example.com` for the audience `llm` with these claims, beside or in the place of those.
    /// It expires in the year 2100.
    ///
    /// # Panics
    /// If `claims` is not an object.
    pub fn token(&self, claims: &Value) -> String {
        let mut all = json!({"iss": "https://id.example.com", "aud": "llm", "exp": 4_102_444_800_u64});
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": "one"});
        let signed =
            format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(all.to_string().as_bytes()));
        fs::write(self.directory.path().join("signed"), &signed).unwrap();
        let signature = self.run(&["dgst", "-sha256", "-sign", "key.pem", "signed"]);
        format!("{signed}.{}", base64url(&signature))
    }

    fn keys(&self) -> Value {
        // "Modulus=" and hexadecimal digits.
        let modulus = String::from_utf8(self.run(&["rsa", "-in", "key.pem", "-noout", "-modulus"])).unwrap();
        let digits = modulus.trim().split_once('=').unwrap().1;
        let bytes =
            (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
        // 65537, which openssl takes by default, is the exponent AQAB.
        let key = json!({"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "one", "e": "AQAB",
            "n": base64url(&bytes.collect::<Vec<u8>>())});
        json!({"keys": [key]})
    }

    /// The standard output of `openssl` with these arguments.
    fn run(&self, arguments: &[&str]) -> Vec<u8> {
        let output =
            Command::new("openssl").args(arguments).current_dir(self.directory.path()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

/// URL-safe Base64 without padding.
fn base64url(bytes: &[u8]) -> String {
    let of_chunk = |chunk: &[u8]| {
        let bits =
            (0..3).fold(0_usize, |bits, at| bits << 8 | usize::from(chunk.get(at).copied().unwrap_or(0)));
        (0..=chunk.len()).map(move |at| char::from(LETTERS[bits >> (18 - 6 * at) & 63])).collect::<Vec<_>>()
    };
    bytes.chunks(3).flat_map(of_chunk).collect()
}

#[cfg(test)]
mod tests {
    use super::base64url;

    /// RFC 4648, section 10, without padding, and two letters that only URL-safe Base64 has.
    #[test]
    fn base64_is_url_safe() {
        for (bytes, expected) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64url(bytes.as_bytes()), expected);
        }
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
    }
}
