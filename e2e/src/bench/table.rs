//! Pure: what a run found, as a table for people and as JSON for machines.

use serde_json::{Map, Value, json};

use super::figure::{Bound, Figure, Findings, Verdict};
use super::machine::Machine;

/// Everything that one run found.
#[derive(Debug)]
pub struct Report {
    /// Where and when.
    pub machine: Machine,
    /// True for the small size.
    pub quick: bool,
    /// Per benchmark, in the order in which they ran.
    pub benches: Vec<(&'static str, Result<Findings, String>)>,
}

impl Report {
    /// True when every bound holds and every benchmark came to its end.
    pub fn holds(&self) -> bool {
        self.benches.iter().all(|(_, outcome)| match outcome {
            Ok(found) => found
                .figures
                .iter()
                .all(|f| matches!(f.verdict(), Verdict::Pass | Verdict::Reported)),
            Err(_) => false,
        })
    }

    /// Where and when, in one line.
    pub fn heading(&self) -> String {
        let m = &self.machine;
        format!(
            "{} · {} cores · {} GiB · Linux {} · {}{}",
            m.processor,
            m.cores,
            m.memory_gib,
            m.kernel,
            m.date,
            if self.quick { " · quick" } else { "" }
        )
    }

    /// The table of one benchmark.
    pub fn table(name: &str, outcome: &Result<Findings, String>) -> String {
        let found = match outcome {
            Ok(found) => found,
            Err(error) => return format!("{name}\n  broke off: {error}\n"),
        };
        let rows: Vec<[String; 6]> = found.figures.iter().map(row).collect();
        let mut widths = [0; 5];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = format!("{name}\n");
        for row in &rows {
            let [name, value, spread, limit, verdict, note] = row;
            let [w0, w1, w2, w3, w4] = widths;
            let line = format!(
                "  {name:w0$}  {value:>w1$}  {spread:w2$}  {limit:w3$}  {verdict:w4$}  {note}"
            );
            text += line.trim_end();
            text.push('\n');
        }
        let skipped = found.skipped.iter();
        text.extend(skipped.map(|line| format!("  left out: {line}\n")));
        text
    }

    /// The named figures.
    pub fn json(&self) -> Value {
        let mut figures = Map::new();
        let mut series = Map::new();
        let mut errors = Map::new();
        let mut skipped = Vec::new();
        for (bench, outcome) in &self.benches {
            match outcome {
                Ok(found) => {
                    for figure in &found.figures {
                        figures.insert(format!("{bench}.{}", figure.name), entry(figure));
                    }
                    for one in &found.series {
                        series.insert(format!("{bench}.{}", one.name), json!(one.points));
                    }
                    skipped.extend(found.skipped.iter().map(|line| format!("{bench}: {line}")));
                }
                Err(error) => {
                    errors.insert((*bench).to_owned(), json!(error));
                }
            }
        }
        let m = &self.machine;
        json!({
            "machine": {"processor": m.processor, "cores": m.cores, "memory_gib": m.memory_gib, "kernel": m.kernel},
            "date": m.date, "quick": self.quick, "holds": self.holds(),
            "figures": figures, "series": series, "errors": errors, "left_out": skipped,
        })
    }
}

fn entry(figure: &Figure) -> Value {
    let limit = figure.bound.map(|bound| match bound {
        Bound::AtMost(most) => json!({"at_most": most}),
        Bound::AtLeast(least) => json!({"at_least": least}),
    });
    json!({
        "value": figure.value, "unit": figure.unit, "spread": figure.spread.map(|(a, b)| [a, b]),
        "limit": limit, "verdict": figure.verdict().word(), "note": figure.note,
    })
}

fn row(figure: &Figure) -> [String; 6] {
    let value = figure.value.map_or_else(|| "–".to_owned(), number);
    let spread = figure
        .spread
        .filter(|(least, most)| least < most)
        .map(|(least, most)| format!("{} … {}", number(least), number(most)))
        .unwrap_or_default();
    let limit = figure.bound.map(|bound| match bound {
        Bound::AtMost(most) => format!("≤ {}", number(most)),
        Bound::AtLeast(least) => format!("≥ {}", number(least)),
    });
    [
        figure.name.clone(),
        format!("{value} {}", figure.unit).trim().to_owned(),
        spread,
        limit.unwrap_or_default(),
        figure.verdict().word().to_owned(),
        figure.note.clone(),
    ]
}

/// Three significant digits below a thousand, whole numbers with separators above.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1000.0 {
        let digits = format!("{size:.0}");
        let mut grouped = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        return format!("{}{grouped}", if value < 0.0 { "-" } else { "" });
    }
    let decimals = match size {
        s if s >= 100.0 => 0,
        s if s >= 10.0 => 1,
        s if s >= 1.0 || s == 0.0 => 2,
        s if s >= 0.1 => 3,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn report(figures: Vec<Figure>) -> Report {
        let machine = Machine {
            processor: "P".into(),
            cores: 2,
            memory_gib: 24,
            kernel: "6.18".into(),
            date: "today".into(),
        };
        let found = Findings {
            figures,
            skipped: vec!["ws on Node: no node".into()],
            ..Findings::default()
        };
        Report {
            machine,
            quick: false,
            benches: vec![("fanout", Ok(found))],
        }
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (0.812, "0.812"),
            (1.5, "1.5"),
            (17.25, "17.2"),
            (250.4, "250"),
            (1_234_567.8, "1,234,568"),
            (-1200.0, "-1,200"),
            (0.01234, "0.0123"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_table_shows_value_spread_limit_and_verdict() {
        let figure =
            Figure::of("ratio_to_floor", "×", &[0.81, 0.79, 0.85]).must(Bound::AtLeast(0.8));
        let report = report(vec![figure]);
        let text = Report::table("fanout", &report.benches[0].1);
        assert_eq!(
            text,
            "fanout\n  ratio_to_floor  0.81 ×  0.79 … 0.85  ≥ 0.8  pass\n  left out: ws on Node: no node\n"
        );
        assert!(report.holds());
    }

    #[test]
    fn json_names_every_figure() {
        let missing = Figure::maybe("bytes_per_upgrade", "B", None).must(Bound::AtMost(1.3));
        let report = report(vec![missing]);
        let json = report.json();
        let figure = &json["figures"]["fanout.bytes_per_upgrade"];
        assert_eq!(figure["value"], Value::Null);
        assert_eq!(figure["verdict"], "unmeasured");
        assert_eq!(figure["limit"]["at_most"], 1.3);
        assert_eq!(json["holds"], false);
        assert!(!report.holds());
    }
}
