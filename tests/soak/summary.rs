//! The table at the end of a soak.

use crate::books::Books;
use crate::memory::Memory;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// From this long on, memory has settled enough to be held to [`FLAT`].
const LONG: Duration = Duration::from_secs(20 * 60);

/// By how many per cent memory may grow after the warm-up.
const FLAT: f64 = 5.0;

/// What a soak has found.
pub struct Summary {
    /// Its seed.
    pub seed: u64,
    /// How long its clients sent.
    pub lasts: Duration,
    /// How long it took.
    pub took: Duration,
    /// The processor time of all processes, clients included.
    pub processor: Duration,
    /// How many requests they sent.
    pub sent: usize,
    /// What went wrong, and how often.
    pub faults: BTreeMap<&'static str, u64>,
    /// The books.
    pub books: Books,
    /// Memory by process.
    pub memory: Vec<Memory>,
}

impl Summary {
    /// Whether all books balance and memory is flat.
    pub fn is_good(&self) -> bool {
        self.books.wrong.is_empty() && self.grown().next().is_none()
    }

    /// The processes that have grown too much, in a soak that is long enough to say.
    fn grown(&self) -> impl Iterator<Item = &Memory> {
        self.memory.iter().filter(|memory| self.lasts >= LONG && memory.growth() > FLAT)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { books, .. } = self;
        let cores = self.processor.div_duration_f64(self.took);
        writeln!(
            f,
            "\nseed {}, {} requests in {:.0?} on {cores:.2} processors",
            self.seed, self.sent, self.took
        )?;
        writeln!(f, "\n{:<34} {:>9}  outcomes", "requests", "sent")?;
        for (errand, outcomes) in &books.outcomes {
            let list: Vec<String> =
                outcomes.iter().map(|(outcome, times)| format!("{outcome}: {times}")).collect();
            writeln!(f, "{errand:<34} {:>9}  {}", outcomes.values().sum::<u64>(), list.join(", "))?;
        }
        writeln!(f, "\nfaults")?;
        for (fault, times) in &self.faults {
            writeln!(f, "{fault:<44} {times:>9}")?;
        }
        writeln!(f, "\nbooks")?;
        for (name, sum) in &books.sums {
            writeln!(f, "{name:<44} {sum:>9}")?;
        }
        writeln!(f, "{:<44} {:>9}", "entries that do not balance", books.wrong.len())?;
        writeln!(
            f,
            "\n{:<12} {:>12} {:>12} {:>8} {:>12}",
            "memory", "first MiB", "last MiB", "growth", "peak MiB"
        )?;
        let mib = |kib: u64| kib as f64 / 1024.0;
        for memory in &self.memory {
            let (first, last, peak) = (mib(memory.first), mib(memory.last), mib(memory.peak));
            writeln!(
                f,
                "{:<12} {first:>12.1} {last:>12.1} {:>7.1}% {peak:>12.1}",
                memory.name,
                memory.growth()
            )?;
        }
        for memory in self.grown() {
            writeln!(f, "{} has grown by more than {FLAT}%", memory.name)?;
        }
        write!(f, "\n{}", if self.is_good() { "all books balance" } else { "THE BOOKS DO NOT BALANCE" })
    }
}
