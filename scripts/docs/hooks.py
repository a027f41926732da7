"""What the site's builder does beyond MkDocs: pages of other folders, links between them, links to the reference, formulas.

The sources are read as a code host shows them, so that one text serves both.
"""

import os
import re
from importlib.util import find_spec
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ROOT / "build" / "docs-work" / "reference"
# Of the formulas. Without one, browsers on systems that have no font with OpenType's MATH table put subscripts in the wrong
# place. SIL Open Font License 1.1, as the font itself says.
FONT = Path(find_spec("ziamath").origin).parent / "fonts" / "STIXTwoMath-Regular.ttf"

# Pages of the site that are elsewhere in the repository.
MOUNTED = {
    "README.md": "project/readme.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "bindings/go/README.md": "bindings/go.md",
    "bindings/julia/README.md": "bindings/julia.md",
}
# What a code host shows as a source is a page of the reference here.
DESCRIBED = {
    "include/metaadamw.h": "reference/c.md",
    "bindings/cpp/include/metaadamw.hpp": "reference/cpp.md",
    "bindings/go/doc.go": "reference/go.md",
    "bindings/julia/src/MetaAdamW.jl": "reference/julia.md",
    "src/lib.rs": "reference/rust.md",
}

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)|(!\[[^\]]*\])\(([^)\s]+)\)")
FENCE = re.compile(r"^ {0,3}(```|~~~)")


def page_of(path):
    """The site's page that a file of the repository is, if it is one."""
    page = MOUNTED.get(path) or DESCRIBED.get(path)
    return page or (path.removeprefix("docs/") if path.startswith("docs/") else None)


def on_config(config):
    """A page of docs/ that nav does not place stands at the end of the guide."""
    guide = next(part["Guide"] for part in config.nav if isinstance(part, dict) and "Guide" in part)
    placed = {page for part in config.nav if isinstance(part, dict) for page in pages_of(part)}
    guide += sorted(page.name for page in (ROOT / "docs").glob("*.md") if page.name not in placed)
    return config


def pages_of(nav):
    """The pages of a part of nav, as deep as it is."""
    if isinstance(nav, str):
        return {nav}
    parts = nav.values() if isinstance(nav, dict) else nav
    return set().union(*map(pages_of, parts))


def on_files(files, config):
    for source, page in MOUNTED.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for page in sorted(GENERATED.glob("*.md")):
        files.append(File.generated(config, f"reference/{page.name}", abs_src_path=str(page)))
    for asset in ("site.css", "iframe-worker.js"):
        files.append(File.generated(config, f"assets/{asset}", abs_src_path=str(Path(__file__).with_name(asset))))
    files.append(File.generated(config, "assets/stix-two-math.ttf", abs_src_path=str(FONT)))
    return files


def on_page_markdown(markdown, page, config, files):
    source = Path(page.file.abs_src_path).relative_to(ROOT).as_posix()
    lines, fenced = [], False
    for line in markdown.split("\n"):
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            line = LINK.sub(lambda found: linked(found, source, page), line)
        lines.append(line)
    return "\n".join(lines)


def linked(found, source, page):
    """A link between files of the repository, as one between pages. What is no page loses its link, but must exist."""
    text, target = found[1] or found[3] or "", found[2] or found[4]
    if re.match(r"[a-z]+:|#", target):
        return found[0]
    path, _, anchor = target.partition("#")
    path = os.path.normpath(os.path.join(os.path.dirname(source), path))
    if source.startswith("build/"):
        raise PluginError(f"{source}: a link to {target} in a page that is generated")
    if not (ROOT / path).exists():
        raise PluginError(f"{source}: {target} does not exist")
    to = page_of(path)
    if to is None:
        return text
    to = os.path.relpath(to, os.path.dirname(page.file.src_uri))
    return f"{text if found[3] else f'[{text}]'}({to}{'#' + anchor if anchor else ''})"


# Outside of these, the names of the C API become links.
SKIPPED = re.compile(r"(<pre\b.*?</pre>|<a\b.*?</a>|<h[1-6]\b.*?</h[1-6]>)", re.DOTALL)
NAME = re.compile(r"<code>((?:maw|MAW)_\w+(?:\.\w+)?)(\(\))?</code>")
# Of tests, and of builds for them; macros of no value.
UNDOCUMENTED = {"maw_test_inject_panic"}

known = set()


def on_page_content(content, page, config, files):
    if not known:
        text = (GENERATED / "c.md").read_text()
        known.update(re.findall(r"\{ #(\w+) \}", text))
        known.update(re.findall(r"<tr id='([\w.]+)'", text))
    to = os.path.relpath("reference/c.html", os.path.dirname(page.file.src_uri))
    to = "" if page.file.src_uri == "reference/c.md" else to

    def reference(found):
        name = found[1]
        if name in UNDOCUMENTED or (name not in known and page.file.src_uri in ALIENS):
            return found[0]
        if name not in known:
            raise PluginError(f"{page.file.src_uri}: the header has no {name}")
        return f'<a class="name" href="{to}#{name}">{found[0]}</a>'

    parts = SKIPPED.split(content)
    parts[::2] = [NAME.sub(reference, part) for part in parts[::2]]
    return formulas("".join(parts))


# Pages that name kernels and files that begin like functions of the header.
ALIENS = {"cuda.md", "performance.md", "decisions.md"}


def formulas(content):
    """LaTeX as MathML, which browsers draw by themselves."""
    content = re.sub(r'<span class="arithmatex">\\\((.*?)\\\)</span>', lambda m: mathml(m[1], "inline"), content, flags=re.S)
    return re.sub(
        r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>',
        lambda m: f'<div class="formula">{mathml(m[1], "block")}</div>',
        content,
        flags=re.S,
    )


def mathml(latex, display):
    latex = latex.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">").strip()
    made = convert(latex, display=display)
    if re.search(r"<mtext>\s*\\|\\[a-zA-Z]+", made):
        raise PluginError(f"a formula that is not understood: {latex}")
    # Bars of norms are as high as a letter, whatever has an index between them.
    return made.replace("<mo>&#x02016;</mo>", '<mo stretchy="false">&#x02016;</mo>')
