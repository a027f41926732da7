"""Makes one page of the XML that Doxygen wrote of an API: `doxygen.py c|cpp XML_FOLDER PAGE`.

The page is Markdown for its headings, which the site's search and table of contents read, and HTML for everything else.
"""

import html
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import CLexer, CppLexer

TAGS = {
    "para": "p", "itemizedlist": "ul", "orderedlist": "ol", "listitem": "li", "bold": "strong", "emphasis": "em",
    "computeroutput": "code",
}  # fmt: skip


class Page:
    def __init__(self, lexer):
        self.lexer = lexer
        self.parts = []

    def heading(self, level, text, anchor):
        self.parts.append(f"{'#' * level} {text} {{ #{anchor} }}")

    def code(self, text):
        self.parts.append(highlight(text, self.lexer, HtmlFormatter(cssclass="highlight", wrapcode=True)).strip())

    def descriptions(self, element, level):
        for kind in ("briefdescription", "detaileddescription"):
            self.blocks(element.find(kind), level)

    def blocks(self, element, level):
        """Paragraphs as they stand; code, headings and lists inside them become blocks of their own."""
        for child in element if element is not None else ():
            if child.tag.startswith("sect"):
                self.heading(level, child.findtext("title"), slug(child.findtext("title")))
                self.blocks(child, level + 1)
            elif child.tag == "para":
                self.paragraph(child)
            elif child.tag != "title":
                raise ValueError(f"unknown block <{child.tag}>")

    def paragraph(self, para):
        inline = [html.escape(para.text or "")]

        def flush():
            text = "".join(inline).strip()
            if text:
                self.parts.append(f"<p>{text}</p>")
            inline.clear()

        for child in para:
            if child.tag == "programlisting":
                flush()
                self.code(listing(child))
            elif child.tag in ("itemizedlist", "orderedlist"):
                flush()
                self.parts.append(markup(child))
            else:
                inline.append(markup(child))
            inline.append(html.escape(child.tail or ""))
        flush()


def slug(text):
    return re.sub(r"[^\w-]", "", text.lower().replace(" ", "-"))


def markup(element):
    if element.tag == "ref":  # the site's hook makes the links
        return inner(element)
    if element.tag == "zwj":  # Doxygen's, within */
        return ""
    if element.tag not in TAGS:
        raise ValueError(f"unknown element <{element.tag}>")
    tag = TAGS[element.tag]
    return f"<{tag}>{inner(element).strip()}</{tag}>"


def inner(element):
    parts = [html.escape(element.text or "")]
    for child in element:
        parts += [markup(child), html.escape(child.tail or "")]
    return "".join(parts)


def listing(element):
    lines = []
    for line in element.iter("codeline"):
        for space in line.iter("sp"):
            space.text = " "
        lines.append("".join(line.itertext()))
    return "\n".join(lines).replace("*&zwj;/", "*/")


def text_of(element):
    return "" if element is None else "".join(element.itertext()).strip()


def line_of(member):
    return int(member.find("location").get("line"))


def has_text(member):
    return any(text_of(member.find(kind)) for kind in ("briefdescription", "detaileddescription"))


def compounds(folder):
    index = ElementTree.parse(folder / "index.xml").getroot()
    for entry in index.iter("compound"):
        yield ElementTree.parse(folder / f"{entry.get('refid')}.xml").getroot().find("compounddef")


# ------------------------------------------------------------------------------------------------------------- C ----


def c_function(member):
    returns, name = text_of(member.find("type")), member.findtext("name")
    params = [declaration(text_of(p.find("type")), p.findtext("declname")) for p in member.iter("param")]
    start = f"{returns}{'' if returns.endswith('*') else ' '}{name}("
    line = start + (", ".join(params) or "void") + ");"
    if len(line) <= 90:
        return line
    return start + "\n    " + ",\n    ".join(params) + ");"


def declaration(kind, name):
    return kind if not name else f"{kind}{'' if kind.endswith('*') else ' '}{name}"


def c_page(folder):
    page = Page(CLexer())
    everything = list(compounds(folder))
    header = next(c for c in everything if c.get("kind") == "file")
    structs = {c.findtext("compoundname"): c for c in everything if c.get("kind") == "struct"}
    members = sorted(header.iter("memberdef"), key=line_of)

    def of(kind):
        return [m for m in members if m.get("kind") == kind]

    page.parts += ["# C: metaadamw.h", "This page is made from the header, `include/metaadamw.h`, which is the manual."]
    chapters = header.find("detaileddescription")
    for chapter in chapters:
        title = chapter.findtext("title")
        if ":" in title:  # the header's own title
            page.blocks(chapter, 2)
        else:
            page.heading(2, title, slug(title))
            page.blocks(chapter, 3)

    page.heading(2, "Functions", "functions")
    for function in of("function"):
        name = function.findtext("name")
        page.heading(3, f"`{name}`", name)
        page.code(c_function(function))
        page.descriptions(function, 4)

    page.heading(2, "Types", "types")
    for typedef in of("typedef"):
        name = typedef.findtext("name")
        if name not in structs:
            page.heading(3, f"`{name}`", name)
            page.code(text_of(typedef.find("definition")) + text_of(typedef.find("argsstring")) + ";")
            page.descriptions(typedef, 4)
    for name, struct in sorted(structs.items(), key=lambda pair: line_of(pair[1])):
        page.heading(3, f"`{name}`", name)
        page.descriptions(struct, 4)
        rows = []
        for field in struct.iter("memberdef"):
            kind = text_of(field.find("type"))
            rows.append((f"{name}.{field.findtext('name')}", field.findtext("name") + text_of(field.find("argsstring")),
                         kind, described(field)))  # fmt: skip
        page.parts.append(table(("field", "type", ""), rows))

    page.heading(2, "Constants", "constants")
    rows = []
    for constant in of("define"):
        if has_text(constant):
            name, value = constant.findtext("name"), text_of(constant.find("initializer"))
            rows.append((name, name, value.strip("()"), described(constant)))
    page.parts.append(table(("name", "value", ""), rows))
    return page


def described(member):
    """Both descriptions of a member as the content of a table's cell."""
    parts = [inner(para) for kind in ("briefdescription", "detaileddescription") for para in member.find(kind)]
    return "<br>".join(part.strip() for part in parts)


def table(titles, rows):
    lines = ["<table class='members'>", "<thead><tr>", *(f"<th>{title}</th>" for title in titles), "</tr></thead><tbody>"]
    for anchor, name, second, text in rows:
        lines.append(
            f"<tr id='{anchor}'><td><code>{html.escape(name)}</code></td><td><code>{html.escape(second)}</code></td>"
            f"<td>{text}</td></tr>"
        )
    return "\n".join([*lines, "</tbody></table>"])


# ----------------------------------------------------------------------------------------------------------- C++ ----


def cpp_declaration(member, scope):
    kind, name = member.get("kind"), member.findtext("name")
    parts = []
    templates = member.find("templateparamlist")
    if templates is not None:
        wanted = [p for p in templates if not text_of(p.find("type")).startswith("detail::")]
        parameters = [" ".join(filter(None, (text_of(p.find("type")), p.findtext("declname")))) for p in wanted]
        parts.append(f"template <{', '.join(parameters)}>\n")
    if kind == "enum":
        values = ", ".join(value.findtext("name") for value in member.iter("enumvalue"))
        return f"enum class {name} {{ {values} }};"
    if kind == "typedef":
        return re.sub(r"\s+", " ", text_of(member.find("definition"))).replace(scope + "::", "").replace("typedef ", "") + ";"
    if kind == "variable":
        return f"{text_of(member.find('type'))} {name}{text_of(member.find('argsstring'))};"
    for word in ("static", "explicit"):
        if member.get(word) == "yes":
            parts.append(word + " ")
    returns = text_of(member.find("type"))
    if returns:
        parts.append(returns + " ")
    return "".join(parts) + name + text_of(member.find("argsstring")) + ";"


def cpp_spaces(text):
    """Doxygen's spaces around <, >, & and * as the sources have them."""
    text = text.replace("metaadamw::", "")
    text = re.sub(r"< +", "<", re.sub(r" +>", ">", text))
    text = re.sub(r"\s*([*&]+)\s*", r"\1 ", text)
    text = re.sub(r"([*&]) (?=[,>)])", r"\1", text).replace("(& ", "(&")
    text = re.sub(r"\s*=\s*", " = ", text).replace("operator = ", "operator=")
    return text.replace("template<", "template <").replace(" ;", ";").replace("* ()", "*()")


def cpp_members(page, members, scope, prefix):
    """Consecutive overloads, and a call with its `try_` form, share a heading."""
    groups = []
    for member in members:
        base = member.findtext("name").removeprefix("try_")
        if groups and groups[-1][0] == base and member.get("kind") == "function":
            groups[-1][1].append(member)
        else:
            groups.append((base, [member]))
    fields = []

    def flush():
        if fields:
            page.code("\n".join(fields))
            fields.clear()

    seen = set()
    for base, group in groups:
        declarations = [cpp_spaces(cpp_declaration(member, scope)) for member in group]
        if not any(has_text(member) for member in group):
            fields += declarations
            continue
        flush()
        anchor = re.sub(r"[^\w.-]+", "-", prefix + base).strip("-")
        while anchor in seen:
            anchor += "-2"
        seen.add(anchor)
        page.heading(3, f"`{base}`", anchor)
        # What is said of one holds for those below it.
        for i, member in enumerate(group):
            if i == 0 or has_text(member):
                end = next((j for j in range(i + 1, len(group)) if has_text(group[j])), len(group))
                page.code("\n".join(declarations[i:end]))
                page.descriptions(member, 4)
    flush()


def cpp_page(folder):
    page = Page(CppLexer())
    everything = list(compounds(folder))
    of_classes = [c for c in everything if c.get("kind") in ("class", "struct")]
    nested = {inner.get("refid") for c in of_classes for inner in c.iter("innerclass")}
    classes = [
        c
        for c in of_classes
        if c.get("id") not in nested
        and c.findtext("compoundname").startswith("metaadamw::")
        and "<" not in c.findtext("compoundname")
    ]
    main = next(c for c in everything if c.findtext("compoundname") == "metaadamw.hpp")
    page.parts += ["# C++: metaadamw.hpp", "This page is made from the headers in `bindings/cpp/include`."]
    for chapter in main.find("detaileddescription"):
        if chapter.tag.startswith("sect"):
            page.blocks(chapter, 3)
    for compound in everything:  # headers beside it that have a chapter of their own
        description = compound.find("detaileddescription")
        if compound.get("kind") == "file" and compound is not main and description.find("sect1") is not None:
            page.blocks(description, 2)
    order = ["Optimizer", "Options", "ParamGroup", "Tensor", "Buffer"]

    def rank(compound):
        name = compound.findtext("compoundname").removeprefix("metaadamw::")
        return (order.index(name) if name in order else len(order), name.lower())

    for compound in sorted(classes, key=rank):
        name = compound.findtext("compoundname")
        short = name.removeprefix("metaadamw::")
        page.heading(2, f"`{short}`", short.replace("::", "."))
        page.descriptions(compound, 3)
        members = [m for m in compound.iter("memberdef") if m.get("prot") == "public" and m.get("kind") != "friend"]
        members = [m for m in members if not m.findtext("name").startswith("~")]
        cpp_members(page, sorted(members, key=line_of), name, short + ".")
    space = next(c for c in everything if c.findtext("compoundname") == "metaadamw")
    members = sorted(space.iter("memberdef"), key=lambda m: (m.find("location").get("file"), line_of(m)))
    page.heading(2, "Enumerations", "enumerations")
    cpp_members(page, [m for m in members if m.get("kind") == "enum"], "metaadamw", "")
    page.heading(2, "Functions and other names", "functions")
    cpp_members(page, [m for m in members if m.get("kind") != "enum"], "metaadamw", "")
    return page


def main():
    language, folder, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    page = {"c": c_page, "cpp": cpp_page}[language](folder)
    out.write_text("\n\n".join(page.parts) + "\n")


main()
