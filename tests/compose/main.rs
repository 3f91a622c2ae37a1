//! `envoy/compose.yaml` without a container engine: each service's command runs as a process, with its environment, its
//! mounts, its secrets and its health check, in a folder that has the files of its image and stands for its root. Ports
//! are free ones on loopback, and names of services are addresses.
//!
//! What only an engine does is not shown here: networks, users, dropped rights, read-only roots, limits on memory, and
//! whether the Dockerfile builds. `rights.rs` holds the file to them; `make check` validates both files.

mod cluster;
mod file;
mod rights;
mod running;
mod stack;
