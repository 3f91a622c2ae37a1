//! What a platform team can configure: one story for each feature, as its clients see it.

modules! {
    calendar,
    claims,
    dialects,
    dry_run,
    grants,
    hierarchy,
    identity,
    models,
    on_limit,
    organisations,
    output_caps,
    parts,
    waiting,
    warnings,
    windows,
}
