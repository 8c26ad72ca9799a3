//! Answers, for people and for programs.

use std::{
    io::{self, Write},
    time::Duration,
};

use crate::failure;

/// An answer in both forms.
#[derive(Debug)]
pub(crate) struct Answer {
    /// For people.
    text: Text,
    /// For programs.
    pub(crate) json: serde_json::Value,
    /// What the program ends with.
    pub(crate) code: u8,
}

/// An answer for people.
#[derive(Debug)]
enum Text {
    /// Labels and values.
    Lines(Vec<(String, String)>),
    /// As it is to be shown.
    Screen(String),
}

impl Answer {
    /// An answer that says what was asked for.
    pub(crate) fn new(lines: Vec<(String, String)>, json: serde_json::Value) -> Self {
        Self { text: Text::Lines(lines), json, code: 0 }
    }

    /// An answer that is laid out already.
    pub(crate) fn screen(screen: String, json: serde_json::Value) -> Self {
        Self { text: Text::Screen(screen), json, code: 0 }
    }

    /// The same, but that what was asked for is not there.
    pub(crate) fn absent(self) -> Self {
        Self { code: failure::ABSENT, ..self }
    }

    /// The same, but that something is not as it must be.
    pub(crate) fn unsound(self) -> Self {
        Self { code: failure::UNSOUND, ..self }
    }

    /// Says a version before everything else.
    pub(crate) fn with_version(mut self, version: u64) -> Self {
        if let Text::Lines(lines) = &mut self.text {
            lines.insert(0, line("version", version));
        }
        self.json["version"] = version.into();
        self
    }

    /// Writes it to the standard output.
    pub(crate) fn print(&self, as_json: bool) -> io::Result<()> {
        let mut output = io::stdout().lock();
        if as_json {
            return writeln!(output, "{:#}", self.json);
        }
        let lines = match &self.text {
            Text::Lines(lines) => lines,
            Text::Screen(screen) => {
                output.write_all(screen.as_bytes())?;
                return output.flush();
            }
        };
        let width = lines.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        for (label, value) in lines {
            writeln!(output, "{label:<width$}  {value}")?;
        }
        output.flush()
    }
}

/// A label and a value.
pub(crate) fn line(label: &str, value: impl ToString) -> (String, String) {
    (label.to_string(), value.to_string())
}

/// A number with its thousands apart.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number of bytes, readable.
pub(crate) fn short_bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut scaled = number as f64;
    let mut unit = None;
    for name in UNITS {
        if scaled < 1024.0 {
            break;
        }
        scaled /= 1024.0;
        unit = Some(name);
    }
    match unit {
        Some(unit) => format!("{scaled:.1} {unit}"),
        None => format!("{number} bytes"),
    }
}

/// A number of bytes, readable and exact.
pub(crate) fn bytes(number: u64) -> String {
    match short_bytes(number) {
        exact if number < 1024 => exact,
        short => format!("{short} ({number} bytes)"),
    }
}

/// How long something took, readable.
pub(crate) fn time(elapsed: Duration) -> String {
    if elapsed.as_secs() < 60 { format!("{:.2} s", elapsed.as_secs_f64()) } else { format!("{} min", clock(elapsed)) }
}

/// A time that runs, in minutes and seconds.
pub(crate) fn clock(elapsed: Duration) -> String {
    format!("{}:{:02}", elapsed.as_secs() / 60, elapsed.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([1_023, 1_536].map(bytes), ["1023 bytes", "1.5 KiB (1536 bytes)"]);
        assert_eq!(time(Duration::from_millis(1_250)), "1.25 s");
        assert_eq!(time(Duration::from_secs(61)), "1:01 min");
    }
}
