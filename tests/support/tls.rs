//! Certificates for a Redis with TLS: a private authority, and what it has signed. `openssl` makes them.

use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A private authority and its files.
#[derive(Debug)]
pub struct Authority {
    directory: TempDir,
}

impl Authority {
    /// Makes one, with a certificate for `localhost` and `127.0.0.1` called `server`, and one called `client`.
    ///
    /// # Panics
    /// If there is no `openssl`.
    pub fn create() -> Self {
        let it = Self { directory: tempfile::tempdir().unwrap() };
        it.run("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt");
        std::fs::write(it.file("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
        for name in ["server", "client"] {
            it.run(&format!(
                "req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
            ));
            let files = format!("-in {name}.csr -out {name}.crt -extfile names");
            it.run(&format!("x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 {files}"));
        }
        it
    }

    /// The path of a file: `ca.crt`, `server.crt`, `server.key`, `client.crt` or `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The same as text.
    ///
    /// # Panics
    /// If the system's directory for temporary files is not UTF-8.
    pub fn path(&self, name: &str) -> String {
        self.file(name).to_str().unwrap().to_owned()
    }

    fn run(&self, words: &str) {
        let directory: &Path = self.directory.path();
        let mut command = Command::new("openssl");
        let output = command.args(words.split(' ')).current_dir(directory).output().unwrap();
        assert!(output.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
