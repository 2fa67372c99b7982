"""Python runs this as it starts where this folder is on PYTHONPATH, as a plug-in would register itself."""

import sys

import made_up

made_up.register_all()
if any(
    word.endswith("adaptune") for word in sys.orig_argv[:2]
):  # it takes seconds: not in each of Ray's helpers
    import made_up_encoder  # noqa: F401 - entered by its import
