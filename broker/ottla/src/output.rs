//! What a command was asked for, on stdout: tables and sentences for people, one JSON value per line for scripts.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use serde_json::Value;

use super::failure::Failure;

/// Writes to stdout; a reader that went away surfaces as [`Failure`] of kind `ReaderGone`, at the latest in `finish`.
pub(crate) struct Output {
    json: bool,
    sink: Sink,
}

enum Sink {
    Stdout(BufWriter<Stdout>),
    Memory(Vec<u8>),
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::Memory(memory) => memory.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::Memory(_) => Ok(()),
        }
    }
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, sink: Sink::Stdout(BufWriter::with_capacity(64 * 1024, io::stdout())) }
    }

    /// One that keeps what people would see, for another command.
    pub(crate) fn captured() -> Self {
        Self { json: false, sink: Sink::Memory(Vec::new()) }
    }

    /// What was captured.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        match self.sink {
            Sink::Memory(bytes) => bytes,
            Sink::Stdout(_) => Vec::new(),
        }
    }

    /// Whether to answer in JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Says `sentence`, or `value` to a script.
    pub(crate) fn say(&mut self, sentence: &str, value: &Value) -> Result<(), Failure> {
        if self.json {
            return self.json_line(value);
        }
        Ok(writeln!(self.sink, "{sentence}")?)
    }

    /// A line of JSON.
    pub(crate) fn json_line(&mut self, value: &Value) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.sink, value).map_err(io::Error::from)?;
        Ok(self.sink.write_all(b"\n")?)
    }

    /// A table for people: the first row is the head. Numbers (and what looks like them) stand to the right.
    pub(crate) fn table(&mut self, rows: &[Vec<String>]) -> Result<(), Failure> {
        Ok(self.sink.write_all(lay_out(rows).as_bytes())?)
    }

    /// A line for people.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), Failure> {
        Ok(writeln!(self.sink, "{line}")?)
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.sink.write_all(bytes)?)
    }

    /// Lets everything written so far appear.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.sink.flush()?)
    }

    /// The end.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.flush()
    }
}

/// A remark on stderr, for people at a terminal only.
pub(crate) fn remark(words: &str) {
    let mut stderr = io::stderr();
    if stderr.is_terminal() {
        // A remark without a reader is no failure.
        let _ = writeln!(stderr, "{words}");
    }
}

fn lay_out(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &'_ Vec<String>, column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
    let widths: Vec<usize> =
        (0..columns).map(|column| rows.iter().map(|row| cell(row, column)).max().unwrap_or(0)).collect();
    let is_number = |cell: &str| cell == "-" || cell.chars().all(|c| c.is_ascii_digit());
    let numeric: Vec<bool> = (0..columns)
        .map(|column| rows.iter().skip(1).filter_map(|row| row.get(column)).all(|cell| is_number(cell)))
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).zip(&numeric).map(|((cell, width), numeric)| {
            if *numeric { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_left_and_numbers_right() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let rows = [row(&["TOPIC", "PARTITIONS"]), row(&["packages", "6"]), row(&["é", "12"])];
        assert_eq!(lay_out(&rows), "TOPIC     PARTITIONS\npackages           6\né                 12\n");
        assert_eq!(lay_out(&[]), "");
    }
}
