"""What Lingraft does, as functions: each command is one call of one of them.

All are exported by `lingraft` itself (`import lingraft as lg`). They raise `LingraftError`s of one sentence, install no
signal handlers of their own, and write words and progress to standard error, unless `quiet`. Heavy packages are
imported when a function needs them.
"""

from lingraft.api.benches import bench, collect, estimate_bench
from lingraft.api.data import check_pairs
from lingraft.api.grafts import adopt, route
from lingraft.api.models import (
    agree,
    doctor,
    export,
    install,
    merge,
    open_graft,
    serve,
    translate_file,
    verify_models,
)
from lingraft.api.recipes import (
    describe_entry,
    estimate,
    evaluation_recipe,
    init,
    key_reference,
    list_entries,
    load_recipe,
    preview,
    schema,
    show,
    tuning_recipe,
)
from lingraft.api.runs import check_gates, compare, evaluate, export_sheet, import_sheets, push, run, tune
from lingraft.api.watching import watch

__all__ = [
    "adopt",
    "agree",
    "bench",
    "check_gates",
    "check_pairs",
    "collect",
    "compare",
    "describe_entry",
    "doctor",
    "estimate",
    "estimate_bench",
    "evaluate",
    "evaluation_recipe",
    "export",
    "export_sheet",
    "import_sheets",
    "init",
    "install",
    "key_reference",
    "list_entries",
    "load_recipe",
    "merge",
    "open_graft",
    "preview",
    "push",
    "route",
    "run",
    "schema",
    "serve",
    "show",
    "translate_file",
    "tune",
    "tuning_recipe",
    "verify_models",
    "watch",
]
