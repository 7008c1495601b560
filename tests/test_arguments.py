"""Command line options from signatures."""

from __future__ import annotations

import datetime
import enum
from pathlib import Path
from typing import Any, Callable, List, Literal, Optional, Union

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cloudfn.cli.arguments import bind, command, parameters
from cloudfn.exception import UsageError


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.Enum):
    SMALL = 1
    LARGE = 2


def parse(function: Callable[..., Any], *arguments: str) -> Any:
    """Call a function with what a command line gives it."""
    params = parameters(function)
    ctx = command("f", params, function.__doc__).make_context("f", list(arguments))
    args, kwargs = bind(ctx, params)
    return function(*args, **kwargs)


def refused(function: Callable[..., Any], *arguments: str) -> str:
    with pytest.raises(click.UsageError) as caught:
        parse(function, *arguments)
    assert caught.value.exit_code == 2
    return caught.value.format_message()


def give(annotation: Any, *arguments: str) -> Any:
    def returns(x: Any) -> Any:
        return x

    returns.__annotations__ = {"x": annotation}
    return parse(returns, *arguments)


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (str, "a b", "a b"),
        (int, "-3", -3),
        (float, "1e3", 1000.0),
        (bytes, "é", "é".encode()),
        (Any, "5", "5"),
        (Path, "/tmp/x", Path("/tmp/x")),
        (datetime.datetime, "2024-02-03", datetime.datetime(2024, 2, 3)),
        (datetime.datetime, "2024-02-03T04:05:06", datetime.datetime(2024, 2, 3, 4, 5, 6)),
        (
            datetime.datetime,
            "2024-02-03 04:05:06Z",
            datetime.datetime(2024, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc),
        ),
        (datetime.date, "2024-02-03", datetime.date(2024, 2, 3)),
        (Literal["a", "b"], "b", "b"),
        (Literal[1, 2], "2", 2),
        (Colour, "blue", Colour.BLUE),
        (Colour, "BLUE", Colour.BLUE),
        (Size, "LARGE", Size.LARGE),
        (Optional[int], "7", 7),  # noqa: UP045
        (Union[None, Path], "x", Path("x")),  # noqa: UP007
        (int | None, "7", 7),
        ("Optional[int]", "7", 7),
    ],
)
def test_a_value_has_the_type_of_its_annotation(annotation: Any, text: str, value: object) -> None:
    found = give(annotation, f"--x={text}")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("annotation", "text", "word"),
    [
        (int, "1.5", "integer"),
        (float, "much", "float"),
        (datetime.datetime, "tomorrow", "datetime"),
        (Literal["a", "b"], "c", "it is none of a, b"),
        (Colour, "green", "it is none of red, blue"),
        (Size, "3", "it is none of SMALL, LARGE"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(annotation: Any, text: str, word: str) -> None:
    def f(x: Any) -> None: ...

    f.__annotations__ = {"x": annotation}
    message = refused(f, f"--x={text}")
    assert word in message
    assert "--x" in message


def test_no_annotation_means_text() -> None:
    def f(x, y=3):  # type: ignore[no-untyped-def]
        return x, y

    assert parse(f, "--x", "1") == ("1", 3)
    assert parse(f, "--x", "1", "--y", "4") == ("1", "4")


def test_bool_is_a_pair_of_flags() -> None:
    def f(dry_run: bool = True) -> bool:
        return dry_run

    def needs(dry_run: bool) -> bool:
        return dry_run

    assert parse(f) is True
    assert parse(f, "--no-dry-run") is False
    assert parse(f, "--dry-run") is True
    assert parse(needs, "--no-dry-run") is False
    assert "Missing option '--dry-run'" in refused(needs)


def test_an_optional_bool_keeps_none() -> None:
    def f(x: bool | None = None) -> bool | None:
        return x

    assert parse(f) is None
    assert parse(f, "--no-x") is False


@pytest.mark.parametrize("annotation", [list[int], List[int], Optional[list[int]], "list[int] | None"])  # noqa: UP006, UP045
def test_a_list_is_given_by_repeating(annotation: Any) -> None:
    assert give(annotation, "--x", "1", "--x", "2") == [1, 2]


def test_a_list_keeps_its_default() -> None:
    def f(x: list[str] = ["a"], y: list[str] | None = None) -> Any:  # noqa: B006
        return x, y

    assert parse(f) == (["a"], None)
    assert parse(f, "--x", "b", "--y", "c") == (["b"], ["c"])


def test_defaults_are_not_touched() -> None:
    marker = object()

    def f(x: int = 0, y: Any = marker, z: dict[str, int] = {"a": 1}) -> Any:  # noqa: B006
        return x, y, z

    assert parse(f) == (0, marker, {"a": 1})


def test_a_required_parameter_must_be_given() -> None:
    def f(size: int) -> None: ...

    assert "Missing option '--size'" in refused(f)


def test_an_unknown_option_is_refused_with_a_suggestion() -> None:
    def f(count: int = 1) -> None: ...

    message = refused(f, "--cuont", "3")
    assert "--cuont" in message
    assert "--count" in message


def test_a_stray_argument_is_refused() -> None:
    def f(count: int = 1) -> None: ...

    assert "unexpected extra argument" in refused(f, "3")


def test_positional_only_and_keyword_only_parameters() -> None:
    def f(a: int, b: int = 2, /, c: int = 3, *, d: int) -> Any:
        return a, b, c, d

    assert parse(f, "--d", "4", "--a", "1") == (1, 2, 3, 4)
    assert parse(f, "--d", "4", "--a", "1", "--b", "5", "--c", "6") == (1, 5, 6, 4)


def test_underscores_become_dashes() -> None:
    def f(max_depth: int = 1, _private: int = 2, URL: str = "u") -> Any:
        return max_depth, _private, URL

    assert parse(f, "--max-depth", "3", "--private", "4", "--URL", "v") == (3, 4, "v")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8)))
def test_star_args_take_everything_as_it_is(arguments: list[str]) -> None:
    def f(*args: str) -> tuple[str, ...]:
        return args

    if "--help" in arguments:
        return
    # As with every command, the first `--` only ends the options.
    expected = list(arguments)
    if "--" in expected:
        expected.remove("--")
    assert list(parse(f, *arguments)) == expected


def test_star_args_beside_keyword_only_options() -> None:
    def f(*args: str, n: int = 0) -> Any:
        return args, n

    assert parse(f, "a", "--n", "2", "--other", "-x") == (("a", "--other", "-x"), 2)


def test_star_args_after_positional_parameters_are_refused() -> None:
    def f(a: int, *args: str) -> None: ...

    with pytest.raises(UsageError, match=r"\*args"):
        parse(f)


def test_keyword_arguments_get_none() -> None:
    def f(a: int = 1, **rest: int) -> Any:
        return a, rest

    assert parse(f, "--a", "2") == (2, {})


def test_a_required_type_without_a_spelling_is_refused() -> None:
    def f(table: dict[str, int]) -> None: ...

    with pytest.raises(UsageError, match=r"'table'.*dict\[str, int\]"):
        parse(f)


def test_annotations_that_cannot_be_evaluated_are_refused() -> None:
    def f(x: Any) -> None: ...

    f.__annotations__ = {"x": "Nowhere"}
    with pytest.raises(UsageError, match="Nowhere") as caught:
        parse(f)
    assert "TYPE_CHECKING" in caught.value.hint


def test_a_class_and_a_method_with_one_name_twice_are_refused() -> None:
    def init(name: str) -> None: ...

    def method(name: str) -> None: ...

    with pytest.raises(UsageError, match="two parameters named 'name'"):
        command("C.m", [*parameters(init), *parameters(method)], None)


def test_help_shows_the_docstring_types_and_defaults() -> None:
    def f(size: int, colour: Colour = Colour.RED, tags: list[str] = ["a", "b"], fast: bool = False) -> None:  # noqa: B006
        """Make things.

        Shapes:
          - round
          - square
        """

    done = CliRunner().invoke(command("f", parameters(f), f.__doc__), ["--help"])
    assert done.exit_code == 0
    text = done.output
    assert "Make things." in text
    assert "- round\n" in text
    assert "--size INTEGER" in text
    assert "[required]" in text
    assert "--colour [red|blue]" in text
    assert "[default: red]" in text
    assert "[default: a b]" in text
    assert "--fast / --no-fast" in text
