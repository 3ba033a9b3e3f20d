"""Every notebook in JupyterLab, as a reader has it: a real server, a real Chromium, Run All Cells.

    make test-browser                              all notebooks
    make test-browser ARGS="-k 'core or ratings'"  some of them

MMREC_CHROMIUM names the browser's program (when it is set, a missing one is a failure), MMREC_SCREENSHOTS the folder for pictures (tests/browser/screenshots),
MMREC_LAB_LIMIT the seconds that a notebook may take (900)."""
import json, os, re, shutil, socket, subprocess, sys, time, urllib.request
from pathlib import Path
import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
NAMES = sorted(p.stem for p in (ROOT/"nbs").glob("*.ipynb") if p.name[0] not in "._")
SHOTS = Path(os.environ.get("MMREC_SCREENSHOTS") or Path(__file__).parent/"screenshots")
LIMIT = float(os.environ.get("MMREC_LAB_LIMIT", 900))
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
TOKEN = "mmrec"
SETTINGS = {"notebook-extension/tracker": dict(windowingMode="none"), # all cells are in the page, so that they can be counted
            "apputils-extension/notification": dict(fetchNews="false", checkForUpdates=False), "docmanager-extension/plugin": dict(autosave=False)}


def program():
    "Chromium's program, or None."
    names = [os.environ["MMREC_CHROMIUM"]] if os.environ.get("MMREC_CHROMIUM") else ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
    return next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="session")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: run `make test-browser`, or `pip install -e .[browser]`")
    if not program() and os.environ.get("MMREC_CHROMIUM"): pytest.fail(f"MMREC_CHROMIUM names no program: {os.environ['MMREC_CHROMIUM']}")
    if not program(): pytest.skip("no Chromium found: install it (Debian: apt-get install chromium) or name its program in MMREC_CHROMIUM")
    with api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=program(), headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(browser, tmp_path_factory):
    "Address of a JupyterLab on a copy of the notebooks, with settings of its own."
    home = tmp_path_factory.mktemp("lab")
    skip = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__", "_*", ".*")
    for name in ("nbs", "bench/results"): shutil.copytree(ROOT/name, home/name, ignore=skip)
    shutil.copytree(ROOT/"mmrec", home/"mmrec", ignore=shutil.ignore_patterns("__pycache__")) # the last cell of a chapter exports into this copy
    for name in ("settings.ini", "setup.py", "README.md"): shutil.copy(ROOT/name, home)
    for name, settings in SETTINGS.items():
        file = (home/"settings"/"@jupyterlab"/name).with_suffix(".jupyterlab-settings")
        file.parent.mkdir(parents=True, exist_ok=True); file.write_text(json.dumps(settings))
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if k not in ("MMREC_PROGRESS", "IN_TEST")} | dict(JUPYTER_CONFIG_DIR=str(home/"config"), JUPYTER_RUNTIME_DIR=str(home/"runtime"),
        JUPYTERLAB_SETTINGS_DIR=str(home/"settings"), JUPYTERLAB_WORKSPACES_DIR=str(home/"workspaces"), IPYTHONDIR=str(home/"ipython"))
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}",
               "--LabApp.expose_app_in_browser=True", "--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={home/'nbs'}"]
    url = f"http://127.0.0.1:{port}"
    with open(home/"server.log", "w") as log, subprocess.Popen(command, cwd=home/"nbs", env=env, stdout=log, stderr=subprocess.STDOUT) as process:
        try:
            for _ in range(120):
                try: urllib.request.urlopen(f"{url}/api/status?token={TOKEN}", timeout=2).close(); break
                except OSError: time.sleep(.5)
                assert process.poll() is None, (home/"server.log").read_text()
            else: pytest.fail("JupyterLab does not answer:\n" + (home/"server.log").read_text())
            yield url
        finally:
            process.terminate()
            try: process.wait(20)
            except subprocess.TimeoutExpired: process.kill()


# JavaScript's view of the notebook that is open: what its model holds and what the page shows of it
LOOK = """() => {
  const panel = window.jupyterapp?.shell?.currentWidget, kernel = panel?.sessionContext?.session?.kernel
  if (!panel?.context?.isReady || !kernel) return null
  const cells = panel.content.widgets.map((widget, i) => {
    const model = widget.model, node = widget.node, code = model.type === 'code'
    const outputs = code ? model.outputs.toJSON() : []
    return {i, code, source: model.sharedModel.source, count: code ? model.executionCount : null, outputs: outputs.map(o => ({
        kind: o.output_type, kinds: Object.keys(o.data ?? {}), name: o.name ?? o.ename ?? '', text: [o.text ?? o.evalue ?? ''].flat().join('').slice(0, 600)})),
      pictures: [...node.querySelectorAll('.jp-RenderedImage img, .jp-RenderedHTMLCommon.jp-OutputArea-output img, .jp-RenderedSVG img, .jp-RenderedSVG svg')].filter(x => x.tagName !== 'IMG' || x.complete && x.naturalWidth > 0).length,
      folded: !!model.getMetadata('jupyter')?.source_hidden, away: !!model.getMetadata('jupyter')?.outputs_hidden,
      placeholders: node.querySelectorAll('.jp-Cell-inputWrapper .jp-Placeholder').length, bars: node.querySelectorAll('.jp-OutputArea .widget-hprogress, .jp-OutputArea progress').length,
      broken: /Error displaying widget|Error creating widget|Loading widget/.test(node.textContent) ,
      images: code ? [] : [...node.querySelectorAll('.jp-RenderedMarkdown img')].filter(x => x.complete && x.naturalWidth === 0).map(x => x.getAttribute('src'))}
  })
  return {path: panel.context.path, status: kernel.status, cells}
}"""


class Lab:
    "A page of JupyterLab with one notebook open."
    def __init__(self, browser, url, name):
        self.name, self.said = name, []
        self.page = browser.new_page(viewport=dict(width=1280, height=900))
        self.page.on("console", lambda m: m.type == "error" and self.said.append(m.text))
        self.page.on("pageerror", lambda e: self.said.append(str(e)))
        self.page.goto(f"{url}/lab/workspaces/{name}/tree/{name}.ipynb?token={TOKEN}&reset")

    def look(self): return self.page.evaluate(LOOK)

    def wait(self, ready, seconds, what):
        "Look until `ready(state)`; the last state."
        end = time.monotonic() + seconds
        while not ((state := self.look()) and ready(state)):
            if time.monotonic() > end: self.shoot("stuck"); pytest.fail(f"{self.name}: {what} not within {seconds:.0f} s; {self.where(state)}")
            self.page.wait_for_timeout(500)
        return state

    def where(self, state):
        if not state: return "the notebook is not open"
        return f"kernel {state['status']}, waiting for cells {waiting(state)[:5]}"

    def command(self, name): self.page.evaluate("name => void window.jupyterapp.commands.execute(name)", name)

    def shoot(self, what):
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS/f"{self.name}-{what}.png")

    def shoot_all(self, height=5000):
        "The whole notebook in pictures of `height` pixels."
        self.page.set_viewport_size(dict(width=1280, height=height))
        scroller = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer"
        self.page.wait_for_timeout(500)
        total, step = self.page.eval_on_selector(scroller, "x => [x.scrollHeight, x.clientHeight]")
        for k in range(-(-total//step)):
            self.page.eval_on_selector(scroller, "(x, to) => x.scrollTo(0, to)", k*step)
            self.page.wait_for_timeout(300); self.shoot(f"all-{k + 1}")

    def close(self):
        self.page.evaluate("async () => { await window.jupyterapp?.shell?.currentWidget?.sessionContext?.shutdown() }")
        self.page.close()


def waiting(state): return [c["i"] for c in state["cells"] if c["code"] and c["source"].strip() and not c["count"]]

def failed(state): return [(c["i"], o["name"], o["text"]) for c in state["cells"] for o in c["outputs"] if o["kind"] == "error"]

def ours(said):
    "Errors of the page that are not JupyterLab's own small talk."
    return [s for s in said if not re.search(r"Failed to load resource|favicon|ResizeObserver", s)]


@pytest.fixture
def lab(browser, server, request):
    lab = Lab(browser, server, request.param)
    yield lab
    lab.close()


@pytest.mark.parametrize("lab", NAMES, indirect=True)
def test_notebook_in_lab(lab):
    lab.wait(lambda s: s["path"] == f"{lab.name}.ipynb" and s["status"] == "idle", 90, "open, with a kernel")
    promised = [c["i"] for c in lab.look()["cells"] if re.search(r"^#\| label: fig-", c["source"], re.M) and not c["away"]]
    lab.wait(lambda s: all(s["cells"][i]["pictures"] for i in promised), 30, "the figures of its committed outputs")
    lab.shoot("opened")
    lab.command("notebook:clear-all-cell-outputs")
    lab.wait(lambda s: not any(c["outputs"] for c in s["cells"]), 20, "cleared")
    start = time.monotonic()
    lab.command("notebook:run-all-cells")
    lab.wait(lambda s: failed(s) or (s["status"] == "idle" and not waiting(s)), LIMIT, "all cells executed")
    took = time.monotonic() - start
    lab.page.wait_for_timeout(1000)
    state = lab.look()
    lab.page.eval_on_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer", "x => x.scrollTo(0, 0)")
    lab.shoot("run"); lab.shoot_all()
    (SHOTS/f"{lab.name}.json").write_text(json.dumps(dict(seconds=round(took, 1), console=lab.said, **state), indent=1))

    assert not failed(state), f"cells ended in errors: {failed(state)}"
    missing = [i for i in promised if not state["cells"][i]["pictures"]]
    assert not missing, f"no picture is shown under cells {missing}"
    assert not (lost := [x for c in state["cells"] for x in c["images"]]), f"pictures in the prose do not load: {lost}"
    assert not (opened := [c["i"] for c in state["cells"] if c["folded"] and not c["placeholders"]]), f"cells {opened} should be folded away"
    widgets = [c for c in state["cells"] if any("application/vnd.jupyter.widget-view+json" in o["kinds"] for o in c["outputs"])]
    assert not (broken := [c["i"] for c in widgets if c["broken"]]), f"widgets of cells {broken} do not render"
    text_bars = [c["i"] for c in state["cells"] for o in c["outputs"] if o["kind"] == "stream" and re.search(r"\d+%\||it/s", o["text"])]
    assert not text_bars, f"progress is shown as text instead of a widget under cells {text_bars}"
    warned = [(c["i"], o["text"][:200]) for c in state["cells"] for o in c["outputs"] if o["kind"] == "stream" and o["name"] == "stderr"]
    assert not warned, f"cells show what went to stderr: {warned}"
    assert not ours(lab.said), f"errors in the browser's console: {ours(lab.said)}"


@pytest.mark.parametrize("lab", ["10_data.ratings"], indirect=True)
def test_progress_is_a_widget(lab):
    "A bar of mmrec's own, in a notebook that any reader could write."
    lab.wait(lambda s: s["status"] == "idle", 90, "open, with a kernel")
    lab.page.evaluate("""async () => {
      const panel = window.jupyterapp.shell.currentWidget
      while (panel.content.model.cells.length > 1) panel.content.model.sharedModel.deleteCell(0)
      panel.content.model.sharedModel.getCell(0).setSource(`import time\\nfrom mmrec.core import progress\\nfor _ in progress(range(30), "read"): time.sleep(.1)`)
      await window.jupyterapp.commands.execute('notebook:run-all-cells') }""")
    state = lab.wait(lambda s: s["status"] == "idle" and not waiting(s), 60, "a bar")
    cell, = state["cells"]
    assert any("application/vnd.jupyter.widget-view+json" in o["kinds"] for o in cell["outputs"]), cell["outputs"]
    assert cell["bars"] == 1 and not cell["broken"], cell
