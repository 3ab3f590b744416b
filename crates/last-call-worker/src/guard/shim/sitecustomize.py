"""Runs first in every Python process of a worker behind `last-call guard`: job processes get the server's URL back.

Owns LIVEKIT_URL of the processes that multiprocessing starts. Refuses to be noticed: whatever fails here is let go, and
a sitecustomize that this one hides runs as if this one were not there.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# What a reloader leaves in the environment of the worker that it starts, by multiprocessing too.
RELOADED = "WATCHFILES_CHANGES"
# That worker has been seen: what it starts are job processes.
PAST_RELOADER = "LAST_CALL_GUARD_PAST_RELOADER"


def started_by():
    """The module of multiprocessing that this process begins with, if it is one of its processes."""
    words = getattr(sys, "orig_argv", None)
    if words is None:
        # Before Python 3.10 only the kernel knows.
        with open("/proc/self/cmdline") as file:
            words = file.read().split("\0")
    for option, command in zip(words, words[1:]):
        if option == "-c" and command.startswith("from multiprocessing."):
            return command.split()[1]
    return None


def give_back_url():
    with open(os.path.join(HERE, "urls")) as file:
        guard, server = file.read().splitlines()
    # Another one than guard's is the user's own will.
    if os.environ.get("LIVEKIT_URL") == guard:
        os.environ["LIVEKIT_URL"] = server


def tell():
    news = os.open(os.path.join(HERE, "news"), os.O_WRONLY | os.O_NONBLOCK)
    try:
        os.write(news, b"process %d\n" % os.getpid())
    finally:
        os.close(news)


def tell_after_fork(server):
    # A job may fork as well: those are no job processes.
    if os.getppid() == server:
        try:
            tell()
        except Exception:
            pass


def begin():
    if RELOADED in os.environ and PAST_RELOADER not in os.environ:
        os.environ[PAST_RELOADER] = "1"
        return
    module = started_by()
    if module is None:
        return
    give_back_url()
    if module == "multiprocessing.spawn":
        tell()
    elif module == "multiprocessing.forkserver":
        server = os.getpid()
        os.register_at_fork(after_in_child=lambda: tell_after_fork(server))


def go_on():
    """Runs the sitecustomize that comes next; what it raises is the interpreter's to report, as always."""
    ours = sys.modules.pop(__name__)
    sys.path[:] = [place for place in sys.path if place != HERE]
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if error.name != __name__:
            raise
    finally:
        # The import of this one is not over, and wants to find something.
        sys.modules.setdefault(__name__, ours)


try:
    begin()
except Exception:
    pass
go_on()
