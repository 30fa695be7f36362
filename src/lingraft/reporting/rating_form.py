"""The form in which raters compare blinded outputs: one self-contained page that saves what was rated as a file."""

from __future__ import annotations

from markupsafe import Markup

from lingraft.evaluation.sheet import Sheet, criteria
from lingraft.reporting.browser import script_json
from lingraft.reporting.pages import page_environment, script_hash


def render_form(sheet: Sheet, reference: bool = False) -> str:
    """Return the form as HTML; like the report it loads nothing and runs no script but its own.

    Args:
        sheet: what is rated; nothing that names a system gets into the page.
        reference: whether the reference is shown.
    """
    environment = page_environment()
    script = environment.get_template("form.js.j2").render()
    references = sheet.references if reference else {}
    items = [[i.item, i.source, references.get(i.source_id, ""), i.a, i.b, i.task] for i in sheet.items]
    return environment.get_template("form.html.j2").render(
        sheet=sheet,
        criteria=criteria(sheet),
        script=Markup(script),
        script_hash=script_hash(script),
        data=Markup(script_json({"sheet": sheet.id, "items": items})),
    )
