//! The table of classes of characters, in two stages: for each block of characters where its classes are, and the
//! classes of each block that differs from all others.

use crate::class::{BLANK, BLOCK, CASELESS, LINE_END, LOWER, MARK, NUMBER, OTHER, UPPER};
use regex_syntax::hir::{Class, HirKind};

/// What an expression calls each class.
const CLASSES: [(&str, u8); 8] = [
    (r"\p{Lu}", UPPER),
    (r"\p{Lt}", UPPER),
    (r"\p{Ll}", LOWER),
    (r"\p{Lm}", CASELESS),
    (r"\p{Lo}", CASELESS),
    (r"\p{M}", MARK),
    (r"\p{N}", NUMBER),
    (r"\s", BLANK),
];

/// Both stages: for each block the number of its classes, and the classes.
///
/// # Errors
/// If a character is of two classes, or there are too many blocks.
pub fn tables() -> Result<(Vec<u8>, Vec<u8>), String> {
    let mut class_of = vec![0; char::MAX as usize + 1];
    for (expression, class) in CLASSES {
        for character in characters(expression)? {
            let of = &mut class_of[character as usize];
            if *of != 0 {
                return Err(format!("{character:?} is of two classes, one of them {expression}"));
            }
            *of = class;
        }
    }
    for end in ['\r', '\n'] {
        class_of[end as usize] = LINE_END;
    }
    let of_all = class_of.iter().map(|class| if *class == 0 { OTHER } else { *class });
    let of_all: Vec<u8> = of_all.collect();
    let (mut blocks, mut number_of): (Vec<&[u8]>, Vec<u8>) = (Vec::new(), Vec::new());
    for block in of_all.chunks(BLOCK) {
        let known = blocks.iter().position(|known| *known == block).unwrap_or_else(|| {
            blocks.push(block);
            blocks.len() - 1
        });
        number_of.push(u8::try_from(known).map_err(|_| "there are more than 256 different blocks")?);
    }
    Ok((number_of, blocks.concat()))
}

/// All characters of a class.
fn characters(expression: &str) -> Result<impl Iterator<Item = char>, String> {
    let parsed = regex_syntax::parse(expression).map_err(|why| why.to_string())?;
    let HirKind::Class(Class::Unicode(class)) = parsed.into_kind() else {
        return Err(format!("{expression} is no class"));
    };
    Ok(class.ranges().to_vec().into_iter().flat_map(|range| range.start()..=range.end()))
}
