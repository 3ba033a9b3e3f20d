"What several files of tests share."
import os, shutil, tempfile
from pathlib import Path
import pytest


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
