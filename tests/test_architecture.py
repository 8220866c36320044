"""ARCHITECTURE.md, held to the code: the table is read, not repeated."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "delf"
MODULES = sorted(PACKAGE.rglob("*.py"))
WEB = ("fastapi", "starlette", "uvicorn", "python_multipart", "prometheus_client",
       "pydantic")  # which typer may bring
HEAVY = (*WEB[:-1], "torch", "cv2", "faiss", "onnxruntime", "openvino", "skimage", "onnx", "h5py", "scipy", "pyarrow",
         "numba", "ray", "fsspec", "s3fs")
ENTRANCES = {"__init__", "__main__"}  # what users import and run: they may name anything


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def place_of(module: str) -> str:
    """The row of the table that a module belongs to: `delf.images.paths` -> `images`."""
    return module.split(".")[1] if "." in module else "__init__"


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def imports_of(path: Path, *, when_run: bool = False) -> tuple[str, ...]:
    """The modules that a file imports, absolute; with `when_run`, only those that importing it imports."""
    return tuple(_imports(path, when_run))


def _imports(path: Path, when_run: bool) -> Iterator[str]:
    for node in _top_level(parsed(path)) if when_run else ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively, and no other module does"
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                yield inner if _is_module(inner) else str(node.module)


def _top_level(tree: ast.Module) -> Iterator[ast.AST]:
    """All nodes outside of functions and `if TYPE_CHECKING`."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def _is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


# --- the table


@cache
def rows() -> list[tuple[set[str], str]]:
    """(places, what they may import) of each row."""
    table = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("| place in `src/delf` |")[1].split("\n\n")[0]
    found = []
    for line in table.splitlines()[2:]:
        places, _, allowed = (cell.strip() for cell in line.strip("|").split("|"))
        found.append(({name.rstrip("/").removesuffix(".py") for name in re.findall(r"`([^`]+)`", places)}, allowed))
    return found


@cache
def rules() -> dict[str, set[str]]:
    """The places that each place may import from, itself and the base included."""
    base = rows()[0][0]
    allowed, above = {}, set(base)
    for places, words in rows():
        named = set(re.findall(r"`([^`]+)`", words))
        for place in places:
            allowed[place] = {place} | base | named | (above if words in ("the stages", "everything") else set())
        above |= places
    return allowed


def test_the_table_names_every_place_and_nothing_else() -> None:
    there = {path.stem if path.is_file() else path.name for path in PACKAGE.iterdir()
             if path.suffix == ".py" or any(path.glob("*.py"))}
    assert set(rules()) == there - ENTRANCES


def test_the_table_is_understood() -> None:
    known = {"nothing above", "base", "the stages", "everything"}
    for places, words in rows():
        named = re.findall(r"`([^`]+)`", words)
        assert words in known or set(named) <= set(rules()), f"{places}: {words}"
    assert rules()["collection"] == {"collection", "images", "models", "index", "types", "shown", "errors", "verdicts",
                                     "places", "codes", "files", "mapped", "privacy", "pools", "pickled", "extractors",
                                     "factories", "settings", "spreadsheets"}
    assert "search" in rules()["evaluate"] and "cli" not in rules()["evaluate"]
    above: set[str] = set()
    for places, _ in rows():
        above |= places
        for place in places:
            assert rules()[place] <= above, f"{place} may import what stands below it: the rows go one way"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_module_imports_what_its_place_may(path: Path) -> None:
    place = place_of(dotted(path)) if path.parent != PACKAGE else path.stem
    if place in ENTRANCES:
        return
    for name in imports_of(path):
        if name.split(".")[0] == "delf" and name != "delf":
            assert place_of(name) in rules()[place], f"{dotted(path)} imports {name}"
        assert name != "delf", "the package's own modules import from where a name lives"


def test_only_one_runtime_knows_the_network() -> None:
    for path in MODULES:
        if any(name.startswith("delf.network") for name in imports_of(path)) and "network" not in path.parts:
            assert dotted(path) == "delf.runtimes.torch" or place_of(dotted(path)) in ("training", "cli")


def test_nothing_imports_in_a_circle() -> None:
    graph = {dotted(path): {name for name in imports_of(path, when_run=True) if name.startswith("delf.")}
             for path in MODULES}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for name in sorted(graph.get(module, ())):
                visit(name, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


# --- rules of the text


def test_torch_is_imported_where_it_is_said() -> None:
    for path in MODULES:
        if any(name.split(".")[0] == "torch" for name in imports_of(path)):
            assert dotted(path) == "delf.runtimes.torch" or place_of(dotted(path)) in ("network", "training"), path


def test_the_web_is_known_to_the_service_alone() -> None:
    for path in MODULES:
        if place_of(dotted(path)) != "service":
            assert not {name.split(".")[0] for name in imports_of(path)} & set(WEB), path
            if place_of(dotted(path)) != "cli":
                assert not [name for name in imports_of(path) if name.startswith("delf.service")], path


def test_ray_and_object_storage_are_known_to_the_cluster_alone() -> None:
    for path in MODULES:
        names = {name.split(".")[0] for name in imports_of(path)}
        if place_of(dotted(path)) != "cluster":
            assert not names & {"ray", "fsspec", "s3fs"}, path
            if place_of(dotted(path)) != "cli" and dotted(path) != "delf.service.clustered":
                assert not [name for name in imports_of(path) if name.startswith("delf.cluster")], path
        assert not {name.split(".")[0] for name in imports_of(path, when_run=True)} & {"ray", "fsspec", "s3fs"}, path


def test_the_client_needs_neither_the_web_nor_the_model() -> None:
    loaded = loaded_by("import delf; delf.Client('http://127.0.0.1:8000')")
    assert not loaded & {*HEAVY, "PIL", "typer", "httpx"}


def test_only_the_command_line_prints() -> None:
    for path in MODULES:
        if place_of(dotted(path)) != "cli":
            for node in ast.walk(parsed(path)):
                text = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
                assert text not in ("print", "sys.stdout.write", "sys.stderr.write"), f"{path}:{node.lineno}"
                assert not text.startswith(("typer.", "rich.", "logging.", "warnings.warn")), f"{path}:{node.lineno}"


def loaded_by(code: str) -> set[str]:
    """The modules that are loaded in a new Python after some code."""
    program = (f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\n"
               "print('\\nLOADED', *sorted(sys.modules))")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split("LOADED")[1].split())


@pytest.mark.parametrize("code", [
    "import delf", "import delf.cli", "from delf.cli import main; sys.argv = ['delf', '--help']; main()",
    "from delf.cli import main; sys.argv = ['delf', 'search', '--help']; main()",
    "from delf.cli import main; sys.argv = ['delf', '--version']; main()",
])
def test_help_loads_nothing_heavy(code: str) -> None:
    loaded = loaded_by(code)
    assert "delf" in loaded
    assert not loaded & set(HEAVY)


def test_the_main_path_loads_no_torch() -> None:
    loaded = loaded_by("import delf; [getattr(delf, name) for name in delf.__all__]; delf.Delf.load(threads=1)")
    assert {"cv2", "faiss"} <= loaded
    assert len(loaded & {"onnxruntime", "openvino"}) == 1
    assert not loaded & {"torch", "skimage", "h5py", "typer"}


def test_every_public_name_says_what_it_does() -> None:
    silent = []
    for path in MODULES:
        tree = parsed(path)
        if ast.get_docstring(tree) is None and path.name != "__main__.py":
            silent.append(dotted(path))
        silent += [f"{dotted(path)}:{name}" for name in _undocumented(tree)]
    assert silent == []


def _undocumented(node: ast.Module | ast.ClassDef) -> Iterator[str]:
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            if ast.get_docstring(child) is None:
                yield child.name
            if isinstance(child, ast.ClassDef):
                yield from _undocumented(child)


FOLDERS_PUBLISHED_WHOLE = {"delf.collection.arrays", "delf.collection.segment",
                           "delf.datasets.unpacking"}  # flushed and moved as one
RENAMES = {"delf.files": 2, "delf.collection.segment": 1, "delf.collection.upkeep": 2, "delf.checking": 1,
           "delf.datasets.getting": 1, "delf.datasets.unpacking": 1,
           "delf.weights.released": 1}  # but for the first, of folders and from them
OTHER_FILES = {  # that are no results: what is appended to, what the system keeps, and parts that go at once
    "delf.cli.app": 2, "delf.evaluate": 1, "delf.training.logs": 1, "delf.datasets.download": 1,
    "delf.datasets.records": 1, "delf.index.filling": 1, "delf.service.spool": 1}


def test_there_is_one_way_to_write_a_file() -> None:
    """`delf.files` gives a temporary name, flushes, and renames; nobody else does, and all write to such a name."""
    renames, others = Counter[str](), Counter[str]()
    for path in MODULES:
        module = dotted(path)
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            called, target = node.func.attr, ast.unparse(node.func.value)
            mode = next((str(ast.literal_eval(one)) for one in node.args if isinstance(one, ast.Constant)
                         and called == "open"), "r")
            if called in ("rename", "renames", "move") or (
                    called == "replace" and len(node.args) == 1 and not node.keywords):
                renames[module] += 1
            if called in ("write_bytes", "write_text", "savefig") or set(mode) & set("wax+"):
                others[module] += not any("temporary" in text for text in (target, *map(ast.unparse, node.args)))
            assert called not in ("mkstemp", "NamedTemporaryFile", "fdatasync"), f"{path}:{node.lineno}"
    assert +renames == Counter(RENAMES)
    assert +others == Counter(OTHER_FILES) + Counter(dict.fromkeys(FOLDERS_PUBLISHED_WHOLE, 1)) + Counter(
        {"delf.collection.arrays": 1})


def test_nothing_is_unpickled() -> None:
    for path in MODULES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("pickle.load", "pickle.loads", "pickle.Unpickler", "eval", "exec"), path
                if called.endswith(("torch.load", "np.load")):
                    assert any(ast.unparse(keyword) in ("weights_only=True", "allow_pickle=False")
                               for keyword in node.keywords), f"{path}:{node.lineno}"


def test_no_file_names_the_place_where_it_was_written() -> None:
    secrets = [re.compile(rf"(?<![\w.]){re.escape(word)}") for word in
               ("/" + "work/", "/" + "root/", "/" + "tmp/" + "plain")]
    folders = ("src", "tests", "docs", "benchmarks", "examples", "requirements", ".ci", ".github")
    files = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"
             and path.suffix in (".md", ".toml", ".yaml", "")]
    files += [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    read = 0
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture or a model
        read += 1
        for secret in secrets:
            assert not secret.search(text), f"{path} mentions {secret.pattern}"
    assert read > len(MODULES)
