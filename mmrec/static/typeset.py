"""Set paper.typ in a folder: python typeset.py FOLDER OPTIONS. PDF/UA-1, which screen readers can
read; a plain PDF where a character has no glyph."""
import json, sys, typst
from pathlib import Path
folder, how = Path(sys.argv[1]), json.loads(sys.argv[2])
standards = [dict(pdf_standards="ua-1")]*(how["format"] == "pdf") + [{}]
for last, more in zip([*[0]*(len(standards) - 1), 1], standards):
    try: made = typst.compile(folder/"paper.typ", root=folder, **how, **more)
    except typst.TypstError as e:
        if last: sys.exit(str(e)[:500])
    else: break
made = made if isinstance(made, list) else [made]
for n, page in enumerate(made): (folder/f"made-{n}").write_bytes(page)
