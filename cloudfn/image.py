"""`Image`: what a function's worker has installed, said step by step.

An image is a value: every method returns a new one with one more step, and nothing is read or built before the app
runs. `Image.spec` is its description; what that can only name by digest (local files, pickled functions) is in
`Image.materials()`.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Callable, Collection, Iterator, Mapping, Sequence

from cloudfn import execution
from cloudfn import image_arguments as arguments
from cloudfn.exception import InvalidError
from cloudfn.files import Ignore
from cloudfn.image_arguments import Read, dockerignore, non_python_files
from cloudfn.image_packages import PackageSteps, unimplemented

if TYPE_CHECKING:
    from typing import Concatenate, ParamSpec

    from cloudfn.app import App
    from cloudfn.secret import Secret

    P = ParamSpec("P")


class Image(PackageSteps):
    """Start from a factory (`Image.debian_slim`, `Image.from_registry`, `Image.micromamba`), then chain steps.

    Arguments that all build steps share: `force_build` builds even where a finished image is there; `env` are
    variables of this step alone and part of the description, `secrets` likewise but never written down; `gpu` is
    recorded for builders that run on machines of their own.
    """

    # Where an image starts

    @staticmethod
    def debian_slim(python_version: str | None = None, force_build: bool = False) -> Image:
        """A plain Debian with Python.

        Args:
            python_version: "3.12" or "3.12.1"; None for the version of the calling interpreter.
            force_build: build anew even where nothing changed.

        Raises:
            InvalidError: not a version, or one that cloudfn does not run on.
        """
        image = Image()
        image._python_version = arguments.python_version(python_version)
        return image._with("debian_slim", {"force_build": True}) if force_build else image

    @staticmethod
    def micromamba(python_version: str | None = None, force_build: bool = False) -> Image:
        """An image whose Python comes from conda packages. Container mode only."""
        image = Image()
        image._python_version = arguments.python_version(python_version)
        return image._with("micromamba", {"force_build": force_build})

    @staticmethod
    def from_registry(
        tag: str,
        secret: Secret | None = None,
        *,
        setup_dockerfile_commands: list[str] = [],  # noqa: B006 (Modal's signature; never changed here)
        force_build: bool = False,
        add_python: str | None = None,
        **kwargs: Any,
    ) -> Image:
        """An image of a registry, such as "nvidia/cuda:12.4.0-base-ubuntu22.04". Container mode only."""
        return _from_registry("from_registry", tag, secret, setup_dockerfile_commands, force_build, add_python, kwargs)

    @staticmethod
    def from_aws_ecr(
        tag: str,
        secret: Secret | None = None,
        *,
        setup_dockerfile_commands: list[str] = [],  # noqa: B006
        force_build: bool = False,
        add_python: str | None = None,
        **kwargs: Any,
    ) -> Image:
        """An image of a private AWS registry. Container mode only."""
        return _from_registry("from_aws_ecr", tag, secret, setup_dockerfile_commands, force_build, add_python, kwargs)

    @staticmethod
    def from_gcp_artifact_registry(
        tag: str,
        secret: Secret | None = None,
        *,
        setup_dockerfile_commands: list[str] = [],  # noqa: B006
        force_build: bool = False,
        add_python: str | None = None,
        **kwargs: Any,
    ) -> Image:
        """An image of a private GCP registry. Container mode only."""
        kind = "from_gcp_artifact_registry"
        return _from_registry(kind, tag, secret, setup_dockerfile_commands, force_build, add_python, kwargs)

    @staticmethod
    def from_dockerfile(
        path: str | Path,
        *,
        force_build: bool = False,
        context_dir: Path | str | None = None,
        ignore: Ignore = dockerignore,
        build_args: dict[str, str] = {},  # noqa: B006
        registry_secret: Secret | None = None,
        secrets: Collection[Secret] | None = None,
        env: dict[str, str | None] | None = None,
        gpu: str | None = None,
        add_python: str | None = None,
    ) -> Image:
        """An image that a local Dockerfile describes. Container mode only."""
        reads: list[Read] = [arguments.file_read(path)]
        if context_dir is not None:
            reads.append(arguments.tree_read(context_dir, ignore))
        args = {"force_build": force_build, "build_args": dict(build_args), "gpu": gpu, "env": arguments.env(env)}
        all_secrets = [*(secrets or ()), *([registry_secret] if registry_secret else [])]
        return Image()._with(
            "from_dockerfile", {**args, "add_python": arguments.python_version(add_python)}, reads, all_secrets
        )

    @staticmethod
    def from_scratch(force_build: bool = False) -> Image:
        """An empty image. Container mode only."""
        return Image()._with("from_scratch", {"force_build": force_build})

    @classmethod
    def from_id(cls, image_id: str, client: Any = None) -> Image:
        """Not there: images are named by what is in them."""
        unimplemented("from_id", "Describe the image by its steps; a finished build is found again by itself.")

    @staticmethod
    def from_name(name: str, *, environment_name: str | None = None, client: Any = None) -> Image:
        """Not there: images are named by what is in them."""
        unimplemented("from_name", "Describe the image by its steps; a finished build is found again by itself.")

    # Files and code of this machine

    def add_local_file(self, local_path: str | Path, remote_path: str, *, copy: bool = False) -> Image:
        """Show a local file to the worker, as it is when the app starts.

        Args:
            local_path: the file; relative to the current directory.
            remote_path: absolute path in the worker; with a "/" at its end, the folder to put it in.
            copy: let later build steps see it too; a change of the file then builds them anew.

        Raises:
            InvalidError: `remote_path` is not absolute.
        """
        target = arguments.remote("add_local_file", remote_path)
        if target.endswith("/") or target == "/":
            target += Path(local_path).name
        reads = [arguments.single_read(local_path)]
        return self._with("add_local_file", {"remote_path": target, "copy": copy}, reads, layered=not copy)

    def add_local_dir(
        self,
        local_path: str | Path,
        remote_path: str,
        *,
        copy: bool = False,
        ignore: Ignore = [],  # noqa: B006
    ) -> Image:
        """Show the content of a local folder to the worker. Like `add_local_file`, and:

        Args:
            ignore: patterns of what to leave out, as in a .dockerignore, or a function of the relative path.
        """
        target = arguments.remote("add_local_dir", remote_path).rstrip("/")
        if not target:
            raise InvalidError('Image.add_local_dir: the remote path must not be "/" itself.')
        reads = [arguments.tree_read(local_path, ignore)]
        return self._with("add_local_dir", {"remote_path": target, "copy": copy}, reads, layered=not copy)

    def add_local_python_source(self, *modules: str, copy: bool = False, ignore: Ignore = non_python_files) -> Image:
        """Make local modules or packages importable in the worker.

        Args:
            modules: their names, as in `import`.
            copy: let later build steps import them too.
            ignore: what to leave out of packages; all but .py files if not said.

        Raises:
            InvalidError: a name is no string.
        """
        names = arguments.strings("add_local_python_source", "modules", modules)
        if not names:
            return self
        reads = [arguments.source_read(names, ignore)]
        return self._with("add_local_python_source", {"modules": names, "copy": copy}, reads, layered=not copy)

    def run_function(
        self,
        raw_f: Callable[..., Any],
        *,
        env: dict[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        volumes: dict[str | PurePosixPath, Any] = {},  # noqa: B006
        network_file_systems: dict[str | PurePosixPath, Any] = {},  # noqa: B006
        gpu: str | list[str] | None = None,
        cpu: float | None = None,
        memory: int | None = None,
        timeout: int = 3600,
        cloud: str | None = None,
        region: str | Sequence[str] | None = None,
        force_build: bool = False,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] = {},  # noqa: B006
        include_source: bool = True,
    ) -> Image:
        """Run a function as a build step, for example to fetch a model's weights.

        It runs again when its code, what it refers to or its arguments change. It goes to the builder by value.

        Args:
            raw_f: a plain function.
            timeout: seconds it may take.
            args: its positional arguments.
            kwargs: its keyword arguments.

        Raises:
            InvalidError: not a function, or a lambda.
            UnimplementedError: volumes were given.
        """
        name = getattr(raw_f, "__qualname__", "")
        if not callable(raw_f) or not name:
            raise InvalidError(f"Image.run_function takes a function, not {type(raw_f).__name__}.")
        if raw_f.__name__ == "<lambda>":
            raise InvalidError("Image.run_function takes no lambda.", hint="Give the function a name with `def`.")
        if volumes or network_file_systems:
            unimplemented(
                "run_function with volumes", "Download into the image, or run a function that has the volume."
            )
        if timeout <= 0:
            raise InvalidError(f"Image.run_function: timeout={timeout!r} must be a number of seconds above 0.")
        given = {"name": name, "timeout": timeout, "gpu": gpu, "cpu": cpu, "memory": memory, "force_build": force_build}
        reads = [arguments.function_read(raw_f, args, kwargs)]
        return self._with("run_function", {**given, "env": arguments.env(env)}, reads, secrets)

    # Variables and the place to start in

    def env(self, vars: dict[str, str]) -> Image:
        """Set variables for later steps and for the worker. Raises `InvalidError` on a value that is no string."""
        if not isinstance(vars, dict) or None in vars.values():
            raise InvalidError(f"Image.env takes names and strings, not {vars!r}.")
        return self._with("env", {"vars": arguments.env(dict(vars))})

    def workdir(self, path: str | PurePosixPath) -> Image:
        """The directory that later steps and the worker start in; relative to an earlier one, else to /root."""
        if not str(path):
            raise InvalidError("Image.workdir: the path is empty.")
        return self._with("workdir", {"path": str(path)})

    # What only a container can do

    def apt_install(
        self,
        *packages: str | list[str],
        force_build: bool = False,
        env: dict[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | None = None,
    ) -> Image:
        """Install Debian packages. Container mode only."""
        names = arguments.packages("apt_install", packages)
        args = {"packages": names, "force_build": force_build, "env": arguments.env(env), "gpu": gpu}
        return self._with("apt_install", args, (), secrets) if names else self

    def run_commands(
        self,
        *commands: str | list[str],
        env: dict[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        volumes: dict[str | PurePosixPath, Any] | None = None,
        gpu: str | None = None,
        force_build: bool = False,
    ) -> Image:
        """Run shell commands. Container mode only."""
        if volumes:
            unimplemented("run_commands with volumes", "Run a function that has the volume instead.")
        lines = arguments.flat("run_commands", "commands", commands)
        args = {"commands": lines, "force_build": force_build, "env": arguments.env(env), "gpu": gpu}
        return self._with("run_commands", args, (), secrets) if lines else self

    def dockerfile_commands(
        self,
        *dockerfile_commands: str | list[str],
        context_files: dict[str, str] = {},  # noqa: B006
        env: dict[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | None = None,
        context_dir: Path | str | None = None,
        force_build: bool = False,
        ignore: Ignore = dockerignore,
        build_args: dict[str, str] = {},  # noqa: B006
    ) -> Image:
        """Lines of a Dockerfile. Container mode only."""
        lines = arguments.flat("dockerfile_commands", "dockerfile_commands", dockerfile_commands)
        if not lines:
            return self
        reads = [arguments.single_read(context_files[name]) for name in sorted(context_files)]
        if context_dir is not None:
            reads.append(arguments.tree_read(context_dir, ignore))
        args = {"commands": lines, "context_files": sorted(context_files), "force_build": force_build, "gpu": gpu}
        more = {"env": arguments.env(env), "build_args": dict(build_args)}
        return self._with("dockerfile_commands", {**args, **more}, reads, secrets)

    def micromamba_install(
        self,
        *packages: str | list[str],
        spec_file: str | None = None,
        channels: list[str] = [],  # noqa: B006
        force_build: bool = False,
        env: dict[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | None = None,
    ) -> Image:
        """Install conda packages. Container mode only."""
        names = arguments.packages("micromamba_install", packages)
        if not names and spec_file is None:
            return self
        reads = [arguments.file_read(spec_file)] if spec_file is not None else []
        sources = arguments.strings("micromamba_install", "channels", channels)
        args = {"packages": names, "channels": sources, "force_build": force_build, "gpu": gpu}
        return self._with("micromamba_install", {**args, "env": arguments.env(env)}, reads, secrets)

    def entrypoint(self, entrypoint_commands: list[str]) -> Image:
        """What starts before the worker. Container mode only."""
        words = arguments.strings("entrypoint", "entrypoint_commands", entrypoint_commands)
        return self._with("entrypoint", {"commands": words})

    def shell(self, shell_commands: list[str]) -> Image:
        """What runs later `run_commands`. Container mode only."""
        return self._with("shell", {"commands": arguments.strings("shell", "shell_commands", shell_commands)})

    def cmd(self, cmd: list[str]) -> Image:
        """The container's default command; functions do not use it."""
        return self._with("cmd", {"commands": arguments.strings("cmd", "cmd", cmd)})

    # Use

    def pipe(self, func: Callable[Concatenate[Image, P], Image], *args: P.args, **kwargs: P.kwargs) -> Image:
        """`func(self, *args, **kwargs)`: keeps a chain going through a recipe of one's own."""
        return func(self, *args, **kwargs)

    def build(self, app: App | None = None) -> Image:
        """Build now instead of at the first run.

        Args:
            app: takes Modal's place of the app that pays for the build; not used.

        Raises:
            ImageBuildError: a step failed.
            UnimplementedError: the provider builds images on its machines, when the first function needs them.
        """
        from cloudfn import output
        from cloudfn.client import current
        from cloudfn.events import Progress
        from cloudfn.provider import HasMachine

        place, shown = current.provider(), output.current()
        if not isinstance(place, HasMachine):
            unimplemented("build", f"With {type(place).__name__} an image is built where it first runs.")
        store = getattr(place, "secrets", None)
        place.build(self.spec, lambda line: shown.emit(Progress(line)) if shown else None, self.materials(store))
        return self

    @contextmanager
    def imports(self) -> Iterator[None]:
        """Around imports of what only this image has installed.

        On the calling machine, and in workers with another image, a failing import is let pass; code that then uses
        the name fails there. In a worker of this image it is raised.
        """
        try:
            yield
        except Exception as error:  # import runs any code; what may pass is decided here
            if execution.in_worker and execution.image_recipe in ("", self.recipe):
                raise
            if not isinstance(error, ImportError):
                warnings.warn(f"Image.imports() let pass what is no ImportError: {error!r}", stacklevel=3)

    # Of Modal's server

    def publish(
        self,
        name: str,
        *,
        environment_name: str | None = None,
        experimental_options: dict[str, Any] | None = None,
        client: Any = None,
    ) -> None:
        """Not there: images are named by what is in them."""
        unimplemented("publish", "A finished build is found again by itself.")


def _from_registry(
    kind: str,
    tag: str,
    secret: Secret | None,
    commands: list[str],
    force_build: bool,
    add_python: str | None,
    others: Mapping[str, Any],
) -> Image:
    if not isinstance(tag, str) or not tag:
        raise InvalidError(f"Image.{kind}: tag={tag!r} must be the name of an image.")
    if others:
        raise InvalidError(f"Image.{kind} has no argument {', '.join(sorted(others))}.")
    args = {
        "tag": tag,
        "setup_dockerfile_commands": arguments.strings(kind, "setup_dockerfile_commands", commands),
        "force_build": force_build,
        "add_python": arguments.python_version(add_python),
    }
    return Image()._with(kind, args, (), [secret] if secret is not None else [])
