"""What `nbdev_test` does, the largest notebooks first: no worker is left alone with a long one at the end."""
import sys
from fastcore.parallel import parallel
from fastcore.xtras import working_directory
from nbdev.config import get_config
from nbdev.doclinks import nbglob
from nbdev.test import test_nb


def main(workers=2):
    "Run all notebooks, `workers` at a time; say which failed and how long each took."
    config = get_config()
    files = sorted((f.absolute() for f in nbglob(as_path=True)), key=lambda f: -f.stat().st_size)
    with working_directory(config.nbs_path):
        done = parallel(test_nb, files, skip_flags=config.tst_flags.split(), force_flags=[], n_workers=workers,
                        basepath=config.config_path, pause=.01)
    for file, (passed, seconds) in zip(files, done): print(f"{file.name:24s} {seconds:4.0f} s {'' if passed else 'FAILED'}")
    return sum(not passed for passed, _ in done)


if __name__ == "__main__": sys.exit(main())
