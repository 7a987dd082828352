"""What a poll of a device costs on the wire: Forebay's requests as a server sees them, beside those that Telegraf would make.

Telegraf is not run: its ways to group registers are few and public (plugins/inputs/modbus/request.go, `configuration_type =
"request"`, one request for all fields of a table), and stand here once more. Both may ask for as many registers at once as the
profile allows.
"""

import functools
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROFILES = ROOT / "plugins" / "modbus" / "profiles"
FUNCTIONS = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
WIDTHS = {"u8": 1, "i8": 1, "16": 1, "32": 2, "48": 3, "64": 4, "unix_time": 2, "packed_time": 4}
MOST = 125
# Telegraf's `optimization_max_register_fill`, unless given.
MOST_FILLED = 50
# Two heads of IP and TCP (40 bytes) and of Ethernet (14) for the request, its answer, and an acknowledgement.
HEADS = 3 * 54


# --- What is read -------------------------------------------------------------------------------


def width(kind):
    return next((registers for ending, registers in WIDTHS.items() if kind.endswith(ending)), 1)


def of_profile(name):
    """Each register of a profile, as function, address and how many registers it fills; and the most at once."""
    text = (PROFILES / f"{name}.yaml").read_text()
    usual = re.search(r"^defaults:.*kind: (\w+)", text, re.M)
    usual = usual.group(1) if usual else "u16"
    readable = re.split(r"^writable:", text.split("\nregisters:", 1)[1], flags=re.M)[0]
    fields = set()
    for entry in re.findall(r"\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}", readable):
        place = re.search(r"\b(coil|discrete|holding|input): (0x[0-9A-Fa-f]+|\d+)", entry)
        kind = re.search(r"\bkind: (\w+)", entry)
        length = re.search(r"\blength: (\d+)", entry)
        kind = kind.group(1) if kind else "u16" if "bit:" in entry else usual
        registers = int(length.group(1)) if length else width(kind)
        fields.add((FUNCTIONS[place.group(1)], int(place.group(2), 0), registers))
    most = re.search(r"^max_registers: (\d+)", text, re.M)
    return fields, int(most.group(1)) if most else MOST


def scattered(seed):
    """Forty registers in runs of one to five, with holes of up to sixty between them."""
    fields, at = set(), seed
    while len(fields) < 40:
        seed = (seed * 1103515245 + 12345) % 2**31
        for _ in range(min(1 + seed // 7 % 5, 40 - len(fields))):
            fields.add((4, at, 1))
            at += 1
        at += 1 + seed // 64 % 60
    return fields, MOST


# --- Telegraf -----------------------------------------------------------------------------------


def telegraf(fields, way, most):
    requests = []
    for function in sorted({field[0] for field in fields}):
        places = sorted((at, count) for of, at, count in fields if of == function)
        groups = consecutive(places, most)
        if way == "none":
            found = groups
        elif way == "rearrange":
            found = [request for group in groups for request in rearranged(tuple(group), most)]
        elif way == "aggressive":
            found = rearranged(tuple(places), most)
        else:
            found = within_limits(places, most)
        requests += [(function, run[0][0], span(run)) for run in found]
    return requests


def span(run):
    return max(at + count for at, count in run) - run[0][0]


def consecutive(places, most):
    groups = [[places[0]]]
    for place in places[1:]:
        run = groups[-1]
        if place[0] <= run[0][0] + span(run) and span([*run, place]) <= most:
            run.append(place)
        else:
            groups.append([place])
    return groups


def shrunk(places, most):
    """As many as fit, from the front on."""
    runs = [[places[0]]]
    for place in places[1:]:
        if place[0] + place[1] <= runs[-1][0][0] + most:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs


@functools.cache
def rearranged(places, most):
    """No more requests than `shrunk`, with the fewest registers."""
    best = shrunk(places, most)
    for index in range(1, len(places) - 1):
        if places[index - 1][0] + places[index - 1][1] == places[index][0]:
            continue
        current = [*shrunk(places[:index], most), *rearranged(places[index:], most)]
        if len(current) <= len(best) and sum(map(span, current)) < sum(map(span, best)):
            best = current
    return best


def within_limits(places, most):
    runs = [[places[0]]]
    for place in places[1:]:
        run = runs[-1]
        hole = place[0] - (run[-1][0] + run[-1][1])
        if hole <= MOST_FILLED and span([*run, place]) <= most:
            run.append(place)
        else:
            runs.append([place])
    return runs


def size(request):
    function, _, count = request
    values = -(-count // 8) if function < 3 else 2 * count
    # Head, unit and function of both, address and count, and the length of what comes.
    return 12 + 9 + values


# --- Forebay, seen by a device ------------------------------------------------------------------


class Device:
    """Answers every read with zeros, and writes down what it was asked."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.asked = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        client, _ = self.listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.answer(client)
        except ConnectionError:
            # Forebay was stopped.
            pass

    def answer(self, client):
        while frame := client.recv(12, socket.MSG_WAITALL):
            function, at, count = struct.unpack(">BHH", frame[7:12])
            self.asked.append((function, at, count))
            values = bytes(-(-count // 8) if function < 3 else 2 * count)
            body = bytes([frame[6], function, len(values)]) + values
            client.sendall(frame[:4] + struct.pack(">H", len(body)) + body)

    def poll(self):
        """The requests of one poll: all until the first comes again."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.asked and self.asked[0] in self.asked[1:]:
                return self.asked[: self.asked.index(self.asked[0], 1)]
            time.sleep(0.01)
        raise TimeoutError("Forebay did not poll twice within a minute")


def forebay(program, registers):
    device = Device()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "p.yaml").write_text(
            f"connections:\n  bus: {{ type: modbus, url: 'tcp://127.0.0.1:{device.port}' }}\n"
            f"sources:\n  meter:\n    type: modbus\n    connection: bus\n    every: 1s\n    {registers}\n"
            "sinks:\n  log: { from: meter, type: log }\n"
        )
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        running = subprocess.Popen([program, "run", folder, "--data", f"{folder}/data"], **quiet)
        try:
            return device.poll()
        finally:
            running.terminate()
            running.wait()


WAYS = ("none", "rearrange", "aggressive", "max_insert")
ABOUT = (
    "Requests / bytes of Modbus / bytes with the heads of Ethernet, IP and TCP of one poll, over TCP: Forebay's as a device saw them,"
    " Telegraf's reckoned (`modbus_requests.py`)."
)


def beside_the_best(ways):
    """The worst of requests and bytes, to those of the way of Telegraf that has the fewest requests and then bytes."""
    ours, *theirs = ways
    best = min(theirs)
    return max(our / their for our, their in zip(ours, best))


def rows(program):
    """Requests, bytes of Modbus, and bytes with all heads of one poll: by Forebay, and by each way of Telegraf."""
    names = sorted(path.stem for path in PROFILES.glob("*.yaml") if "sunspec" not in path.stem)
    devices = [(f"`{name}`", *of_profile(name), f"profile: {name}") for name in names]
    for seed in range(1, 5):
        fields, most = scattered(seed)
        registers = "\n".join(f"      - {{ name: r{at}, input: {at} }}" for _, at, _ in sorted(fields))
        devices.append((f"40 scattered, {seed}", fields, most, f"registers:\n{registers}"))
    for name, fields, most, settings in devices:
        ways = [forebay(program, settings), *(telegraf(fields, way, most) for way in WAYS)]
        yield name, [(len(way), sum(map(size, way)), sum(size(one) + HEADS for one in way)) for way in ways]


if __name__ == "__main__":
    for name, ways in rows(sys.argv[1]):
        print(name, *(f"{requests}/{modbus}/{wire}" for requests, modbus, wire in ways), sep="\t")
