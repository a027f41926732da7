//! The picture of a log: losses above, factors below.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::log::{Curve, Log, Part, Seed};
use super::svg::{Axes, LEFT, ONE, RUNS, Svg, WIDTH, bold, colour, length, stroke, thin};

/// Dumps without epochs get a moving mean from this number on.
pub const MANY: usize = 60;

impl Log {
    pub fn picture(&self) -> Result<String, String> {
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

    pub fn title(&self, seeds: usize, modulated: Option<&Seed>) -> String {
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

/// The mean of those that have a value at a time.
pub fn mean<'a>(curves: impl Iterator<Item = &'a Curve>) -> Curve {
    let mut points: Vec<(f64, Option<f64>)> = curves.flatten().copied().collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0)); // stable: sums in the order of seeds
    let mean = |same: &[(f64, Option<f64>)]| {
        let values: Vec<f64> = same.iter().filter_map(|(_, value)| *value).collect();
        (same[0].0, (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64))
    };
    points.chunk_by(|a, b| a.0 == b.0).map(mean).collect()
}

/// The moving mean over `width` points, fewer at the ends.
pub fn moving_mean(curve: &Curve, width: usize) -> Curve {
    let reach = width / 2;
    let around = |i: usize| {
        let near =
            curve[i.saturating_sub(reach)..curve.len().min(i + reach + 1)].iter().filter_map(|(_, value)| *value);
        (curve[i].0, curve[i].1.map(|_| near.clone().sum::<f64>() / near.count() as f64))
    };
    (0..curve.len()).map(around).collect()
}

impl Svg {
    /// One thin line a seed, and one bold line a run for their mean.
    pub fn losses(
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
    pub fn factors(&mut self, place: (f64, f64), names: (&str, &str, &str), groups: &[Curve], width: usize) {
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
    /// Pairs one below the other, as many side by side as there is room for. Returns where it ends.
    pub fn groups_legend(&mut self, top: f64, groups: &[String]) -> f64 {
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
}
