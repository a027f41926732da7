//! Draws training logs as an SVG file: losses above, the factors α and β of each modulation group below. Or, with `rates`,
//! losses against learning rates (plot/rates.rs).
//!
//! ```text
//! cargo run --release --bin metaadamw-plot -- LOG.jsonl OUT.svg
//! cargo run --release --bin metaadamw-plot -- rates DATA.jsonl OUT.svg
//! ```
//!
//! The log contains JSON objects, usually one per line (several lines, as `maw_dump_state` writes them, are allowed).
//! An object is a dump of `maw_dump_state`, or a line of the host's with some of these fields:
//!
//! ```text
//! {"run": "MetaAdamW", "seed": 1, "epoch": 3, "series": "CO₂", "unit": "ppm²",
//!  "train_loss": 0.12, "validation_loss": 0.14, "state": {…a dump…}}
//! ```
//!
//! Time is `epoch`, or the dump's `step` where no object has an epoch. Runs are drawn with the mean of their seeds.
//! The factors are those of the first run, in the order of names, whose dumps have some (modulation is on), and of its
//! first seed. Factors change with every step: dumps of the same epoch are drawn as their mean; long sequences of dumps
//! without epochs as they are, thin, and as a moving mean, bold.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::{env, fs};

use serde_json::{Deserializer, Map, Value};

#[path = "plot/rates.rs"]
mod rates;

/// A picture of a file's lines.
type Draw = fn(&str, &str) -> Result<String, String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (draw, log, out): (Draw, _, _) = match arguments.as_slice() {
        [log, out] => (draw, log, out),
        [kind, data, out] if kind == "rates" => (rates::draw, data, out),
        _ => {
            eprintln!("usage: metaadamw-plot LOG.jsonl OUT.svg\n       metaadamw-plot rates DATA.jsonl OUT.svg");
            return ExitCode::FAILURE;
        }
    };
    let drawn = fs::read_to_string(log)
        .map_err(|error| format!("{log}: {error}"))
        .and_then(|text| draw(log, &text))
        .and_then(|svg| fs::write(out, svg).map_err(|error| format!("{out}: {error}")));
    match drawn {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("metaadamw-plot: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The picture of a log with this content.
///
/// # Errors
/// A message with the file, the line and what was expected there.
pub fn draw(file: &str, text: &str) -> Result<String, String> {
    let mut log = Log::default();
    for (line, value) in objects(file, text)? {
        log.take(line, &value).map_err(|message| format!("{file}:{line}: {message}"))?;
    }
    log.picture().map_err(|message| format!("{file}: {message}"))
}

/// The JSON values of the text, with the lines in which they begin.
fn objects(file: &str, text: &str) -> Result<Vec<(usize, Value)>, String> {
    let mut values = Deserializer::from_str(text).into_iter::<Value>();
    let (mut found, mut line, mut counted) = (Vec::new(), 1, 0);
    loop {
        let rest = &text[values.byte_offset()..];
        let start = text.len() - rest.trim_start().len();
        line += text[counted..start].matches('\n').count();
        counted = start;
        match values.next() {
            None => return Ok(found),
            Some(Ok(value)) => found.push((line, value)),
            Some(Err(error)) => return Err(format!("{file}:{}: expected a JSON object: {error}", error.line())),
        }
    }
}

// --------------------------------------------------------------------------------------------------- the log ----

/// Points in the order of time; no value where it was not finite.
type Curve = Vec<(f64, Option<f64>)>;

/// The curves of one seed of a run.
#[derive(Default)]
struct Seed {
    train: Curve,
    validation: Curve,
    /// Names of the modulation groups, from the first dump with factors.
    groups: Vec<String>,
    alpha: Vec<Curve>,
    beta: Vec<Curve>,
    updates: u64,
    interval: Option<u64>,
}

/// One of the curves.
type Part = fn(&Seed) -> &Curve;

#[derive(Default)]
struct Log {
    runs: BTreeMap<String, BTreeMap<u64, Seed>>,
    series: Option<String>,
    unit: Option<String>,
    /// Whether the first object has an epoch, and where it is.
    epochs: Option<(bool, usize)>,
}

impl Log {
    fn take(&mut self, line: usize, value: &Value) -> Result<(), String> {
        let object = value.as_object().ok_or("expected a JSON object")?;
        let dump = match object.get("state") {
            Some(Value::Null) | None => is_dump(object).then_some(object),
            Some(Value::Object(state)) if is_dump(state) => Some(state),
            Some(_) => {
                return Err("\"state\": expected a dump of maw_dump_state, with \"modulation_groups\"".to_owned());
            }
        };
        let epoch = number(object, "epoch")?.filter(|_| !is_dump(object));
        let (epochs, first) = *self.epochs.get_or_insert((epoch.is_some(), line));
        if epochs != epoch.is_some() {
            let has = |yes| if yes { "an" } else { "no" };
            return Err(format!("{} \"epoch\" here, but {} \"epoch\" in line {first}", has(!epochs), has(epochs)));
        }
        let step = dump.map_or(Ok(None), |dump| number(dump, "step"))?;
        let time = epoch.or(step).ok_or("expected an \"epoch\", or a dump of maw_dump_state with a \"step\"")?;
        if !(0.0..=LARGE).contains(&time) {
            return Err(format!("expected an \"epoch\" or \"step\" from 0 on, not {time}"));
        }
        let seed = match object.get("seed") {
            None => 1,
            Some(seed) => seed.as_u64().ok_or_else(|| format!("\"seed\": expected a whole number, not {seed}"))?,
        };
        for (name, known) in [("series", &mut self.series), ("unit", &mut self.unit)] {
            if let Some(text) = string(object, name)? {
                known.get_or_insert_with(|| text.to_owned());
            }
        }
        let run = string(object, "run")?.unwrap_or("run").to_owned();
        let seed = self.runs.entry(run).or_default().entry(seed).or_default();
        for (name, curve) in [("train_loss", &mut seed.train), ("validation_loss", &mut seed.validation)] {
            if object.contains_key(name) {
                insert(curve, time, number(object, name)?)
                    .map_err(|()| format!("a second \"{name}\" of this run and seed at {time}"))?;
            }
        }
        dump.map_or(Ok(()), |dump| seed.take(time, dump))
    }
}

impl Seed {
    fn take(&mut self, time: f64, dump: &Map<String, Value>) -> Result<(), String> {
        let groups = dump["modulation_groups"].as_array().ok_or("\"modulation_groups\": expected a list")?;
        let meta = dump.get("meta").and_then(|meta| meta["updates"].as_u64()).unwrap_or(0);
        self.updates = self.updates.max(meta);
        self.interval = dump.get("options").and_then(|options| options["meta_interval"].as_u64());
        // There are none with modulation off and before the first step.
        let with_factors = groups.iter().any(|group| !group["alpha"].is_null());
        if !with_factors {
            return Ok(());
        }
        let names = groups.iter().map(|group| group["name"].as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
        let names = names.ok_or("\"modulation_groups\": expected a \"name\" in each")?;
        if self.groups.is_empty() {
            self.alpha.resize(names.len(), Curve::new());
            self.beta.resize(names.len(), Curve::new());
            self.groups = names;
        } else if self.groups != names {
            return Err(format!("modulation groups {names:?}, but earlier {:?}", self.groups));
        }
        for (g, group) in groups.iter().enumerate() {
            let group = group.as_object().ok_or("\"modulation_groups\": expected objects")?;
            for (name, curve) in [("alpha", &mut self.alpha[g]), ("beta", &mut self.beta[g])] {
                let value = number(group, name).map_err(|message| format!("group {}: {message}", self.groups[g]))?;
                let at = curve.partition_point(|(t, _)| *t <= time);
                curve.insert(at, (time, value));
            }
        }
        Ok(())
    }
}

fn is_dump(object: &Map<String, Value>) -> bool {
    object.contains_key("modulation_groups")
}

/// Inserts a point in the order of time; logs of several threads mix runs, but not the order within one.
fn insert(curve: &mut Curve, time: f64, value: Option<f64>) -> Result<(), ()> {
    let at = curve.partition_point(|(t, _)| *t < time);
    if curve.get(at).is_some_and(|(t, _)| *t == time) {
        return Err(());
    }
    curve.insert(at, (time, value));
    Ok(())
}

/// Larger values are drawn as if they were not finite.
const LARGE: f64 = 1e100;

/// None if it is missing, or null, which means a number that is not finite.
fn number(object: &Map<String, Value>, name: &str) -> Result<Option<f64>, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) if value.as_f64().is_some_and(|x| x.abs() > LARGE) => Ok(None),
        Some(value) => {
            value.as_f64().map(Some).ok_or_else(|| format!("\"{name}\": expected a number or null, not {value}"))
        }
    }
}

fn string<'a>(object: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or_else(|| format!("\"{name}\": expected a string, not {value}")),
    }
}

// ------------------------------------------------------------------------------------------------ the picture ----

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 85.0;

/// The run whose factors are drawn, then the others. Lines differ by dashes, not by colour alone.
const RUNS: [(&str, &str); 8] = [
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
const ONE: &str = "stroke=\"#000\" stroke-width=\"1.2\" stroke-dasharray=\"1.5 3\"";

/// Dumps without epochs get a moving mean from this number on.
const MANY: usize = 60;

impl Log {
    fn picture(&self) -> Result<String, String> {
        let modulated = self.runs.iter().find_map(|(run, seeds)| {
            seeds.iter().find(|(_, seed)| !seed.groups.is_empty()).map(|(number, seed)| (run.as_str(), *number, seed))
        });
        let first = modulated.map_or_else(|| self.runs.keys().next().map(String::as_str), |(run, ..)| Some(run));
        // From back to front; styles in the order of names, except for the first.
        let mut runs: Vec<(&str, &BTreeMap<u64, Seed>, usize)> = Vec::new();
        for (run, seeds) in self.runs.iter().filter(|(run, _)| Some(run.as_str()) != first) {
            runs.push((run, seeds, runs.len() + 1));
        }
        runs.extend(first.map(|run| (run, &self.runs[run], 0)));
        if runs.len() > RUNS.len() {
            return Err(format!("{} runs; expected at most {}, for lines that look different", runs.len(), RUNS.len()));
        }
        let with_losses = |curve: Part| runs.iter().any(|(_, s, _)| s.values().any(|s| !curve(s).is_empty()));
        let losses: Vec<(&str, Part)> =
            [("Training loss", (|s| &s.train) as Part), ("Validation loss", |s| &s.validation)]
                .into_iter()
                .filter(|(_, curve)| with_losses(*curve))
                .collect();
        if losses.is_empty() && modulated.is_none() {
            return Err("nothing to draw: expected losses, or dumps of steps with modulation on".to_owned());
        }

        let time = if self.epochs.is_some_and(|(epochs, _)| epochs) { "epoch" } else { "step" };
        let seeds = self.runs.values().map(BTreeMap::len).max().unwrap_or(0);
        let mut svg = Svg::default();
        svg.text(WIDTH / 2.0, 30.0, &self.title(seeds, modulated.map(|(_, _, seed)| seed)), "middle", 17);
        let mut top = 62.0;
        if !losses.is_empty() {
            let names: Vec<(&str, usize)> = runs.iter().map(|(run, _, look)| (*run, *look)).collect();
            top = svg.legend(&names, if seeds > 1 { "bold: mean of the seeds; thin: each seed" } else { "" }) + 43.0;
            let unit = self.unit.as_ref().map_or("loss".to_owned(), |unit| format!("loss ({unit})"));
            for (i, (title, curve)) in losses.iter().enumerate() {
                let place = (LEFT + 495.0 * i as f64, top);
                svg.losses(place, (title, &unit, time), &runs, *curve);
            }
            top += 340.0;
        } else {
            top += 10.0;
        }
        if let Some((_, number, seed)) = modulated {
            let seed_name = if seeds > 1 { format!(" (seed {number})") } else { String::new() };
            let several = seed.alpha[0].windows(2).any(|two| two[0].0 == two[1].0);
            let many = !several && seed.alpha[0].len() >= MANY && time == "step";
            let width = if many { (seed.alpha[0].len() / 20) | 1 } else { 1 };
            let how = if several {
                format!(", mean of the {time}'s dumps")
            } else if many {
                format!(", thin: each dump, bold: mean of {width}")
            } else {
                String::new()
            };
            for (i, (letter, of, curves)) in
                [("α", "learning rate", &seed.alpha), ("β", "weight decay", &seed.beta)].into_iter().enumerate()
            {
                let place = (LEFT + 495.0 * i as f64, top);
                let title = format!("{letter}, factor of the {of}{seed_name}");
                svg.factors(place, (&title, &format!("{letter}{how}"), time), curves, width);
            }
            top = svg.groups_legend(top + 320.0, &seed.groups);
        }
        Ok(svg.finish(top))
    }

    fn title(&self, seeds: usize, modulated: Option<&Seed>) -> String {
        let mut title = self
            .series
            .clone()
            .unwrap_or_else(|| if modulated.is_some() { "MetaAdamW" } else { "Training" }.to_owned());
        if seeds > 1 {
            let _ = write!(title, ", {seeds} seeds");
        }
        if let Some(seed) = modulated {
            let _ = write!(title, "; {} meta-updates", seed.updates);
            if seeds > 1 {
                title += " a run";
            }
            if let Some(interval) = seed.interval {
                let _ = write!(title, ", one every {interval} steps");
            }
        }
        title
    }
}

/// About how long a text of size 13 is.
fn length(text: &str) -> f64 {
    7.2 * text.chars().count() as f64
}

fn bold(look: usize) -> String {
    let (colour, dashes) = RUNS[look];
    format!("stroke=\"{colour}\" stroke-width=\"2.4\"{}", dashed(dashes))
}

fn thin(look: usize) -> String {
    let (colour, dashes) = RUNS[look];
    format!("stroke=\"{colour}\" stroke-width=\"0.8\" stroke-opacity=\"0.35\"{}", dashed(dashes))
}

fn dashed(dashes: &str) -> String {
    if dashes.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dashes}\"") }
}

/// Groups come in pairs, mostly weight and bias of the same depth: solid and dashed, with the same colour and mark.
fn colour(group: usize) -> &'static str {
    ["#00436b", "#c04a00", "#007a5a", "#8a3a76"][group / 2 % 4]
}

fn stroke(group: usize) -> String {
    let dashes = if group % 2 == 1 { "6 3" } else { "" };
    format!("stroke-width=\"1.6\" stroke=\"{}\"{}", colour(group), dashed(dashes))
}

/// The mean of those that have a value at a time.
fn mean<'a>(curves: impl Iterator<Item = &'a Curve>) -> Curve {
    let mut points: Vec<(f64, Option<f64>)> = curves.flatten().copied().collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0)); // stable: sums in the order of seeds
    let mean = |same: &[(f64, Option<f64>)]| {
        let values: Vec<f64> = same.iter().filter_map(|(_, value)| *value).collect();
        (same[0].0, (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64))
    };
    points.chunk_by(|a, b| a.0 == b.0).map(mean).collect()
}

/// The moving mean over `width` points, fewer at the ends.
fn moving_mean(curve: &Curve, width: usize) -> Curve {
    let reach = width / 2;
    let around = |i: usize| {
        let near =
            curve[i.saturating_sub(reach)..curve.len().min(i + reach + 1)].iter().filter_map(|(_, value)| *value);
        (curve[i].0, curve[i].1.map(|_| near.clone().sum::<f64>() / near.count() as f64))
    };
    (0..curve.len()).map(around).collect()
}

// ---------------------------------------------------------------------------------------------------- the SVG ----

#[derive(Default)]
struct Svg {
    body: String,
}

struct Axes {
    left: f64,
    top: f64,
    low: f64,
    high: f64,
    end: f64,
}

impl Axes {
    const WIDTH: f64 = 395.0;
    const HEIGHT: f64 = 250.0;

    fn x(&self, time: f64) -> f64 {
        self.left + Self::WIDTH * time / self.end
    }

    fn y(&self, value: f64) -> f64 {
        self.top + Self::HEIGHT * (self.high - value) / (self.high - self.low)
    }
}

/// 1, 2 or 5 times a power of ten: about `wanted` steps in `length`.
fn tick(length: f64, wanted: f64) -> f64 {
    let raw = length / wanted;
    let power = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| raw <= *step).unwrap_or(raw)
}

/// A number at an axis whose numbers are `step` apart.
fn label(value: f64, step: f64) -> String {
    let digits = -(step.log10() + 1e-9).floor();
    if digits > 6.0 || step >= 1e6 { format!("{value:.1e}") } else { format!("{value:.*}", digits.max(0.0) as usize) }
}

impl Svg {
    fn text(&mut self, x: f64, y: f64, content: &str, anchor: &str, size: u32) {
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
    fn legend(&mut self, lines: &[(&str, usize)], note: &str) -> f64 {
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
    fn axes(&mut self, place: (f64, f64), names: (&str, &str, &str), curves: &[Curve]) -> Axes {
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
    fn frame(
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
    fn curve(&mut self, axes: &Axes, curve: &Curve, look: &str) {
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

    /// One thin line a seed, and one bold line a run for their mean.
    fn losses(
        &mut self,
        place: (f64, f64),
        names: (&str, &str, &str),
        runs: &[(&str, &BTreeMap<u64, Seed>, usize)],
        curve: Part,
    ) {
        let all: Vec<Curve> = runs.iter().flat_map(|(_, seeds, _)| seeds.values().map(curve).cloned()).collect();
        let axes = self.axes(place, names, &all);
        for (_, seeds, look) in runs.iter().filter(|(_, seeds, _)| seeds.len() > 1) {
            for seed in seeds.values() {
                self.curve(&axes, curve(seed), &thin(*look));
            }
        }
        for (_, seeds, look) in runs {
            self.curve(&axes, &mean(seeds.values().map(curve)), &bold(*look));
        }
    }

    /// One line a modulation group; the line at 1 is AdamW.
    fn factors(&mut self, place: (f64, f64), names: (&str, &str, &str), groups: &[Curve], width: usize) {
        let raw: Vec<Curve> = groups.iter().map(|group| mean([group].into_iter())).collect();
        let drawn: Vec<Curve> = raw.iter().map(|group| moving_mean(group, width)).collect();
        let one = vec![vec![(0.0, Some(1.0))]];
        let axes = self.axes(place, names, &[one, if width > 1 { raw.clone() } else { drawn.clone() }].concat());
        let (y, across) = (axes.y(1.0), Axes::WIDTH);
        let _ = writeln!(self.body, "<path d=\"M{:.1} {y:.1}h{across:.1}\" {ONE}/>", axes.left);
        if width > 1 {
            // Many lines would hide the means.
            let opacity = (40.0 / raw[0].len() as f64).clamp(0.08, 0.4);
            for (g, group) in raw.iter().enumerate() {
                let look = format!("stroke=\"{}\" stroke-width=\"0.6\" stroke-opacity=\"{opacity:.2}\"", colour(g));
                self.curve(&axes, group, &look);
            }
        }
        for (g, group) in drawn.iter().enumerate() {
            self.curve(&axes, group, &stroke(g));
            // Marks stand at different times, so that lines close to each other stay apart.
            let apart = (group.len() / 6).max(1);
            for (time, value) in group.iter().skip(apart * (g + 1) / (groups.len() + 1)).step_by(apart) {
                if let Some(value) = value {
                    self.mark(axes.x(*time), axes.y(*value), g);
                }
            }
        }
    }

    /// Full and hollow for the two of a pair: circle, square, triangle, diamond. 16 pairs look different.
    fn mark(&mut self, x: f64, y: f64, group: usize) {
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

    /// Pairs one below the other, as many side by side as there is room for. Returns where it ends.
    fn groups_legend(&mut self, top: f64, groups: &[String]) -> f64 {
        let longest = groups.iter().map(|name| length(name)).fold(0.0, f64::max);
        let width = (50.0 + longest + 20.0).max(245.0);
        let columns = 1 + ((WIDTH - LEFT - 50.0 - longest) / width).max(0.0) as usize;
        let place = |pair: usize| (LEFT + width * (pair % columns) as f64, top + 60.0 * (pair / columns) as f64);
        for (g, name) in groups.iter().enumerate() {
            let (x, y) = place(g / 2);
            let y = y + 24.0 * (g % 2) as f64;
            let _ = writeln!(self.body, "<path d=\"M{x:.1} {y:.1}h40\" fill=\"none\" {}/>", stroke(g));
            self.mark(x + 20.0, y, g);
            self.text(x + 50.0, y + 5.0, name, "start", 13);
        }
        let (mut x, mut y) = place(groups.len().div_ceil(2) - 1);
        (x, y) = if x + width + 135.0 <= WIDTH { (x + width, y) } else { (LEFT, y + 60.0) };
        let _ = writeln!(self.body, "<path d=\"M{x:.1} {y:.1}h40\" {ONE}/>");
        self.text(x + 50.0, y + 5.0, "1 = AdamW's", "start", 13);
        y + 50.0
    }

    fn finish(self, height: f64) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" font-family=\"Helvetica, Arial, DejaVu Sans, sans-serif\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{}</svg>\n",
            self.body
        )
    }
}
