//! Lines with their spread over seeds, in diagrams: the mean, and as a band the range of all. The data are JSON objects, one
//! a point of a line:
//!
//! ```text
//! {"title": "ETTh1", "panel": "Test", "unit": "MSE", "along": "epoch", "line": "AdamW", "at": 3, "values": [0.1, null]}
//! ```
//!
//! `values`: one a seed; null is not finite and not drawn. `title`, of the picture, is that of the first object.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::input::{number, objects, string};
use super::svg::{Axes, LEFT, RUNS, Svg, WIDTH, bold, label, tick};

struct Line {
    name: String,
    /// In the order of time.
    points: Vec<(f64, Vec<f64>)>,
}

struct Panel {
    title: String,
    unit: String,
    along: String,
    lines: Vec<Line>,
}

/// Of the time: before it, curves do not decide what a diagram shows. They start far away.
const START: f64 = 0.2;

/// The picture of such data.
///
/// # Errors
/// A message with the file, the line and what was expected there.
pub fn draw(file: &str, text: &str) -> Result<String, String> {
    let (mut title, mut panels) = (None, Vec::new());
    for (line, value) in objects(file, text)? {
        let object = value.as_object().ok_or("expected a JSON object".to_owned());
        let taken = object.and_then(|object| {
            let own = string(object, "title")?;
            title = title.take().or_else(|| own.map(str::to_owned));
            take(&mut panels, object)
        });
        taken.map_err(|message| format!("{file}:{line}: {message}"))?;
    }
    picture(title.as_deref().unwrap_or_default(), &panels).map_err(|message| format!("{file}: {message}"))
}

fn take(panels: &mut Vec<Panel>, object: &Map<String, Value>) -> Result<(), String> {
    let text = |name| string(object, name)?.ok_or_else(|| format!("expected a \"{name}\""));
    let (title, unit, along, name) = (text("panel")?, text("unit")?, text("along")?, text("line")?);
    let at = number(object, "at")?.filter(|at| *at >= 0.0).ok_or("\"at\": expected a number from 0 on")?;
    let values = object.get("values").and_then(Value::as_array).ok_or("\"values\": expected a list")?;
    let finite = |value: &Value| match value {
        Value::Null => Ok(None),
        value => value.as_f64().map(Some).ok_or_else(|| format!("\"values\": expected numbers or null, not {value}")),
    };
    let values: Vec<f64> = values.iter().filter_map(|value| finite(value).transpose()).collect::<Result<_, _>>()?;
    let panel = panels.iter().position(|panel| panel.title == title).unwrap_or_else(|| {
        let [title, unit, along] = [title, unit, along].map(str::to_owned);
        panels.push(Panel { title, unit, along, lines: Vec::new() });
        panels.len() - 1
    });
    let lines = &mut panels[panel].lines;
    let line = lines.iter().position(|line| line.name == name).unwrap_or_else(|| {
        lines.push(Line { name: name.to_owned(), points: Vec::new() });
        lines.len() - 1
    });
    let points = &mut lines[line].points;
    let place = points.partition_point(|(time, _)| *time < at);
    if points.get(place).is_some_and(|(time, _)| *time == at) {
        return Err(format!("a second time \"{name}\" at {at} in \"{title}\""));
    }
    points.insert(place, (at, values));
    Ok(())
}

fn picture(title: &str, panels: &[Panel]) -> Result<String, String> {
    let mut names: Vec<&str> = Vec::new();
    for line in panels.iter().flat_map(|panel| &panel.lines) {
        if !names.contains(&line.name.as_str()) {
            names.push(&line.name);
        }
    }
    if names.is_empty() || names.len() > RUNS.len() {
        return Err(format!("{} lines; expected 1 to {}, which look different", names.len(), RUNS.len()));
    }
    let mut svg = Svg::default();
    svg.text(WIDTH / 2.0, 30.0, title, "middle", 17);
    let legend: Vec<(&str, usize)> = names.iter().enumerate().map(|(look, name)| (*name, look)).collect();
    let seeds = panels.iter().flat_map(|panel| &panel.lines).flat_map(|line| &line.points).map(|(_, all)| all.len());
    let note = if seeds.max() > Some(1) { "line: mean of the seeds; band: all" } else { "" };
    let top = svg.legend(&legend, note) + 43.0;
    for (i, panel) in panels.iter().enumerate() {
        let place = (LEFT + 495.0 * (i % 2) as f64, top + 340.0 * (i / 2) as f64);
        panel.draw(&mut svg, place, i, &names);
    }
    Ok(svg.finish(top + 340.0 * panels.len().div_ceil(2) as f64))
}

impl Panel {
    fn draw(&self, svg: &mut Svg, place: (f64, f64), index: usize, names: &[&str]) {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let end = points().map(|(time, _)| *time).fold(0.0, f64::max).max(1e-9);
        let shown = points().filter(|(time, _)| *time >= START * end).flat_map(|(_, values)| values);
        let range = shown.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), value| (a.min(*value), b.max(*value)));
        let range = if range.0 <= range.1 { range } else { (0.0, 1.0) };
        let axes = svg.frame(place, (&self.title, &self.unit, &self.along), range, end, |axes| {
            let along = tick(axes.end, 6.0);
            let numbers = (0..=(axes.end / along + 1e-9).floor() as usize).map(|n| n as f64 * along);
            numbers.map(|number| (axes.x(number), label(number, along))).collect()
        });
        let (width, height, (left, top)) = (Axes::WIDTH, Axes::HEIGHT, place);
        let clip = format!("x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"");
        let _ = writeln!(svg.body, "<clipPath id=\"panel{index}\"><rect {clip}/></clipPath>");
        let _ = writeln!(svg.body, "<g clip-path=\"url(#panel{index})\">");
        let look = |line: &Line| names.iter().position(|name| *name == line.name).unwrap_or(0);
        let path = |places: Vec<(f64, f64)>| {
            let places: Vec<String> =
                places.iter().map(|(time, value)| format!("{:.1} {:.1}", axes.x(*time), axes.y(*value))).collect();
            places.join("L")
        };
        for line in &self.lines {
            let of = |pick: fn(f64, f64) -> f64| {
                let points = line.points.iter().filter(|(_, values)| values.len() > 1);
                points.map(move |(time, all)| (*time, all.iter().copied().reduce(pick).unwrap_or(0.0)))
            };
            let outline: Vec<(f64, f64)> =
                of(f64::max).chain(of(f64::min).collect::<Vec<_>>().into_iter().rev()).collect();
            if !outline.is_empty() {
                let fill = RUNS[look(line)].0;
                let _ = writeln!(svg.body, "<path d=\"M{}z\" fill=\"{fill}\" fill-opacity=\"0.12\"/>", path(outline));
            }
        }
        for line in &self.lines {
            let with = line.points.iter().filter(|(_, values)| !values.is_empty());
            let means: Vec<(f64, f64)> =
                with.map(|(time, all)| (*time, all.iter().sum::<f64>() / all.len() as f64)).collect();
            if !means.is_empty() {
                let _ = writeln!(svg.body, "<path d=\"M{}\" fill=\"none\" {}/>", path(means), bold(look(line)));
            }
        }
        svg.body += "</g>\n";
    }
}
