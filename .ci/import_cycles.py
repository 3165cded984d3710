#!/usr/bin/env python3
"""Fails if Rust files of a crate import each other in a cycle, and prints a shortest cycle.

An import is a name that a file takes from another one: by `use`, or by a path in the code. A
re-export counts as an import of the file that defines the name. A `mod` declaration, a re-export
that the file does not use itself, and code under `#[cfg(test)]` are no imports.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

# Comments and literals. Of quotes, only character literals, not lifetimes.
NOT_CODE = re.compile(
    r'//[^\n]*|/\*.*?\*/|\bb?r(#*)".*?"\1|"(?:\\.|[^"\\])*"|\'(?:\\[^\n\']+|[^\\\n\'])\'', re.DOTALL
)
USE = re.compile(r"(?:^|(?<=[;{}\]\s]))(pub(?:\s*\([^)]*\))?\s+)?use\s+([^;]+);")
MOD = re.compile(r"\bmod\s+(\w+)\s*;")
INLINE_MOD = re.compile(r"\bmod\s+\w+\s*\{")
ITEM = re.compile(r"\b(?:fn|struct|enum|trait|type|const|static|union|mod|macro_rules!)\s+(\w+)")
PATH = re.compile(r"(?<![\w:])\w+(?:::\w+)+")


class Module:
    """A module that is a file."""

    def __init__(self, file, parent, is_root):
        self.file, self.parent = file, parent
        code = NOT_CODE.sub('""', file.read_text())
        code = with_inline_modules(without_tests(code))
        self.uses = [
            (bool(public), path, name)
            for public, tree in USE.findall(code)
            for path, name in leaves(re.sub(r"\s*(::|[{},])\s*", r"\1", tree.strip()))
        ]
        self.names = {name: path for _, path, name in self.uses if name not in ("*", "_")}
        self.globs = [path for _, path, name in self.uses if name == "*"]
        self.code = USE.sub("", code)
        self.items = set(ITEM.findall(code))
        owns_directory = is_root or file.name == "mod.rs"
        directory = file.parent if owns_directory else file.with_suffix("")
        self.children = {}
        for name in MOD.findall(code):
            candidates = (directory / f"{name}.rs", directory / name / "mod.rs")
            child = next(path for path in candidates if path.exists())
            self.children[name] = Module(child, self, is_root=False)

    def all(self):
        """The module, and those below it."""
        yield self
        for child in self.children.values():
            yield from child.all()

    def find(self, path, seen=frozenset()):
        """The module that defines the path's name, and whether the name is the module itself.

        None for a path into another crate.
        """
        if (self, path) in seen:
            return None
        seen |= {(self, path)}
        first, rest = path[0], path[1:]
        if first in ("crate", "self", "super"):
            start = self.parent if first == "super" else self
            while first == "crate" and start.parent:
                start = start.parent
            return start.find(rest, seen) or (start, False) if rest else (start, True)
        if first in self.names and not (first in self.children and rest):
            found = self.find(self.names[first], seen)
            if found and found[1] and rest:
                return found[0].find(rest, seen) or (found[0], False)
            if found:
                return found
        if first in self.children:
            child = self.children[first]
            return child.find(rest, seen) or (child, False) if rest else (child, True)
        if first in self.items:
            return self, False
        for path_of_glob in self.globs:
            found = self.find(path_of_glob, seen)
            if found and found[1] and (found := found[0].find(path, seen)):
                return found
        return None

    def imports(self):
        """The modules whose names this one uses: each with the names."""
        paths = [tuple(path.split("::")) for path in PATH.findall(self.code)]
        for public, path, name in self.uses:
            if not public or re.search(rf"\b{re.escape(name)}\b", self.code):
                paths.append(path)
        imports = {}
        for path in paths:
            found = self.find(path)
            # The names of an imported module count, not the module.
            if found and found[0] is not self and (not found[1] or path in self.globs):
                imports.setdefault(found[0], set()).add(path[-1])
        return imports


def end_of_item(code, start):
    """The index behind the item at `start`."""
    depth = 0
    for index in range(start, len(code)):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(code[index], 0)
        if depth == 0 and code[index] in ";}":
            return index + 1
    return len(code)


def without_tests(code):
    """The code without items under `#[cfg(test)]`."""
    while start := re.search(r"#\[cfg\(test\)\]", code):
        code = code[: start.start()] + code[end_of_item(code, start.end()) :]
    return code


def with_inline_modules(code):
    """The code with inline modules as parts of their file, which is then not `super`."""
    for module in INLINE_MOD.finditer(code):
        start, end = module.start(), end_of_item(code, module.start())
        code = code[:start] + re.sub(r"\bsuper::", " self::", code[start:end]) + code[end:]
    return code


def leaves(tree, prefix=()):
    """Each path of a `use` tree, with the name that it gets."""
    if tree.endswith("}"):
        head, _, inside = tree[:-1].partition("{")
        prefix += tuple(part for part in head.split("::") if part)
        depth, begin = 0, 0
        for at, char in enumerate(inside + ","):
            depth += {"{": 1, "}": -1}.get(char, 0)
            if char == "," and depth == 0:
                if at > begin:
                    yield from leaves(inside[begin:at], prefix)
                begin = at + 1
        return
    path, _, name = tree.partition(" as ")
    parts = prefix + tuple(part for part in path.split("::") if part)
    if parts[-1] in ("*", "self"):
        name, parts = name or (parts[-2] if parts[-1] == "self" else "*"), parts[:-1]
    yield parts, name.strip() or parts[-1]


def cycle_through(start, graph):
    """A shortest path of imports from a module back to it, or None."""
    paths, seen = [[start]], set()
    for path in paths:
        for target in graph[path[-1]]:
            if target is start:
                return path + [start]
            if target not in seen:
                seen.add(target)
                paths.append(path + [target])
    return None


def crates():
    """The root files of all crates of the workspace but integration tests."""
    command = ["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    for package in metadata["packages"]:
        for target in package["targets"]:
            if target["kind"] != ["test"]:
                yield Path(target["src_path"])


def main():
    cycles = []
    for root in crates():
        graph = {module: module.imports() for module in Module(root, None, True).all()}
        found = [cycle_through(module, graph) for module in graph]
        cycles += [(graph, cycle) for cycle in found if cycle]
    if not cycles:
        return
    graph, cycle = min(cycles, key=lambda found: len(found[1]))
    print("These files import each other:", file=sys.stderr)
    for module, target in zip(cycle, cycle[1:]):
        files = [file.file.relative_to(Path.cwd()) for file in (module, target)]
        print(f"  {files[0]} -> {files[1]}: {', '.join(sorted(graph[module][target]))}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
