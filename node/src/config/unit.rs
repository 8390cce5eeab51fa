//! Values with units: durations and sizes.

use std::fmt;
use std::time::Duration;

use super::setting::Leaf;
use super::value_error::ValueError;

/// A number of bytes, written with its unit: `64KiB`, `16MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

/// The units of a quantity.
struct Units {
    /// Name and factor of each, largest first.
    table: [(&'static str, u64); 4],
    /// Two values with units, for error texts.
    example: &'static str,
    /// What a value is, for error texts.
    wanted: &'static str,
}

/// Units of sizes, in bytes. Only binary units are accepted, so that a value has one meaning.
const SIZES: Units = Units {
    table: [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)],
    example: "16MiB or 64KiB",
    wanted: "a size like 16MiB or 64KiB",
};

/// Units of durations, in milliseconds.
const DURATIONS: Units = Units {
    table: [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)],
    example: "20s or 300ms",
    wanted: "a duration like 20s or 300ms",
};

impl Size {
    /// A size of so many bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Size(bytes)
    }

    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of bytes as `usize`, saturating.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show(self.0, &SIZES))
    }
}

impl Leaf for Size {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        parse(text, &SIZES).map(Size)
    }

    fn to_yaml(&self) -> String {
        self.to_string()
    }
}

impl Leaf for Duration {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        parse(text, &DURATIONS).map(Duration::from_millis)
    }

    fn to_yaml(&self) -> String {
        let millis = u64::try_from(self.as_millis()).unwrap_or(u64::MAX);
        show(millis, &DURATIONS)
    }
}

/// Reads `<number><unit>`; the number may have a decimal point.
fn parse(text: &str, units: &Units) -> Result<u64, ValueError> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let (number, unit) = (number.trim(), unit.trim());
    if unit.is_empty() && !number.is_empty() {
        return Err(ValueError::NoUnit { text: text.to_owned(), example: units.example });
    }
    let factor = units.table.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let value = factor.and_then(|factor| scaled(number, factor));
    match value {
        Some(0) => Err(ValueError::NotPositive { text: text.to_owned() }),
        Some(value) => Ok(value),
        None => Err(ValueError::syntax(text, units.wanted)),
    }
}

/// `number` times `factor`; nothing if the product is not a whole number that fits.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = u32::try_from(part.len()).ok()?;
    let scale = 10u128.checked_pow(digits)?;
    if !whole.bytes().chain(part.bytes()).all(|b| b.is_ascii_digit()) || whole.is_empty() {
        return None;
    }
    let all = format!("{whole}{part}").parse::<u128>().ok()?.checked_mul(u128::from(factor))?;
    if all % scale == 0 { u64::try_from(all / scale).ok() } else { None }
}

fn show(value: u64, units: &Units) -> String {
    let fits = |(_, factor): &&(&str, u64)| value.is_multiple_of(*factor) && value >= *factor;
    let [.., smallest] = units.table;
    let (unit, factor) = units.table.iter().find(fits).copied().unwrap_or(smallest);
    format!("{}{unit}", value / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        assert_eq!(Duration::from_text("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(Duration::from_text("1.2s"), Ok(Duration::from_millis(1200)));
        assert_eq!(Duration::from_text("300 ms"), Ok(Duration::from_millis(300)));
    }

    #[test]
    fn duration_without_unit_is_rejected_with_an_example() {
        let error = Duration::from_text("20").unwrap_err().to_string();
        assert_eq!(error, "\"20\" has no unit; write it like 20s or 300ms");
    }

    #[test]
    fn malformed_durations_are_rejected() {
        for wrong in ["", "s", "0s", "-1s", "1.0001s", "20 parsecs", "99999999999999999999h"] {
            assert!(Duration::from_text(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn sizes_are_read_with_their_unit() {
        assert_eq!(Size::from_text("16MiB"), Ok(Size::bytes(16 << 20)));
        assert_eq!(Size::from_text("1.5KiB"), Ok(Size::bytes(1536)));
        assert!(Size::from_text("16MB").is_err());
    }

    #[test]
    fn printed_values_can_be_read_back() {
        for millis in [1, 300, 1_200, 20_000, 60_000, 3_600_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(Duration::from_text(&duration.to_yaml()), Ok(duration));
        }
        assert_eq!(Size::bytes(16 << 20).to_yaml(), "16MiB");
        assert_eq!(Duration::from_secs(90).to_yaml(), "90s");
    }
}
