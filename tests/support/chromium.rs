//! Chromium without a window, as the pages of this project are looked at.

use crate::wasm;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

/// The time limit for a picture.
const PICTURE_TIMEOUT: Duration = Duration::from_secs(120);

/// Chromium with a profile of its own and these arguments. Dropping what it starts kills it.
pub fn command(profile: &Path, arguments: &[String]) -> Command {
    let mut command = Command::new(wasm::root().join(".tools/chromium"));
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--disable-dev-shm-usage",
    ]);
    command.arg(format!("--user-data-dir={}", profile.display())).args(arguments).kill_on_drop(true);
    command
}

/// Takes a picture of `url`, of `window` (`width,height`) pixels, into `file`. Returns what Chromium has said.
///
/// # Panics
/// If there is none.
pub async fn picture(url: &str, window: &str, arguments: &[String], file: &Path) -> String {
    let profile = tempfile::tempdir().unwrap();
    let mut all = vec![format!("--window-size={window}"), format!("--screenshot={}", file.display())];
    all.extend_from_slice(arguments);
    all.push(url.to_owned());
    let output = command(profile.path(), &all).output();
    let output = tokio::time::timeout(PICTURE_TIMEOUT, output).await.expect("Chromium ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}
