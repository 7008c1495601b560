"""What the engine does, as a stream of small events: a live list on a terminal, lines in a pipe, and JSON are three
readers of it."""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Literal, Mapping, TextIO

if TYPE_CHECKING:
    from pulumi.automation.events import EngineEvent, StepEventMetadata

Links = Callable[[str, str, str], str]
"""From Pulumi type token, id and region to a link to the cloud's console; see `Account.console_url`."""

_PROVIDER = "pulumi:providers:"
_LEVELS: dict[str, Literal["info", "warning", "error"]] = {"warning": "warning", "error": "error"}
_QUIET = ("same", "refresh", "read", "discard", "replace")
"""Steps that change nothing by themselves ("replace" only groups the creation and the deletion)."""


@dataclass(frozen=True)
class Step:
    """One step on one resource.

    Attributes:
        state: "planned" (of a preview), "begun", "done" or "failed".
        op: the engine's word: "create", "update", "delete", "create-replacement", "delete-replaced", "same", ...
        type: Pulumi's type token.
        name: the logical name.
        id: the cloud's own; "" until it is known.
        changes: names of the properties that change.
        url: link to the cloud's console, "" where there is none.
        seconds: since the step began.
    """

    state: Literal["planned", "begun", "done", "failed"]
    op: str
    type: str
    name: str
    id: str = ""
    changes: tuple[str, ...] = ()
    url: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Message:
    """What the engine or a provider said; `resource` is a logical name, or "" for none."""

    level: Literal["info", "warning", "error"]
    text: str
    resource: str = ""


@dataclass(frozen=True)
class Summary:
    """The end of an operation; `changes` counts resources by the engine's word for the step."""

    changes: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0


Event = Step | Message | Summary
Sink = Callable[[Event], None]


class Watch:
    """Turns the engine's events into ours and remembers how it went.

    Args:
        sink: gets each event.
        links: for the console.
        region: of resources that do not say theirs.
    """

    def __init__(self, sink: Sink, links: Links, region: str = "") -> None:
        self._sink = sink
        self._links = links
        self._region = region
        self._began: dict[str, float] = {}
        self._start = time.monotonic()
        self.planned: list[Step] = []
        self.done: list[Step] = []
        self.failed: list[Step] = []
        self.errors: list[Message] = []

    def __call__(self, event: EngineEvent) -> None:
        if event.resource_pre_event:
            self._pre(event.resource_pre_event.metadata, planning=bool(event.resource_pre_event.planning))
        elif event.res_outputs_event and not event.res_outputs_event.planning:
            self._end("done", event.res_outputs_event.metadata)
        elif event.res_op_failed_event:
            self._end("failed", event.res_op_failed_event.metadata)
        elif event.diagnostic_event and not event.diagnostic_event.ephemeral:
            self._diagnostic(event.diagnostic_event)
        elif event.summary_event:
            changes = {str(getattr(op, "value", op)): n for op, n in event.summary_event.resource_changes.items()}
            self._sink(Summary(changes, round(time.monotonic() - self._start, 1)))

    def _pre(self, data: StepEventMetadata, *, planning: bool) -> None:
        if not _counts(data):
            return
        if planning:
            step = Step("planned", data.op.value, data.type, name_of(data.urn), changes=_changes(data))
            self.planned.append(step)
        else:
            self._began[data.urn] = time.monotonic()
            step = Step("begun", data.op.value, data.type, name_of(data.urn), changes=_changes(data))
        self._sink(step)

    def _end(self, state: Literal["done", "failed"], data: StepEventMetadata) -> None:
        op = data.op.value
        if op == "refresh" and state == "done" and not data.detailed_diff and data.new is not None:
            return
        if not _counts(data) and op != "refresh" and state == "done":
            return
        about = data.new or data.old
        id = about.id if about else ""
        outputs = (about.outputs or {}) if about else {}
        region = str(outputs.get("region") or self._region)
        seconds = time.monotonic() - self._began.pop(data.urn, time.monotonic())
        url = self._links(data.type, id, region) if id and not op.startswith("delete") else ""
        step = Step(state, op, data.type, name_of(data.urn), id, _changes(data), url, round(seconds, 1))
        (self.done if state == "done" else self.failed).append(step)
        self._sink(step)

    def _diagnostic(self, data: Any) -> None:
        text = re.sub(r"<\{%.*?%\}>", "", data.message).strip()  # the engine's colour marks
        if data.severity == "debug" or not text:
            return
        level = _LEVELS.get(data.severity, "info")
        message = Message(level, text, name_of(data.urn) if data.urn else "")
        if level == "error":
            self.errors.append(message)
        self._sink(message)


def name_of(urn: str) -> str:
    """The logical name in a URN."""
    return urn.rpartition("::")[2]


def _counts(data: StepEventMetadata) -> bool:
    """Whether a step is on a resource of the cloud, and may change it."""
    about = data.new or data.old
    is_component = about is not None and not about.custom
    return not is_component and not data.type.startswith(_PROVIDER) and data.op.value not in _QUIET


def _changes(data: StepEventMetadata) -> tuple[str, ...]:
    paths = data.detailed_diff or dict.fromkeys(data.diffs or ())
    return tuple(dict.fromkeys(re.split(r"[.\[]", path)[0] for path in paths))


# -- readers ---------------------------------------------------------------------------------------------------------

_VERBS = {
    "create": ("create", "created"),
    "update": ("update", "updated"),
    "delete": ("delete", "deleted"),
    "create-replacement": ("replace", "made anew"),
    "delete-replaced": ("delete the replaced", "deleted the old one"),
    "refresh": ("look at", "differs from the state"),
    "import": ("import", "imported"),
}
_MARKS = {
    "create": "+",
    "update": "~",
    "delete": "-",
    "create-replacement": "±",
    "delete-replaced": "-",
    "refresh": "~",
}


def line(event: Event) -> str:
    """One line of text for an event; "" for one that needs none."""
    if isinstance(event, Message):
        where = f" ({event.resource})" if event.resource else ""
        return f"{event.level}: {event.text}{where}" if event.level != "info" else event.text
    if isinstance(event, Summary):
        parts = [f"{count} {op}" for op, count in sorted(event.changes.items()) if count]
        return f"{', '.join(parts) or 'nothing to do'}; {event.seconds:.0f} s"
    if event.state == "begun":
        return ""
    present, past = _VERBS.get(event.op, (event.op, event.op))
    what = f"{_MARKS.get(event.op, ' ')} {event.name} ({kind(event.type)})"
    changes = f": {', '.join(event.changes)}" if event.changes and event.op != "create" else ""
    if event.state == "planned":
        return f"{what} {present}{changes}"
    words = f"{past}{changes}" if event.state == "done" else f"could not {present}"
    return f"{what} {words}, {event.seconds:.1f} s{'  ' + event.url if event.url else ''}"


def kind(type: str) -> str:
    """ "aws:autoscaling/group:Group" -> "autoscaling Group"."""
    parts = type.split(":")
    return f"{parts[1].partition('/')[0]} {parts[-1]}" if len(parts) == 3 else type


class Lines:
    """A line of text for each event."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        text = line(event)
        if text:
            with self._lock:
                print(text, file=self._out, flush=True)

    def close(self) -> None:
        """Nothing is held back."""


class JsonLines(Lines):
    """A JSON object a line: the event's fields, and `event`, the name of its kind."""

    def __call__(self, event: Event) -> None:
        with self._lock:
            print(json.dumps({"event": type(event).__name__.lower(), **asdict(event)}), file=self._out, flush=True)


class LiveList:
    """On a terminal: what is done scrolls up; below it a line for each step that runs, with its time."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=out, highlight=False, soft_wrap=True)
        self._running: dict[tuple[str, str], tuple[Step, float]] = {}
        self._lock = threading.Lock()
        self._live = Live(self, console=self._console, refresh_per_second=8, transient=True)
        self._live.start()

    def __call__(self, event: Event) -> None:
        from rich.text import Text

        with self._lock:
            if isinstance(event, Step):
                key = (event.type, event.name)
                if event.state == "begun":
                    self._running[key] = (event, time.monotonic())
                elif event.state in ("done", "failed"):
                    self._running.pop(key, None)
        text = line(event)
        if text:
            level = event.state if isinstance(event, Step) else getattr(event, "level", "")
            style = {"failed": "red", "error": "red", "warning": "yellow", "done": "green"}.get(level, "")
            self._console.print(Text(text, style=style))

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.text import Text

        now = time.monotonic()
        with self._lock:
            running = list(self._running.values())
        return Group(
            *(
                Spinner("dots", Text(f"{_VERBS.get(step.op, (step.op, ''))[0]} {step.name} {now - began:.0f} s"))
                for step, began in running
            )
        )

    def close(self) -> None:
        """Leaves the terminal as it was."""
        self._live.stop()


def reader(out: TextIO, *, as_json: bool) -> Lines | LiveList:
    """The reader that fits: JSON where asked for, a live list on a terminal, lines in a pipe."""
    if as_json:
        return JsonLines(out)
    return LiveList(out) if out.isatty() else Lines(out)
