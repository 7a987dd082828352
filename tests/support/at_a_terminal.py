"""Types passwords at a program that has a terminal, and prints what the terminal showed.

at_a_terminal.py PASSWORD PASSWORD PROGRAM ARGUMENT...
"""
import os
import pty
import select
import sys

LONGEST = 60
typed, command = sys.argv[1:3], sys.argv[3:]
process, terminal = pty.fork()
if process == 0:
    os.execv(command[0], command)
shown = b""
for password in [*typed, None]:
    prompts = shown.count(b": ") + 1
    while shown.count(b": ") < prompts or password is None:
        if not select.select([terminal], [], [], LONGEST)[0]:
            sys.exit(f"it waits for something: {shown}")
        try:
            some = os.read(terminal, 1000)
        except OSError:  # So ends a terminal.
            some = b""
        if not some:
            break
        shown += some
    if password is not None:
        os.write(terminal, password.encode() + b"\n")
_, ended = os.waitpid(process, 0)
sys.stdout.write(shown.decode())
sys.exit(os.waitstatus_to_exitcode(ended))
