//! The location of the built filter, what it takes, and a filter with a fault.

use llm_rate_limit::codec::varint;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The filter: `WASM_PATH` if it is set, else where `make wasm` leaves it.
///
/// # Panics
/// If there is none; the message says how to build it. Only the Makefile knows which Rust can do that.
pub fn filter() -> PathBuf {
    let path = std::env::var_os("WASM_PATH")
        .map_or_else(|| root().join("target/wasm32-wasip1/release/llm_rate_limit.wasm"), PathBuf::from);
    path.canonicalize().unwrap_or_else(|why| panic!("no filter at {}: {why}; run make wasm", path.display()))
}

/// What the filter takes wherever it runs, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// The file, of which Envoy and V8 keep copies.
    pub file: usize,
    /// The code, which V8 compiles.
    pub code: usize,
    /// A VM's memory before it has done anything, most of it the filter's tables. Each worker has a VM, and Envoy's
    /// main thread has others.
    pub memory: usize,
}

/// What the filter takes.
pub fn size() -> Size {
    let module = fs::read(filter()).unwrap();
    let content = |wanted| sections(&module).find(|(number, _)| *number == wanted).unwrap().1;
    let mut memories = content(MEMORIES);
    // There is one, whose limits follow: the kind of them, and the pages that it begins with.
    assert_eq!(number_of(&mut memories), 1);
    number_of(&mut memories);
    Size { file: module.len(), code: content(CODE).len(), memory: number_of(&mut memories) * PAGE }
}

/// A copy of the filter in which the exported function `name` ends the VM. The file lives as long as the result.
///
/// # Panics
/// If the filter has no such function.
pub fn filter_that_traps_in(name: &str) -> NamedTempFile {
    let module = with_trap(&fs::read(filter()).unwrap(), name);
    let mut file = tempfile::Builder::new().suffix(".wasm").tempfile().unwrap();
    file.write_all(&module).unwrap();
    file
}

/// The bytes before the first section.
const HEADER: usize = 8;

/// A page of memory, in bytes.
const PAGE: usize = 64 * 1024;

/// The numbers of the sections that matter here, and two bytes: the kind of a function, and the instruction that traps.
const IMPORTS: u8 = 2;
const MEMORIES: u8 = 5;
const EXPORTS: u8 = 7;
const CODE: u8 = 10;
const FUNCTION: u8 = 0;
const UNREACHABLE: u8 = 0;

/// `module` with `unreachable` as the first instruction of the exported function `name`.
fn with_trap(module: &[u8], name: &str) -> Vec<u8> {
    let content = |wanted| sections(module).find(|(number, _)| *number == wanted).unwrap().1;
    let index = exported(content(EXPORTS), name) - imported_functions(content(IMPORTS));
    let mut result = module[..HEADER].to_vec();
    for (number, content) in sections(module) {
        let changed = if number == CODE { with_trap_in(content, index) } else { content.to_vec() };
        result.push(number);
        varint::push(&mut result, changed.len() as u64);
        result.extend(changed);
    }
    result
}

/// The sections of a module, each with its number.
fn sections(module: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = &module[HEADER..];
    std::iter::from_fn(move || {
        let (number, mut body) = rest.split_first()?;
        let size = number_of(&mut body);
        let (content, after) = body.split_at(size);
        rest = after;
        Some((*number, content))
    })
}

/// The code section with a trap at the beginning of the function of this index.
fn with_trap_in(mut code: &[u8], index: usize) -> Vec<u8> {
    let count = number_of(&mut code);
    let mut result = Vec::new();
    varint::push(&mut result, count as u64);
    for at in 0..count {
        let size = number_of(&mut code);
        let (body, after) = code.split_at(size);
        code = after;
        let mut changed = body.to_vec();
        if at == index {
            let mut instructions = body;
            for _ in 0..number_of(&mut instructions) {
                // Local variables: how many, and of which type.
                number_of(&mut instructions);
                instructions = &instructions[1..];
            }
            changed.insert(body.len() - instructions.len(), UNREACHABLE);
        }
        varint::push(&mut result, changed.len() as u64);
        result.extend(changed);
    }
    result
}

/// The index of the exported function `name`.
fn exported(mut exports: &[u8], name: &str) -> usize {
    for _ in 0..number_of(&mut exports) {
        let known = text(&mut exports);
        let kind = exports[0];
        exports = &exports[1..];
        let index = number_of(&mut exports);
        if kind == FUNCTION && known == name.as_bytes() {
            return index;
        }
    }
    panic!("the filter does not export {name}")
}

/// How many functions are imported: their indexes come before those of the module's own.
fn imported_functions(mut imports: &[u8]) -> usize {
    let mut functions = 0;
    for _ in 0..number_of(&mut imports) {
        text(&mut imports);
        text(&mut imports);
        assert_eq!(imports[0], FUNCTION, "the filter imports functions alone");
        imports = &imports[1..];
        number_of(&mut imports);
        functions += 1;
    }
    functions
}

/// A length and so many bytes.
fn text<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let length = number_of(bytes);
    let (text, rest) = bytes.split_at(length);
    *bytes = rest;
    text
}

/// A number, which WebAssembly writes in LEB128.
fn number_of(bytes: &mut &[u8]) -> usize {
    varint::take(bytes).and_then(|number| usize::try_from(number).ok()).unwrap()
}
