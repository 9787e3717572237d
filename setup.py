"""Packaging: every fact is read from settings.ini."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(here / "settings.ini", encoding="utf-8")
settings = parser["DEFAULT"]

setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=settings["author"],
    license="Apache-2.0",
    keywords=settings["keywords"],
    url=settings["git_url"],
    packages=find_packages(include=["tinybert_nb", "tinybert_nb.*"]),
    package_data={"tinybert_nb": ["py.typed"], "tinybert_nb.analysis": ["static/*"]},
    python_requires=f">={settings['min_python']}",
    install_requires=settings["requirements"].split(),
    extras_require={
        name.removesuffix("_requirements"): settings[name].split()
        for name in settings
        if name.endswith("_requirements")
    },
    entry_points={"console_scripts": settings["console_scripts"].split()},
)
