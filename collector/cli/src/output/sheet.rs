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

/// A table whose rows come in pages. The first decides how wide its columns are and whether rows become blocks.
#[derive(Debug)]
pub(super) struct Sheet {
    layout: Layout,
    /// Of the first page; `None` before it.
    shape: Option<Shape>,
    rows: usize,
}

#[derive(Debug)]
enum Shape {
    Aligned(Vec<usize>),
    Blocks,
}

impl Sheet {
    /// Nothing yet.
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, shape: None, rows: 0 }
    }

    /// The next rows as text, each line ended; the first page begins with the columns' names.
    pub(super) fn page(&mut self, schema: &Schema, batches: &[RecordBatch]) -> String {
        let mut columns = text_columns(schema, batches);
        if columns.is_empty() {
            return String::new();
        }
        let first = self.shape.is_none();
        let shape = self.shape.get_or_insert_with(|| {
            if fit(&mut columns, self.layout.width) {
                Shape::Aligned(columns.iter().map(|column| column.width).collect())
            } else {
                Shape::Blocks
            }
        });
        let before = self.rows;
        self.rows += columns.first().map_or(0, |column| column.cells.len());
        match shape {
            Shape::Aligned(widths) => {
                for (column, width) in columns.iter_mut().zip(widths) {
                    column.width = *width;
                    column.whole |= self.layout.width.is_none();
                }
                let head = if first { head(&columns, self.layout.style) } else { String::new() };
                head + &aligned(&columns)
            }
            Shape::Blocks => blocks(&columns, self.layout, before),
        }
    }
}

/// The whole table, each line ended. A schema without columns gives an empty text.
pub fn render(schema: &Schema, batches: &[RecordBatch], layout: Layout) -> String {
    Sheet::new(layout).page(schema, batches)
}

fn text_columns(schema: &Schema, batches: &[RecordBatch]) -> Vec<TextColumn> {
    let columns = schema.fields().iter().enumerate().map(|(at, field)| {
        let cells = batches
            .iter()
            .flat_map(|batch| (0..batch.num_rows()).map(move |row| cell::text(batch.column(at), row)))
            .collect();
        let kind = field.data_type();
        let column = TextColumn::new(field.name(), cell::is_number(kind), cells);
        TextColumn { whole: column.whole || matches!(kind, DataType::Timestamp(_, _)), ..column }
    });
    columns.collect()
}

/// The same for columns that are text already; all have the same number of cells.
pub fn render_columns(mut columns: Vec<TextColumn>, layout: Layout) -> String {
    if columns.is_empty() {
        return String::new();
    }
    if fit(&mut columns, layout.width) {
        head(&columns, layout.style) + &aligned(&columns)
    } else {
        blocks(&columns, layout, 0)
    }
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

/// The columns' names, underlined.
fn head(columns: &[TextColumn], style: Style) -> String {
    let names = line(columns, |column| (column.name.clone(), Some((style, Paint::Strong))));
    names + &line(columns, |column| ("─".repeat(column.width), Some((style, Paint::Faint))))
}

fn aligned(columns: &[TextColumn]) -> String {
    let rows = columns.first().map_or(0, |column| column.cells.len());
    (0..rows).map(|row| line(columns, |column| (column.cells.get(row).cloned().unwrap_or_default(), None))).collect()
}

fn line(columns: &[TextColumn], cell: impl Fn(&TextColumn) -> (String, Option<(Style, Paint)>)) -> String {
    let mut row = String::new();
    for (at, column) in columns.iter().enumerate() {
        let (content, paint) = cell(column);
        // On a later page a value may be wider than all of the first.
        let content = if column.whole { content } else { cut(&content, column.width) };
        let pad = " ".repeat(column.width.saturating_sub(content.width()));
        let painted = paint.map_or(content.clone(), |(style, paint)| style.paint(paint, &content));
        if column.right {
            row.push_str(&pad);
            row.push_str(&painted);
        } else {
            row.push_str(&painted);
            row.push_str(&pad);
        }
        if at + 1 < columns.len() {
            row.push_str(&" ".repeat(GAP));
        }
    }
    row.truncate(row.trim_end().len());
    row.push('\n');
    row
}

/// Blocks are numbered on from `before`.
fn blocks(columns: &[TextColumn], layout: Layout, before: usize) -> String {
    let mut text = String::new();
    let names = columns.iter().map(|column| column.name.width()).max().unwrap_or(0);
    let room = layout.width.unwrap_or(usize::MAX).saturating_sub(names + GAP).max(NARROWEST);
    for row in 0..columns.first().map_or(0, |column| column.cells.len()) {
        let title = format!("── row {} ", before + row + 1);
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
    fn later_pages_keep_the_columns_of_the_first() {
        let batch = sample();
        for (width, second) in
            [(None, "      12345  b\n"), (Some(14), "── row 2 ─────\ncomm\ncount  12345\nargv   b\n")]
        {
            let mut sheet = Sheet::new(Layout { width, style: Style::PLAIN });
            let whole = draw(width);
            let first = sheet.page(&batch.schema(), &[batch.slice(0, 1)]);
            assert!(whole.starts_with(first.lines().next().unwrap_or("?")), "{first}");
            assert_eq!(sheet.page(&batch.schema(), &[batch.slice(1, 1)]), second);
        }
        let mut sheet = Sheet::new(Layout::WIDE);
        sheet.page(&batch.schema(), &[batch.slice(1, 1)]);
        let wider = sheet.page(&batch.schema(), &[batch.slice(0, 1)]);
        assert_eq!(wider, "bash      7  a very long line of arguments\n", "nothing is cut in a file");
    }

    #[test]
    fn an_empty_answer_still_names_its_columns() {
        let batch = sample();
        let text = render(&batch.schema(), &[], Layout::WIDE);
        assert_eq!(text.lines().next(), Some("comm  count  argv"));
        assert_eq!(text.lines().count(), 2);
    }
}
