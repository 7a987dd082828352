"""Says what somebody else's reader finds in a file: `read_report.py junit|dot|prometheus|openmetrics FILE`."""

import sys

kind, path = sys.argv[1:]
if kind == "junit":
    from junitparser import JUnitXml

    for suite in JUnitXml.fromfile(path):
        print(f"{suite.name}: {suite.tests} tests, {suite.failures} failures")
        for case in suite:
            results = [f"{type(one).__name__} {one.type}: {one.text}" for one in case.result]
            print(f"{case.classname} / {case.name}", *results, case.system_out or "", sep="|")
elif kind in ("prometheus", "openmetrics"):
    if kind == "prometheus":
        from prometheus_client.parser import text_string_to_metric_families
    else:
        from prometheus_client.openmetrics.parser import text_string_to_metric_families

    with open(path) as file:
        for family in text_string_to_metric_families(file.read()):
            for sample in family.samples:
                labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
                print(family.type, sample.name, labels, f"{sample.value:g}", sep="|")
else:
    import pydot

    def edges(graph):
        for edge in graph.get_edges():
            yield f"{edge.get_source()} -> {edge.get_destination()} {edge.get('label') or ''}".strip()
        for inner in graph.get_subgraphs():
            yield from edges(inner)

    (graph,) = pydot.graph_from_dot_file(path)
    print(*sorted(edges(graph)), sep="\n")
