"""The README of a merged model: what it was made of, how, and how it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lingraft.core.printable import fence, inline_code, markdown
from lingraft.language.codes import base_language
from lingraft.merging.plan import BASE, Plan
from lingraft.models.architectures import Loading
from lingraft.models.bases import base_license, public_id, without_folders
from lingraft.models.exported_card import asking_program, front_text, method_tags
from lingraft.models.files import ModelFiles
from lingraft.models.graft import GraftInfo
from lingraft.models.loading import load_renderer


def merged_card(plan: Plan, folder: Path, info: GraftInfo | None) -> str:
    """Return the model card as Markdown with the hub's YAML front matter; no folder of the machine stands in it.

    Args:
        plan: what was merged.
        folder: of the merged model, whole but for its card.
        info: how it is asked, where grafts are among what was merged.
    """
    base = public_id(plan.base.files)
    methods = list(dict.fromkeys(method for _, one in plan.grafts for method in method_tags(one.method)))
    codes = [code for one in info.directions for code in (one.source, one.target)] if info else []
    front: dict[str, Any] = {
        **({"base_model": base, "base_model_relation": "merge"} if base else {}),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        **({"language": list(dict.fromkeys(map(base_language, codes)))} if codes else {}),
        **base_license(plan.base.files.name, plan.base.files.folder),
        "tags": list(dict.fromkeys(["merge", "lingraft", *(["translation"] if codes else []), *methods])),
    }
    params = plan.merger.params.model_dump(mode="json")
    own = without_folders({"of": [one.label for one in plan.models], **params})
    made = [
        f"- {inline_code(name)}" + (" (the base itself)" if name == BASE else "") for name in map(str, own.pop("of"))
    ]
    grafts = f" Grafts among them were trained by {', '.join(map(inline_code, methods))}." if methods else ""
    paper = f" ({markdown(plan.merger.paper)})" if plan.merger.paper else ""
    files = ModelFiles(folder.name, folder, "")
    return (
        "\n\n".join(
            [
                front_text(front),
                f"# A merge by {markdown(plan.merger.name)}",
                f"Weights of models of one base{f', {inline_code(base)}' if base else ''} (sha256 "
                f"{inline_code(plan.base.files.sha256)}), merged without training by "
                f"{inline_code(plan.merger.name)}{paper}, in this order:",
                "\n".join(made),
                f"Parameters: {inline_code(own)}.{grafts} It was not measured: what it "
                f"gains and keeps is told by a run of Lingraft.",
                "## Use",
                fence(asking_program(info, load_renderer(files), Loading.of(folder)), "python"),
                "Made with Lingraft.",
            ]
        )
        + "\n"
    )
