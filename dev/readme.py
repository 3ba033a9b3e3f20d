"""Write README.md from nbs/index.ipynb."""
import re, sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def readme(root=ROOT):
    "The front door as Markdown, with links that hold from the root of the repository."
    import nbformat
    from nbconvert import MarkdownExporter
    from traitlets.config import Config
    front = nbformat.read(root/"nbs/index.ipynb", as_version=4)
    front.metadata["language_info"] = dict(name="python")
    for cell in front.cells:
        if cell.source.startswith("#| echo: false"): cell.metadata["tags"] = ["hide-input"]
    hide = Config(TagRemovePreprocessor=dict(enabled=True, remove_input_tags={"hide-input"}))
    text, resources = MarkdownExporter(config=hide).from_notebook_node(front)
    if resources.get("outputs"): sys.exit("nbs/index.ipynb: a cell shows a picture; link a file in nbs/img instead")
    text = re.sub(r"^#\| ?\w.*\n", "", text, flags=re.M)
    text = re.sub(r"\]\((img/|\d\d_[\w.]+\.ipynb)", r"](nbs/\1", text)
    return "<!-- Made from nbs/index.ipynb by `make readme`: edit there. -->\n\n" + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


if __name__ == "__main__":
    (ROOT/"README.md").write_text(readme(), encoding="utf8")
