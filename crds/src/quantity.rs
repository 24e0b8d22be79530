//! Kubernetes quantities as whole thousandths (pure): `"1.5k"` is 1,500,000 milli.

/// Parses a quantity into thousandths, rounding up what is finer; `None` when it is none or too
/// large for an `i64`.
pub fn parse_milli(text: &str) -> Option<i64> {
    let text = text.trim();
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-' || c == '+'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (negative, digits) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let all = format!("{whole}{fraction}");
    let mantissa: i128 = all.parse().ok().filter(|_| !all.contains(['+', '-']))?;
    let (multiply, divide) = scale(suffix)?;
    let numerator = mantissa.checked_mul(multiply)?.checked_mul(1000)?;
    let denominator = divide.checked_mul(10i128.checked_pow(fraction.len() as u32)?)?;
    let milli = numerator / denominator + i128::from(numerator % denominator != 0);
    i64::try_from(if negative { -milli } else { milli }).ok()
}

/// Multiplier and divisor of a suffix.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    let binary = |power: u32| Some((1024i128.pow(power), 1));
    let decimal = |power: u32| Some((10i128.pow(power), 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1_000)),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => exponent(suffix),
    }
}

/// `e3`, `E-3` and the like.
fn exponent(suffix: &str) -> Option<(i128, i128)> {
    let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let factor = 10i128.checked_pow(power.unsigned_abs())?;
    Some(if power < 0 { (1, factor) } else { (factor, 1) })
}

#[cfg(test)]
mod tests {
    use super::parse_milli;

    #[test]
    fn reads_what_kubernetes_reads() {
        for (text, milli) in [
            ("0", 0),
            ("1", 1000),
            ("500m", 500),
            ("1.5", 1500),
            ("1.5k", 1_500_000),
            ("2Ki", 2_048_000),
            ("0.0001", 1),
            ("1e3", 1_000_000),
            ("1E-3", 1),
            ("-2", -2000),
            (".5", 500),
        ] {
            assert_eq!(parse_milli(text), Some(milli), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_quantity() {
        for text in [
            "", "x", "1x", "--1", "1.2.3", "9999999E", "1e99", "NaN", "1-2",
        ] {
            assert_eq!(parse_milli(text), None, "{text}");
        }
    }
}
