"""A multimodal recommender from user reviews and product images.

What most users need stands here and is loaded when it is first named."""
import importlib

__version__ = "0.1.0"
_HOME = {"load_dataset": "data.tables", "RunConfig": "pipeline", "run": "pipeline",
         "compare": "evidence.claims"}
__all__ = list(_HOME)


def __getattr__(name):
    if name not in _HOME: raise AttributeError(f"module 'mmrec' has no attribute {name!r}")
    return getattr(importlib.import_module(f"mmrec.{_HOME[name]}"), name)


def __dir__(): return sorted([*globals(), *_HOME])
