"What several files of tests share."
import os, shutil, tempfile
from pathlib import Path
import pytest
from desk import call, make_desk, run_words

FIRST = ["test_at_once.py", "test_own_things.py", "test_cli.py", "test_writeup.py", "test_evidence.py"] # the longest


def pytest_collection_modifyitems(items):
    "The files that take longest begin, so that no worker is left alone with one of them at the end."
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


@pytest.fixture
def nobodys():
    "A folder of nobody's, who this process is until the test ends: root may write anywhere."
    folder = Path(tempfile.mkdtemp(prefix="mmrec-nobody-"))
    if root := os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
    try: yield folder
    finally:
        if root: os.seteuid(0)
        for path in folder.rglob("*"):
            if path.is_dir(): path.chmod(0o700)
        folder.chmod(0o700)
        shutil.rmtree(folder)


@pytest.fixture
def desk(tmp_path): return make_desk(tmp_path)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    "A desk with a run in a data folder of its own: (desk, run folder)."
    folder = make_desk(tmp_path_factory.mktemp("done"))
    code, out, err = call(folder, *run_words())
    assert code == 0, err
    return folder, next((folder/"runs").iterdir())
