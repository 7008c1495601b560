"""One app runs for all tests of a module, so the state belongs to the module too."""

from __future__ import annotations

from module_state import state_dir

__all__ = ["state_dir"]
