//! A page: its commands, what else it shows, its links and its headings.

use llm_rate_limit_tests::wasm::root;
use std::fs;
use std::process::Command;

/// What is for contributors' eyes while they write, and what others have written.
const NO_PAGES: [&str; 2] = [".github/", "tests/clients/"];

/// A Markdown file of the repository.
#[derive(Debug)]
pub struct Page {
    /// Its path.
    pub name: String,
    /// Its content.
    pub text: String,
}

impl Page {
    /// All pages.
    pub fn all() -> Vec<Self> {
        let listed = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.md"])
            .current_dir(root())
            .output()
            .unwrap();
        let names = String::from_utf8(listed.stdout).unwrap();
        let names = names.lines().filter(|name| !NO_PAGES.iter().any(|other| name.starts_with(other)));
        let pages: Vec<Self> = names.filter(|name| root().join(name).exists()).map(Self::named).collect();
        assert!(pages.len() > 20, "git lists {pages:?}");
        pages
    }

    /// The page with this path.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), text: fs::read_to_string(root().join(name)).unwrap() }
    }

    /// The lines outside of fences.
    fn prose(&self) -> impl Iterator<Item = &str> {
        self.text.split("```").step_by(2).flat_map(str::lines)
    }

    /// The blocks that are indented as code, each as its lines.
    pub fn shown(&self) -> Vec<Vec<String>> {
        let mut blocks: Vec<Vec<String>> = Vec::new();
        let (mut is_open, mut may_begin) = (false, false);
        for line in self.prose() {
            if let Some(code) = line.strip_prefix("    ").filter(|_| is_open || may_begin) {
                if !is_open {
                    blocks.push(Vec::new());
                }
                is_open = true;
                blocks.last_mut().unwrap().push(code.to_owned());
            } else if line.is_empty() {
                may_begin = true;
                continue;
            } else {
                is_open = false;
            }
            may_begin = false;
        }
        blocks
    }

    /// What stands between brackets and what between parentheses, of each link.
    pub fn links(&self) -> impl Iterator<Item = &str> {
        self.prose().flat_map(|line| line.split("](").skip(1)).map(|rest| rest.split(')').next().unwrap())
    }

    /// The blocks of a language between fences.
    pub fn fenced(&self, language: &str) -> Vec<&str> {
        let fence = format!("```{language}\n");
        self.text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
    }

    /// The anchors of its headings, as GitHub makes them.
    pub fn anchors(&self) -> Vec<String> {
        let kept = |letter: &char| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter);
        let headings = self.prose().filter(|line| line.starts_with('#'));
        headings
            .map(|line| {
                line.trim_start_matches('#').trim().to_lowercase().chars().filter(kept).collect::<String>()
            })
            .map(|heading| heading.replace(' ', "-"))
            .collect()
    }
}

/// The commands of a block, without comments behind them; a line that ends in a backslash goes on. `None` if it shows
/// something else.
pub fn commands(block: &[String]) -> Option<Vec<String>> {
    let joined = block.join("\n").replace("\\\n", " ");
    let lines = joined.lines().map(|line| line.split("  #").next().unwrap().trim());
    let lines: Vec<String> =
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    lines.iter().all(|line| is_command(line)).then_some(lines)
}

/// The programs of commands, and the shell's words that begin one.
const PROGRAMS: [&str; 18] = [
    "llm-rate-limit",
    "make",
    "sh",
    "docker",
    "kubectl",
    "helm",
    "envoy",
    ".tools/envoy",
    "tar",
    "sha256sum",
    "cosign",
    "skopeo",
    "export",
    "for",
    "grep",
    "curl",
    "cargo",
    "scripts/",
];

fn is_command(line: &str) -> bool {
    let is_setting =
        |word: &&str| word.split_once('=').is_some_and(|(name, _)| name.chars().all(is_of_a_name));
    let word = line.split(' ').find(|word| !is_setting(word)).unwrap_or_default();
    let is_it = |program: &&str| word == *program || (program.ends_with('/') && word.starts_with(program));
    PROGRAMS.iter().any(is_it) || word.ends_with("/llm-rate-limit")
}

fn is_of_a_name(letter: char) -> bool {
    letter.is_ascii_uppercase() || letter == '_'
}
