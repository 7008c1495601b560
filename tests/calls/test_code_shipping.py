"""How code gets to workers: as source where it can be imported, by value where it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

import cloudfn
from cloudfn.exception import InvalidError, SerializationError

pytestmark = pytest.mark.xdist_group("calls_code_shipping")

app = cloudfn.App("code_shipping")
LIMIT = 60  # seconds


@app.function()
def where() -> tuple[str, str, str]:
    return __name__, __file__, where.get_raw_f().__code__.co_filename


@app.function()
def offspring(x: int) -> int:
    """Uses a module beside this one."""
    import events

    return len(events.lines(os.devnull)) + x


@pytest.fixture(scope="module", autouse=True)
def running(state_dir: object) -> Iterator[None]:
    with app.run():
        yield


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., str]:
    """Write files, run `python` with the arguments there, and return what it printed."""

    def run(files: dict[str, str], *arguments: str) -> str:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_a_module_is_imported_by_name_from_a_copy_of_its_source() -> None:
    name, file, code = where.remote()
    assert name == __name__
    assert file == code
    assert Path(file) != Path(__file__) and Path(file).name == Path(__file__).name
    assert Path(file).read_bytes() == Path(__file__).read_bytes()
    assert offspring.remote(5) == 5


def test_a_script_goes_by_value_with_what_it_uses(project: Callable[..., str]) -> None:
    printed = project(
        {
            "script.py": """
                import cloudfn
                import beside

                app = cloudfn.App("script")
                FACTOR = 3

                class Pair:
                    def __init__(self, a, b):
                        self.a, self.b = a, b

                def helper(x):
                    return x * FACTOR

                @app.function()
                def work(x):
                    return Pair(helper(x), beside.NAME)

                @app.cls()
                class Model:
                    k: int = cloudfn.parameter(default=1)

                    @cloudfn.enter()
                    def load(self):
                        self.bonus = helper(self.k)

                    @cloudfn.method()
                    def get(self):
                        return self.bonus

                @app.function()
                def nested(x):
                    return work.remote(x).a + Model(k=2).get.remote()

                if __name__ == "__main__":
                    with app.run():
                        pair = work.remote(7)
                        print(type(pair) is Pair, pair.a, pair.b, Model(k=4).get.remote(), nested.remote(1))
            """,
            "beside.py": "NAME = 'beside'\n",
        },
        "script.py",
    )
    assert printed.split() == ["True", "21", "beside", "12", "9"]


def test_a_package_goes_whole_with_its_data(project: Callable[..., str]) -> None:
    printed = project(
        {
            "shop/__init__.py": "",
            "shop/tasks.py": """
                from pathlib import Path

                import cloudfn
                from shop.deep import inner

                app = cloudfn.App("shop")

                @app.function()
                def price():
                    return inner.PRICE, Path(__file__).with_name("data.txt").read_text()
            """,
            "shop/deep/__init__.py": "",
            "shop/deep/inner.py": "PRICE = 5\n",
            "shop/data.txt": "in stock",
            "shop/.env": "SECRET=1",
            "main.py": """
                from shop.tasks import app, price

                with app.run():
                    print(price.remote())
            """,
        },
        "main.py",
    )
    assert printed.strip() == "(5, 'in stock')"


def test_what_is_typed_in_goes_by_value(project: Callable[..., str]) -> None:
    program = """
import cloudfn
app = cloudfn.App("typed")
@app.function(serialized=True)
def f(x):
    return x + offset
offset = 10
with app.run():
    print(f.remote(1))
"""
    assert project({}, "-c", program).strip() == "11"


def test_a_function_of_a_nested_scope_needs_serialized() -> None:
    other = cloudfn.App("other")
    offset = 3
    with pytest.raises(InvalidError, match="serialized=True"):

        @other.function()
        def refused() -> int:
            return offset

    @other.function(serialized=True)
    def accepted(x: int) -> int:
        return x + offset

    with other.run():
        assert accepted.remote(1) == 4


def test_a_closure_that_cannot_be_pickled_is_named() -> None:
    import threading

    other = cloudfn.App("other")
    guard = threading.Lock()

    @other.function(serialized=True)
    def guarded() -> bool:
        return guard.locked()

    with pytest.raises(SerializationError, match="guard"), other.run():
        pass


def test_a_lambda_as_an_argument_travels() -> None:
    factor = 3
    assert apply.remote(lambda x: x * factor, 5) == 15


@app.function()
def apply(function: Callable[[Any], Any], x: Any) -> Any:
    return function(x)


def test_changed_source_is_shipped_anew(project: Callable[..., str]) -> None:
    files = {
        "tasks.py": """
            import cloudfn
            app = cloudfn.App("tasks")

            @app.function()
            def version():
                return 1
        """,
        "main.py": "from tasks import app, version\nwith app.run():\n    print(version.remote())\n",
    }
    assert project(files, "main.py").strip() == "1"
    files["tasks.py"] = files["tasks.py"].replace("return 1", "return 2 # changed")
    assert project(files, "main.py").strip() == "2"


def test_what_got_its_decorator_elsewhere(project: Callable[..., str]) -> None:
    """`app.function()(f)` leaves the name in its module as it is."""
    shelf = """
        import cloudfn

        def double(x):
            return 2 * x

        class Counter:
            start: int = cloudfn.parameter(default=1)

            @cloudfn.enter()
            def begin(self):
                self.n = self.start

            @cloudfn.method()
            def count(self):
                self.n += 1
                return self.n
    """
    script = """
        import cloudfn
        import shelf

        app = cloudfn.App("elsewhere")
        double = app.function()(shelf.double)
        Counter = app.cls()(shelf.Counter)
        if __name__ == "__main__":
            with app.run():
                print(double.remote(21), Counter(start=5).count.remote(), double.local(4), shelf.double(5))
    """
    assert project({"shelf.py": shelf, "script.py": script}, "script.py") == "42 6 8 10\n"
