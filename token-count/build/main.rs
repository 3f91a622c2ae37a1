//! Makes the tables that the library reads: the trie of all tokens, what each encoding says of them, and of Unicode the
//! classes of characters. They are files in `OUT_DIR`, laid out as `src/layout.rs` says.

#![allow(clippy::indexing_slicing, reason = "a panic is how a build fails")]
#![allow(clippy::print_stdout, reason = "cargo reads it")]

mod classes;
mod tokens;
mod trie;
mod vocabulary;

#[path = "../src/class.rs"]
mod class;
#[path = "../src/layout.rs"]
#[allow(dead_code, reason = "the library reads what is written here")]
mod layout;

use layout::{CL100K, Encodings, Group, Node, O200K, P50K, R50K, R50K_TOKENS, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};
use vocabulary::{Made, Vocabulary};

fn main() -> Result<(), Box<dyn Error>> {
    for source in ["build", "src/class.rs", "src/layout.rs"] {
        println!("cargo::rerun-if-changed={source}");
    }
    let directory = PathBuf::from(env::var("OUT_DIR")?);
    let write = |name: &str, bytes: Vec<u8>| fs::write(directory.join(format!("{name}.bin")), bytes);

    let vocabularies = [
        ("o200k_base", O200K, Vocabulary::of(&tiktoken_rs::o200k_base()?)?),
        ("cl100k_base", CL100K, Vocabulary::of(&tiktoken_rs::cl100k_base()?)?),
        ("p50k_base", P50K, Vocabulary::of(&tiktoken_rs::p50k_base()?)?),
    ];
    let r50k = Vocabulary::of(&tiktoken_rs::r50k_base()?)?;
    let [.., (_, _, p50k)] = &vocabularies;
    if !r50k.is_first_of(p50k, R50K_TOKENS) {
        return Err("r50k_base is not the beginning of p50k_base".into());
    }
    let mut encodings = BTreeMap::<&[u8], Encodings>::new();
    let of_all = vocabularies.iter().map(|(_, encoding, vocabulary)| (*encoding, vocabulary));
    for (encoding, vocabulary) in of_all.chain([(R50K, &r50k)]) {
        for (_, bytes) in vocabulary.tokens() {
            *encodings.entry(bytes).or_default() |= encoding;
        }
    }
    let trie = trie::trie(encodings.iter().map(|(bytes, encodings)| (*bytes, *encodings)))?;
    let place_of: BTreeMap<&[u8], u32> = encodings.into_keys().zip(trie.places).collect();

    let (mut made, mut lengths) = (Vec::new(), BTreeSet::from([0]));
    for (name, _, vocabulary) in &vocabularies {
        let tokens = vocabulary.made().map_err(|why| format!("{name}: {why}"))?;
        lengths.extend(tokens.iter().map(|token| token.left));
        made.push((name, tokens));
    }
    let mut lengths: Vec<usize> = lengths.into_iter().collect();
    if lengths.len() > Token::LENGTHS {
        return Err(format!("left halves have {} different lengths", lengths.len()).into());
    }
    for (name, tokens) in made {
        let token = |Made { rank, bytes, left }: Made<'_>| {
            let left = lengths.partition_point(|known| *known < left) as u32;
            (place_of[bytes], Token { rank, left })
        };
        let (groups, tokens) = tokens::tables(tokens.into_iter().map(token).collect(), trie.nodes.len());
        write(
            &format!("{name}.groups"),
            groups.into_iter().map(Group::pack).flat_map(u64::to_le_bytes).collect(),
        )?;
        write(&format!("{name}.tokens"), tokens.into_iter().flat_map(Token::pack).collect())?;
    }
    lengths.resize(Token::LENGTHS, 0);
    write("lengths", lengths.into_iter().map(|length| length as u8).collect())?;
    write("nodes", trie.nodes.into_iter().map(Node::pack).flat_map(u32::to_le_bytes).collect())?;
    write("tails", trie.tails)?;

    let (blocks, classes) = classes::tables()?;
    write("blocks", blocks)?;
    write("classes", classes)?;
    Ok(())
}
