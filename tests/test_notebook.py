"""The notebook runs from its first cell to its last, on a tiny preset in place of the shipped ones."""

import pathlib

import pytest
import tiny_preset

from vampzoo import zoo

nbformat = pytest.importorskip("nbformat", reason="the notebook's test needs nbformat, nbclient and ipykernel")
nbclient = pytest.importorskip("nbclient", reason="the notebook's test needs nbformat, nbclient and ipykernel")
pytest.importorskip("ipykernel", reason="the notebook's test needs nbformat, nbclient and ipykernel")

PATH = pathlib.Path(__file__).parents[1] / "notebooks" / "quickstart.ipynb"


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(PATH, as_version=4)


def test_notebook_is_committed_with_outputs(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))  # of one run, in order
    outputs = [output for cell in cells for output in cell.outputs]
    assert all(cell.outputs for cell in cells)
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
    text = PATH.read_text()
    assert len(text) < 1_500_000
    assert not any(place in text for place in ("/home/", "/tmp/", str(pathlib.Path.home())))


def test_notebook_runs(notebook, tmp_path, monkeypatch):
    folder = tmp_path / "zoo" / "hvae_vampprior_tiny"
    tiny_preset.write_run(folder)
    zoo.write_checksums(folder)
    monkeypatch.setenv("VAMPZOO_ZOO", str(tmp_path / "zoo"))
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=str(tmp_path))
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert kinds.count("image/png") == 7
    table, shown = (output.data["text/html"] for output in outputs if "text/html" in output.get("data", {}))
    assert "hvae_vampprior_tiny" in table and "<th>licence</th>" in table
    assert "hvae_vampprior_tiny" in shown and "trained on glyphs" in shown
