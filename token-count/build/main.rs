//! Makes the tables that the library reads: of each vocabulary a trie, the tokens and the merges, and of Unicode the
//! classes of characters. They are files in `OUT_DIR`, laid out as `src/layout.rs` says.

#![allow(clippy::indexing_slicing, reason = "a panic is how a build fails")]
#![allow(clippy::print_stdout, reason = "cargo reads it")]

mod classes;
mod merges;
mod trie;
mod vocabulary;

#[path = "../src/class.rs"]
mod class;
#[path = "../src/layout.rs"]
#[allow(dead_code, reason = "the library reads what is written here")]
mod layout;

use layout::{Merge, Node, R50K_TOKENS, Token};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, io};
use tiktoken_rs::CoreBPE;
use vocabulary::Vocabulary;

fn main() -> Result<(), Box<dyn Error>> {
    for source in ["build", "src/class.rs", "src/layout.rs"] {
        println!("cargo::rerun-if-changed={source}");
    }
    let directory = PathBuf::from(env::var("OUT_DIR")?);
    write_vocabulary(&directory, "o200k_base", &tiktoken_rs::o200k_base()?)?;
    write_vocabulary(&directory, "cl100k_base", &tiktoken_rs::cl100k_base()?)?;
    write_vocabulary(&directory, "p50k_base", &tiktoken_rs::p50k_base()?)?;
    let [p50k, r50k] = [tiktoken_rs::p50k_base()?, tiktoken_rs::r50k_base()?].map(|it| Vocabulary::of(&it));
    if !r50k?.is_first_of(&p50k?, R50K_TOKENS) {
        return Err("r50k_base is not the beginning of p50k_base".into());
    }
    let (blocks, classes) = classes::tables()?;
    fs::write(directory.join("blocks.bin"), blocks)?;
    fs::write(directory.join("classes.bin"), classes)?;
    Ok(())
}

fn write_vocabulary(directory: &Path, name: &str, encoding: &CoreBPE) -> Result<(), Box<dyn Error>> {
    let vocabulary = Vocabulary::of(encoding).map_err(|why| format!("{name}: {why}"))?;
    let tokens = vocabulary.made().map_err(|why| format!("{name}: {why}"))?;
    let nodes = trie::trie(vocabulary.tokens()).map_err(|why| format!("{name}: {why}"))?;
    let write = |table: &str, bytes: Vec<u8>| -> io::Result<()> {
        fs::write(directory.join(format!("{name}.{table}.bin")), bytes)
    };
    write(
        "merges",
        merges::table(&tokens).into_iter().map(Merge::pack).flat_map(u32::to_le_bytes).collect(),
    )?;
    write("tokens", tokens.into_iter().map(Token::pack).flat_map(u64::to_le_bytes).collect())?;
    write("trie", nodes.into_iter().map(Node::pack).flat_map(u64::to_le_bytes).collect())?;
    Ok(())
}
