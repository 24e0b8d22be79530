//! Pure: sizes as people write and read them.

/// Bytes from `10MiB`, `512 KiB`, `1.5GB` or a plain number of bytes.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        other => {
            return Err(format!(
                "unknown unit {other:?}: take B, KiB, MiB, GiB, KB, MB or GB"
            ));
        }
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "no number: write for example 10MiB".to_owned())?;
    Ok((number * factor as f64).round() as u64)
}

/// `12.3 MiB`.
pub fn show(bytes: i64) -> String {
    let size = bytes.unsigned_abs() as f64;
    let sign = if bytes < 0 { "-" } else { "" };
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units
        .iter()
        .find(|(shift, _)| size >= f64::from(1u32 << shift))
    {
        Some((shift, unit)) => format!("{sign}{:.1} {unit}", size / f64::from(1u32 << shift)),
        None => format!("{sign}{size} B"),
    }
}

/// The same with a plus sign in front of growth.
pub fn show_change(bytes: i64) -> String {
    if bytes > 0 {
        format!("+{}", show(bytes))
    } else {
        show(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse("10MiB"), Ok(10 << 20));
        assert_eq!(parse("1.5 GB"), Ok(1_500_000_000));
        assert_eq!(parse("512k"), Ok(512 << 10));
        assert_eq!(parse("77"), Ok(77));
        for bad in ["", "MiB", "10 parsecs", "-5MiB", "1.2.3"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_shown() {
        assert_eq!(show(0), "0 B");
        assert_eq!(show(-1536), "-1.5 KiB");
        assert_eq!(show_change(10 << 20), "+10.0 MiB");
        assert_eq!(show(i64::MIN), "-8589934592.0 GiB");
    }
}
