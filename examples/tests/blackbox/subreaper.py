"""Starts a program as an orphan under a subreaper, as an init in a container has it. argv: the program and its arguments.

Leaves with the program's exit code, or 99 if it did not end by itself.
"""

import ctypes
import os
import sys

PR_SET_CHILD_SUBREAPER = 36

if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
    raise OSError(ctypes.get_errno(), "prctl")
middle = os.fork()
if middle == 0:
    if os.fork() == 0:
        while os.getppid() == middle:
            os.sched_yield()
        print(f"orphan {os.getpid()}", flush=True)
        os.execvp(sys.argv[1], sys.argv[1:])
    os._exit(0)
os.waitpid(middle, 0)
_, status = os.wait()
sys.exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 99)
