//! Prints settings as a commented YAML file.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::setting::{Leaf, Settings, Visitor};

/// Column at which comments are wrapped.
const WIDTH: usize = 96;

/// Prints every setting with its meaning.
pub(super) fn all<S: Settings>(settings: &mut S) -> String {
    print(settings, BTreeMap::new())
}

/// Prints only the settings that differ from `base`.
pub(super) fn changed<S: Settings>(settings: &mut S, base: &mut S) -> String {
    let mut known = Values::default();
    base.visit(&mut known);
    print(settings, known.values)
}

fn print<S: Settings>(settings: &mut S, known: BTreeMap<String, String>) -> String {
    let mut printer = Printer { path: String::new(), indent: 0, known: &known, out: String::new() };
    settings.visit(&mut printer);
    printer.out
}

/// Collects every value by its path.
#[derive(Default)]
struct Values {
    path: String,
    values: BTreeMap<String, String>,
}

impl Visitor for Values {
    fn leaf<T: Leaf>(&mut self, key: &'static str, _: &'static str, slot: &mut T) {
        self.values.insert(format!("{}{key}", self.path), slot.to_yaml());
    }

    fn section<S: Settings>(&mut self, key: &'static str, _: &'static str, slot: &mut S) {
        let length = self.path.len();
        self.path.push_str(key);
        self.path.push('.');
        slot.visit(self);
        self.path.truncate(length);
    }

    fn ignored(&mut self, _: &'static str, _: &'static str) {}

    fn unsupported(&mut self, _: &'static str, _: &'static str) {}
}

struct Printer<'a> {
    path: String,
    indent: usize,
    known: &'a BTreeMap<String, String>,
    out: String,
}

impl Printer<'_> {
    fn line(&mut self, text: &str) {
        let indent = self.indent * 2;
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "{:indent$}{text}", "");
    }

    fn comment(&mut self, about: &str) {
        let mut line = String::from("#");
        for word in about.split_whitespace() {
            if self.indent * 2 + line.len() + 1 + word.len() > WIDTH {
                self.line(&line);
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        if line.len() > 1 {
            self.line(&line);
        }
    }
}

impl Visitor for Printer<'_> {
    fn leaf<T: Leaf>(&mut self, key: &'static str, about: &'static str, slot: &mut T) {
        let value = slot.to_yaml();
        if self.known.get(&format!("{}{key}", self.path)) != Some(&value) {
            self.comment(about);
            self.line(&format!("{key}: {value}"));
        }
    }

    fn section<S: Settings>(&mut self, key: &'static str, about: &'static str, slot: &mut S) {
        let path = format!("{}{key}.", self.path);
        let mut inner = Printer { path, indent: self.indent + 1, known: self.known, out: String::new() };
        slot.visit(&mut inner);
        let body = inner.out;
        if !body.is_empty() {
            if self.indent == 0 && !self.out.is_empty() {
                self.out.push('\n');
            }
            self.comment(about);
            self.line(&format!("{key}:"));
            self.out.push_str(&body);
        }
    }

    fn ignored(&mut self, _: &'static str, _: &'static str) {}

    fn unsupported(&mut self, _: &'static str, _: &'static str) {}
}
