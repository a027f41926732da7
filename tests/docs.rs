//! The documentation's pages, as a code host shows them: links lead somewhere, names of the C API exist, and code compiles
//! or is that of a tested program.
#![cfg(target_os = "linux")]

#[path = "common/compile.rs"]
mod compile;
#[path = "docs/line.rs"]
mod line;

use compile::{compiler, header, library, root, run, scratch};
use metaadamw::ffi::maw_abi_version;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, str};

struct Page {
    path: PathBuf,
    text: String,
}

/// A fenced block, and where it ends on its page.
struct Block<'a> {
    language: &'a str,
    text: String,
    end: usize,
}

fn pages() -> Vec<Page> {
    let mut paths: Vec<PathBuf> = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].iter().map(PathBuf::from).collect();
    paths.extend(["bindings/go/README.md", "bindings/julia/README.md"].iter().map(PathBuf::from));
    let folder = fs::read_dir(root().join("docs")).expect("docs is there");
    let docs = folder.map(|entry| Path::new("docs").join(entry.expect("it can be listed").file_name()));
    paths.extend(docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    paths.sort();
    let read = |path: PathBuf| Page { text: fs::read_to_string(root().join(&path)).expect("it was listed"), path };
    paths.into_iter().map(read).collect()
}

fn page(path: &str) -> Page {
    pages().into_iter().find(|page| page.path == Path::new(path)).unwrap_or_else(|| panic!("there is no {path}"))
}

impl Page {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn blocks(&self) -> Vec<Block<'_>> {
        let (mut blocks, mut open, mut at): (Vec<Block>, Option<Block>, usize) = (Vec::new(), None, 0);
        for line in self.text.split_inclusive('\n') {
            at += line.len();
            match (line.trim_end().strip_prefix("```"), &mut open) {
                (Some(_), Some(_)) => blocks.extend(open.take().map(|block| Block { end: at, ..block })),
                (Some(language), None) => open = Some(Block { language, text: String::new(), end: 0 }),
                (None, Some(block)) => block.text.push_str(line),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block does not end", self.name());
        blocks
    }

    /// The lines outside of blocks.
    fn prose(&self) -> String {
        let mut inside = false;
        let lines = self.text.lines().filter(|line| {
            let fence = line.starts_with("```");
            inside ^= fence;
            !inside && !fence
        });
        lines.fold(String::new(), |text, line| text + line + "\n")
    }

    /// Anchors of the headings, as code hosts make them.
    fn anchors(&self) -> HashSet<String> {
        let prose = self.prose();
        let headings = prose.lines().filter(|line| line.starts_with('#'));
        headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
    }
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn links_lead_to_files_of_the_repository_and_to_headings() {
    let pages = pages();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in &pages {
        for rest in page.prose().split("](").skip(1) {
            let target = rest.split_once(')').expect("a link ends").0;
            if target.contains("://") {
                continue;
            }
            seen += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match path {
                "" => page.path.clone(),
                _ => normal(&page.path.parent().expect("it is a file").join(path)),
            };
            if !root().join(&file).exists() {
                wrong.push(format!("{}: {target}: there is no {}", page.name(), file.display()));
            } else if !anchor.is_empty() {
                let to = pages.iter().find(|page| page.path == file);
                if !to.is_some_and(|to| to.anchors().contains(anchor)) {
                    wrong.push(format!("{}: {target}: no such heading", page.name()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 40, "{seen} links are few");
}

/// Without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        if part.as_os_str() == ".." { assert!(parts.pop(), "{}", path.display()) } else { parts.push(part) }
    }
    parts
}

#[test]
fn names_of_the_c_api_exist() {
    let kernels = fs::read_to_string(root().join("src/backend/cuda/kernels/kernels.ptx")).expect("it is committed");
    let known = header() + &kernels;
    let words: HashSet<&str> = known.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in pages() {
        for word in page.text.split(|c: char| !c.is_alphanumeric() && c != '_') {
            if word.starts_with("maw_") || word.starts_with("MAW_") {
                seen += 1;
                // `maw_load_*` and `MAW_FEATURES_…` name several.
                let exists = if word.ends_with('_') { known.contains(word) } else { words.contains(word) };
                if !exists {
                    wrong.push(format!("{}: {word}", page.name()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "the header has none of {wrong:#?}");
    assert!(seen > 200, "{seen} names are few");
}

/// Compiles a page's program and runs it; the text block that follows says what it prints.
fn prints_what_the_page_says(page: &Page, language: &str) {
    let blocks = page.blocks();
    let at = blocks.iter().position(|block| block.language == language && block.text.contains("int main("));
    let at = at.unwrap_or_else(|| panic!("{}: no program in {language}", page.name()));
    let said = blocks[at + 1..].iter().find(|block| block.language == "text").expect("the page says what it prints");

    let folder = scratch(&format!("docs-{language}"));
    let standard = if language == "c" { "c99" } else { "c++17" };
    let source = folder.join(format!("program.{language}"));
    fs::write(&source, &blocks[at].text).expect("in a folder of ours");
    let link = folder.join(format!("libmetaadamw.so.{}", maw_abi_version()));
    std::os::unix::fs::symlink(library(), &link).expect("in a folder of ours");
    let mut compile = compiler(standard);
    compile.arg("-I").arg(root().join("bindings/cpp/include")).arg(&source).arg("-o").arg(folder.join("program"));
    run(compile.arg(&link).arg(format!("-Wl,-rpath,{}", folder.display())));
    let output = run(Command::new(folder.join("program")).current_dir(&folder));
    assert_eq!(str::from_utf8(&output.stdout), Ok(said.text.as_str()), "{}", page.name());
}

#[test]
fn the_first_programs_in_c_and_cpp_print_what_their_pages_say() {
    prints_what_the_page_says(&page("docs/start_c.md"), "c");
    prints_what_the_page_says(&page("docs/start_cpp.md"), "cpp");
}

#[test]
fn the_first_program_in_rust_is_a_tested_one() {
    let page = page("docs/start_rust.md");
    let blocks = page.blocks();
    let shown = |language: &str| blocks.iter().find(|block| block.language == language).expect("the page has it");
    let source = fs::read_to_string(root().join("tests/docs/line.rs")).expect("it is committed");
    let (_, program) = source.split_once("\n\n").expect("a first line says what it is");
    assert_eq!(shown("rust").text, program);
    assert_eq!(line::train().expect("it trains") + "\n", shown("text").text);
}

/// A page's fragments of C or C++, each in a function of its own.
fn compile_fragments(page: &Page, language: &str, fragments: &[&Block]) {
    let (header, standard) = if language == "c" { ("fragments.h", "c99") } else { ("fragments.hpp", "c++17") };
    let mut source = format!("#include \"{header}\"\n");
    for (i, block) in fragments.iter().enumerate() {
        let line = page.text[..block.end].lines().count() - block.text.lines().count();
        let file = page.path.file_name().expect("it is a file").to_string_lossy();
        write!(source, "void fragment_{i}(void);\nvoid fragment_{i}(void) {{\n").expect("a String");
        write!(source, "#line {line} \"{file}\"\n{}}}\n", block.text).expect("a String");
    }
    let file = scratch(&format!("docs-fragments-{language}")).join(format!("page.{language}"));
    fs::write(&file, source).expect("in a folder of ours");
    let mut compile = compiler(standard);
    // Of what is declared a page uses some.
    compile.arg("-Wno-unused-variable").arg("-I").arg(root().join("tests/docs"));
    compile.arg("-I").arg(root().join("bindings/cpp/include"));
    run(compile.arg("-fsyntax-only").arg(file));
}

#[test]
fn c_fragments_are_those_of_a_tested_program_or_compile() {
    let engine = fs::read_to_string(root().join("tests/c/engine.c")).expect("it is committed");
    let mut seen = 0;
    for page in pages() {
        let blocks = page.blocks();
        let all = blocks.iter().filter(|block| block.language == "c" && !block.text.contains("int main("));
        let (tested, others): (Vec<&Block>, Vec<&Block>) = all.partition(|block| engine.contains(&block.text));
        seen += tested.len() + others.len();
        if page.path == Path::new("docs/own_engine.md") {
            assert!(others.is_empty(), "{}: not in tests/c/engine.c:\n{}", page.name(), others[0].text);
        }
        compile_fragments(&page, "c", &others);
    }
    assert!(seen > 10, "{seen} fragments are few");
}

/// They stand elsewhere.
fn without_includes(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with("#include")).collect::<Vec<_>>().join("\n")
}

#[test]
fn cpp_fragments_are_those_of_a_tested_program_or_compile() {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut seen = 0;
    for page in pages() {
        // What needs MPI or libtorch is in a program that is compiled where they are: tests/mpi.rs, tests/torch.
        let elsewhere = match page.path.to_str() {
            Some("docs/processes.md") => continue,
            Some("docs/libtorch.md") => {
                words(include_str!("torch/pages.cc")) + &words(include_str!("torch/processes.cc"))
            }
            _ => String::new(),
        };
        let blocks = page.blocks();
        let all = blocks.iter().filter(|block| block.language == "cpp" && !block.text.contains("int main("));
        let (tested, others): (Vec<&Block>, Vec<&Block>) =
            all.partition(|block| elsewhere.contains(&words(&without_includes(&block.text))));
        seen += tested.len() + others.len();
        assert!(elsewhere.is_empty() || others.is_empty(), "not in tests/torch:\n{}", others[0].text);
        compile_fragments(&page, "cpp", &others);
    }
    assert!(seen > 3, "{seen} fragments are few");
}
