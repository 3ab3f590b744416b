"""Sets the signal mask and the ignored signals of a process, then becomes the program.

Rust's standard library can do this only by unsafe code. argv: blocked numbers, ignored numbers, program, its arguments.
"""

import os
import signal
import sys

blocked, ignored = ({int(number) for number in part.split(",") if number} for part in sys.argv[1:3])
# The interpreter itself ignores these two, and a program would inherit that.
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
for number in ignored:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
os.execvp(sys.argv[3], sys.argv[3:])
