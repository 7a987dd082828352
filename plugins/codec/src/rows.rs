//! CSV: rows of a table, as maps or as lists.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{anyhow, bail};
use bytes::Bytes;
use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use forebay_sdk::{Problem, Value, payload::kind};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Map;

use crate::words::{MOST_VALUES, number, word};

/// Most tables have fewer columns.
const CELLS_AT_FIRST: usize = 16;

/// How a table is written as CSV.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CsvSettings {
    /// What stands between two cells: one character, `"\t"` for a tab. A comma when left out.
    #[schemars(extend("format" = forebay_sdk::units::form::LINES))]
    separator: Option<String>,
    /// Whether the first row holds the names of the columns.
    #[serde(default)]
    header: Header,
    /// The names of the columns, in their order. They go before those in the header. `encode` writes these
    /// and no others.
    columns: Option<Vec<String>>,
    /// What `decode` makes of cells.
    #[serde(default)]
    cells: Cells,
    /// How many rows `decode` expects.
    #[serde(default)]
    rows: RowCount,
    /// What stands in front of the fraction of a number.
    #[serde(default)]
    decimal: Decimal,
}

/// Whether there is a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Header {
    /// It does.
    #[default]
    First,
    /// It is a row like any other. Without `columns` a row is a list.
    None,
}

/// What becomes of the text in a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Cells {
    /// What is written as a number is one, but for `007` and the like; an empty cell is null.
    #[default]
    Numbers,
    /// All are texts.
    Text,
}

/// How many rows there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RowCount {
    /// Any number: what comes out is a list.
    #[default]
    Many,
    /// One: what comes out is that row.
    One,
}

/// The decimal separator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Decimal {
    /// `21.5`
    #[default]
    Point,
    /// `21,5`
    Comma,
}

/// A table that was understood.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    separator: u8,
    settings: CsvSettings,
    /// To make one costs more than to read a table, and so does a copy, which has to be made anew.
    reader: Arc<Mutex<Reader>>,
}

/// One record of a table: its cells, one after the other.
struct Record<'a> {
    text: &'a str,
    ends: &'a [usize],
}

impl<'a> Record<'a> {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn cells(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let (text, ends) = (self.text, self.ends);
        let begins = std::iter::once(0).chain(ends.iter().copied());
        begins.zip(ends).map(move |(begin, end)| &text[begin..*end])
    }
}

impl CsvSettings {
    pub(crate) fn resolve(self, problems: &mut Vec<Problem>) -> Rows {
        let separator = match self.separator.as_deref().map(str::as_bytes) {
            None => b',',
            Some([byte]) if byte.is_ascii() && !b"\"\r\n".contains(byte) => *byte,
            Some(_) => {
                let label = "expected one character, such as `;`";
                problems.push(Problem::new("csv.separator", "`separator` is none", label));
                b','
            }
        };
        let names = self.columns.as_deref().unwrap_or_default();
        if self.columns.is_some() && names.is_empty() {
            let label = "expected the names of the columns";
            problems.push(Problem::new("csv.columns", "`columns` is empty", label));
        }
        for (at, name) in names.iter().enumerate() {
            if names[..at].contains(name) {
                let message = format!("`columns` has `{name}` twice");
                let label = "stands above already";
                problems.push(Problem::new(format!("csv.columns[{at}]"), message, label));
            }
        }
        let reader = ReaderBuilder::new().delimiter(separator).build();
        let reader = Arc::new(Mutex::new(reader));
        Rows { separator, settings: self, reader }
    }
}

impl Rows {
    pub(crate) fn read(&self, bytes: &[u8]) -> anyhow::Result<Value> {
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        let CsvSettings { header, columns, .. } = &self.settings;
        let mut names = columns.clone();
        let (mut rows, mut values, mut is_first) = (Vec::new(), 0, true);
        self.each_record(bytes, |record, line| {
            if std::mem::take(&mut is_first) && *header == Header::First {
                names = names.take().or_else(|| Some(record.cells().map(str::to_owned).collect()));
                return Ok(());
            }
            values += record.len() + 1;
            if values > MOST_VALUES {
                bail!("it has more than {MOST_VALUES} cells");
            }
            rows.push(self.row(&record, names.as_deref(), line)?);
            Ok(())
        })?;
        match (self.settings.rows, rows.len()) {
            (RowCount::Many, _) => Ok(rows.into()),
            (RowCount::One, 1) => Ok(rows.remove(0)),
            (RowCount::One, count) => bail!("it has {count} rows; `rows: one` expects one"),
        }
    }

    /// Visits the records, with the line on which each begins.
    fn each_record(
        &self,
        bytes: &[u8],
        mut visit: impl FnMut(Record<'_>, u64) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        reader.reset();
        // Cells are no longer than what they are written in, and the reader wants room for one more.
        let (mut out, mut ends) = (vec![0; bytes.len() + 1], vec![0; CELLS_AT_FIRST]);
        let (mut left, mut length, mut count) = (bytes, 0, 0);
        let mut line = reader.line();
        loop {
            let (result, read, written, ended) =
                reader.read_record(left, &mut out[length..], &mut ends[count..]);
            left = &left[read..];
            (length, count) = (length + written, count + ended);
            match result {
                ReadRecordResult::OutputEndsFull => ends.resize(ends.len() * 2, 0),
                ReadRecordResult::OutputFull => out.resize(out.len() * 2, 0),
                // The next time, an empty text says that there is no more.
                ReadRecordResult::InputEmpty => (),
                ReadRecordResult::Record => {
                    let (cells, ends) = (&out[..length], &ends[..count]);
                    let text = std::str::from_utf8(cells).map_err(|error| {
                        let cell = ends.iter().filter(|end| **end <= error.valid_up_to()).count();
                        anyhow!("line {line}, cell {} is not UTF-8 text", cell + 1)
                    })?;
                    visit(Record { text, ends }, line)?;
                    (line, length, count) = (reader.line(), 0, 0);
                }
                ReadRecordResult::End => return Ok(()),
            }
        }
    }

    fn row(
        &self,
        record: &Record<'_>,
        names: Option<&[String]>,
        line: u64,
    ) -> anyhow::Result<Value> {
        let Some(names) = names else {
            return Ok(record.cells().map(|cell| self.cell(cell)).collect::<Vec<_>>().into());
        };
        if record.len() != names.len() {
            let (cells, columns) = (record.len(), names.len());
            bail!("line {line} has {}; there are {columns} columns", counted(cells, "cell"));
        }
        let members = names.iter().zip(record.cells());
        let map: Map<_, _> = members.map(|(name, cell)| (name.clone(), self.cell(cell))).collect();
        Ok(map.into())
    }

    fn cell(&self, cell: &str) -> Value {
        let CsvSettings { cells, decimal, .. } = &self.settings;
        let trimmed = cell.trim();
        match (cells, decimal) {
            (Cells::Text, _) => cell.into(),
            (Cells::Numbers, _) if trimmed.is_empty() => Value::Null,
            (Cells::Numbers, Decimal::Point) => number(trimmed).unwrap_or_else(|| cell.into()),
            (Cells::Numbers, Decimal::Comma) if trimmed.contains('.') => cell.into(),
            (Cells::Numbers, Decimal::Comma) => {
                number(&trimmed.replacen(',', ".", 1)).unwrap_or_else(|| cell.into())
            }
        }
    }

    pub(crate) fn write(&self, value: &Value) -> anyhow::Result<Bytes> {
        let CsvSettings { header, columns, .. } = &self.settings;
        let rows = match value {
            Value::Object(_) => std::slice::from_ref(value),
            // A list of cells is one row.
            Value::Array(items)
                if items.iter().all(|item| word(item).is_some()) && !items.is_empty() =>
            {
                std::slice::from_ref(value)
            }
            Value::Array(items) => items,
            other => bail!("{}; CSV is made of a map, or a list of them", kind(other)),
        };
        let first = rows.first().and_then(Value::as_object);
        let names = columns.clone().or_else(|| first.map(|row| row.keys().cloned().collect()));
        let mut writer = csv::WriterBuilder::new()
            .delimiter(self.separator)
            .flexible(true)
            .from_writer(Vec::new());
        // Nothing that is written to memory can fail.
        if let (Header::First, Some(names)) = (header, &names) {
            let _ = writer.write_record(names);
        }
        for (index, row) in rows.iter().enumerate() {
            let cells = self
                .cells_of(row, names.as_deref())
                .map_err(|why| anyhow!("row {}: {why}", index + 1))?;
            let _ = writer.write_record(&cells);
        }
        Ok(writer.into_inner().unwrap_or_default().into())
    }

    fn cells_of(&self, row: &Value, names: Option<&[String]>) -> Result<Vec<String>, String> {
        let cell = |name: &str, value: &Value| match word(value) {
            Some(word) if value.is_f64() && self.settings.decimal == Decimal::Comma => {
                Ok(word.replacen('.', ",", 1))
            }
            Some(word) => Ok(word.into_owned()),
            None => Err(format!("`{name}` is {}, which no cell can hold", kind(value))),
        };
        match (row, names) {
            (Value::Object(row), Some(names)) => {
                // Without `columns`, what the first row does not have has no column.
                let missing =
                    |name: &&String| self.settings.columns.is_none() && !names.contains(name);
                if let Some(name) = row.keys().find(missing) {
                    return Err(format!("`{name}` is not in the first row; name all in `columns`"));
                }
                names.iter().map(|name| cell(name, row.get(name).unwrap_or(&Value::Null))).collect()
            }
            (Value::Array(cells), names) => match names.map(<[String]>::len) {
                Some(columns) if columns != cells.len() => {
                    Err(format!("{}; there are {columns} columns", counted(cells.len(), "cell")))
                }
                _ => cells.iter().map(|value| cell("a cell", value)).collect(),
            },
            (other, _) => Err(format!("it is {}; expected a map or a list", kind(other))),
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}
