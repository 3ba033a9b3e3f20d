"""Make the book: notebooks, docstrings, glossary and references become one site of static pages. Nothing is executed, nothing is fetched.

`prepare` needs PyYAML; `build` needs what `book_requirements` in settings.ini lists (`make book` installs it)."""
import argparse, ast, html.parser, io, json, re, shutil, subprocess, sys, tokenize, urllib.parse
from configparser import ConfigParser
from dataclasses import dataclass, field
from pathlib import Path

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
FIGURE = {"label", "fig-cap", "fig-alt"} # directives that become a caption, an alternative text and a target
SOLUTION = re.compile(r"# Solution\b")


class BookError(Exception): "What must be mended in the sources, in one line."


# Sources: notebooks, settings, modules

@dataclass
class Chapter:
    "A notebook, before anything is changed: `stem` is its file's name, `number` stands before it, `module` is what it exports."
    stem: str
    cells: list

    @property
    def number(self): return int(m[1]) if (m := re.match(r"(\d+)_", self.stem)) else None
    @property
    def module(self): return re.sub(r"^\d+_", "", self.stem)
    @property
    def title(self):
        found = re.search(r"^# (.+)", source(self.cells[0]) if self.cells else "", re.M)
        if not found: raise BookError(f"{self.stem}: the first cell has no title (`# …`)")
        return found[1].strip()
    @property
    def heading(self): return self.title if self.number is None else f"{self.number} · {self.title}"
    @property
    def prose(self): return "\n\n".join(source(c) for c in self.cells if c["cell_type"] == "markdown")


def source(cell): return "".join(cell["source"])

def chapters(folder):
    "The notebooks of a folder in order, the front page first; what begins with `_` or `.` stays out."
    read = lambda p: Chapter(p.stem, json.loads(p.read_text(encoding="utf8"))["cells"])
    found = [read(p) for p in sorted(Path(folder).glob("*.ipynb")) if p.name[0] not in "._"]
    return sorted(found, key=lambda c: (c.number is not None, c.number, c.stem))

def settings(root=ROOT):
    "settings.ini as a dict."
    config = ConfigParser(delimiters=["="])
    config.read(root/"settings.ini", encoding="utf8")
    return dict(config["DEFAULT"])


# Definitions and their docments, read without importing anything

@dataclass
class Parameter:
    "One row of a table: several names share it where a line documents them together."
    name: str
    kind: str = ""    # annotation
    default: str = "" # as it stands in the source
    meaning: str = ""

@dataclass
class Definition:
    "What a module exports, or a method of it."
    name: str
    kind: str # function, class, data, method, property
    doc: str = ""
    signature: str = ""
    parameters: list = field(default_factory=list)
    returns: str = ""
    methods: list = field(default_factory=list)
    line: int = 0


def comments(text):
    "Dict from line to the comment that ends it."
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {t.start[0]: t.string.lstrip("# ").strip() for t in tokens if t.type == tokenize.COMMENT}

def end(*nodes): return max(n.end_lineno for n in nodes if n is not None)

def short(node, most=60):
    text = ast.unparse(node) if node is not None else ""
    return text if len(text) <= most else "..."

def _arguments(a):
    "(name, annotation, default) of each argument in order, and its sign for the signature."
    plain = a.posonlyargs + a.args
    for arg, default in zip(plain, [None]*(len(plain) - len(a.defaults)) + a.defaults): yield arg.arg, arg, default
    if a.vararg: yield "*" + a.vararg.arg, a.vararg, None
    for arg, default in zip(a.kwonlyargs, a.kw_defaults): yield arg.arg, arg, default
    if a.kwarg: yield "**" + a.kwarg.arg, a.kwarg, None

def _continued(line, notes, stop=()):
    "The comment at the end of a line, and those that stand alone below it."
    said, after = [notes.get(line, "")], line + 1
    while notes.get((after, "alone")) and after not in stop: said.append(notes[after]); after += 1
    return " ".join(filter(None, said))

def _rows(entries, notes):
    "Parameters from (name, annotation, default, last line); those that end on one line share its comment."
    rows = {}
    for name, note, default, line in entries: rows.setdefault(line, []).append(Parameter(name, note, default))
    out = []
    for line, group in rows.items():
        for p in group: p.meaning = ""
        group[-1].meaning = _continued(line, notes, rows)
        if len(group) > 1 and group[-1].meaning and len({p.kind for p in group}) == 1:
            group = [Parameter(", ".join(p.name for p in group), group[0].kind, ", ".join(p.default or "–" for p in group) if any(p.default for p in group) else "", group[-1].meaning)]
        out += group
    return out

def _function(node, notes, lines, method=False):
    "A function or method with its docments."
    args = [x for x in _arguments(node.args) if not (method and x[0] in ("self", "cls"))]
    entries = [(name, short(arg.annotation), short(default), end(arg, arg.annotation, default)) for name, arg, default in args]
    body = node.body[0].lineno
    closing = next((n for n in range(node.lineno, body + 1) if re.search(r"\)\s*(->.*)?:\s*(#.*)?$", lines[n - 1]) and (n == body or n >= max([e[3] for e in entries], default=node.lineno))), None)
    returns = _continued(closing, notes) if closing is not None else ""
    if returns: entries = [e if e[3] != closing else (*e[:3], -i - 1) for i, e in enumerate(entries)]
    shown = ", ".join(f"{n}={d}" if d else n for n, _, d, _ in entries)
    stars = [e[0] for e in entries]
    if node.args.kwonlyargs and not node.args.vararg:
        first = stars.index(node.args.kwonlyargs[0].arg)
        parts = [f"{n}={d}" if d else n for n, _, d, _ in entries]
        shown = ", ".join(parts[:first] + ["*"] + parts[first:])
    return Definition(node.name, "method" if method else "function", ast.get_docstring(node) or "", f"({shown})", _rows(entries, notes), returns, line=node.lineno)

def _is_patch(node):
    names = [ast.unparse(d).split("(")[0] for d in node.decorator_list]
    return "patch" in names and node.args.args and node.args.args[0].annotation is not None

def _member(node, notes, lines):
    found = _function(node, notes, lines, method=True)
    marks = " ".join(ast.unparse(d) for d in node.decorator_list)
    if "as_prop=True" in marks or re.search(r"\b(cached_)?property\b", marks): found.kind, found.signature, found.parameters = "property", "", []
    return found

def _class(node, notes, lines):
    fields = [n for n in node.body if isinstance(n, ast.AnnAssign) and not n.target.id.startswith("_")]
    methods = [n for n in node.body if isinstance(n, ast.FunctionDef)]
    out = Definition(node.name, "class", ast.get_docstring(node) or "", line=node.lineno)
    if bases := [b.id for b in node.bases if isinstance(b, ast.Name) and b.id[0].isupper() and not b.id.endswith(("Error", "Exception"))]: out.doc += f" Extends {', '.join(f'`{b}`' for b in bases)}."
    start = next((m for m in methods if m.name == "__init__"), None)
    if start is not None:
        made = _function(start, notes, lines, method=True)
        out.signature, out.parameters, out.returns = made.signature, made.parameters, made.returns
    elif fields:
        told = {f.end_lineno: f.value.args[1].value for f in fields if isinstance(f.value, ast.Call) and len(f.value.args) == 2 and isinstance(f.value.args[1], ast.Constant)}
        values = {f.target.id: f.value.args[0] if f.end_lineno in told else f.value for f in fields} # a field made by `_choice(default, meaning)`
        out.parameters = _rows([(f.target.id, short(f.annotation), short(values[f.target.id]), f.end_lineno) for f in fields], told | notes)
        out.signature = "(" + ", ".join(n + (f"={short(v, 30)}" if v is not None else "") for n, v in values.items()) + ")"
    out.methods = [_member(m, notes, lines) for m in methods if not m.name.startswith("_") and ast.get_docstring(m)]
    return out

def _targets(node):
    "(name, value) of each name an assignment makes."
    for target in node.targets:
        if isinstance(target, ast.Name): yield target.id, node.value
        elif isinstance(target, ast.Tuple):
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [None]*len(target.elts)
            yield from ((t.id, v) for t, v in zip(target.elts, values) if isinstance(t, ast.Name))

@dataclass
class Module:
    "What one module exports."
    name: str
    doc: str
    exports: list   # names in `__all__`
    defined: dict   # name to Definition
    patches: dict   # class to methods that this module gives it

def read_module(path, dotted=None):
    "The exported definitions of a module, from its source alone; `dotted` is its name in the package."
    text = Path(path).read_text(encoding="utf8")
    tree, lines, notes = ast.parse(text), text.splitlines(), comments(text)
    notes |= {(n, "alone"): True for n in list(notes) if lines[n - 1].lstrip().startswith("#")}
    exports, defined, patches = [], {}, {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for name, value in _targets(node):
                if name == "__all__": exports = [e.value for e in value.elts]
                else: defined[name] = Definition(name, "data", notes.get(node.lineno, "") or (notes.get(node.end_lineno, "")), short(value, 70), line=node.lineno)
        elif isinstance(node, ast.FunctionDef) and _is_patch(node):
            if not node.name.startswith("_") and ast.get_docstring(node): patches.setdefault(ast.unparse(node.args.args[0].annotation), []).append(_member(node, notes, lines))
        elif isinstance(node, ast.FunctionDef): defined[node.name] = _function(node, notes, lines)
        elif isinstance(node, ast.ClassDef): defined[node.name] = _class(node, notes, lines)
    return Module(dotted or Path(path).stem, ast.get_docstring(tree) or "", exports, defined, patches)

def read_modules(folder, order=()):
    "All modules with an `__all__`, in the order of the chapters; methods patched in elsewhere go to their class."
    paths = [p for p in sorted(Path(folder).rglob("*.py")) if not p.name.startswith("_")]
    dotted = [".".join(p.relative_to(folder).with_suffix("").parts) for p in paths]
    found = {m.name: m for m in map(read_module, paths, dotted) if m.exports}
    found = {n: found[n] for n in [*(o for o in order if o in found), *(n for n in found if n not in order)]}
    for module in found.values():
        for name, methods in module.patches.items():
            for method in methods: method.doc += f" (added in `mmrec.{module.name}`)" if name not in module.defined else ""
            home = module if name in module.defined else next((m for m in found.values() if name in m.exports), None)
            if home: home.defined[name].methods += methods
    return found


# Text

def spans(text):
    "Pieces of Markdown: (is it code?, text); code is what stands in fences, backticks or dollar signs."
    at = 0
    for m in re.finditer(r"^(`{3,}|~{3,}).*?^\1|(`+)(?!`).*?(?<!`)\2(?!`)|\$\$.*?\$\$|(?<![\\$\w])\$(?=\S)[^$\n]*?(?<=\S)\$(?!\d)", text, re.M | re.S):
        if m.start() > at: yield False, text[at:m.start()]
        yield True, m[0]
        at = m.end()
    if at < len(text): yield False, text[at:]

def outside_code(text, change): return "".join(piece if code else change(piece) for code, piece in spans(text))

def escape(text):
    "A comment or docstring as Markdown: backticks and *emphasis* keep their meaning, everything else stands for itself."
    def plain(t):
        t = re.sub(r"([\\<>|$\[\]])", r"\\\1", t)
        return re.sub(r"\*(?!(?<!\S\*)[^*\s][^*]*\*)(?<!\w\*)", r"\\*", t) if t.count("*") % 2 else t
    out, at = "", 0
    for m in re.finditer(r"`[^`\n]+`", text):
        out += plain(text[at:m.start()]) + m[0].replace("|", r"\|")
        at = m.end()
    return out + plain(text[at:])


class Names:
    "Which page tells of an exported name."
    def __init__(self, modules):
        self.modules, self.home = modules, {}
        for module in modules.values():
            for name in module.exports:
                if name in module.defined: self.home.setdefault(name, []).append(module.name)

    def target(self, name, own=None):
        "Full name of what is meant by `name` in the chapter of module `own`, or None."
        stem, _, method = name.partition(".")
        homes = self.home.get(stem, [])
        if own in homes: home = own
        elif len(homes) == 1 and (re.search(r"[A-Z_]", stem)): home = homes[0]
        else: return None
        if method and method not in [m.name for m in self.modules[home].defined[stem].methods]: return None
        return f"mmrec.{home}.{name}"

    def link(self, text, own=None, up="", once=True):
        "Exported names in backticks become links to the API, the first time each."
        seen = set()
        def one(m):
            name = m[1]
            if name.startswith("mmrec.") and name[6:] in self.modules: return f"[`{name}`]({up}api/{name[6:]}.md)"
            full = self.target(name, own)
            if full is None or (once and name in seen): return m[0]
            seen.add(name)
            return f"{{py:obj}}`{name} <{full}>`"
        lines, fence = [], False
        for line in text.split("\n"):
            if re.match(r"\s*(```|~~~)", line): fence = not fence
            if not fence and not line.startswith("#"): line = re.sub(r"(?<![`\[\]}\w\\])`([A-Za-z_][\w.]*)`(?![`\]])", one, line)
            lines.append(line)
        return "\n".join(lines)


# References

def read_bib(text):
    "Entries of a BibTeX file: dict from key to fields, `type` among them."
    entries = {}
    for m in re.finditer(r"^@(\w+)\{([^,\s]+),\n(.*?)\n\}", text, re.M | re.S):
        fields = {k.lower(): re.sub(r"\s+", " ", v) for k, v in re.findall(r"^\s*(\w+)\s*=\s*\{(.*)\},?\s*$", m[3], re.M)}
        if m[2] in entries: raise BookError(f"references.bib: {m[2]} stands there twice")
        entries[m[2]] = {k: re.sub(r"[{}]", "", v) for k, v in fields.items()} | {"type": m[1].lower()}
    return entries

def _plain(text): return re.sub(r"[^\w]", "", text).lower()

def surnames(entry): return [a.split(",")[0].strip() for a in entry.get("author", "").split(" and ") if a.strip()]

def cite(text, bib):
    "Markdown with titles, arXiv numbers, RFCs and *Name year* linked to the list of references; and the keys that were found."
    found = []
    def to(key, shown):
        found.append(key)
        return f"[{shown}](#ref-{key.lower()})"
    def title(m):
        if len(name := _plain(m[1])) < 4: return m[0]
        for key, e in bib.items():
            titles = [_plain(t) for t in (e["title"], e.get("shorttitle", "")) if t]
            if any(t == name or (len(name) > 12 and t.startswith(name)) for t in titles): return to(key, m[0])
        return m[0]
    def plain(piece):
        piece = re.sub(r"(?<![*\w\[])\*([^*\n]+)\*(?![*\w])", title, piece)
        for key, e in bib.items():
            if e.get("eprint"): piece = re.sub(rf"(?<!\[)arXiv[ :]{re.escape(e['eprint'])}", lambda m: to(key, m[0]), piece)
            if e.get("number", "").startswith("RFC"): piece = re.sub(rf"(?<![\[\w]){e['number']}(?!\d)", lambda m: to(key, m[0]), piece)
            if not (names := surnames(e)): continue
            who = rf"{re.escape(names[0])}(?: et al\.,?| and others,?|(?:,? (?:&|and) {re.escape(names[1])},?)|,)?" if len(names) > 1 else rf"{re.escape(names[0])},?"
            piece = re.sub(rf"(?<![\[\w])(?:[A-Z]\. )?{who} (?:{e.get('year', '0000')}|\({e.get('year', '0000')}\))(?![\w\]])", lambda m: to(key, m[0]), piece)
        return piece
    return outside_code(text, plain), list(dict.fromkeys(found))

def reading(prose):
    "The entries under *Further reading*."
    m = re.search(r"^## Further reading\s*\n(.*?)(?=^## |\Z)", prose, re.M | re.S)
    return [re.sub(r"\s+", " ", e).strip() for e in re.split(r"^- ", m[1], flags=re.M)[1:]] if m else []

def find_reading(entry, bib):
    "Keys of an entry of *Further reading* and what in it has no key."
    linked, keys = cite(entry, bib)
    for key, e in bib.items():
        if key not in keys and (e.get("alias") and e["alias"] in entry or any(n in entry for n in surnames(e)[:1]) and e.get("year", "?") in entry and _plain(e.get("journal", e.get("booktitle", "?"))) in _plain(entry)): keys.append(key)
    rest = re.sub(r"\[\*[^*]+\*\]\([^)]*\)", "", linked)
    missing = [t for t in re.findall(r"(?<![*\w])\*([A-Z][^*]+)\*", rest)]
    return keys, missing if keys or missing else [entry]

def author_list(entry):
    people = [" ".join(reversed([x.strip() for x in a.split(",", 1)])) for a in entry.get("author", "").split(" and ") if a.strip()]
    people = ["others" if p == "others" else p for p in people]
    return people[0] if len(people) == 1 else ", ".join(people[:-1]) + " and " + people[-1] if people else entry.get("organization", "")

def reference(entry):
    "An entry as a line of Markdown."
    where = entry.get("journal") or entry.get("booktitle") or entry.get("publisher") or entry.get("howpublished") or ""
    if entry.get("journal") and entry.get("volume"): where += f" {entry['volume']}" + (f"({entry['number']})" if entry.get("number") else "")
    pages = entry.get("pages", "").replace("--", "–")
    extra = [where + (f", {pages}" if pages else ""), entry["number"] if entry.get("number", "").startswith("RFC") else "", f"arXiv:{entry['eprint']}" if entry.get("eprint") else ""]
    head = ", ".join(x for x in (author_list(entry), entry.get("year")) if x)
    text = f"{head}{': ' if head else ''}*{entry['title']}*. " + ". ".join(x for x in extra if x)
    link = entry.get("url") or (f"https://arxiv.org/abs/{entry['eprint']}" if entry.get("eprint") else "")
    return text.rstrip(". ") + "." + (f" <{link}>" if link else "")

def references_page(bib, used):
    "The list of references; `used` is a dict from key to the chapters that name it."
    by = lambda key: (_plain((surnames(bib[key]) or [bib[key].get("organization", bib[key]["title"])])[0]), bib[key].get("year", ""))
    lines = ["# References", "", "Every paper, book and document that a chapter names, with the chapters that name it. As a file: {download}`references.bib <references.bib>`.", ""]
    for key in sorted(bib, key=by):
        where = ", ".join(f"[{c.number if c.number is not None else c.title}]({c.stem}.ipynb)" for c in used.get(key, []))
        lines += [f"(ref-{key.lower()})=", "", reference(bib[key]) + (f" Chapter {where}." if where else ""), ""]
    return "\n".join(lines)


# Glossary

def read_glossary(text):
    "Entries (terms, definition, module of the chapter) from lines `term / synonym` and `: definition [module]`."
    entries = []
    for block in re.split(r"\n\s*\n", text.split("\n---\n", 1)[-1].strip()):
        m = re.fullmatch(r"(.+)\n: (.*?)\s*\[([\w.]+)\]", block.strip(), re.S)
        if not m: raise BookError(f"glossary.md: not `term`, `: definition [module]`: {block[:60]!r}")
        entries.append(([t.strip() for t in m[1].split(" / ")], re.sub(r"\s*\n\s*", " ", m[2]), m[3]))
    return entries

def glossary_page(text, by_module):
    "Sphinx's glossary, sorted, each entry with a link to its chapter."
    out = [text.split("\n---\n", 1)[0], "", ":::{glossary}"]
    for terms, meaning, module in sorted(read_glossary(text), key=lambda e: e[0][0].lower()):
        if module not in by_module: raise BookError(f"glossary.md: {terms[0]} points to {module}, which no chapter exports")
        c = by_module[module]
        out += [*terms, f"  {meaning} [{c.heading}]({c.stem}.ipynb)", ""]
    return "\n".join(out + [":::", ""])

def term_pattern(term): return rf"(?<![\w`\[{{/.-]){re.escape(term)}(?:s|es)?(?![\w`\]}}/-])"

def link_terms(text, terms, seen):
    "The first time a term of this chapter stands in prose it links to the glossary."
    def paragraph(line):
        if re.match(r"\s*(#|\||>|<|\(|!\[)", line): return line
        for term, main in terms.items():
            if main in seen: continue
            done = False
            def once(piece):
                nonlocal done
                if done or "](" in piece or "{" in piece: return piece
                new, n = re.subn(term_pattern(term), lambda m: f"{{term}}`{m[0]} <{main}>`", piece, count=1, flags=re.I)
                done = done or bool(n)
                return new
            line = outside_code(line, once)
            if done: seen.add(main)
        return line
    lines, fence = [], False
    for line in text.split("\n"):
        if re.match(r"\s*(```|~~~|\$\$)", line): fence = not fence
        lines.append(line if fence or re.match(r"\s*(```|~~~|\$\$)", line) else paragraph(line))
    return "\n".join(lines)


# Notebooks

def directives(text):
    "`#| name: value` lines at the head of a cell as a dict, and the rest of the cell."
    found, lines = {}, text.split("\n")
    while lines and (m := re.match(r"#\|\s*([\w-]+)\s*:?\s*(.*)", lines[0])):
        value = m[2].strip()
        found[m[1]] = value[1:-1].replace('\\"', '"') if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value
        lines.pop(0)
    return found, "\n".join(lines).strip("\n")

def anchor(label, chapter): return f"fig-{chapter.module.replace('.', '-')}-{label[4:]}"

def figures(all_chapters):
    "Dict from a figure's anchor to its number, such as 13.2; a label is its chapter's own."
    numbers = {}
    for chapter in all_chapters:
        count = 0
        for cell in chapter.cells:
            label = directives(source(cell))[0].get("label") if cell["cell_type"] == "code" else None
            if not label or not label.startswith("fig-"): continue
            if (label := anchor(label, chapter)) in numbers: raise BookError(f"{chapter.stem}: a second figure is called {directives(source(cell))[0]['label']}")
            count += 1
            numbers[label] = f"{chapter.number}.{count}" if chapter.number is not None else str(count)
    return numbers

def keep_output(output):
    "Widgets live in a kernel: without one, nothing of them is shown; nor is an empty piece of HTML."
    data = output.get("data", {})
    if "application/vnd.jupyter.widget-view+json" in data: return False
    html_text = "".join(data.get("text/html", ""))
    return not ("text/html" in data and not re.sub(r"<[^>]*>", "", html_text).strip() and not re.search(r"<(img|svg|canvas|details)", html_text))

def code_cells(cell, chapter, numbers):
    "A code cell as the book shows it: none where it is hidden, two where a figure stands among other outputs."
    asked, text = directives(source(cell))
    if ({"hide", "default_exp"} & set(asked) and "echo" not in asked) or asked.get("include") == "false" or not text.strip(): return []
    tags, shown = list(cell.get("metadata", {}).get("tags", [])), {}
    outputs = [] if "hide" in asked or asked.get("output") == "false" else [o for o in cell.get("outputs", []) if keep_output(o)]
    if asked.get("echo") == "false": tags.append("remove-input")
    if "remove-input" in tags and not outputs: return []
    if {"hide-cell", "hide-input"} & set(tags):
        what = "the solution" if SOLUTION.match(text) else "the code"
        shown |= dict(code_prompt_show=f"Show {what}", code_prompt_hide=f"Hide {what}")
    make = lambda tags, shown, outputs: dict(cell, source=text.splitlines(True), outputs=outputs, execution_count=None, metadata=(dict(tags=tags) if tags else {}) | (dict(mystnb=shown) if shown else {}))
    pictures = [o for o in outputs if any(k.startswith("image/") for k in o.get("data", {}))] or [o for o in outputs if o.get("data")]
    if "fig-cap" not in asked or not pictures: return [make(tags, shown, outputs)]
    label = anchor(asked["label"], chapter) if asked.get("label", "").startswith("fig-") else ""
    caption = f"**Figure {numbers[label]}.** {asked['fig-cap']}" if label else asked["fig-cap"]
    figure = dict(figure=dict(caption=caption, align="left") | (dict(name=label) if label else {})) | (dict(image=dict(alt=asked["fig-alt"])) if "fig-alt" in asked else {})
    others = [o for o in outputs if o is not pictures[-1]]
    if not others: return [make(tags, shown | figure, outputs)]
    return [make(tags, shown, others), make([*tags, "remove-input"], figure, pictures[-1:])]

def place(module, name):
    "The target of a definition; Sphinx does not tell capitals from small letters, so `Survey` and `survey` need more."
    return f"def-{module.replace('.', '-')}-{name.lower()}" + ("" if name == name.lower() else "-capital")

@dataclass
class Links:
    "What prose may be linked to."
    numbers: dict  # figures
    bib: dict
    names: Names
    terms: dict    # module to {word: term of the glossary}
    files: str     # where files of the repository are shown

def prose(text, chapter, links, seen=None):
    "Markdown of a notebook as Markdown of the book."
    text = re.sub(r"^(?:previous: .*|\[index\]\(index\.ipynb\) · next: .*)\n?", "", text, flags=re.M)
    text = re.sub(r"^(# )(?=.)", lambda m: m[1] + (f"{chapter.number} · " if chapter.number is not None else ""), text, count=1, flags=re.M) if seen is not None and "title" not in seen else text
    def figure(m):
        here, ends = anchor(m[1], chapter), [a for a in links.numbers if a.endswith(m[1][3:])]
        found = here if here in links.numbers else ends[0] if len(ends) == 1 else None
        if found is None: raise BookError(f"{chapter.stem}: {'no' if not ends else 'more than one'} figure is called {m[1]}")
        return f"[Figure {links.numbers[found]}](#{found})"
    text = outside_code(text, lambda t: re.sub(r"(?<![\w@])@(fig-[\w-]*\w)", figure, t))
    text = re.sub(r"\]\(#([^)]+)\)", lambda m: f"](#{m[1].lower()})", text)
    text = re.sub(r"\]\(([A-Z]+\.md)\)", rf"]({links.files}/\1)", text)
    text, _ = cite(text, links.bib)
    text = links.names.link(text, chapter.module)
    return link_terms(text, links.terms.get(chapter.module, {}), seen if seen is not None else set())

def chapter_notebook(chapter, links, after_title=()):
    "A notebook that Sphinx shows without executing it."
    cells, seen = [], set()
    for cell in chapter.cells:
        if cell["cell_type"] == "markdown":
            text = prose(source(cell), chapter, links, seen)
            seen.add("title")
            if text.strip(): cells.append(dict(cell, source=text.splitlines(True), metadata={}))
        elif cell["cell_type"] == "code":
            if made := code_cells(cell, chapter, links.numbers):
                defined = re.findall(DEFINED, source(cell), re.M) if "#| export" in source(cell) else []
                mine = [n for n in defined if chapter.module in links.names.home.get(n, [])]
                if mine: cells.append(dict(cell_type="markdown", id="", metadata={}, source="\n".join(f"({place(chapter.module, n)})=" for n in mine).splitlines(True)))
                cells += made
    for text in after_title: cells.insert(2, dict(cell_type="markdown", id="", metadata={}, source=text.splitlines(True)))
    for i, c in enumerate(cells): c["id"] = f"c{i:04}"
    meta = dict(kernelspec=dict(display_name="Python 3", language="python", name="python3"), language_info=dict(name="python"))
    return dict(cells=cells, metadata=meta, nbformat=4, nbformat_minor=5)


# API pages

def _table(d, names, own, field="parameter"):
    if not d.parameters and not d.returns: return []
    code = lambda t: "".join(f"`{t}`") if t else ""
    rows = []
    for p in d.parameters:
        kind = " ".join(x for x in (code(p.kind), f"= {code(p.default)}" if p.default else "") if x)
        rows.append((", ".join(code(n) for n in p.name.split(", ")), kind.replace("|", r"\|"), names.link(escape(p.meaning), own, "../", once=False)))
    if d.returns: rows.append(("*returns*", "", names.link(escape(d.returns), own, "../", once=False)))
    heads = [field, "type, default", "meaning"]
    keep = [i for i in range(3) if i != 1 or any(r[1] for r in rows)]
    line = lambda cells: "| " + " | ".join(cells[i] for i in keep) + " |"
    return [line(heads), line(["---"]*3), *map(line, rows), ""]

def _entry(d, module, names, chapter, depth=4, prefix=""):
    kind = {"data": "data", "property": "property"}.get(d.kind, d.kind)
    head = f"{prefix}{d.name}{d.signature if d.kind in ('function', 'class', 'method') else ''}"
    out = ["`"*depth + f"{{py:{kind}}} {head}", f":module: mmrec.{module.name}"]
    if d.kind == "data" and d.signature and d.signature != "...": out.append(f":value: {d.signature}")
    out += ["", names.link(escape(d.doc), module.name, "../", once=False), ""] + _table(d, names, module.name, "field" if d.kind == "class" and not d.signature else "parameter")
    for m in d.methods: out += _entry(m, module, names, None, depth - 1, prefix=f"{d.name}.")
    if chapter: out += [f"[Told in the chapter](#{place(module.name, d.name)})", ""]
    return out + ["`"*depth, ""]

DEFINED = r"^(?:def (?=\w+\((?!\s*self\b))|class )(\w+)"

def told_in(chapter):
    "What the cells that the book shows define."
    cells = [source(c) for c in chapter.cells if c["cell_type"] == "code"] if chapter else []
    shown = [s for s in cells if "#| export" in s and not re.search(r"^#\|\s*hide\b", s, re.M)]
    return {name for s in shown for name in re.findall(DEFINED, s, re.M)}

def api_page(module, names, chapter):
    "The page of one module."
    told = told_in(chapter)
    where = f"Told in chapter [{chapter.heading}](../{chapter.stem}.ipynb)." if chapter else ""
    out = [f"# mmrec.{module.name}", "", escape(module.doc.split("\n")[0]), "", where, "", f"```{{py:module}} mmrec.{module.name}", "```", ""]
    for title, kind in (("Functions", "function"), ("Classes", "class"), ("Constants", "data")):
        found = [module.defined[n] for n in module.exports if n in module.defined and module.defined[n].kind == kind]
        if not found: continue
        out += [f"## {title}", ""]
        for d in sorted(found, key=lambda d: d.line): out += _entry(d, module, names, chapter if kind != "data" and d.name in told else None)
    return "\n".join(out)

def api_index(modules, by_module):
    rows = [f"| [mmrec.{m.name}]({m.name}.md) | {escape(m.doc.split(chr(10))[0])} | " + (f"[{by_module[m.name].number}](../{by_module[m.name].stem}.ipynb)" if m.name in by_module else "") + " |" for m in modules.values()]
    return "\n".join(["# API reference", "", "A page a module, made from the definitions and the comments beside their parameters. Everything here is defined, shown and tested in the chapter of the same name.", "",
                      "| module | what for | chapter |", "|---|---|---|", *rows, ""])


# All together

def read_toc(path, all_chapters):
    "The parts of book/toc.yml: dicts of title, about and chapters (stem to track), which hold every chapter once."
    import yaml
    parts = yaml.safe_load(Path(path).read_text(encoding="utf8"))["parts"]
    listed, there = [stem for p in parts for stem in p["chapters"]], [c.stem for c in all_chapters if c.number is not None]
    if wrong := sorted(set(listed) ^ set(there)): raise BookError(f"toc.yml: {wrong[0]} is in the table or in nbs/, not in both")
    return parts

def toc(parts, modules):
    "Sphinx's table of contents."
    lines = ["format: jb-book", "root: index", "parts:"]
    for p in parts: lines += [f"- caption: {p['title']}", "  chapters:", *(f"  - file: {stem}" for stem in p["chapters"])]
    lines += ["- caption: Reference", "  chapters:", "  - file: api/index", "    sections:", *(f"    - file: api/{m}" for m in modules), "  - file: glossary", "  - file: references"]
    return "\n".join(lines) + "\n"

def pages(root=ROOT):
    "Everything that Sphinx reads: dict from path to text or bytes."
    root = Path(root)
    all_chapters, cfg = chapters(root/"nbs"), settings(root)
    by_module = {c.module: c for c in all_chapters if c.number is not None}
    modules = read_modules(root/"mmrec", list(by_module))
    bib_text, glossary = ((root/"book"/n).read_text(encoding="utf8") for n in ("references.bib", "glossary.md"))
    bib, terms = read_bib(bib_text), {}
    for names, _, module in read_glossary(glossary): terms.setdefault(module, {}).update({n: names[0] for n in names})
    links = Links(figures(all_chapters), bib, Names(modules), terms, f"{cfg['git_url']}/blob/{cfg['branch']}")
    used = {}
    for c in all_chapters:
        keys = cite(c.prose, bib)[1] + [k for e in reading(c.prose) for k in find_reading(e, bib)[0]]
        for key in dict.fromkeys(keys): used.setdefault(key, []).append(c)
    bib = {key: entry for key, entry in bib.items() if key in used}
    out = {f"{c.stem}.ipynb": json.dumps(chapter_notebook(c, links, [(root/"book/reading.md").read_text(encoding="utf8")] if c.number is None else ()), indent=1, ensure_ascii=False) for c in all_chapters}
    out |= {f"api/{m.name}.md": api_page(m, links.names, by_module.get(m.name)) for m in modules.values()}
    out |= {"api/index.md": api_index(modules, by_module), "glossary.md": glossary_page(glossary, by_module), "references.md": references_page(bib, used), "references.bib": bib_text}
    out |= {"_toc.yml": toc(read_toc(root/"book/toc.yml", all_chapters), modules), "_config.yml": (root/"book/_config.yml").read_text(encoding="utf8"), "static/book.css": (root/"book/book.css").read_text(encoding="utf8")}
    return out | {f"img/{p.name}": p.read_bytes() for p in sorted((root/"nbs/img").glob("*")) if p.is_file()}

def prepare(folder, root=ROOT):
    "Write what Sphinx reads, leaving files alone that have not changed; True when a page has gone."
    folder, wanted = Path(folder), pages(root)
    for name, text in wanted.items():
        path, data = folder/name, text if isinstance(text, bytes) else text.encode("utf8")
        if path.exists() and path.read_bytes() == data: continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    gone = [p for p in folder.rglob("*") if p.is_file() and str(p.relative_to(folder)) not in wanted and p.name != "conf.py" and "mathjax" not in p.parts]
    for p in gone: p.unlink()
    return bool(gone)


# The site

MATHJAX = ("tex-chtml.js", "output/chtml/fonts/woff-v2") # what a page with formulas needs, of 24 MB
UNUSED = ("sphinx_thebe", "sphinx_comments", "sphinx_jupyterbook_latex", "sphinx_multitoc_numbering", "sphinx.ext.intersphinx") # they run code, ask other hosts, make PDFs or number

def copy_mathjax(folder):
    "MathJax comes from a package: a reader's browser asks no other host for it."
    from importlib.util import find_spec
    home = Path(find_spec("sphinx-mathjax-offline").submodule_search_locations[0])/"static/mathjax"
    for name in MATHJAX:
        path, to = home/name, Path(folder)/"static/mathjax"/name
        if to.exists(): continue
        to.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if path.is_dir() else shutil.copy)(path, to)

def configure(folder):
    "Jupyter Book turns its own settings into Sphinx's."
    subprocess.run([Path(sys.executable).with_name("jupyter-book"), "config", "sphinx", folder], check=True, stdout=subprocess.DEVNULL)
    text = (folder/"conf.py").read_text(encoding="utf8")
    (folder/"conf.py").write_text(re.sub("|".join(rf"'{re.escape(u)}',? ?" for u in UNUSED), "", text), encoding="utf8")

def build(work=BOOK/"_build", root=ROOT, fresh=False):
    "Prepare, run Sphinx with warnings as errors, check links; the folder of the site."
    from sphinx.cmd.build import main as sphinx
    work = Path(work)
    out = work/"html"
    if fresh: shutil.rmtree(work, ignore_errors=True)
    if prepare(work/"source", root):
        for old in (work/"doctrees", out): shutil.rmtree(old, ignore_errors=True)
    copy_mathjax(work/"source")
    if not (work/"source/conf.py").exists() or (work/"source/_config.yml").stat().st_mtime > (work/"source/conf.py").stat().st_mtime: configure(work/"source")
    if sphinx(["-b", "html", "-q", "-W", "--keep-going", "-d", str(work/"doctrees"), str(work/"source"), str(out)]): raise BookError("Sphinx warned: mend what it says above")
    (out/".nojekyll").touch()
    if wrong := check_site(out): raise BookError("\n".join(wrong[:40]) + f"\n{len(wrong)} links or resources are wrong")
    return out


# Links

class Page(html.parser.HTMLParser):
    "Anchors, links and resources of a page."
    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads, self.bare = {"", "top"}, [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs[k] for k in ("id", "name") if attrs.get(k) and (k == "id" or tag == "a")}
        if tag in ("a", "area") and attrs.get("href"): self.links.append(attrs["href"])
        if tag == "link" and attrs.get("href") and attrs.get("rel") in ("stylesheet", "preload", "icon", "shortcut icon", "modulepreload", "preconnect"): self.loads.append(attrs["href"])
        if tag in ("img", "script", "iframe", "source", "video", "audio", "embed", "input") and attrs.get("src"): self.loads.append(attrs["src"])
        if tag == "img" and not (attrs.get("alt") or "").strip() and "alt" not in attrs: self.bare += 1


def check_site(out):
    "What is wrong with a built site: links and anchors that lead nowhere, resources from other hosts, addresses that are none."
    out, wrong = Path(out).resolve(), []
    read = {p: Page(p.read_text(encoding="utf8")) for p in sorted(out.rglob("*.html")) if "_static" not in p.relative_to(out).parts}
    for path, page in read.items():
        name = path.relative_to(out)
        for link in dict.fromkeys(page.links + page.loads):
            try: parts = urllib.parse.urlsplit(link)
            except ValueError: wrong.append(f"{name}: {link}: not an address"); continue
            if parts.scheme in ("data", "javascript", "mailto"): continue
            if parts.scheme or parts.netloc:
                if link in page.loads: wrong.append(f"{name}: asks another host: {link[:100]}")
                elif parts.scheme not in ("http", "https") or "." not in parts.netloc: wrong.append(f"{name}: {link}: not an address")
                continue
            to = (path.parent/urllib.parse.unquote(parts.path)).resolve() if parts.path else path
            if to.is_dir(): to = to/"index.html"
            if not to.is_relative_to(out) or not to.exists(): wrong.append(f"{name}: {link}: no such file")
            elif to in read and urllib.parse.unquote(parts.fragment) not in read[to].ids: wrong.append(f"{name}: {link}: no such place")
    for path in sorted(out.rglob("*.css")):
        for link in re.findall(r"@import\s+(?:url\()?['\"]?(https?:[^'\")]+)|url\(['\"]?(https?:[^'\")]+)", path.read_text(encoding="utf8")): wrong.append(f"{path.relative_to(out)}: asks another host: {''.join(link)}")
    return wrong


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fresh", action="store_true", help="forget what earlier builds left")
    args = parser.parse_args(argv)
    try: print(f"the book: {build(fresh=args.fresh)/'index.html'}")
    except BookError as e: sys.exit(f"book: {e}")


if __name__ == "__main__": main()
