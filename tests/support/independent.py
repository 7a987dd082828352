"""Computes with pandas what a transform should have sent, and compares that with what it did.

Reads one JSON document from standard input: the node, its settings, the rows that came, and what was sent.
"""

import json
import math
import sys

import numpy as np
import pandas as pd

ZONE = "Europe/Berlin"


def same(name, found, expected):
    """Whether a number is the one that was computed here; null stands for none."""
    if expected is None or (isinstance(expected, float) and math.isnan(expected)):
        is_same = found is None
    else:
        is_same = found is not None and math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)
    if not is_same:
        sys.exit(print(f"{name}: sent {found}, pandas has {expected}"))


def start_of(local, every):
    """Where the window begins in which a local time lies."""
    if every == "1d":
        return local.normalize()
    hours = {"6h": 6}.get(every)
    if hours:
        wall = local.tz_localize(None)
        wall = wall.normalize() + pd.Timedelta(hours=wall.hour // hours * hours)
        return wall.tz_localize(ZONE)
    # Clocks change by whole hours.
    return local.tz_convert("UTC").floor({"15m": "15min", "1h": "1h"}[every]).tz_convert(ZONE)


def end_of(start, every):
    if every == "1d":
        return start + pd.DateOffset(days=1)
    if every == "6h":
        return (start.tz_localize(None) + pd.Timedelta(hours=6)).tz_localize(ZONE)
    return start + pd.Timedelta(every.replace("m", "min"))


def steps(times, values, before, start, end):
    """Value times seconds of a value that stands until the next, and over how many seconds."""
    edges = [t.timestamp() for t in times]
    values = list(values)
    if before is not None:
        edges, values = [start.timestamp()] + edges, [before] + values
    widths = np.diff(edges + [end.timestamp()])
    return float(np.dot(widths, values)), float(widths.sum())


def window(rows, sent, settings):
    every, length = settings["every"], settings["length"]
    compared = 0
    wanted = {}
    for meter, of_meter in rows.groupby("meter"):
        of_meter = of_meter[of_meter.v.notna()].sort_values("at", kind="stable")
        local = of_meter["at"].dt.tz_convert(ZONE)
        starts = sorted({start_of(t, every) for t in local})
        ends = [end_of(start, every) for start in starts]
        if every != length:
            last_of = pd.Timedelta(length)
            step = pd.Timedelta(every.replace("m", "min"))
            more = {e + step * k for e in ends for k in range(int(last_of / step))}
            ends = sorted(more)
        for end in ends:
            start = starts[ends.index(end)] if every == length else end - pd.Timedelta(length)
            inside = of_meter[(local >= start) & (local < end)]
            if inside.empty:
                continue
            earlier = of_meter[(local < start) & (local >= start - (end - start))]
            before = None if earlier.empty else earlier.v.iloc[-1]
            wanted[(meter, end.tz_convert("UTC"))] = (start, end, inside, before)
    for message in sent:
        key = (message["meter"], pd.Timestamp(message["end"]))
        if key not in wanted:
            sys.exit(print(f"no window ends at {key}"))
        start, end, inside, before = wanted.pop(key)
        v = inside.v
        if pd.Timestamp(message["start"]) != start.tz_convert("UTC"):
            sys.exit(print(f"{key} begins at {message['start']}, and should at {start}"))
        same("count", message["count"], len(inside))
        for name, value in {
            "count": len(v), "min": v.min(), "max": v.max(), "mean": v.mean(), "sum": v.sum(),
            "first": v.iloc[0], "last": v.iloc[-1], "stddev": v.std(), "median": v.median(),
            "p95": v.quantile(0.95), "range": v.max() - v.min(), "increase": v.iloc[-1] - v.iloc[0],
        }.items():
            same(f"{key} {name}", message[f"v_{name}"], float(value))
        passed = (inside["at"].iloc[-1] - inside["at"].iloc[0]).total_seconds()
        rate = (v.iloc[-1] - v.iloc[0]) * 3600 / passed if passed > 0 else None
        same(f"{key} rate", message["v_rate"], rate)
        area, width = steps(inside["at"], v, before, start, end)
        same(f"{key} integral", message["v_integral"], area / 3600)
        same(f"{key} time_mean", message["v_time_mean"], area / width)
        compared += 1
    if wanted:
        sys.exit(print(f"not sent: {sorted(wanted)[:3]}"))
    return compared


def counter(rows, sent, _):
    for meter, of_meter in rows.assign(sent=sent).groupby("meter"):
        there = of_meter[of_meter.v.notna()]
        step = there.v.diff()
        over = step + 65536
        # Nearer by way of the end, or begun anew.
        step = step.where((step >= 0) | step.isna(), over.where(over < 32768, there.v))
        total = there.v.iloc[0] + step.fillna(0).cumsum()
        local = there["at"].dt.tz_convert(ZONE)
        passed = there["at"].diff().dt.total_seconds()
        rate = (step * 60 / passed).where(passed > 0)
        for name, wanted in {"t": total, "i": step, "r": rate}.items():
            for row, value in wanted.items():
                same(f"{row} {name}", there.sent[row][name], float(value))
        # A late message does not take the day back.
        for name, number in {"d": local.dt.strftime("%Y%m%d"), "m": local.dt.strftime("%Y%m")}.items():
            period = number.astype(int).cummax()
            counted = step.fillna(0).groupby(period).cumsum()
            for row, value in counted.items():
                same(f"{row} {name}", there.sent[row][name], float(value))
        for answer in of_meter[of_meter.v.isna()].sent:
            if any(answer[name] is not None for name in "tirdm"):
                sys.exit(print(f"null became {answer}"))
    return len(sent)


def deadband(rows, sent, settings):
    last, wanted = {}, []
    for row in rows.itertuples():
        value = None if math.isnan(row.v) else row.v
        if row.meter in last:
            was = last[row.meter]
            if (value is None) != (was is None):
                moved = True
            elif value is None:
                moved = False
            else:
                distance = abs(value - was)
                moved = distance > settings["abs"] and distance > abs(was) * settings["percent"] / 100
            if not moved:
                continue
        last[row.meter] = value
        wanted.append((row.meter, row.at, value))
    found = [(m["meter"], pd.Timestamp(m["at"]), m["v"]) for m in sent]
    if found != wanted:
        sys.exit(print(f"sent {len(found)}, expected {len(wanted)}"))
    return len(found)


def alarm(rows, sent, settings):
    raised, wanted = {}, []
    for row in rows[rows.v.notna()].itertuples():
        for why in ["above", "below"]:
            is_raised = raised.get((row.meter, why), False)
            back = settings["back"] if is_raised else 0
            over = row.v > settings["above"] - back if why == "above" else row.v < settings["below"] + back
            if over != is_raised:
                raised[(row.meter, why)] = over
                wanted.append((row.meter, why, "raised" if over else "cleared", row.v))
    found = [(m["meter"], m["why"], m["state"], m["value"]) for m in sent]
    if found != wanted:
        sys.exit(print(f"sent {found[:5]}, expected {wanted[:5]}"))
    return len(found)


question = json.load(sys.stdin)
table = pd.DataFrame(question["rows"])
table["at"] = pd.to_datetime(table["at"])
table["v"] = table["v"].astype(float)
compare = {"window": window, "counter": counter, "deadband": deadband, "alarm": alarm}[question["node"]]
print("compared", compare(table, question["sent"], question["settings"]))
