# SPDX-License-Identifier: GPL-2.0-or-later
"""Circles in a graph that is {from: {to: why}}."""

Graph = dict[str, dict[str, str]]


def knots(graph: Graph) -> list[list[str]]:
    """The strongly connected components of more than one node (Tarjan's)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(v: str) -> None:
        number[v] = low[v] = len(number)
        stack.append(v)
        for w in graph.get(v, ()):
            if w not in number:
                visit(w)
                low[v] = min(low[v], low[w])
            elif w in stack:
                low[v] = min(low[v], number[w])
        if low[v] == number[v]:
            at = stack.index(v)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for v in sorted(graph):
        if v not in number:
            visit(v)
    return sorted(found)


def shortest(graph: Graph, knot: list[str]) -> list[str]:
    """A shortest circle within a knot, its first node again at its end."""
    best: list[str] = []
    for start in knot:
        paths = [[start]]
        seen = {start}
        while paths and (not best or len(paths[0]) < len(best)):
            path = paths.pop(0)
            for w in sorted(graph.get(path[-1], ())):
                if w == start:
                    if not best or len(path) + 1 < len(best):
                        best = path + [start]
                elif w in knot and w not in seen:
                    seen.add(w)
                    paths.append(path + [w])
    return best


def report(what: str, graph: Graph) -> list[str]:
    lines = []
    for knot in knots(graph):
        way = shortest(graph, knot)
        steps = "".join(f"\n    {a} -> {b}: {graph[a][b]}" for a, b in zip(way, way[1:]))
        lines.append(f"{what} of {len(knot)} ({' '.join(knot)}), for one:{steps}")
    return lines
