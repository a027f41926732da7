#!/usr/bin/env python3
"""Writes THIRD-PARTY.md: the crates in the library, with the notices that their licences demand.

Where a crate offers MIT, its MIT text is taken, else all its licence texts. The sources are those that cargo fetched.
"""
import json
import pathlib
import subprocess

TARGETS = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "x86_64-apple-darwin", "aarch64-apple-darwin"]
ROOT = pathlib.Path(__file__).resolve().parent.parent


def linked(target):
    """The packages that the library links: normal dependencies, without procedural macros and what only these need."""
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    is_macro = lambda package: any("proc-macro" in target["kind"] for target in package["targets"])
    found, open_ = {}, [metadata["resolve"]["root"]]
    while open_:
        for dependency in nodes[open_.pop()]["deps"]:
            package = packages[dependency["pkg"]]
            normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if normal and not is_macro(package) and package["id"] not in found and package["source"]:
                found[package["id"]] = package
                open_.append(package["id"])
    # The metadata also has what features ask for that only tests and programs turn on; the tree does not.
    tree = ["cargo", "tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none", "--target", target]
    lines = subprocess.run(tree, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    built = {tuple(line.split()[:2]) for line in lines if line}
    return {id: package for id, package in found.items() if (package["name"], "v" + package["version"]) in built}


def notices(package):
    folder = pathlib.Path(package["manifest_path"]).parent
    names = ("license", "licence", "copying", "notice", "copyright", "unlicense")
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name.lower().startswith(names))
    mit = [path for path in files if "mit" in path.name.lower()]
    if mit and "MIT" in package["license"] and " AND " not in package["license"]:
        files = mit
    return ["\n".join(line.rstrip() for line in path.read_text().strip().splitlines()) for path in files]


def main():
    packages = {}
    for target in TARGETS:
        packages.update(linked(target))
    ordered = sorted(packages.values(), key=lambda package: (package["name"], package["version"]))
    out = ["# Third-party software in libmetaadamw", ""]
    out += ["The library contains code of these crates and of the Rust standard library (MIT OR Apache-2.0, © The Rust Project"]
    out += ["Contributors). `scripts/third-party.py` generates this list.", "", "| crate | version | licence |", "| --- | --- | --- |"]
    out += [f"| {p['name']} | {p['version']} | {p['license']} |" for p in ordered]
    texts = {}
    for package in ordered:
        found = notices(package)
        if not found:
            out += ["", f"{package['name']} comes without a text of its licence, which is that of the other crates with the"]
            out[-1] += f" same one; its authors: {', '.join(package['authors']) or 'not named'}."
        for text in found:
            texts.setdefault(text, []).append(f"{package['name']} {package['version']}")
    for text, users in texts.items():
        out += ["", f"## {', '.join(users)}", "", "```text", text, "```"]
    (ROOT / "THIRD-PARTY.md").write_text("\n".join(out) + "\n")


main()
