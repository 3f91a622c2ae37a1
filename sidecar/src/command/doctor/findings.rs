//! What `doctor` has found, in the order in which it was found.

use super::super::Verdict;
use std::io::{self, Write};

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// All is well.
    Fine,
    /// Something is wrong, or will be.
    Finding,
    /// Something that may not be meant.
    Hint,
    /// Nobody who was asked can tell.
    Unseen,
    /// Somebody does not answer.
    Unreached,
}

/// The lines, each once.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<(Mark, String)>);

impl Findings {
    /// Adds a line, unless it is there.
    fn add(&mut self, mark: Mark, what: String) {
        if !self.0.iter().any(|(known, text)| *known == mark && *text == what) {
            self.0.push((mark, what));
        }
    }

    /// All is well with this.
    pub(super) fn fine(&mut self, what: impl Into<String>) {
        self.add(Mark::Fine, what.into());
    }

    /// This is wrong, or will be.
    pub(super) fn finding(&mut self, what: impl Into<String>) {
        self.add(Mark::Finding, what.into());
    }

    /// This may not be meant.
    pub(super) fn hint(&mut self, what: impl Into<String>) {
        self.add(Mark::Hint, what.into());
    }

    /// Nobody who was asked can tell this.
    pub(super) fn unseen(&mut self, what: impl Into<String>) {
        self.add(Mark::Unseen, what.into());
    }

    /// Somebody does not answer.
    pub(super) fn unreached(&mut self, what: impl Into<String>) {
        self.add(Mark::Unreached, what.into());
    }

    /// Writes a line for each, and what they add up to.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for (mark, what) in &self.0 {
            let word = match mark {
                Mark::Fine => "ok",
                Mark::Finding => "FINDING",
                Mark::Hint => "hint",
                Mark::Unseen => "unseen",
                Mark::Unreached => "NO ANSWER",
            };
            writeln!(out, "{word:<9}  {what}")?;
        }
        let findings = self.count(Mark::Finding);
        match self.verdict() {
            Verdict::Fine => writeln!(out, "nothing is wrong with what was asked"),
            Verdict::Problem => {
                writeln!(out, "{findings} {}", if findings == 1 { "finding" } else { "findings" })
            }
            Verdict::Unreached => writeln!(out, "somebody does not answer, so there may be more to find"),
        }
    }

    /// What they add up to.
    pub(super) fn verdict(&self) -> Verdict {
        if self.count(Mark::Unreached) > 0 {
            Verdict::Unreached
        } else if self.count(Mark::Finding) > 0 {
            Verdict::Problem
        } else {
            Verdict::Fine
        }
    }

    fn count(&self, mark: Mark) -> usize {
        self.0.iter().filter(|(found, _)| *found == mark).count()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What `check` finds, as it is written.
    pub(in super::super) fn found(check: impl Fn(&mut Findings)) -> String {
        let (mut findings, mut out) = (Findings::default(), Vec::new());
        check(&mut findings);
        findings.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_worst_line_decides() {
        let mut findings = Findings::default();
        findings.fine("a");
        findings.hint("b");
        findings.unseen("c");
        assert_eq!(findings.verdict(), Verdict::Fine);
        findings.finding("d");
        assert_eq!(findings.verdict(), Verdict::Problem);
        findings.unreached("e");
        assert_eq!(findings.verdict(), Verdict::Unreached);
        let mut out = Vec::new();
        findings.write(&mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(
            out.starts_with("ok         a\nhint       b\nunseen     c\nFINDING    d\nNO ANSWER  e\n"),
            "{out}"
        );
    }

    #[test]
    fn what_is_found_twice_is_said_once() {
        let out = found(|findings| {
            findings.finding("a");
            findings.finding("a");
            findings.hint("a");
        });
        assert_eq!(out, "FINDING    a\nhint       a\n1 finding\n");
    }
}
