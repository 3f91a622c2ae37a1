//! The pages are true: each command that they show runs in a test, and each link leads somewhere.

mod commands;
mod links;
mod page;
mod scene;
