//! Values on the command line.

use std::time::Duration;

use clap::ValueEnum;

/// Largest size of a payload or a write, in bytes.
const SIZE_MAX: u64 = 16 << 20;

/// Which side begins an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Origin {
    /// Edges, toward the service.
    Edge,
    /// The service, toward edges.
    Service,
}

impl Origin {
    /// The side's name in a report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Origin::Edge => "edge",
            Origin::Service => "service",
        }
    }
}

/// Why a value is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ArgError {
    /// The size is over [`SIZE_MAX`].
    #[error("at most 16MiB")]
    TooLarge,
    /// The size is not a number with a unit.
    #[error("write it like 64 or 16KiB")]
    NoSize,
    /// The duration is not a number with a unit, or is zero.
    #[error("write it like 5s or 500ms")]
    NoDuration,
}

/// A number followed by one of these units, each with its factor.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Bytes: `64`, `16KiB`, `1MiB`.
pub(super) fn bytes(text: &str) -> Result<usize, ArgError> {
    match scaled(text, &[("", 1), ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20)]) {
        Some(bytes) if bytes <= SIZE_MAX => Ok(bytes as usize),
        Some(_) => Err(ArgError::TooLarge),
        None => Err(ArgError::NoSize),
    }
}

/// A duration: `5s`, `500ms`, `1m`.
pub(super) fn duration(text: &str) -> Result<Duration, ArgError> {
    match scaled(text, &[("s", 1_000), ("ms", 1), ("m", 60_000)]) {
        Some(0) | None => Err(ArgError::NoDuration),
        Some(millis) => Ok(Duration::from_millis(millis)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_an_upper_limit() {
        assert_eq!((bytes("64"), bytes("16KiB"), bytes("1MiB")), (Ok(64), Ok(16 << 10), Ok(1 << 20)));
        assert_eq!(bytes("17MiB"), Err(ArgError::TooLarge));
        assert_eq!((bytes("x"), bytes("1MB")), (Err(ArgError::NoSize), Err(ArgError::NoSize)));
    }

    #[test]
    fn durations_need_a_unit_and_are_not_zero() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(duration("5").is_err() && duration("0s").is_err() && duration("-1s").is_err());
    }
}
