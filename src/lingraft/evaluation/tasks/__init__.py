"""The tasks of the suite `harness`.

`loading.py` and `bridge.py` are the only modules that touch lm-eval: its tasks, and what they ask and make of answers.
`local.py` and `layouts.py` read the files of known tasks and turn their rows into those of the published data set, for
which lm-eval's own prompts and scoring are written.
"""
