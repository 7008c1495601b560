"""The steps of an image that install Python packages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Collection, NoReturn, TypeVar

from cloudfn import image_arguments as arguments
from cloudfn.exception import UnimplementedError
from cloudfn.image_recipe import Recipe

if TYPE_CHECKING:
    from cloudfn.secret import Secret

Self = TypeVar("Self", bound="PackageSteps")


class PackageSteps(Recipe):
    """Chained like all steps of `cloudfn.Image`."""

    def pip_install(
        self: Self,
        *packages: str | list[str],
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
        env: dict[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | None = None,
    ) -> Self:
        """Install packages with pip's rules.

        Args:
            packages: requirements ("numpy", "torch>=2"), or lists of them; none at all leaves the image as it is.
            find_links: a folder or page of wheels.
            index_url: an index instead of PyPI.
            extra_index_url: an index beside it.
            pre: take pre-releases too.
            extra_options: further options as on a command line ("--no-build-isolation").

        Raises:
            InvalidError: a requirement that is empty, no string or an option.
        """
        names = arguments.packages("pip_install", packages)
        options = arguments.install(
            "pip_install", find_links, index_url, extra_index_url, pre, extra_options, force_build, env, gpu
        )
        return self._with("pip_install", {"packages": names, **options}, (), secrets) if names else self

    def uv_pip_install(
        self: Self,
        *packages: str | list[str],
        requirements: list[str] | None = None,
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
        uv_version: str | None = None,
        env: dict[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | None = None,
    ) -> Self:
        """Install packages with uv. Like `pip_install`, and:

        Args:
            requirements: local requirements files.
            uv_version: the uv to use, where the builder can choose.
        """
        names = arguments.packages("uv_pip_install", packages)
        files = arguments.strings("uv_pip_install", "requirements", requirements)
        if not names and not files:
            return self
        options = arguments.install(
            "uv_pip_install", find_links, index_url, extra_index_url, pre, extra_options, force_build, env, gpu
        )
        args = {"packages": names, "uv_version": uv_version, **options}
        return self._with("uv_pip_install", args, [arguments.file_read(file) for file in files], secrets)

    def pip_install_from_requirements(
        self: Self,
        requirements_txt: str,
        find_links: str | None = None,
        *,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
        env: dict[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | None = None,
    ) -> Self:
        """Install what a local requirements file lists. Options as in `pip_install`."""
        kind = "pip_install_from_requirements"
        options = arguments.install(
            kind, find_links, index_url, extra_index_url, pre, extra_options, force_build, env, gpu
        )
        return self._with(kind, options, [arguments.file_read(requirements_txt)], secrets)

    def pip_install_from_pyproject(
        self: Self,
        pyproject_toml: str,
        optional_dependencies: list[str] = [],  # noqa: B006
        *,
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
        env: dict[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | None = None,
    ) -> Self:
        """Install the dependencies, not the project, of a local pyproject.toml. Options as in `pip_install`.

        Args:
            pyproject_toml: path of the file.
            optional_dependencies: names of its optional groups to install too.
        """
        kind = "pip_install_from_pyproject"
        extras = arguments.strings(kind, "optional_dependencies", optional_dependencies)
        options = arguments.install(
            kind, find_links, index_url, extra_index_url, pre, extra_options, force_build, env, gpu
        )
        return self._with(kind, {"extras": extras, **options}, [arguments.file_read(pyproject_toml)], secrets)

    def uv_sync(
        self: Self,
        uv_project_dir: str = "./",
        *,
        force_build: bool = False,
        groups: list[str] | None = None,
        extras: list[str] | None = None,
        frozen: bool = True,
        extra_options: str = "",
        uv_version: str | None = None,
        env: dict[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | None = None,
    ) -> Self:
        """Install the locked dependencies, not the project, of a local uv project.

        Args:
            uv_project_dir: folder of its pyproject.toml and uv.lock.
            groups: dependency groups to install too.
            extras: optional dependencies to install too.
            frozen: take uv.lock as it is, where there is one.
            extra_options: further options of `uv sync`.
            uv_version: the uv to use, where the builder can choose.
        """
        args = {
            "groups": arguments.strings("uv_sync", "groups", groups),
            "extras": arguments.strings("uv_sync", "extras", extras),
            "not_frozen": not frozen,
            "extra_options": arguments.options("uv_sync", extra_options),
            "uv_version": uv_version,
            "force_build": force_build,
            "env": arguments.env(env),
            "gpu": gpu,
        }
        folder = arguments.local(uv_project_dir)
        reads = [arguments.file_read(folder / "pyproject.toml"), arguments.file_if_there_read(folder / "uv.lock")]
        return self._with("uv_sync", args, reads, secrets)

    def pip_install_private_repos(
        self: Self,
        *repositories: str,
        git_user: str,
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        gpu: str | None = None,
        env: dict[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        force_build: bool = False,
    ) -> Self:
        """Not there yet."""
        unimplemented(
            "pip_install_private_repos",
            'Use uv_pip_install("name @ git+ssh://git@host/owner/name"), which uses your own git access.',
        )

    def poetry_install_from_file(
        self: Self,
        poetry_pyproject_toml: str,
        poetry_lockfile: str | None = None,
        *,
        ignore_lockfile: bool = False,
        force_build: bool = False,
        with_: list[str] = [],  # noqa: B006
        without: list[str] = [],  # noqa: B006
        only: list[str] = [],  # noqa: B006
        poetry_version: str | None = "latest",
        old_installer: bool = False,
        env: dict[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | None = None,
    ) -> Self:
        """Not there yet."""
        unimplemented(
            "poetry_install_from_file",
            "Use `poetry export` and pip_install_from_requirements, or uv_sync with a uv.lock.",
        )


def unimplemented(name: str, hint: str) -> NoReturn:
    """Raises `UnimplementedError` for a part of Modal's `Image` that is not there, with what to use instead."""
    raise UnimplementedError(f"cloudfn has no Image.{name}.", hint=hint)
