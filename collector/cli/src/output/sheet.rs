//! Rows as text: aligned columns where they fit, one block a row where they do not.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::cell;
use super::style::{Paint, Style};

/// Between two columns.
const GAP: usize = 2;

/// No column is cut below this; when that does not fit, rows become blocks.
const NARROWEST: usize = 8;

/// How much room there is and whether to paint.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Columns of the terminal; `None` cuts nothing.
    pub width: Option<usize>,
    /// Colour.
    pub style: Style,
}

impl Layout {
    /// For text that goes to a file or pipe.
    pub const WIDE: Self = Self { width: None, style: Style::PLAIN };

    /// For standard output as it is.
    pub fn stdout() -> Self {
        let width = rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col));
        Self { width: width.filter(|columns| *columns > 0), style: Style::stdout() }
    }
}

/// A column as text.
#[derive(Debug, Clone)]
pub struct TextColumn {
    name: String,
    right: bool,
    /// A cut number or time is a wrong one.
    whole: bool,
    cells: Vec<String>,
    width: usize,
}

impl TextColumn {
    /// `right` aligns, and keeps from being cut.
    pub fn new(name: &str, right: bool, cells: Vec<String>) -> Self {
        let widest = cells.iter().map(|cell| cell.width()).max().unwrap_or(0);
        let width = widest.max(name.width());
        Self { name: name.to_owned(), right, whole: right, cells, width }
    }
}

/// The whole table, each line ended. A schema without columns gives an empty text.
pub fn render(schema: &Schema, batches: &[RecordBatch], layout: Layout) -> String {
    let columns = schema.fields().iter().enumerate().map(|(at, field)| {
        let cells = batches
            .iter()
            .flat_map(|batch| (0..batch.num_rows()).map(move |row| cell::text(batch.column(at), row)))
            .collect();
        let kind = field.data_type();
        let column = TextColumn::new(field.name(), cell::is_number(kind), cells);
        TextColumn { whole: column.whole || matches!(kind, DataType::Timestamp(_, _)), ..column }
    });
    render_columns(columns.collect(), layout)
}

/// The same for columns that are text already; all have the same number of cells.
pub fn render_columns(mut columns: Vec<TextColumn>, layout: Layout) -> String {
    if columns.is_empty() {
        return String::new();
    }
    if fit(&mut columns, layout.width) { aligned(&columns, layout.style) } else { blocks(&columns, layout) }
}

/// Narrows the widest columns until all fit; false when they cannot.
fn fit(columns: &mut [TextColumn], width: Option<usize>) -> bool {
    let Some(width) = width else { return true };
    let room = width.saturating_sub(GAP * columns.len().saturating_sub(1));
    loop {
        let total: usize = columns.iter().map(|column| column.width).sum();
        if total <= room {
            return true;
        }
        let Some(widest) = columns.iter_mut().filter(|column| !column.whole).max_by_key(|column| column.width) else {
            return false;
        };
        if widest.width <= NARROWEST {
            return false;
        }
        widest.width -= (total - room).min(widest.width - NARROWEST).div_ceil(4).max(1);
    }
}

fn aligned(columns: &[TextColumn], style: Style) -> String {
    let mut text = String::new();
    let last = columns.len() - 1;
    let mut line = |cell: &dyn Fn(&TextColumn) -> (String, Option<Paint>)| {
        let mut row = String::new();
        for (at, column) in columns.iter().enumerate() {
            let (content, paint) = cell(column);
            let content = cut(&content, column.width);
            let pad = " ".repeat(column.width - content.width());
            let painted = paint.map_or(content.clone(), |paint| style.paint(paint, &content));
            if column.right {
                row.push_str(&pad);
                row.push_str(&painted);
            } else {
                row.push_str(&painted);
                row.push_str(&pad);
            }
            if at < last {
                row.push_str(&" ".repeat(GAP));
            }
        }
        text.push_str(row.trim_end());
        text.push('\n');
    };
    line(&|column| (column.name.clone(), Some(Paint::Strong)));
    line(&|column| ("─".repeat(column.width), Some(Paint::Faint)));
    for row in 0..columns.first().map_or(0, |column| column.cells.len()) {
        line(&|column| (column.cells.get(row).cloned().unwrap_or_default(), None));
    }
    text
}

fn blocks(columns: &[TextColumn], layout: Layout) -> String {
    let mut text = String::new();
    let names = columns.iter().map(|column| column.name.width()).max().unwrap_or(0);
    let room = layout.width.unwrap_or(usize::MAX).saturating_sub(names + GAP).max(NARROWEST);
    for row in 0..columns.first().map_or(0, |column| column.cells.len()) {
        let title = format!("── row {} ", row + 1);
        let rule = "─".repeat(layout.width.unwrap_or(40).saturating_sub(title.width()).min(40));
        text.push_str(&layout.style.paint(Paint::Faint, &format!("{title}{rule}")));
        text.push('\n');
        for column in columns {
            let pad = " ".repeat(names - column.name.width() + GAP);
            let value = column.cells.get(row).map_or(String::new(), |cell| cut(cell, room));
            text.push_str(format!("{}{pad}{value}", layout.style.paint(Paint::Strong, &column.name)).trim_end());
            text.push('\n');
        }
    }
    text
}

/// At most `width` columns; what was cut is marked.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        used += wide;
        kept.push(c);
    }
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn sample() -> RecordBatch {
        let comm: ArrayRef = Arc::new(StringArray::from(vec![Some("bash"), None]));
        let count: ArrayRef = Arc::new(Int64Array::from(vec![7, 12_345]));
        let argv: ArrayRef = Arc::new(StringArray::from(vec!["a very long line of arguments", "b"]));
        RecordBatch::try_from_iter([("comm", comm), ("count", count), ("argv", argv)]).unwrap()
    }

    fn draw(width: Option<usize>) -> String {
        let batch = sample();
        render(&batch.schema(), &[batch], Layout { width, style: Style::PLAIN })
    }

    #[test]
    fn numbers_stand_right_and_text_left() {
        let want = "\
comm  count  argv
────  ─────  ─────────────────────────────
bash      7  a very long line of arguments
      12345  b
";
        assert_eq!(draw(None), want);
    }

    #[test]
    fn long_text_is_cut_to_the_terminal_and_numbers_are_not() {
        let text = draw(Some(30));
        assert!(text.lines().all(|line| line.width() <= 30), "{text}");
        assert!(text.contains("a very long") && text.contains('…') && text.contains("12345"), "{text}");
    }

    #[test]
    fn rows_become_blocks_when_columns_cannot_fit() {
        let text = draw(Some(14));
        assert!(text.starts_with("── row 1"), "{text}");
        assert!(text.contains("count  12345"), "{text}");
    }

    #[test]
    fn an_empty_answer_still_names_its_columns() {
        let batch = sample();
        let text = render(&batch.schema(), &[], Layout::WIDE);
        assert_eq!(text.lines().next(), Some("comm  count  argv"));
        assert_eq!(text.lines().count(), 2);
    }
}
