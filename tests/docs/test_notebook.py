"""`docs/lingraft.ipynb`, executed as it stands in a folder with the files that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from nbclient import NotebookClient

from doc_files import lay_out
from nursery import born

KERNEL = "from ipykernel.kernelapp import launch_new_instance; launch_new_instance()"
NOTEBOOK = Path(__file__).parents[2] / "docs" / "lingraft.ipynb"


class Birth(LocalProvisioner):
    """Starts a kernel that has the package's libraries imported."""

    async def launch_kernel(self, cmd: list[str], **options: Any) -> Any:
        self.process = born(KERNEL, *cmd[cmd.index("-f") :], cwd=options["cwd"], env=options["env"])
        self.pid = self.process.pid
        return self.connection_info


class Kernels(AsyncKernelManager):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.provisioner = Birth(kernel_id="notebook", kernel_spec=self.kernel_spec, parent=self)


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, 4)


def test_it_is_kept_without_outputs(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


def test_it_runs_and_shows_a_run_and_a_comparison(notebook: nbformat.NotebookNode, tmp_path: Path) -> None:
    lay_out(tmp_path)
    place = {"metadata": {"path": tmp_path}}
    NotebookClient(
        notebook, timeout=None, kernel_name="python3", kernel_manager_class=Kernels, resources=place
    ).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = ["".join(one.data.get("text/html", "") for one in cell.outputs if "data" in one) for cell in cells]
    printed = ["".join(one.text for one in cell.outputs if one.get("name") == "stdout") for cell in cells]
    assert "Nothing was started" in printed[1]
    assert "<pre" not in shown[2]  # words of progress are no output of the cell
    assert "<b>Run tune</b>" in shown[2]
    assert "vanilla" in shown[2]
    assert "<svg" in shown[2]
    assert "Comparison: notebook" in shown[4]
    assert "short-first (short-first)" in printed[5]
    assert "supervised" in printed[5]
