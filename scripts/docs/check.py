"""Checks the site as built: `check.py FOLDER`. Every link, picture, style and script leads to a file of the site, every anchor
exists, and a page loads nothing from the network."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser fetches by itself.
LOADED = {("img", "src"), ("script", "src"), ("iframe", "src"), ("source", "src"), ("object", "data"), ("link", "href")}
# Links of these kinds only name something.
NAMED = {"canonical", "alternate", "license", "next", "prev", "edit"}


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.loads = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        for name in ("id", "name") if tag == "a" else ("id",):
            if values.get(name):
                self.anchors.add(values[name])
        for name in ("href", "src", "data"):
            target = values.get(name)
            if target is None or (tag == "link" and values.get("rel") in NAMED):
                continue
            (self.loads if (tag, name) in LOADED else self.links).append(target)


def main():
    root = Path(sys.argv[1]).resolve()
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(root.rglob("*.html"))}
    wrong = []
    for path, page in pages.items():
        # Links of rustdoc's pages are rustdoc's to check; that they load nothing from elsewhere is not.
        foreign = "rust" in path.relative_to(root).parts
        for target in page.loads + page.links:
            split = urlsplit(target)
            if split.scheme in ("data", "mailto", "javascript"):
                continue
            if split.scheme or split.netloc:
                if target in page.loads:
                    wrong.append(f"{path.relative_to(root)}: loads {target}")
                continue
            to = (path.parent / unquote(split.path)).resolve() if split.path else path
            if to.is_dir():
                to = to / "index.html"
            if split.path.startswith("/"):  # of 404.html, which may be shown for any address
                to = root / unquote(split.path[1:])
            if foreign:
                continue
            if not to.is_file():
                wrong.append(f"{path.relative_to(root)}: {target} is not there")
            elif split.fragment and to in pages:
                if unquote(split.fragment) not in pages[to].anchors:
                    wrong.append(f"{path.relative_to(root)}: {target} has no such anchor")
    if wrong or len(pages) < 20:
        sys.exit("\n".join([*wrong, f"check: {len(wrong)} mistakes on {len(pages)} pages"]))
    print(f"check: {len(pages)} pages, {sum(len(p.links) for p in pages.values())} links")


main()
