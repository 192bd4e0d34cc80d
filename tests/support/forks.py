"""Ask something in a forked child."""

from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Callable
from typing import Any


def in_child(question: Callable[[], Any]) -> bool:
    """Fork, ask *question* in the child, and tell whether its answer was true; an exception is a no."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: of forking a process with threads
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if question() else 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
