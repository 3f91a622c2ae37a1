//! Tables of text: each column is as wide as its widest cell, and numbers align to the right.

use std::io::{self, Write};

/// A column: its title and its alignment.
pub(super) type Column = (&'static str, Align);

/// How the cells of a column align.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    /// For words.
    Left,
    /// For numbers.
    Right,
}

/// Writes `rows` under the titles of `columns`.
pub(super) fn write<const N: usize>(
    out: &mut impl Write,
    columns: [Column; N],
    rows: &[[String; N]],
) -> io::Result<()> {
    let mut widths = columns.map(|(title, _)| title.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    line(out, &columns, &widths, columns.iter().map(|(title, _)| *title))?;
    rows.iter().try_for_each(|row| line(out, &columns, &widths, row.iter().map(String::as_str)))
}

fn line<'a>(
    out: &mut impl Write,
    columns: &[Column],
    widths: &[usize],
    cells: impl Iterator<Item = &'a str>,
) -> io::Result<()> {
    let padded = columns.iter().zip(widths).zip(cells).map(|(((_, align), width), cell)| match align {
        Align::Left => format!("{cell:<width$}"),
        Align::Right => format!("{cell:>width$}"),
    });
    writeln!(out, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_their_widest_cell_and_numbers_align_right() {
        let mut out = Vec::new();
        let rows = [["é", "5"].map(str::to_owned), ["longer", "1000"].map(str::to_owned)];
        write(&mut out, [("NAME", Align::Left), ("N", Align::Right)], &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME       N\né          5\nlonger  1000\n");
    }
}
