"""Says what somebody else's reader finds in a file: `read_report.py junit|dot FILE`."""

import sys

kind, path = sys.argv[1:]
if kind == "junit":
    from junitparser import JUnitXml

    for suite in JUnitXml.fromfile(path):
        print(f"{suite.name}: {suite.tests} tests, {suite.failures} failures")
        for case in suite:
            results = [f"{type(one).__name__} {one.type}: {one.text}" for one in case.result]
            print(f"{case.classname} / {case.name}", *results, case.system_out or "", sep="|")
else:
    import pydot

    def edges(graph):
        for edge in graph.get_edges():
            yield f"{edge.get_source()} -> {edge.get_destination()} {edge.get('label') or ''}".strip()
        for inner in graph.get_subgraphs():
            yield from edges(inner)

    (graph,) = pydot.graph_from_dot_file(path)
    print(*sorted(edges(graph)), sep="\n")
