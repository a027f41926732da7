//! Frames with axes, curves, marks, texts.

use std::fmt::Write as _;

use super::log::Curve;

pub const WIDTH: f64 = 1000.0;
pub const LEFT: f64 = 85.0;

/// The run whose factors are drawn, then the others. Lines differ by dashes, not by colour alone.
pub const RUNS: [(&str, &str); 8] = [
    ("#00436b", ""),
    ("#d55e00", "7 4"),
    ("#007a5a", "2 3"),
    ("#8a3a76", "9 3 2 3"),
    ("#555555", "14 5"),
    ("#a07800", "5 2 1 2 1 2"),
    ("#3b6fd4", "5 2"),
    ("#b0164f", "12 3 4 3"),
];

/// The line at 1 in the diagrams of factors.
pub const ONE: &str = "stroke=\"#000\" stroke-width=\"1.2\" stroke-dasharray=\"1.5 3\"";

/// About how long a text of size 13 is.
pub fn length(text: &str) -> f64 {
    7.2 * text.chars().count() as f64
}

pub fn bold(look: usize) -> String {
    let (colour, dashes) = RUNS[look];
    format!("stroke=\"{colour}\" stroke-width=\"2.4\"{}", dashed(dashes))
}

pub fn thin(look: usize) -> String {
    let (colour, dashes) = RUNS[look];
    format!("stroke=\"{colour}\" stroke-width=\"0.8\" stroke-opacity=\"0.35\"{}", dashed(dashes))
}

pub fn dashed(dashes: &str) -> String {
    if dashes.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dashes}\"") }
}

/// Groups come in pairs, mostly weight and bias of the same depth: solid and dashed, with the same colour and mark.
pub fn colour(group: usize) -> &'static str {
    ["#00436b", "#c04a00", "#007a5a", "#8a3a76"][group / 2 % 4]
}

pub fn stroke(group: usize) -> String {
    let dashes = if group % 2 == 1 { "6 3" } else { "" };
    format!("stroke-width=\"1.6\" stroke=\"{}\"{}", colour(group), dashed(dashes))
}

#[derive(Default)]
pub struct Svg {
    pub body: String,
}

pub struct Axes {
    pub left: f64,
    pub top: f64,
    pub low: f64,
    pub high: f64,
    pub end: f64,
}

impl Axes {
    pub const WIDTH: f64 = 395.0;
    pub const HEIGHT: f64 = 250.0;

    pub fn x(&self, time: f64) -> f64 {
        self.left + Self::WIDTH * time / self.end
    }

    pub fn y(&self, value: f64) -> f64 {
        self.top + Self::HEIGHT * (self.high - value) / (self.high - self.low)
    }
}

/// 1, 2 or 5 times a power of ten: about `wanted` steps in `length`.
pub fn tick(length: f64, wanted: f64) -> f64 {
    let raw = length / wanted;
    let power = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| raw <= *step).unwrap_or(raw)
}

/// A number at an axis whose numbers are `step` apart.
pub fn label(value: f64, step: f64) -> String {
    let digits = -(step.log10() + 1e-9).floor();
    if digits > 6.0 || step >= 1e6 { format!("{value:.1e}") } else { format!("{value:.*}", digits.max(0.0) as usize) }
}

impl Svg {
    pub fn text(&mut self, x: f64, y: f64, content: &str, anchor: &str, size: u32) {
        let safe: String = content
            .chars()
            .filter(|c| !c.is_control())
            .map(|c| match c {
                '&' => "&amp;".to_owned(),
                '<' => "&lt;".to_owned(),
                '>' => "&gt;".to_owned(),
                c => c.to_string(),
            })
            .collect();
        let at = format!("x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\"");
        let _ = writeln!(self.body, "<text {at}>{safe}</text>");
    }

    /// Names of lines and how they look, below the title; curves may need every corner of their diagrams. Returns its last
    /// baseline.
    pub fn legend(&mut self, lines: &[(&str, usize)], note: &str) -> f64 {
        let widths: Vec<f64> = lines.iter().map(|(name, _)| 48.0 + length(name) + 36.0).collect();
        let all = widths.iter().sum::<f64>() + length(note);
        let (mut x, mut y) = (((WIDTH - all) / 2.0).max(LEFT), 53.0);
        for ((name, look), width) in lines.iter().zip(&widths) {
            if x > LEFT && x + width > WIDTH {
                (x, y) = (LEFT, y + 20.0);
            }
            let _ = writeln!(self.body, "<path d=\"M{x:.1} {y:.1}h40\" fill=\"none\" {}/>", bold(*look));
            self.text(x + 48.0, y + 5.0, name, "start", 13);
            x += width;
        }
        if x + length(note) > WIDTH {
            (x, y) = (LEFT, y + 20.0);
        }
        self.text(x, y + 5.0, note, "start", 13);
        y
    }

    /// Frame, axes with numbers and names, for these curves.
    pub fn axes(&mut self, place: (f64, f64), names: (&str, &str, &str), curves: &[Curve]) -> Axes {
        let values = || curves.iter().flatten().filter_map(|(_, value)| *value);
        let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        let range = if least <= most { (least, most) } else { (0.0, 1.0) };
        let end = curves.iter().flatten().map(|(time, _)| *time).fold(0.0, f64::max);
        self.frame(place, names, range, if end > 0.0 { end } else { 1.0 }, |axes| {
            let along = tick(axes.end, 6.0).max(if axes.end >= 1.0 { 1.0 } else { 0.0 });
            let numbers = (0..=(axes.end / along + 1e-9).floor() as usize).map(|n| n as f64 * along);
            numbers.map(|number| (axes.x(number), label(number, along))).collect()
        })
    }

    /// A frame with values between `least` and `most`, and times up to `end`; `along`: the places and texts below it.
    pub fn frame(
        &mut self,
        (left, top): (f64, f64),
        (title, unit, time): (&str, &str, &str),
        (least, most): (f64, f64),
        end: f64,
        along: impl FnOnce(&Axes) -> Vec<(f64, String)>,
    ) -> Axes {
        let range = (most - least).max(1e-9 * most.abs().max(1.0));
        let step = tick(range, 5.0);
        let low = ((least - 0.02 * range) / step).floor() * step;
        let high = ((most + 0.02 * range) / step).ceil() * step;
        let axes = Axes { left, top, low, high, end };

        self.text(left, top - 12.0, title, "start", 15);
        for n in 0..=((high - low) / step).round() as usize {
            let value = low + n as f64 * step;
            let y = axes.y(value);
            let _ = writeln!(self.body, "<path d=\"M{left:.1} {y:.1}h{:.1}\" stroke=\"#ddd\"/>", Axes::WIDTH);
            self.text(left - 7.0, y + 4.0, &label(value, step), "end", 12);
        }
        let bottom = top + Axes::HEIGHT;
        for (at, number) in along(&axes) {
            let _ = writeln!(self.body, "<path d=\"M{at:.1} {bottom:.1}v5\" stroke=\"#000\"/>");
            self.text(at, bottom + 19.0, &number, "middle", 12);
        }
        let (width, height) = (Axes::WIDTH, Axes::HEIGHT);
        let frame = format!("M{left:.1} {top:.1}v{height:.1}h{width:.1}");
        let _ = writeln!(self.body, "<path d=\"{frame}\" fill=\"none\" stroke=\"#000\"/>");
        self.text(left + width / 2.0, bottom + 38.0, time, "middle", 13);
        let at = format!("translate({:.1} {:.1}) rotate(-90)", left - 58.0, top + height / 2.0);
        let _ = write!(self.body, "<g transform=\"{at}\">");
        self.text(0.0, 0.0, unit, "middle", 13);
        self.body += "</g>\n";
        axes
    }

    /// Points without a value are gaps.
    pub fn curve(&mut self, axes: &Axes, curve: &Curve, look: &str) {
        let mut path = String::new();
        let mut command = 'M';
        for (time, value) in curve {
            let Some(value) = value else {
                command = 'M';
                continue;
            };
            let _ = write!(path, "{command}{:.1} {:.1}", axes.x(*time), axes.y(*value));
            command = 'L';
        }
        if !path.is_empty() {
            let _ = writeln!(self.body, "<path d=\"{path}\" fill=\"none\" {look}/>");
        }
    }

    /// Full and hollow for the two of a pair: circle, square, triangle, diamond. 16 pairs look different.
    pub fn mark(&mut self, x: f64, y: f64, group: usize) {
        let line = colour(group);
        let fill = if group % 2 == 1 { "#fff" } else { line };
        let shape = match (group / 2 + group / 8) % 4 {
            0 => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.2\""),
            1 => format!("<rect x=\"{:.1}\" y=\"{:.1}\" width=\"8\" height=\"8\"", x - 4.0, y - 4.0),
            2 => format!("<path d=\"M{x:.1} {:.1}l5 9h-10z\"", y - 5.5),
            _ => format!("<path d=\"M{x:.1} {:.1}l5 5l-5 5l-5 -5z\"", y - 5.0),
        };
        let _ = writeln!(self.body, "{shape} stroke=\"{line}\" stroke-width=\"1.4\" fill=\"{fill}\"/>");
    }

    pub fn finish(self, height: f64) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" font-family=\"Helvetica, Arial, DejaVu Sans, sans-serif\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{}</svg>\n",
            self.body
        )
    }
}
