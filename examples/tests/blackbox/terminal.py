"""Runs a program on a terminal of its own, whose keyboard has one key: SIGUSR1 to this process is Ctrl-C there.

What the program prints on the terminal is printed here, and its exit code is this one's. argv: the program and its
arguments.
"""

import os
import pty
import signal
import sys
import termios

program, terminal = pty.fork()
if program == 0:
    attributes = termios.tcgetattr(0)
    # The lines of the program stay whole: no ^C among them.
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(0, termios.TCSANOW, attributes)
    os.execvp(sys.argv[1], sys.argv[1:])
signal.signal(signal.SIGUSR1, lambda *_: os.write(terminal, b"\x03"))
try:
    while printed := os.read(terminal, 65536):
        sys.stdout.buffer.write(printed)
        sys.stdout.buffer.flush()
except OSError:
    # Nobody has the terminal open any more.
    pass
_, status = os.waitpid(program, 0)
sys.exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
