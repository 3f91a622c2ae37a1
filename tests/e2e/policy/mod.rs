//! What a platform team can say in its configuration, and that it is so: a story for each, as clients see it.

mod dialects;
mod dry_run;
mod hierarchy;
mod identity;
mod waiting;
mod windows;
