//! Aligned columns.

use crate::ui::{Look, Ui};

/// Shows rows under their headings, each column as wide as its widest cell.
pub fn show<const N: usize>(ui: &mut Ui<'_>, headings: [&str; N], rows: &[[String; N]]) {
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let heading = line(headings.to_vec());
    let heading = ui.look(Look::Bold, &heading);
    ui.show(&heading);
    for row in rows {
        ui.show(&line(row.iter().map(String::as_str).collect()));
    }
}
