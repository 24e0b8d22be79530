//! Pure: small plots as SVG text: bars beside each other, and lines over time.

use std::fmt::Write as _;

use super::table::number;

/// Size of a picture, pixels.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;

/// Room around the plotting area, pixels: left, right, top, bottom.
const MARGIN: (f64, f64, f64, f64) = (84.0, 24.0, 44.0, 56.0);

/// Where the horizontal axis is, pixels from the top.
const FLOOR: f64 = HEIGHT - MARGIN.3;

/// Colours that can be told apart in grey, too.
const COLOURS: [&str; 6] = [
    "#1f6feb", "#d97706", "#2f9e44", "#9333ea", "#c92a2a", "#495057",
];

/// Steps on the vertical axis.
const STEPS: u32 = 4;

/// A named run of values.
#[derive(Clone, Debug)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// Points: across, up.
    pub points: Vec<(f64, f64)>,
}

/// Bars, one per label.
pub fn bars(title: &str, unit: &str, bars: &[(String, f64)]) -> String {
    let most = bars.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let mut svg = Canvas::new(title, unit, most);
    let (left, right, ..) = MARGIN;
    let slot = (WIDTH - left - right) / bars.len().max(1) as f64;
    for (index, (label, value)) in bars.iter().enumerate() {
        let x = left + slot * (index as f64 + 0.2);
        let y = svg.up(*value);
        let colour = COLOURS[index % COLOURS.len()];
        let width = slot * 0.6;
        let middle = x + width / 2.0;
        svg.add(&format!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{:.1}" fill="{colour}"/>"#,
            FLOOR - y
        ));
        svg.text(middle, y - 6.0, "middle", 12, &number(*value));
        svg.text(middle, FLOOR + 18.0, "middle", 12, label);
    }
    svg.close()
}

/// Lines over a common horizontal axis.
pub fn lines(title: &str, unit: &str, across: &str, series: &[Series]) -> String {
    let points = || series.iter().flat_map(|s| &s.points);
    let most = points().map(|p| p.1).fold(0.0, f64::max);
    let last = points().map(|p| p.0).fold(0.0, f64::max);
    let mut svg = Canvas::new(title, unit, most);
    let (left, right, top, _) = MARGIN;
    let scale = (WIDTH - left - right) / if last > 0.0 { last } else { 1.0 };
    for (index, one) in series.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let path: Vec<String> = one
            .points
            .iter()
            .map(|(x, y)| format!("{:.1},{:.1}", left + x * scale, svg.up(*y)))
            .collect();
        svg.add(&format!(
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="1.5"/>"#,
            path.join(" ")
        ));
        let y = top - 6.0;
        let x = left + 130.0 * index as f64;
        svg.add(&format!(
            r#"<rect x="{x:.1}" y="{:.1}" width="10" height="10" fill="{colour}"/>"#,
            y - 9.0
        ));
        svg.text(x + 14.0, y, "start", 12, &one.name);
    }
    svg.text(left, FLOOR + 18.0, "start", 12, "0");
    svg.text(WIDTH - right, FLOOR + 18.0, "end", 12, &number(last));
    svg.text(
        f64::midpoint(left, WIDTH - right),
        FLOOR + 36.0,
        "middle",
        12,
        across,
    );
    svg.close()
}

/// A picture with title and vertical axis.
struct Canvas {
    text: String,
    most: f64,
}

impl Canvas {
    fn new(title: &str, unit: &str, most: f64) -> Self {
        let mut canvas = Self {
            text: String::new(),
            most: round_up(most),
        };
        canvas.add(&format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">"#
        ));
        canvas.add(&format!(
            r##"<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>"##
        ));
        canvas.text(WIDTH / 2.0, 20.0, "middle", 15, title);
        let (left, right, ..) = MARGIN;
        for step in 0..=STEPS {
            let value = canvas.most * f64::from(step) / f64::from(STEPS);
            let y = canvas.up(value);
            canvas.add(&format!(
                r##"<line x1="{left}" x2="{}" y1="{y:.1}" y2="{y:.1}" stroke="#dee2e6"/>"##,
                WIDTH - right
            ));
            canvas.text(left - 8.0, y + 4.0, "end", 12, &number(value));
        }
        let (x, y) = (18.0, HEIGHT / 2.0);
        canvas.add(&format!(
            r#"<text x="{x}" y="{y}" font-size="12" text-anchor="middle" transform="rotate(-90 {x} {y})">{}</text>"#,
            escape(unit)
        ));
        canvas
    }

    fn up(&self, value: f64) -> f64 {
        FLOOR - value / self.most * (FLOOR - MARGIN.2)
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, size: u32, text: &str) {
        let text = escape(text);
        self.add(&format!(
            r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" text-anchor="{anchor}">{text}</text>"#
        ));
    }

    fn add(&mut self, element: &str) {
        let _ = writeln!(self.text, "{element}");
    }

    fn close(mut self) -> String {
        self.add("</svg>");
        self.text
    }
}

/// The next number that divides well: 1, 2, 4, 5 or 8 times a power of ten.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 5.0, 8.0]
        .into_iter()
        .map(|step| step * power)
        .find(|step| *step >= value)
        .unwrap_or(10.0 * power)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_on_round_numbers() {
        for (value, end) in [
            (0.0, 1.0),
            (0.9, 1.0),
            (1.01, 2.0),
            (7300.0, 8000.0),
            (81.0, 100.0),
        ] {
            assert!((round_up(value) - end).abs() < 1e-9, "{value}");
        }
    }

    #[test]
    fn a_full_bar_reaches_the_top() {
        let svg = bars("a < b", "ms", &[("x".into(), 8.0), ("y".into(), 0.0)]);
        assert!(svg.contains(&format!(r#"y="{:.1}""#, MARGIN.2)), "{svg}");
        assert!(svg.contains("a &lt; b"));
        assert_eq!(svg.matches("<rect").count(), 3);
    }

    #[test]
    fn lines_keep_every_point() {
        let series = Series {
            name: "heap".into(),
            points: vec![(0.0, 1.0), (10.0, 2.0)],
        };
        let svg = lines("t", "MiB", "s", &[series]);
        let (left, right, top, _) = MARGIN;
        assert!(
            svg.contains(&format!("{:.1},{top:.1}", WIDTH - right)),
            "{svg}"
        );
        assert!(svg.contains(&format!(r#"points="{left:.1},"#)));
    }
}
