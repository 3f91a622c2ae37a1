//! What a request reserves: caps of any size, what earlier answers teach, and the usage that streams are asked for.

modules! {
    caps,
    clients,
    learning,
    objections,
    stream_usage,
}
