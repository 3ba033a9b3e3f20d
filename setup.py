"Everything that packaging needs is read from settings.ini."
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(here/"settings.ini", encoding="utf8")
cfg = config["DEFAULT"]
extras = {key[:-len("_requirements")]: cfg[key].split() for key in cfg if key.endswith("_requirements")}

setup(
    name=cfg["lib_name"], version=cfg["version"], description=cfg["description"], keywords=cfg["keywords"],
    author=cfg["author"], author_email=cfg["author_email"], url=cfg["git_url"], license="Apache-2.0",
    long_description=(here/"README.md").read_text(encoding="utf8"), long_description_content_type="text/markdown",
    packages=find_packages(include=[cfg["lib_path"], cfg["lib_path"] + ".*"]), package_data={cfg["lib_path"]: ["static/*"]}, zip_safe=False,
    python_requires=f">={cfg['min_python']}", install_requires=cfg["requirements"].split(), extras_require=extras,
    entry_points={"console_scripts": cfg["console_scripts"].split(), "nbdev": [f"{cfg['lib_name']}={cfg['lib_path']}._modidx:d"]},
    classifiers=["Development Status :: 3 - Alpha", "Intended Audience :: Education", "Intended Audience :: Science/Research",
                 "Programming Language :: Python :: 3", *(f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13))],
)
