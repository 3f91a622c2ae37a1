//! What a platform team can say in its configuration, and that it is so: a story for each, as clients see it.

modules! {
    dialects,
    dry_run,
    hierarchy,
    identity,
    waiting,
    windows,
}
