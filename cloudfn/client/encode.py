"""Arguments to bytes, with an error that names the argument at fault."""

from __future__ import annotations

import pickle
import threading
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from cloudfn import serialization
from cloudfn.exception import SerializationError
from cloudfn.serialization import ATOMS, Encoder

if TYPE_CHECKING:
    from cloudfn.client.target import Target


class Encoders:
    """One encoder for each thread."""

    def __init__(self) -> None:
        self._local = threading.local()

    def arguments(
        self, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[bytes, Sequence[Any]]:
        """The pickle of a call's arguments, and the large buffers beside it, not copied.

        Raises:
            SerializationError: naming the argument and the attribute in it.
        """
        if not kwargs and ATOMS.issuperset(map(type, args)):
            return pickle.dumps((args, {}), 5), ()
        try:
            encoder: Encoder = self._local.encoder
        except AttributeError:
            encoder = self._local.encoder = Encoder()
        try:
            return encoder.dumps((args, kwargs))
        except SerializationError as error:
            name = f"{target.tag}.{target.method}" if target.method else target.tag
            raise serialization.explain_arguments(name, args, kwargs, error) from error.__cause__

    def kept(self, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[bytes, Sequence[Any]]:
        """The same with buffers copied, for a call that goes on while the caller may change them."""
        data, buffers = self.arguments(target, args, kwargs)
        return data, [bytes(buffer.raw()) for buffer in buffers] if buffers else buffers
