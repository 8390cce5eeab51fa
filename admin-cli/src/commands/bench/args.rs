//! Values on the command line.

use std::time::Duration;

use clap::ValueEnum;

/// Who begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Origin {
    /// Edges, toward the service.
    Edge,
    /// The service, toward edges.
    Service,
}

impl Origin {
    /// Its name in a report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Origin::Edge => "edge",
            Origin::Service => "service",
        }
    }
}

/// `number unit`, with the first unit for none.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// `64`, `16KiB`, `1MiB`.
pub(super) fn bytes(text: &str) -> Result<usize, String> {
    let found = scaled(text, &[("", 1), ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20)]);
    let most = 16 << 20;
    match found {
        Some(bytes) if bytes <= most => Ok(bytes as usize),
        Some(_) => Err("at most 16MiB".into()),
        None => Err("write it like 64 or 16KiB".into()),
    }
}

/// `5s`, `500ms`, `1m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match scaled(text, &[("s", 1_000), ("ms", 1), ("m", 60_000)]) {
        Some(0) | None => Err("write it like 5s or 500ms".into()),
        Some(millis) => Ok(Duration::from_millis(millis)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_carry_units() {
        assert_eq!((bytes("64"), bytes("16KiB"), bytes("1MiB")), (Ok(64), Ok(16 << 10), Ok(1 << 20)));
        assert!(bytes("17MiB").is_err() && bytes("x").is_err() && bytes("1MB").is_err());
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(duration("5").is_err() && duration("0s").is_err() && duration("-1s").is_err());
    }
}
