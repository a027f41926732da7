//! `report`: a page in Markdown between two marks, and its pictures. What is outside of the marks is written by hand.

use std::fs;
use std::path::{Path, PathBuf};

use super::arguments::Arguments;
use super::pictures;
use super::resolve::Logs;
use super::results::{Task, tasks};
use super::scales::{SCALES, Scale, paper_of};
use super::tables::{Page, direction};

const BEGIN: &str = "<!-- From here on made by metaadamw-experiment: changes are lost. -->";
const END: &str = "<!-- Up to here made by metaadamw-experiment. -->";

/// Of a page that does not exist yet.
const FRAME: [&str; 2] = [
    "# The paper's tasks\n\nIntroduction: written by hand, it stays when the rest is made again.\n\n",
    "\n\n## Conclusions\n\nWritten by hand.\n",
];

pub fn command(arguments: &[String]) -> Result<bool, String> {
    let arguments = Arguments::parse(arguments, &["logs", "scale", "out", "pictures"], &[])?;
    let out = Path::new(arguments.needed("out")?);
    let beside = out.parent().unwrap_or(Path::new(""));
    let folder = arguments.text("pictures").map_or_else(|| beside.join("results"), PathBuf::from);
    let linked = folder.strip_prefix(beside).unwrap_or(&folder).to_owned();
    let around = around(out)?;
    let logs = Path::new(arguments.needed("logs")?);
    let mut text = String::new();
    let mut pictures = Vec::new();
    for scale in SCALES.iter().filter(|scale| arguments.text("scale").is_none_or(|name| name == scale.name)) {
        let logs = Logs::read(logs, scale)?;
        let tasks = tasks(scale, &logs);
        if !tasks.is_empty() {
            text += &section(scale, &tasks, &logs, &linked, &mut pictures)?;
        }
    }
    if text.is_empty() {
        let names: Vec<&str> = SCALES.iter().map(|scale| scale.name).collect();
        return Err(format!("{}: no logs; expected folders SCALE/TASK, of {}", logs.display(), names.join(", ")));
    }
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for (name, svg) in &pictures {
        let file = folder.join(name);
        fs::write(&file, svg).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let page = format!("{}{BEGIN}\n\n{}\n{END}{}", around.0, text.trim_end(), around.1);
    fs::write(out, page).map_err(|error| format!("{}: {error}", out.display()))?;
    println!("{} and {} pictures in {}", out.display(), pictures.len(), folder.display());
    Ok(true)
}

/// What is before and after the marks of the page.
fn around(out: &Path) -> Result<(String, String), String> {
    if !out.exists() {
        return Ok((FRAME[0].to_owned(), FRAME[1].to_owned()));
    }
    let text = fs::read_to_string(out).map_err(|error| format!("{}: {error}", out.display()))?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let owned = parts.map(|(before, after)| (before.to_owned(), after.to_owned()));
    owned
        .ok_or_else(|| format!("{}: expected the lines {BEGIN} and {END}, between which the results go", out.display()))
}

fn section(
    scale: &Scale,
    tasks: &[Task],
    logs: &Logs,
    linked: &Path,
    pictures: &mut Vec<(String, String)>,
) -> Result<String, String> {
    let mut page = Page::default();
    page.line(&format!("## Results at the scale `{}`\n", scale.name));
    page.line("Test metric with early stopping, over the seeds that both have: mean of the differences in the same seed, with");
    page.line("Student's interval of 95 %. \"Level within ±x\": the interval contains 0 and reaches to x, so that differences of");
    page.line("this size are not excluded.\n");
    page.summary(tasks);
    page.line(
        "\nThe paper's own set-up, in which one validation set ends the training, guides the meta-updates and is the",
    );
    page.line("result:\n");
    page.paper(tasks);
    for task in tasks {
        let mut add = |page: &mut Page, name: &str, text: &str, svg: String| {
            let name = format!("{}-{}-{name}.svg", scale.name, task.size.task);
            page.line(&format!("\n![{text}]({})", linked.join(&name).display()));
            pictures.push((name, svg));
        };
        let title = paper_of(task.size.task).title;
        page.line(&format!("\n### {title} (`{}`)\n", scale.name));
        page.reduced(task);
        let (all, finished, begun) = task.rows.iter().fold((0, 0, 0), |(all, finished, begun), row| {
            (all + row.planned, finished + row.finished.len(), begun + row.begun)
        });
        let rest = if finished < all { format!(" ({begun} more begun: not counted here)") } else { String::new() };
        page.line(&format!("{finished} of {all} runs are finished{rest}; {}.", direction(task)));
        page.tuned(task);
        page.line("");
        page.methods(task);
        page.sentences(task);
        page.line("");
        page.costs(task);
        if let Some(svg) = pictures::epochs(task)? {
            add(&mut page, "epochs", &format!("{title}: test and selection metric over epochs"), svg);
        }
        page.ablations(task);
        if let Some((seed, svg)) = pictures::factors(task, logs)? {
            add(&mut page, "factors", &format!("{title}: factors of metaadamw, seed {seed}"), svg);
        }
        if let Some(svg) = pictures::weights(task, logs)? {
            add(&mut page, "huw", &format!("{title}: weights of the meta-objective's terms"), svg);
        }
    }
    if let Some(svg) = pictures::rates(tasks)? {
        let name = format!("{}-rates.svg", scale.name);
        page.line(&format!("\n### Robustness against the rate (`{}`)\n", scale.name));
        page.line("Test metric at rates around the tuned one (`horizon_tuned`: around `adamw_tuned`'s).\n");
        page.line(&format!("![test metric over rates]({})", linked.join(&name).display()));
        pictures.push((name, svg));
    }
    let chance = (0.05 * page.intervals as f64).round();
    page.line(&format!(
        "\nThe tables of this scale have {} intervals of 95 %, not corrected for their number: if all methods were equal, about \
         {chance} of\nthem would exclude 0 as false positives. A single \"better\" or \"worse\" among many is weak evidence.",
        page.intervals
    ));
    Ok(page.text + "\n")
}
