"""What a user gets when installing and importing the package."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import remora

ROOT = Path(__file__).resolve().parents[1]
LINKED_FOLDERS = ("conf", "envs", "agents", "cost_models", "executor")
DATA_SUFFIXES = {".yaml", ".json", ".safetensors", ".typed", ".js", ".css", ".LICENSE"}


def test_import_loads_no_heavy_library() -> None:
    code = "import sys, remora; print({'torch', 'numpy', 'hydra', 'wandb'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'optimise'"):
        _ = remora.optimise


@pytest.mark.parametrize("name", [name for name in remora.__all__ if name != "__version__"])
def test_every_public_name_loads(name: str) -> None:
    assert callable(getattr(remora, name))


@pytest.mark.parametrize("folder", LINKED_FOLDERS)
def test_root_links_lead_into_the_package(folder: str) -> None:
    assert (ROOT / folder).is_symlink()
    assert (ROOT / folder).resolve() == ROOT / "remora" / folder


@pytest.mark.slow
def test_wheel_holds_the_package_with_its_data_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path)]
    subprocess.run([*command, str(ROOT)], capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    data = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "remora").rglob("*")
        if path.suffix in DATA_SUFFIXES
    }
    assert data <= names
    assert {name.split("/")[0] for name in names} == {"remora", "remora-0.1.0.dist-info"}


def test_no_file_is_long() -> None:
    files = [path for folder in ("remora", "tests") for path in (ROOT / folder).rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert [name for name, length in lengths.items() if length > 400] == []


def test_the_house_is_drawn_as_its_imports_are_checked() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(c for c in settings["contracts"] if c["id"] == "direction")["layers"]
    drawn = (ROOT / "CONTRIBUTING.md").read_text().partition("## The house")[2]
    places = [drawn.index(f"\n  {layer}") for layer in layers]
    assert places == sorted(places)
