//! Tables for people, JSON for scripts.

use std::io::{self, Write};

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

use crate::error::Error;

/// Prints one object on one line.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Error> {
    print(&serde_json::to_string(value)?)
}

/// Prints rows under the names of their columns.
pub(crate) fn table<R>(columns: &[&str], rows: impl IntoIterator<Item = R>) -> Result<(), Error>
where
    R: IntoIterator<Item = String>,
{
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(columns);
    for row in rows {
        table.add_row(row);
    }
    print(&table.trim_fmt())
}

/// Prints a line. A reader that closed the pipe, such as `head`, is not an error.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
