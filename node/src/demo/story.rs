//! The output of the demo: titles, what is about to happen, what has happened.

use std::cell::Cell;
use std::io::{IsTerminal, stdout};

/// Prints the story to stdout, in colour if that is a terminal.
pub(super) struct Story {
    colour: bool,
    chapter: Cell<u32>,
}

impl Story {
    pub(super) fn new() -> Self {
        Story { colour: stdout().is_terminal(), chapter: Cell::new(0) }
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Begins a chapter.
    pub(super) fn title(&self, text: &str) {
        self.chapter.set(self.chapter.get() + 1);
        println!("\n{}", self.paint("1", &format!("{}. {text}", self.chapter.get())));
    }

    /// Prints what is about to happen, and why it matters.
    pub(super) fn say(&self, text: &str) {
        println!("   {text}");
    }

    /// Prints what has happened, with its figure.
    pub(super) fn done(&self, text: impl AsRef<str>) {
        println!("   {} {}", self.paint("32", "✓"), text.as_ref());
    }
}
