//! Losses against learning rates, one diagram a task. The data are JSON objects, one a line and rate of a diagram:
//!
//! ```text
//! {"panel": "Text", "unit": "nats", "line": "AdamW", "rate": 0.001, "values": [1.91, 1.93, null]}
//! ```
//!
//! The first line may have a "title" of the picture, and each the "quantity" that is drawn, if it is not the loss.
//! `values`: one a seed; null is a loss that is not finite. Drawn are the medians and, as a band, the range of the values.
//! The last line of the data looks like the first run of a log. What is above `CUT` times the least loss of a diagram is
//! outside of it.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::input::{number, objects, string};
use super::svg::{Axes, LEFT, RUNS, Svg, WIDTH, bold};

const CUT: f64 = 3.0;

/// Of a line at a rate: least, median and most; infinite where a value is not finite.
struct Point {
    rate: f64,
    least: f64,
    median: f64,
    most: f64,
}

struct Panel {
    title: String,
    unit: String,
    /// With the places of their names in `Rates::lines`.
    lines: Vec<(usize, Vec<Point>)>,
}

#[derive(Default)]
struct Rates {
    lines: Vec<String>,
    panels: Vec<Panel>,
    seeds: usize,
    title: Option<String>,
}

/// The picture of such data.
///
/// # Errors
/// A message with the file, the line and what was expected there.
pub fn draw(file: &str, text: &str) -> Result<String, String> {
    let mut rates = Rates::default();
    for (line, value) in objects(file, text)? {
        rates.take(&value).map_err(|message| format!("{file}:{line}: {message}"))?;
    }
    rates.picture().map_err(|message| format!("{file}: {message}"))
}

impl Rates {
    fn take(&mut self, value: &Value) -> Result<(), String> {
        let object = value.as_object().ok_or("expected a JSON object")?;
        let text = |name| string(object, name)?.ok_or_else(|| format!("expected a \"{name}\""));
        let (title, unit, name) = (text("panel")?, text("unit")?, text("line")?);
        let rate = number(object, "rate")?.filter(|rate| *rate > 0.0).ok_or("\"rate\": expected a number above 0")?;
        let values = values(object)?;
        self.seeds = self.seeds.max(values.len());
        if let Some(title) = string(object, "title")? {
            self.title.get_or_insert_with(|| title.to_owned());
        }
        let unit = format!("{} ({unit})", string(object, "quantity")?.unwrap_or("loss"));
        let line = self.lines.iter().position(|known| known == name).unwrap_or_else(|| {
            self.lines.push(name.to_owned());
            self.lines.len() - 1
        });
        let panel = self.panels.iter().position(|panel| panel.title == title).unwrap_or_else(|| {
            self.panels.push(Panel { title: title.to_owned(), unit, lines: Vec::new() });
            self.panels.len() - 1
        });
        let lines = &mut self.panels[panel].lines;
        let at = lines.iter().position(|(known, _)| *known == line).unwrap_or_else(|| {
            lines.push((line, Vec::new()));
            lines.len() - 1
        });
        let points = &mut lines[at].1;
        let place = points.partition_point(|point| point.rate < rate);
        if points.get(place).is_some_and(|point| point.rate == rate) {
            return Err(format!("a second time \"{name}\" at {rate} in \"{title}\""));
        }
        let middle = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
        points.insert(place, Point { rate, least: values[0], median: middle, most: values[values.len() - 1] });
        Ok(())
    }

    fn picture(&self) -> Result<String, String> {
        if self.lines.is_empty() {
            return Err("nothing to draw: expected losses at rates".to_owned());
        }
        if self.lines.len() > RUNS.len() {
            return Err(format!("{} lines; expected at most {}, which look different", self.lines.len(), RUNS.len()));
        }
        let look = |line: usize| (line + 1) % self.lines.len();
        let names: Vec<(&str, usize)> =
            self.lines.iter().enumerate().map(|(i, name)| (name.as_str(), look(i))).collect();
        let mut svg = Svg::default();
        svg.text(WIDTH / 2.0, 30.0, self.title.as_deref().unwrap_or("Loss after the last step"), "middle", 17);
        let note =
            if self.seeds > 1 { format!("line: median of {} seeds; band: all", self.seeds) } else { String::new() };
        let top = svg.legend(&names, &note) + 43.0;
        for (i, panel) in self.panels.iter().enumerate() {
            let place = (LEFT + 495.0 * (i % 2) as f64, top + 340.0 * (i / 2) as f64);
            panel.draw(&mut svg, place, i, look)?;
        }
        Ok(svg.finish(top + 340.0 * self.panels.len().div_ceil(2) as f64))
    }
}

/// In the order of size; at least one.
fn values(object: &Map<String, Value>) -> Result<Vec<f64>, String> {
    let list = object.get("values").and_then(Value::as_array).filter(|list| !list.is_empty());
    let list = list.ok_or("\"values\": expected a list with at least one number or null")?;
    let value = |value: &Value| match value {
        Value::Null => Ok(f64::INFINITY),
        value => value.as_f64().ok_or_else(|| format!("\"values\": expected numbers or null, not {value}")),
    };
    let mut values = list.iter().map(value).collect::<Result<Vec<f64>, String>>()?;
    values.sort_by(f64::total_cmp);
    Ok(values)
}

impl Panel {
    fn draw(
        &self,
        svg: &mut Svg,
        place: (f64, f64),
        index: usize,
        look: impl Fn(usize) -> usize,
    ) -> Result<(), String> {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let least = points().map(|point| point.least).fold(f64::INFINITY, f64::min);
        if !least.is_finite() {
            return Err(format!("\"{}\": expected a loss that is finite", self.title));
        }
        let most = points().map(|point| point.most).fold(least, f64::max).min(CUT * least.abs());
        let first = points().map(|point| point.rate).fold(f64::INFINITY, f64::min);
        let last = points().map(|point| point.rate).fold(0.0, f64::max);
        let span = (last / first).log10().max(0.1);
        let time = |rate: f64| (rate / first).log10();
        let ticks = |axes: &Axes| {
            let decades = first.log10().floor() as i32..=last.log10().ceil() as i32;
            let marks = decades
                .flat_map(|decade| [1, 2, 5].map(|digit| (f64::from(digit) * 10f64.powi(decade), digit, decade)));
            let inside = marks.filter(|(rate, ..)| (first * 0.999..=last * 1.001).contains(rate));
            inside.map(|(rate, digit, decade)| (axes.x(time(rate)), format!("{digit}e{decade}"))).collect()
        };
        let axes = svg.frame(place, (&self.title, &self.unit, "learning rate"), (least, most), span, ticks);

        let (width, height) = (Axes::WIDTH, Axes::HEIGHT);
        let (left, top) = place;
        let clip = format!("x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"");
        let _ = writeln!(svg.body, "<clipPath id=\"panel{index}\"><rect {clip}/></clipPath>");
        let _ = writeln!(svg.body, "<g clip-path=\"url(#panel{index})\">");
        // Far outside where it is not finite.
        let far = axes.high + 10.0 * (axes.high - axes.low);
        let at = |rate: f64, value: f64| format!("{:.1} {:.1}", axes.x(time(rate)), axes.y(value.min(far)));
        for (line, points) in &self.lines {
            let upper = points.iter().map(|point| at(point.rate, point.most));
            let lower = points.iter().rev().map(|point| at(point.rate, point.least));
            let outline: Vec<String> = upper.chain(lower).collect();
            let fill = RUNS[look(*line)].0;
            let _ = writeln!(svg.body, "<path d=\"M{}z\" fill=\"{fill}\" fill-opacity=\"0.12\"/>", outline.join("L"));
        }
        for (line, points) in &self.lines {
            let medians: Vec<String> = points.iter().map(|point| at(point.rate, point.median)).collect();
            let _ = writeln!(svg.body, "<path d=\"M{}\" fill=\"none\" {}/>", medians.join("L"), bold(look(*line)));
        }
        svg.body += "</g>\n";
        Ok(())
    }
}
